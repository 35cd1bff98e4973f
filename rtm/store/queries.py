"""What is read: lists, chats, and the snapshot that a log-in begins with.

Lists are paged by key, not by offset, and stay correct while rows are added between pages.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, takewhile
from typing import Any, Generic, Literal, TypeVar

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from rtm.bus.base import Envelope
from rtm.model.chat import Chat, EventBody, Thread
from rtm.model.customer import Customer
from rtm.slices import in_slices
from rtm.store.chat_rows import CHATS, as_chat
from rtm.store.database import Database
from rtm.store.tables import all_events, chat_groups, chat_users, chats, customers, licenses, outbox, threads

T = TypeVar("T")
Order = Literal["asc", "desc"]

EVENTS_AT_ONCE = 5000
"""Of a statement: what is made of its rows is made in one turn of the loop, in some milliseconds."""
MAX_PAGE_EVENTS = 20_000
MAX_PAGE_BYTES = 1 << 24
"""A page ends early with the thread, or the chat, that brings it to so many: an answer is put together in one turn of
the loop, a megabyte in one millisecond. So do the chats in the answer to `login`."""
PUSHES_AT_ONCE = 20
"""Of a statement: each may be a megabyte."""
PUSHES_BYTES = 1 << 20
"""Of payloads, after which no more pushes are read: to decode and deliver them takes some ten milliseconds."""
MAX_SNAPSHOT_CHATS = 500
"""Of those; an agent has some dozens at most."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which chats somebody may see: all (`group_ids` None), or those of groups, and those they take part in."""

    user_id: str
    group_ids: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """Chats whose property exists or not (`exists`), or has one of `values`, or none of `exclude_values`."""

    namespace: str
    name: str
    exists: bool | None = None
    values: tuple[Any, ...] | None = None
    exclude_values: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class ChatFilter:
    """What `list_chats` may be asked for."""

    active: bool | None = None
    include_chats_without_threads: bool = True
    group_ids: tuple[int, ...] | None = None
    properties: tuple[PropertyFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: rows after it, in the list's order, or before it."""

    at: str
    id: str
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in the list's order, where to go on in both directions, and how many there are in all."""

    rows: list[T]
    next: Cursor | None
    previous: Cursor | None
    found: int


@dataclass(frozen=True, slots=True)
class PageEnd:
    """Where a page ends before it has as many rows as it may: when they have the size `most` together."""

    size: Callable[[Row[Any]], int]
    most: int


@dataclass(frozen=True, slots=True)
class ThreadWithEvents:
    """A thread and all its events in order, each as JSON."""

    thread: Thread
    texts: list[str]

    async def events(self) -> list[EventBody]:
        """The same to be looked into."""
        return await in_slices(map(orjson.loads, self.texts))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An agent's open chats, as they were at one place in the license's sequence."""

    sequence: int
    chats: list[Chat]
    customers: Mapping[str, Customer]


def reading(database: Database) -> AsyncEngine:
    """The database for statements on their own, which saves a BEGIN and a ROLLBACK."""
    each_alone = {"isolation_level": "AUTOCOMMIT"} if database.dialect == "postgresql" else {}
    return database.engine.execution_options(**each_alone)


@dataclass(frozen=True, slots=True)
class DueChat:
    """A chat that the router is to look at, and the agents and bots that are present in it."""

    license_id: int
    id: str
    agent_ids: frozenset[str]


_SIZE = func.length(cast(chats.c.state, Text)).label("size")
_PRESENT_AGENT = text("chat_users.present AND chat_users.type = 'agent'")
"""As in the index."""


class Queries:
    """Reads on connections of their own, beside the writer's."""

    def __init__(self, database: Database) -> None:
        self._postgresql = database.dialect == "postgresql"
        self._engine = reading(database)

    async def chat(self, license_id: int, chat_id: str) -> Chat | None:
        """One chat of the license."""
        statement = CHATS.where(chats.c.id == chat_id, chats.c.license_id == license_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return as_chat(row) if row is not None else None

    async def customers(self, license_id: int, of: Iterable[Chat]) -> Mapping[str, Customer]:
        """The customers of these chats, by id."""
        async with self._engine.connect() as connection:
            return await self._customers(connection, license_id, of)

    async def anybody_waits(self, license_id: int) -> bool:
        """Whether a chat of the license is in the queue."""
        queued = exists().where(chats.c.license_id == license_id, chats.c.queued_at.is_not(None))
        async with self._engine.connect() as connection:
            return bool((await connection.execute(select(queued))).scalar_one())

    async def loads(self, license_id: int) -> Counter[str]:
        """How many active chats with a customer each agent is present in."""
        customer = chat_users.alias()
        # Not by EXISTS, which PostgreSQL's planner makes a join with all customers that there ever were.
        has_customer = (
            select(true())
            .where(customer.c.chat_id == chat_users.c.chat_id, customer.c.type == "customer", customer.c.present)
            .limit(1)
            .scalar_subquery()
        )
        statement = (
            select(chat_users.c.user_id, func.count().label("chats"))
            .where(chat_users.c.license_id == license_id, _PRESENT_AGENT, has_customer)
            .group_by(chat_users.c.user_id)
        )
        async with self._engine.connect() as connection:
            return Counter({row.user_id: row.chats for row in await connection.execute(statement)})

    async def thread(self, chat_id: str, thread_id: str) -> ThreadWithEvents | None:
        """One thread of the chat with its events."""
        async with self._engine.connect() as connection:
            statement = select(threads).where(threads.c.id == thread_id, threads.c.chat_id == chat_id)
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                return None
            [found] = await with_events(connection, [row])
            return found

    async def list_chats(
        self, license_id: int, reach: Reach, wanted: ChatFilter, order: Order, limit: int, cursor: Cursor | None
    ) -> Page[Chat]:
        """Chats by the creation of their last thread."""
        conditions = [chats.c.license_id == license_id, self._within(reach), *self._matching(wanted)]
        key = (chats.c.sorted_at, chats.c.id)
        rows, end = CHATS.add_columns(_SIZE), PageEnd(lambda row: row.size, MAX_PAGE_BYTES)
        async with self._engine.connect() as connection:
            return await read_page(connection, rows, conditions, key, order, limit, cursor, as_chat, end)

    async def list_threads(
        self,
        chat_id: str,
        group_ids: Collection[int] | None,
        created_from: str | None,
        created_to: str | None,
        order: Order,
        limit: int,
        cursor: Cursor | None,
    ) -> Page[ThreadWithEvents]:
        """Threads of the chat by their creation, those of the groups if some are named."""
        conditions = [threads.c.chat_id == chat_id]
        if group_ids is not None:
            conditions.append(self._thread_in_groups(group_ids))
        if created_from is not None:
            conditions.append(threads.c.created_at >= created_from)
        if created_to is not None:
            conditions.append(threads.c.created_at <= created_to)
        key = (threads.c.created_at, threads.c.id)
        rows, end = select(threads), PageEnd(lambda row: row.state["events_count"], MAX_PAGE_EVENTS)
        async with self._engine.connect() as connection:
            page = await read_page(connection, rows, conditions, key, order, limit, cursor, lambda row: row, end)
            return Page(await with_events(connection, page.rows), page.next, page.previous, page.found)

    async def has_thread_of(self, chat_id: str, group_ids: Collection[int]) -> bool:
        """Whether a thread of the chat is one of these groups'."""
        found = exists().where(threads.c.chat_id == chat_id, self._thread_in_groups(group_ids))
        async with self._engine.connect() as connection:
            return bool((await connection.execute(select(found))).scalar_one())

    async def snapshot(self, license_id: int, agent_id: str) -> Snapshot:
        """The open chats that the agent takes part in or follows, read in one statement with the sequence."""
        async with self._engine.connect() as connection:
            wanted = {"license_id": license_id, "agent_id": agent_id}
            rows = await in_slices(await connection.execute(_SNAPSHOT, wanted))
            rows = rows[: fitting((row.size or 0 for row in rows), MAX_PAGE_BYTES, MAX_SNAPSHOT_CHATS)]
            found = await in_slices(as_chat(row) for row in rows if row.id is not None)
            return Snapshot(rows[0].sequence, found, await self._customers(connection, license_id, found))

    async def sequences(self, license_ids: Collection[int]) -> Mapping[int, int]:
        """The place of the newest stored push of each license."""
        if self._postgresql:  # one parameter: there may be more licenses than a statement takes parameters
            wanted = licenses.c.id == any_(cast(list(license_ids), ARRAY(BigInteger)))
        else:
            wanted = licenses.c.id.in_(list(license_ids))
        async with self._engine.connect() as connection:
            found = await connection.execute(select(licenses.c.id, licenses.c.sequence).where(wanted))
            return {row.id: row.sequence for row in found}

    async def pushes_after(self, license_id: int, sequence: int, limit: int) -> list[Envelope]:
        """Stored pushes that follow this place in the license's sequence, in order; none after PUSHES_BYTES of them."""
        following = (
            select(cast(outbox.c.envelope, Text))
            .where(outbox.c.license_id == license_id, outbox.c.sequence > bindparam("after"))
            .order_by(outbox.c.sequence)
            .limit(PUSHES_AT_ONCE)
        )
        found: list[Envelope] = []
        size = 0
        async with self._engine.connect() as connection:
            while True:
                envelopes = (await connection.scalars(following, {"after": sequence})).all()
                for envelope in envelopes:
                    found.append(Envelope.decode(envelope))
                    sequence, size = found[-1].sequence, size + len(found[-1].payload)
                    if len(found) == limit or size >= PUSHES_BYTES:
                        return found
                if len(envelopes) < PUSHES_AT_ONCE:
                    return found

    async def due_chats(self, now: str, of_license: int, limit: int) -> list[DueChat]:
        """Chats that are due, at most so many of a license and in all: of each license those due for longest.

        They are in the order in which their last threads began.
        With 10,000 that are due a look takes 12 ms, without any 0.4 on PostgreSQL and 1.4 on SQLite.
        """
        bounds = {"now": now, "of_license": of_license, "limit": limit}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_DUE_CHATS, bounds)).all()
        return [
            DueChat(license_id, chat_id, frozenset(row.user_id for row in of_chat if row.user_id is not None))
            for (license_id, chat_id), of_chat in groupby(rows, lambda row: (row.license_id, row.id))
        ]

    async def busy_agents(self, license_ids: Collection[int] | None = None) -> dict[int, list[str]]:
        """The agents and bots that are present in open chats, by license: of these, or of all."""
        busy = select(chat_users.c.license_id, chat_users.c.user_id).where(_PRESENT_AGENT).distinct()
        if license_ids is not None:
            busy = busy.where(chat_users.c.license_id.in_(list(license_ids)))
        found: dict[int, list[str]] = {}
        async with self._engine.connect() as connection:
            for license_id, agent_id in await connection.execute(busy):
                found.setdefault(license_id, []).append(agent_id)
        return found

    async def licenses_with_queues(self) -> list[int]:
        """Ids of the licenses with chats that wait for an agent."""
        statement = select(chats.c.license_id).where(chats.c.queued_at.is_not(None)).distinct()
        async with self._engine.connect() as connection:
            return list(await connection.scalars(statement))

    async def chats_with(self, license_id: int, agent_ids: Collection[str]) -> list[str]:
        """Ids of the open chats that one of these agents is present in, in the order in which their threads began."""
        mine = chat_users.c.license_id == license_id, chat_users.c.user_id.in_(list(agent_ids))
        statement = (
            select(chat_users.c.chat_id, chats.c.sorted_at)
            .join(chats, chats.c.id == chat_users.c.chat_id)
            .where(*mine, _PRESENT_AGENT)
            .distinct()
            .order_by(chats.c.sorted_at, chat_users.c.chat_id)
        )
        async with self._engine.connect() as connection:
            return list(await connection.scalars(statement))

    async def chats_followed_by(self, license_id: int, agent_ids: Collection[str]) -> list[str]:
        """Ids of the chats that one of these agents follows, of the open ones first."""
        theirs = chat_users.c.license_id == license_id, chat_users.c.user_id.in_(list(agent_ids))
        statement = (
            select(chat_users.c.chat_id, chats.c.active)
            .join(chats, chats.c.id == chat_users.c.chat_id)
            .where(*theirs, chat_users.c.follows)
            .distinct()
            .order_by(chats.c.active.desc())
        )
        async with self._engine.connect() as connection:
            return list(await connection.scalars(statement))

    async def _customers(self, connection: AsyncConnection, license_id: int, of: Iterable[Chat]) -> dict[str, Customer]:
        ids = {user.id for chat in of for user in chat.users.values() if user.type == "customer"}
        if not ids:
            return {}
        statement = select(customers).where(customers.c.license_id == license_id, customers.c.id.in_(ids))
        return {row.id: as_customer(row) for row in await in_slices(await connection.execute(statement))}

    def _within(self, reach: Reach) -> ColumnElement[bool]:
        if reach.group_ids is None:
            return true()
        member = exists().where(
            chat_users.c.chat_id == chats.c.id, chat_users.c.user_id == reach.user_id, chat_users.c.present
        )
        if not reach.group_ids:
            return member
        return or_(self._in_groups(reach.group_ids), member)

    def _matching(self, wanted: ChatFilter) -> Iterable[ColumnElement[bool]]:
        if wanted.active is not None:
            yield chats.c.active == wanted.active
        if not wanted.include_chats_without_threads:
            yield chats.c.last_thread_id.is_not(None)
        if wanted.group_ids is not None:
            yield self._in_groups(wanted.group_ids)
        for condition in wanted.properties:
            yield self._with_property(condition)

    def _in_groups(self, group_ids: Iterable[int]) -> ColumnElement[bool]:
        return exists().where(chat_groups.c.chat_id == chats.c.id, chat_groups.c.group_id.in_(list(group_ids)))

    def _thread_in_groups(self, group_ids: Iterable[int]) -> ColumnElement[bool]:
        stored = threads.c.state["group_ids"]
        unfold = func.jsonb_array_elements if self._postgresql else func.json_each
        of_thread = unfold(stored).table_valued("value")
        return exists().select_from(of_thread).where(cast(of_thread.c.value, Integer).in_(list(group_ids)))

    def _with_property(self, wanted: PropertyFilter) -> ColumnElement[bool]:
        value = self._property(wanted.namespace, wanted.name)
        if wanted.values is not None:
            return value.in_([orjson.dumps(each).decode() for each in wanted.values])
        if wanted.exclude_values is not None:
            return or_(value.is_(None), value.not_in([orjson.dumps(each).decode() for each in wanted.exclude_values]))
        return value.is_not(None) if wanted.exists else value.is_(None)

    def _property(self, namespace: str, name: str) -> ColumnElement[str | None]:
        """The property's value as JSON text; SQL's NULL where the chat has none."""
        if self._postgresql:
            path = cast([namespace, name], ARRAY(Text))
            return cast(chats.c.properties.op("#>")(path), Text)
        # Not by `->`, which takes a name such as `$.a` or `[0]` for a path.
        namespaces = func.json_each(chats.c.properties).table_valued("key", "value")
        values = func.json_each(namespaces.c.value).table_valued("key", "value", "type", joins_implicitly=True)
        found = case((values.c.type.in_(["true", "false"]), values.c.type), else_=func.json_quote(values.c.value))
        of_name = select(found).select_from(namespaces, values)
        return of_name.where(namespaces.c.key == namespace, values.c.key == name).scalar_subquery()


