"""The push `groups_status_updated`, which each process works out of the statuses of agents that it hears.

Nobody publishes it: all processes hear of an agent's status in the same order, and each tells its own sessions. Like
`routing_status_set` it is not stored, and may be lost with the bus.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson
import structlog

from rtm.access.directory import Directory
from rtm.bus.base import Envelope, Origin
from rtm.routing.group_statuses import GroupStatuses

log = structlog.get_logger(__name__)

ROUTING_STATUS_SET = "routing_status_set"
GROUPS_STATUS_UPDATED = "groups_status_updated"

ReadStatuses = Callable[[int], Awaitable[tuple[Directory, Mapping[str, str]]]]
"""license_id -> the license's directory and the routing statuses of its agents and bots."""


class GroupsStatus:
    """Calls `tell` with the groups of a license that have another status than before."""

    def __init__(
        self, license_id: int, read: ReadStatuses, tell: Callable[[Mapping[int, str], Origin | None], None]
    ) -> None:
        self._license_id = license_id
        self._read = read
        self._tell = tell
        self._statuses: GroupStatuses | None = None
        self._reading: asyncio.Task[None] | None = None
        self._heard: dict[str, str] | None = None
        """What is heard of agents while their statuses are being read, and is as new or newer."""

    async def read(self) -> None:
        """Begin. Without an answer nothing is told until the next time."""
        heard = self._heard = {}
        try:
            directory, of_agents = await self._read(self._license_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody's log-in is to fail for it
            log.warning("statuses_unknown", license_id=self._license_id, reason=str(error))
            return
        if self._heard is not heard:  # whoever has begun later knows better
            return
        self._heard = None
        groups_of = {agent_id: agent.group_ids for agent_id, agent in directory.agents.items()}
        now = GroupStatuses(directory.groups, groups_of, {**of_agents, **heard})
        before, self._statuses = self._statuses, now
        if before is not None:
            self._tell_all({id_: status for id_, status in now.all().items() if status != before.of(id_)}, None)

    def read_again(self) -> None:
        """The license's agents or groups have changed."""
        self._reading = asyncio.get_running_loop().create_task(self.read())

    def heard(self, envelope: Envelope) -> None:
        """An agent has another status: `routing_status_set`."""
        told = orjson.loads(envelope.payload)
        if self._heard is not None:
            self._heard[told["agent_id"]] = told["status"]
        if self._statuses is not None:
            self._tell_all(self._statuses.agent_changed(told["agent_id"], told["status"]), envelope.origin)

    def _tell_all(self, changed: Mapping[int, str], origin: Origin | None) -> None:
        if changed:
            self._tell(changed, origin)
