"""What a process knows of each license by heart: its agents, groups and tags."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from weakref import WeakValueDictionary

from sqlalchemy import BigInteger, Select, bindparam, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model import shown
from rtm.model.chat import ChatUser
from rtm.protocol.errors import LicenseNotFound
from rtm.store.database import Database
from rtm.store.tables import Json, agents, group_agents, groups, licenses, tags

# A directory of 10 agents takes about 10 KB, one of 10,000 agents about 5 MB.
_MAX_RECENT = 5000


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent or a bot."""

    id: str
    kind: Literal["agent", "bot"]
    account_id: str
    name: str
    email: str | None
    """None for a bot."""
    role: str
    avatar: str | None
    max_chats_count: int
    default_status: str
    suspended: bool
    awaiting_approval: bool
    group_ids: frozenset[int]
    """With 0, where everybody is."""
    owner_client_id: str | None

    @property
    def in_good_standing(self) -> bool:
        """Whether the agent may use the license: neither suspended nor waiting to be approved."""
        return not (self.suspended or self.awaiting_approval)


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group and the priority that each of its agents has in it; group 0 lists only those with one of their own."""

    id: int
    name: str
    priorities: Mapping[str, str]
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Directory:
    """One license as it was at `version`; never changed, only replaced."""

    id: int
    organization_id: str
    plan: str
    created_at: str
    expires_at: str | None
    properties: Mapping[str, Any]
    version: int
    agents: Mapping[str, AgentRecord]
    groups: Mapping[int, GroupRecord]
    tags: Mapping[str, frozenset[int]]
    """Each tag with the groups it is for."""

    def shown(self, of: ChatUser) -> shown.Agent:
        """An agent as a user of a chat; of one that is gone there is little to tell."""
        record = self.agents.get(of.id)
        agent: shown.Agent = {
            "id": of.id,
            "type": "agent",
            "present": of.present,
            "avatar": (record.avatar if record is not None else None) or "",
            "visibility": of.visibility,
        }
        if record is not None:
            agent["name"] = record.name
            if record.email is not None:
                agent["email"] = record.email
        if of.events_seen_up_to is not None:
            agent["events_seen_up_to"] = of.events_seen_up_to
        return agent

    def groups_of(self, agent_id: str) -> frozenset[int]:
        """The agent's groups, none of one that is gone; everybody is in group 0."""
        agent = self.agents.get(agent_id)
        return agent.group_ids if agent is not None else frozenset()

    def name_of(self, agent_id: str) -> str:
        """What people call the agent; the id of one that is gone."""
        agent = self.agents.get(agent_id)
        return agent_id if agent is None else agent.name


OnReplaced = Callable[[Directory, Directory | None], None]