def _due_chats() -> Select[Any]:
    """A row for each agent that is present in a chat that is due; one without an agent if there is none."""
    place = func.row_number().over(partition_by=chats.c.license_id, order_by=chats.c.due_at).label("place")
    all_due = select(chats.c.id, chats.c.license_id, chats.c.due_at, chats.c.sorted_at, place).where(
        chats.c.due_at <= bindparam("now")
    )
    in_turn = all_due.subquery()
    first = select(in_turn).where(in_turn.c.place <= bindparam("of_license"))
    due = first.order_by(in_turn.c.place, in_turn.c.due_at).limit(bindparam("limit")).subquery()
    of_chat = and_(chat_users.c.chat_id == due.c.id, _PRESENT_AGENT)
    with_agents = select(due, chat_users.c.user_id).select_from(due.outerjoin(chat_users, of_chat))
    return with_agents.order_by(due.c.sorted_at, due.c.id)


def _snapshot() -> Select[Any]:
    """One row for each chat, the newest first; one without a chat if there is none."""
    mine = exists().where(
        chat_users.c.chat_id == chats.c.id,
        chat_users.c.license_id == bindparam("license_id"),
        chat_users.c.user_id == bindparam("agent_id"),
        or_(chat_users.c.present, chat_users.c.follows),
    )
    open_ones = and_(chats.c.license_id == licenses.c.id, chats.c.active, mine)
    return (
        CHATS.add_columns(licenses.c.sequence, _SIZE)
        .select_from(licenses.outerjoin(chats, open_ones))
        .where(licenses.c.id == bindparam("license_id"))
        .order_by(chats.c.sorted_at.desc())
        .limit(MAX_SNAPSHOT_CHATS)
    )


