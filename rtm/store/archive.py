"""The list of archives: threads by their creation, found by an inverted index (see `rtm.store.indexer`).

A condition is a combination of tokens, which the index answers without looking at the threads: FTS5 on SQLite, which
goes through them in order and stops with the page, and GIN over tsvectors on PostgreSQL.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.chat import Chat
from rtm.model.labels import OF_EVENTS, Kind, Moment, token
from rtm.store.chat_rows import CHATS, as_chat
from rtm.store.database import Database
from rtm.store.indexer import Indexer, first_number
from rtm.store.queries import Cursor, Order, Page, Reach, ThreadWithEvents, page_of, with_events
from rtm.store.tables import chat_users, chats, customers, threads

MAX_CUSTOMERS = 100
"""Customers of one e-mail address."""
EXACT = 10_000
"""Up to here PostgreSQL counts what is found, which is then 10 to 20 ms; SQLite counts all."""
MAX_PRESENT_CHATS = 500
"""Chats that an agent is in; some dozens at most."""


Column = Literal["labels", "words"]
_OF_LICENSE = "license_id = :license_id"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a thread's labels must be like, each of these."""

    any_of: list[tuple[Kind, Collection[str]]] = field(default_factory=list)
    """At least one of the labels of this kind."""
    not_all_of: list[tuple[Kind, Collection[str]]] = field(default_factory=list)
    """Not all of them."""

    def has(self, kind: Kind, *values: str) -> None:
        """One of these labels at least."""
        self.any_of.append((kind, values))

    def lacks(self, kind: Kind, *values: str) -> None:
        """One of these labels at least is missing."""
        if values:
            self.not_all_of.append((kind, values))


@dataclass(frozen=True, slots=True)
class Span:
    """An event of this kind happened within these times, of which one may be missing."""

    kind: Moment
    from_: str | None
    to: str | None


@dataclass(frozen=True, slots=True)
class ArchiveFilter:
    """What `list_archives` may be asked for; times are in the protocol's form."""

    terms: Terms = field(default_factory=Terms)
    created_from: str | None = None
    created_to: str | None = None
    spans: tuple[Span, ...] = ()
    chat_ids: tuple[str, ...] | None = None
    thread_ids: tuple[str, ...] | None = None
    customer_email: str | None = None


@dataclass(frozen=True, slots=True)
class Archived:
    """A thread of a chat, and its next ones in time that the requester may see."""

    chat: Chat
    thread: ThreadWithEvents
    previous_accessible_thread_id: str | None
    next_accessible_thread_id: str | None


@dataclass(frozen=True, slots=True)
class _Clause:
    """At least one of these tokens, or if negated not all of them, in a column of `archive`."""

    column: Column
    tokens: Sequence[str]
    negated: bool = False


@dataclass(slots=True)
class _Source:
    """Where numbers of threads come from: what follows FROM and WHERE, the number's name there, and what is bound."""

    table: str
    number: str
    conditions: list[str]
    values: dict[str, object]

    def where(self, condition: str, **values: object) -> None:
        """A further condition; `{number}` in it stands for the number."""
        self.conditions.append(condition.format(number=self.number))
        self.values.update(values)

    def select(self, what: str, *conditions: str) -> str:
        """A statement."""
        return f"SELECT {what} FROM {self.table} WHERE {' AND '.join([*self.conditions, *conditions])}"  # noqa: S608