class Directories:
    """Directories of the licenses in use: those that somebody holds, such as a session, and the last 5,000 asked for.

    Whenever one of them gives way to a later one, or to None when its license is gone, those named by `on_replaced` are
    told `before, after`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = _changed(database.dialect)
        self._on_replaced: tuple[OnReplaced, ...] = ()
        self._in_use: WeakValueDictionary[int, Directory] = WeakValueDictionary()
        self._recent: OrderedDict[int, Directory] = OrderedDict()
        """Keeps in use what nobody else holds."""
        self._loading: dict[int, asyncio.Task[Directory]] = {}

    def on_replaced(self, *hearers: OnReplaced) -> None:
        """Tell these from now on."""
        self._on_replaced = hearers

    async def get(self, license_id: int) -> Directory:
        """The license's directory. Raises LicenseNotFound."""
        directory = self._in_use.get(license_id)
        if directory is not None:
            self._keep(directory)
            return directory
        task = self._loading.get(license_id)
        if task is None:
            task = asyncio.create_task(self._load(license_id))
            self._loading[license_id] = task
            task.add_done_callback(lambda _: self._loading.pop(license_id))
        # A caller that gives up does not take the others' answer away.
        return await asyncio.shield(task)

    def find(self, license_id: int) -> Directory | None:
        """The license's directory if it is in use, as it is by whoever changes a chat."""
        return self._in_use.get(license_id)

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read every directory anew whose license has another version by now."""
        known = {str(directory.id): directory.version for directory in self._in_use.values()}
        if known:
            for license_id in (await connection.scalars(self._changed, {"known": known})).all():
                self._replace(license_id, await _read(connection, license_id))

    async def _load(self, license_id: int) -> Directory:
        async with self._database.engine.connect() as connection:
            directory = await _read(connection, license_id)
        if directory is None:
            raise LicenseNotFound
        self._in_use[license_id] = directory
        self._keep(directory)
        return directory

    def _replace(self, license_id: int, directory: Directory | None) -> None:
        before = self._in_use.pop(license_id, None)
        if before is None:  # nobody has asked for it again meanwhile
            return
        was_recent = self._recent.pop(license_id, None) is not None
        if directory is not None:
            self._in_use[license_id] = directory
            if was_recent:
                self._keep(directory)
        for hear in self._on_replaced:
            hear(before, directory)

    def _keep(self, directory: Directory) -> None:
        self._recent[directory.id] = directory
        self._recent.move_to_end(directory.id)
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)


def _changed(dialect: str) -> Select[int]:
    """Ids of those of the `known` licenses that have another version than there, or are gone.

    Of 5,000 that are the same 1.5 ms: they are one parameter, and nothing is read of them.
    """
    unfold = func.jsonb_each_text if dialect == "postgresql" else func.json_each
    each = unfold(bindparam("known", type_=Json)).table_valued("key", "value")
    license_id, version = cast(each.c.key, BigInteger), cast(each.c.value, BigInteger)
    compared = each.outerjoin(licenses, licenses.c.id == license_id)
    return select(license_id).select_from(compared).where(licenses.c.directory_version.is_distinct_from(version))


async def _read(connection: AsyncConnection, license_id: int) -> Directory | None:
    # The version first: rows that change meanwhile make the directory newer than it says, and it is read again.
    of_license = (await connection.execute(select(licenses).where(licenses.c.id == license_id))).one_or_none()
    if of_license is None:
        return None
    group_rows = (await connection.execute(select(groups).where(groups.c.license_id == license_id))).all()
    member_rows = (await connection.execute(select(group_agents).where(group_agents.c.license_id == license_id))).all()
    agent_rows = (await connection.execute(select(agents).where(agents.c.license_id == license_id))).all()
    tag_rows = (await connection.execute(select(tags).where(tags.c.license_id == license_id))).all()

    group_ids: dict[str, set[int]] = {}
    priorities: dict[int, dict[str, str]] = {}
    for row in member_rows:
        group_ids.setdefault(row.agent_id, {0}).add(row.group_id)
        priorities.setdefault(row.group_id, {})[row.agent_id] = row.priority
    return Directory(
        id=of_license.id,
        organization_id=of_license.organization_id,
        plan=of_license.plan,
        created_at=of_license.created_at,
        expires_at=of_license.expires_at,
        properties=of_license.properties,
        version=of_license.directory_version,
        agents=MappingProxyType({row.id: _agent(row, group_ids.get(row.id, {0})) for row in agent_rows}),
        groups=MappingProxyType(
            {row.id: GroupRecord(row.id, row.name, priorities.get(row.id, {}), row.properties) for row in group_rows}
        ),
        tags=MappingProxyType({row.name: frozenset(row.group_ids) for row in tag_rows}),
    )


def _agent(row: Any, group_ids: set[int]) -> AgentRecord:
    return AgentRecord(
        id=row.id,
        kind=row.kind,
        account_id=row.account_id,
        name=row.name,
        email=row.id if row.kind == "agent" else None,
        role=row.role,
        avatar=row.avatar,
        max_chats_count=row.max_chats_count,
        default_status=row.default_status,
        suspended=row.suspended,
        awaiting_approval=row.awaiting_approval,
        group_ids=frozenset(group_ids),
        owner_client_id=row.owner_client_id,
    )