# Made once: that takes longer than to run them.
_SNAPSHOT = _snapshot()
_DUE_CHATS = _due_chats()


def as_customer(row: Row[Any]) -> Customer:
    """A customer as stored."""
    return Customer(row.id, row.license_id, row.name, row.email, row.created_at, row.state)


async def with_events(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[ThreadWithEvents]:
    """Threads from their rows, in that order."""
    texts: dict[str, list[str]] = {row.id: [] for row in rows}
    unread = list(texts)
    number = 0
    while unread:
        last = number + EVENTS_AT_ONCE // len(unread)
        statement = (
            select(all_events.c.thread_id, cast(all_events.c.body, Text))
            .where(all_events.c.thread_id.in_(unread), all_events.c.number > number, all_events.c.number <= last)
            .order_by(all_events.c.thread_id, all_events.c.number)
        )
        for thread_id, body in await connection.execute(statement):
            texts[thread_id].append(body)
        number = last
        unread = [thread_id for thread_id in unread if len(texts[thread_id]) == number]
    return [ThreadWithEvents(Thread(**row.state), texts[row.id]) for row in rows]


async def read_page(
    connection: AsyncConnection,
    rows: Select[Any],
    conditions: Sequence[ColumnElement[bool]],
    key: tuple[ColumnElement[str], ColumnElement[str]],
    order: Order,
    limit: int,
    cursor: Cursor | None,
    build: Callable[[Row[Any]], T],
    end: PageEnd | None = None,
) -> Page[T]:
    """One page by key: reads one row more than it shows, to know whether there is another page."""
    backwards = cursor is not None and cursor.backwards
    descending = (order == "desc") != backwards
    statement = rows.where(*conditions)
    if cursor is not None:
        place = tuple_(cursor.at, cursor.id)
        statement = statement.where(tuple_(*key) < place if descending else tuple_(*key) > place)
    statement = statement.order_by(*(column.desc() if descending else column.asc() for column in key)).limit(limit + 1)
    found = await in_slices(await connection.execute(statement))
    count = (await connection.execute(select(func.count()).select_from(key[1].table).where(*conditions))).scalar_one()

    def place_of(row: Row[Any]) -> tuple[str, str]:
        columns = row._mapping  # noqa: SLF001 - public in spite of its name
        return columns[key[0]], columns[key[1]]

    if end is not None:
        limit = fitting(map(end.size, found), end.most, limit)
    page = page_of(found, limit, cursor, place_of, count)
    return Page(await in_slices(map(build, page.rows)), page.next, page.previous, page.found)


def fitting(sizes: Iterable[int], most: int, limit: int) -> int:
    """How many rows of these sizes a page has: one at least, and none after what brings it to `most` together."""
    together = accumulate(islice(sizes, limit))
    return min(limit, 1 + sum(1 for _ in takewhile(lambda size: size < most, together)))


def page_of(
    read: Sequence[T], limit: int, cursor: Cursor | None, place_of: Callable[[T], tuple[str, str]], found: int
) -> Page[T]:
    """The page of at most so many rows of what was `read` from `cursor` on, in its direction and one row beyond."""
    backwards = cursor is not None and cursor.backwards
    more = len(read) > limit
    rows = list(read[:limit])
    if backwards:
        rows.reverse()
    is_next = rows and (backwards or more)
    is_previous = rows and (more if backwards else cursor is not None)
    return Page(
        rows=rows,
        next=Cursor(*place_of(rows[-1])) if is_next else None,
        previous=Cursor(*place_of(rows[0]), backwards=True) if is_previous else None,
        found=found,
    )