class Archive:
    """Reads the list, on connections of its own."""

    def __init__(self, database: Database, indexer: Indexer) -> None:
        self._engine = database.engine
        self._syntax = _PostgreSql if database.dialect == "postgresql" else _Sqlite
        self._indexer = indexer

    async def _archived(
        self, connection: AsyncConnection, license_id: int, numbers: Sequence[int], reached: Sequence[_Clause]
    ) -> list[Archived]:
        """The threads of these numbers, in that order, and none of another license, whatever the tokens say."""
        if not numbers:
            return []
        is_reached, values = self._syntax.reach(reached)
        neighbours = f"""
            SELECT number, thread_id, chat_id,
                (SELECT p.thread_id FROM archive p WHERE p.chat_id = a.chat_id AND p.number < a.number AND {is_reached}
                    ORDER BY p.number DESC LIMIT 1) AS previous,
                (SELECT p.thread_id FROM archive p WHERE p.chat_id = a.chat_id AND p.number > a.number AND {is_reached}
                    ORDER BY p.number LIMIT 1) AS next
            FROM archive a WHERE number IN ({", ".join(map(str, numbers))}) AND {_OF_LICENSE}
        """  # noqa: S608 - nothing but our own text and integers
        of_license = await connection.execute(text(neighbours), {**values, "license_id": license_id})
        found = {row.number: row for row in of_license}
        of_threads = select(threads).where(threads.c.id.in_([row.thread_id for row in found.values()]))
        with_their_events = await with_events(connection, (await connection.execute(of_threads)).all())
        of_chats = CHATS.where(chats.c.id.in_({row.chat_id for row in found.values()}))
        chats_by_id = {row.id: as_chat(row) for row in await connection.execute(of_chats)}
        threads_by_id = {each.thread.id: each for each in with_their_events}
        return [
            Archived(chats_by_id[row.chat_id], threads_by_id[row.thread_id], row.previous, row.next)
            for row in (found[number] for number in numbers if number in found)
        ]

    async def list(
        self, license_id: int, reach: Reach, wanted: ArchiveFilter, order: Order, limit: int, cursor: Cursor | None
    ) -> Page[Archived]:
        """Threads by their creation, with all their events."""
        await self._indexer.catch_up(license_id)
        async with self._engine.connect() as connection:
            reached = await _reached(connection, license_id, reach)
            clauses = [*_clauses(license_id, wanted.terms), *reached]
            if wanted.customer_email is not None:
                clauses.append(await _of_customers(connection, license_id, wanted.customer_email))
            if not all(clause.tokens for clause in clauses):
                return Page([], None, None, 0)
            source = self._syntax.source(license_id, clauses)
            for column, ids in (("chat_id", wanted.chat_ids), ("thread_id", wanted.thread_ids)):
                if ids is not None:
                    self._syntax.limit(source, column, ids)
            _limit(source, license_id, wanted)
            await self._syntax.prepare(connection)
            found = await self._syntax.count(connection, source)
            page = await _page_of_numbers(connection, source, found, order, limit, cursor)
            rows = await self._archived(connection, license_id, page.rows, reached)
            return Page(rows, page.next, page.previous, page.found)


def _clauses(license_id: int, terms: Terms) -> Iterable[_Clause]:
    for negated, groups in ((False, terms.any_of), (True, terms.not_all_of)):
        for kind, values in groups:
            tokens = [token(license_id, kind, value) for value in values]
            yield _Clause("words" if kind in OF_EVENTS else "labels", tokens, negated)


async def _reached(connection: AsyncConnection, license_id: int, reach: Reach) -> Sequence[_Clause]:
    """What threads within reach have: their groups, or a chat that the requester is in."""
    if reach.group_ids is None:
        return ()
    present = chat_users.c.license_id == license_id, chat_users.c.user_id == reach.user_id, chat_users.c.present
    mine = await connection.scalars(select(chat_users.c.chat_id).where(*present).limit(MAX_PRESENT_CHATS))
    tokens = [token(license_id, "group", str(group_id)) for group_id in sorted(reach.group_ids)]
    return [_Clause("labels", [*tokens, *(token(license_id, "chat", chat_id) for chat_id in mine)])]


async def _of_customers(connection: AsyncConnection, license_id: int, email: str) -> _Clause:
    with_email = customers.c.license_id == license_id, func.lower(customers.c.email) == email.lower()
    found = await connection.scalars(select(customers.c.id).where(*with_email).limit(MAX_CUSTOMERS))
    return _Clause("labels", [token(license_id, "customer", customer_id) for customer_id in found])


def _limit(source: _Source, license_id: int, wanted: ArchiveFilter) -> None:
    """The conditions that are not about tokens."""
    if wanted.created_from is not None:
        source.where("{number} >= :from", **{"from": _within(first_number(wanted.created_from))})
    if wanted.created_to is not None:
        source.where("{number} < :to", to=_within(first_number(wanted.created_to) + 1024))
    for place, span in enumerate(wanted.spans):
        during = f"kind = :kind_{place} AND at >= :from_{place} AND at <= :to_{place}"
        # FTS5 would look each of them up, were it not for the sign.
        sign = "+" if source.table == "archive_index" else ""
        source.where(
            f"{sign}{{number}} IN (SELECT number FROM archive_moments WHERE license_id = :license_id AND {during})",  # noqa: S608
            license_id=license_id,
            **{f"kind_{place}": span.kind, f"from_{place}": span.from_ or "", f"to_{place}": span.to or "~"},
        )


def _within(number: int) -> int:
    return max(-(2**63), min(2**63 - 1, number))


async def _page_of_numbers(
    connection: AsyncConnection, source: _Source, found: int, order: Order, limit: int, cursor: Cursor | None
) -> Page[int]:
    """One page by key: reads one number more than it shows, to know whether there is another page."""
    backwards = cursor is not None and cursor.backwards
    descending = (order == "desc") != backwards
    place, values = [], source.values | {"limit": limit + 1}
    if cursor is not None:
        place = [f"{source.number} {'<' if descending else '>'} :place"]
        values["place"] = int(cursor.id)
    ordered = f"ORDER BY {source.number} {'DESC' if descending else 'ASC'} LIMIT :limit"
    numbers = list(await connection.scalars(text(f"{source.select(source.number, *place)} {ordered}"), values))
    return page_of(numbers, limit, cursor, lambda number: ("", str(number)), found)


class _Sqlite:
    @staticmethod
    async def prepare(connection: AsyncConnection) -> None:
        """Nothing."""

    @staticmethod
    async def count(connection: AsyncConnection, source: _Source) -> int:
        """All of them: FTS5 counts some twenty million a second."""
        return int((await connection.execute(text(source.select("count(*)")), source.values)).scalar_one())

    @staticmethod
    def source(license_id: int, clauses: Sequence[_Clause]) -> _Source:
        if not clauses:
            return _Source("archive", "archive.number", [_OF_LICENSE], {"license_id": license_id})
        wanted = [" OR ".join(clause.tokens) for clause in clauses if not clause.negated]
        refused = [" AND ".join(clause.tokens) for clause in clauses if clause.negated]
        # Always with the license: tokens are short, and another license's may be the same as one that is asked for.
        match = " AND ".join([token(license_id, "license"), *(f"({each})" for each in wanted)])
        if refused:
            match = f"({match}) NOT ({' OR '.join(f'({each})' for each in refused)})"
        return _Source("archive_index", "archive_index.rowid", ["archive_index MATCH :match"], {"match": match})

    @staticmethod
    def limit(source: _Source, column: str, ids: Sequence[str]) -> None:
        among = f"{column} IN (SELECT value FROM json_each(:{column}))"  # noqa: S608 - a name of ours
        if source.table != "archive":
            # The sign keeps it from looking each of them up in the index of tokens.
            among = f"+{{number}} IN (SELECT number FROM archive WHERE {among})"  # noqa: S608 - the same
        source.where(among, **{column: orjson.dumps(ids).decode()})

    @staticmethod
    def reach(reached: Sequence[_Clause]) -> tuple[str, dict[str, str]]:
        if not reached:
            return "true", {}
        [clause] = reached
        values = {f"token_{place}": each for place, each in enumerate(clause.tokens)}
        return f"({' OR '.join(f'instr(p.labels, :{name})' for name in values)})", values


class _PostgreSql:
    @staticmethod
    async def prepare(connection: AsyncConnection) -> None:
        """A plan that does for all tokens would be a bad one for most."""
        await connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))

    @staticmethod
    async def count(connection: AsyncConnection, source: _Source) -> int:
        """Past EXACT the planner's estimate, unless it is of all: each row must be visited to be counted."""
        if source.conditions == [_OF_LICENSE]:
            return int((await connection.execute(text(source.select("count(*)")), source.values)).scalar_one())
        some = f"SELECT count(*) FROM ({source.select('1')} LIMIT {EXACT + 1}) AS found"  # noqa: S608
        found = int((await connection.execute(text(some), source.values)).scalar_one())
        if found <= EXACT:
            return found
        estimate = text(f"EXPLAIN (FORMAT JSON) {source.select('1')}")
        [plan] = (await connection.execute(estimate, source.values)).scalar_one()
        return max(found, int(plan["Plan"]["Plan Rows"]))

    @staticmethod
    def source(license_id: int, clauses: Sequence[_Clause]) -> _Source:
        source = _Source("archive", "archive.number", [_OF_LICENSE], {"license_id": license_id})
        columns: tuple[Column, ...] = ("labels", "words")
        for column in columns:
            of_column = [clause for clause in clauses if clause.column == column]
            if of_column and all(clause.negated for clause in of_column):
                # Without something that is there GIN would be of no use.
                of_column.append(_Clause(column, [token(license_id, "license")]))
            query = _tsquery(of_column)
            if query:
                source.where(f"{column} @@ CAST(:{column} AS tsquery)", **{column: query})
        return source

    @staticmethod
    def limit(source: _Source, column: str, ids: Sequence[str]) -> None:
        source.where(f"{column} = ANY(CAST(:{column} AS text[]))", **{column: list(ids)})

    @staticmethod
    def reach(reached: Sequence[_Clause]) -> tuple[str, dict[str, str]]:
        return ("p.labels @@ CAST(:reached AS tsquery)", {"reached": _tsquery(reached)}) if reached else ("true", {})


def _tsquery(clauses: Sequence[_Clause]) -> str:
    return " & ".join(
        f"!({' & '.join(clause.tokens)})" if clause.negated else f"({' | '.join(clause.tokens)})" for clause in clauses
    )
