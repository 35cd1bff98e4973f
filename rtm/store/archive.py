"""The list of archives: threads by their creation, found by an inverted index (see `rtm.store.indexer`).

A condition is a combination of tokens, which the index answers without looking at the threads: FTS5 on SQLite, which
goes through them in order and stops with the page, and GIN over tsvectors on PostgreSQL. Neither is left a choice of
plans that is good for most values and bad for some.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import orjson
from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.chat import Chat
from rtm.model.labels import OF_EVENTS, Kind, Moment, token
from rtm.slices import in_slices
from rtm.store.chat_rows import CHATS, as_chat
from rtm.store.database import Database
from rtm.store.indexer import Indexer, first_number
from rtm.store.queries import (
    MAX_PAGE_EVENTS,
    Cursor,
    Order,
    Page,
    Reach,
    ThreadWithEvents,
    fitting,
    page_of,
    with_events,
)
from rtm.store.tables import chats, customers, threads

MAX_CUSTOMERS = 100
"""Customers of one e-mail address."""
EXACT = 10_000
"""Up to here PostgreSQL counts what is found, which is then 10 to 20 ms; SQLite counts all."""
NEAR = 40
"""Of more than EXACT, PostgreSQL looks for a page among so many threads for each on it, before it looks at all."""
SAMPLE = 500
"""The first threads of the list, which tell PostgreSQL what is common in it."""
MAX_PRESENT_CHATS = 500
"""Chats that an agent is in; some dozens at most."""
CLOCKS_APART_US = 60_000_000
"""By which an event may seem older than its thread, as another process wrote it."""


Column = Literal["labels", "words"]
_OF_LICENSE = "license_id = :license_id"
# By the index of those who are in a chat with it open, not by that of all who ever were in one.
_PRESENT = text(
    "SELECT chat_id FROM chat_users"
    " WHERE license_id = :license_id AND user_id = :user_id AND present AND type = 'agent' LIMIT :limit"
)


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
    bounds: list[str] = field(default_factory=list)
    """Those of the conditions that say between which numbers."""
    tried: list[str] = field(default_factory=list)
    """The conditions as they are best tried on one thread after the other."""
    refused: dict[Column, list[str]] = field(default_factory=dict)
    """What is true of none of the threads: tokens, or with `&` several that none has all of."""

    def where(self, condition: str, values: Mapping[str, object]) -> None:
        """A further condition; `{number}` in it stands for the number."""
        self.conditions.append(condition.format(number=self.number))
        self.tried.append(condition.format(number="number"))
        self.values.update(values)

    def bound(self, condition: str, values: Mapping[str, object]) -> None:
        """A further condition on the number alone."""
        self.where(condition, values)
        self.bounds.append(condition.format(number="number"))

    def select(self, what: str, *conditions: str) -> str:
        """A statement."""
        return f"SELECT {what} FROM {self.table} WHERE {' AND '.join([*self.conditions, *conditions])}"  # noqa: S608

    def select_page(self, place: "_Place") -> str:
        """A statement that finds the numbers of a page among all."""
        return f"{self.select(self.number, place.then(self.number))} {place.first(self.number)}"

    def select_tried(self) -> str:
        """A statement of which the planner can tell how much it finds."""
        return f"SELECT 1 FROM {self.table} WHERE {' AND '.join([_OF_LICENSE, *self.tried])}"  # noqa: S608

    def select_next(self, what: str, place: "_Place", count: int) -> str:
        """A statement that reads the next threads of the list."""
        bounds = " AND ".join([*self.bounds, place.then("number")])
        return f"SELECT {what} FROM {self.table} WHERE {bounds} {place.order('number')} LIMIT {count}"  # noqa: S608

    def select_near(self, place: "_Place") -> str:
        """A statement that finds the numbers of a page among those, one after the other."""
        threads, tried = self.select_next("*", place, NEAR * place.count), " AND ".join(self.tried)
        return f"SELECT number FROM ({threads}) AS {self.table} WHERE {tried} {place.first('number')}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the list numbers are read, in which direction, and how many."""

    after: int | None
    descending: bool
    count: int

    def then(self, number: str) -> str:
        """That a number comes after it; `true` for all at the beginning of the list."""
        return "true" if self.after is None else f"{number} {'<' if self.descending else '>'} :after"

    def order(self, number: str) -> str:
        """In which they are read."""
        return f"ORDER BY {number} {'DESC' if self.descending else 'ASC'}"

    def first(self, number: str) -> str:
        """What ends the statement that reads them."""
        return f"{self.order(number)} LIMIT :count"

    @property
    def values(self) -> dict[str, object]:
        """What is bound in these; SQLite takes a limit that it sees for a reason to go through all in order."""
        return {"count": self.count} if self.after is None else {"count": self.count, "after": self.after}


class Archive:
    """Reads the list, on connections of its own."""

    def __init__(self, database: Database, indexer: Indexer) -> None:
        self._engine = database.engine
        self._syntax = _PostgreSql if database.dialect == "postgresql" else _Sqlite
        self._indexer = indexer

    async def _indexed(
        self, connection: AsyncConnection, license_id: int, numbers: Sequence[int], reached: Sequence[_Clause]
    ) -> dict[int, Row[Any]]:
        """What the index has of these numbers, with their neighbours: none of another license, whatever tokens say."""
        if not numbers:
            return {}
        is_reached, values = self._syntax.reach(reached)
        neighbours = f"""
            SELECT number, thread_id, chat_id, events_count,
                (SELECT p.thread_id FROM archive p WHERE p.chat_id = a.chat_id AND p.number < a.number AND {is_reached}
                    ORDER BY p.number DESC LIMIT 1) AS previous,
                (SELECT p.thread_id FROM archive p WHERE p.chat_id = a.chat_id AND p.number > a.number AND {is_reached}
                    ORDER BY p.number LIMIT 1) AS next
            FROM archive a WHERE number IN ({", ".join(map(str, numbers))}) AND {_OF_LICENSE}
        """  # noqa: S608 - nothing but our own text and integers
        of_license = await connection.execute(text(neighbours), {**values, "license_id": license_id})
        return {row.number: row for row in of_license}

    async def _archived(self, connection: AsyncConnection, indexed: Sequence[Row[Any]]) -> list[Archived]:
        """These threads, in that order."""
        if not indexed:
            return []
        of_threads = select(threads).where(threads.c.id.in_([row.thread_id for row in indexed]))
        with_their_events = await with_events(connection, await in_slices(await connection.execute(of_threads)))
        of_chats = CHATS.where(chats.c.id.in_({row.chat_id for row in indexed}))
        chats_by_id = {chat.id: chat for chat in await in_slices(map(as_chat, await connection.execute(of_chats)))}
        threads_by_id = {each.thread.id: each for each in with_their_events}
        return [
            Archived(chats_by_id[row.chat_id], threads_by_id[row.thread_id], row.previous, row.next) for row in indexed
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
            by_id = wanted.chat_ids is not None or wanted.thread_ids is not None
            source = self._syntax.source(license_id, clauses, by_id=by_id)
            for column, ids in (("chat_id", wanted.chat_ids), ("thread_id", wanted.thread_ids)):
                if ids is not None:
                    self._syntax.limit(source, column, ids)
            _limit(source, license_id, wanted)
            backwards = cursor is not None and cursor.backwards
            # One more than is shown, to know whether there is another page.
            place = _Place(int(cursor.id) if cursor else None, (order == "desc") != backwards, limit + 1)
            numbers, found = await self._syntax.read(connection, source, place)
            indexed = await self._indexed(connection, license_id, numbers[:limit], reached)
            events = (indexed[number].events_count if number in indexed else 0 for number in numbers)
            limit = fitting(events, MAX_PAGE_EVENTS, limit)
            page = page_of(numbers, limit, cursor, lambda number: ("", str(number)), found)
            rows = await self._archived(connection, [indexed[number] for number in page.rows if number in indexed])
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
    me = {"license_id": license_id, "user_id": reach.user_id, "limit": MAX_PRESENT_CHATS}
    mine = await connection.scalars(_PRESENT, me)
    tokens = [token(license_id, "group", str(group_id)) for group_id in sorted(reach.group_ids)]
    return [_Clause("labels", [*tokens, *(token(license_id, "chat", chat_id) for chat_id in mine)])]


async def _of_customers(connection: AsyncConnection, license_id: int, email: str) -> _Clause:
    with_email = customers.c.license_id == license_id, func.lower(customers.c.email) == email.lower()
    found = await connection.scalars(select(customers.c.id).where(*with_email).limit(MAX_CUSTOMERS))
    return _Clause("labels", [token(license_id, "customer", customer_id) for customer_id in found])


def _limit(source: _Source, license_id: int, wanted: ArchiveFilter) -> None:
    """The conditions that are not about tokens."""
    if wanted.created_from is not None:
        source.bound("{number} >= :from", {"from": _within(first_number(wanted.created_from))})
    if wanted.created_to is not None:
        source.bound("{number} < :to", {"to": _within(first_number(wanted.created_to) + 1024)})
    for place, span in enumerate(wanted.spans):
        during = f"kind = :kind_{place} AND at >= :from_{place} AND at <= :to_{place}"
        # FTS5 would look each of them up, were it not for the sign.
        sign = "+" if source.table == "archive_index" else ""
        source.where(
            f"{sign}{{number}} IN (SELECT number FROM archive_moments WHERE license_id = :license_id AND {during})",  # noqa: S608
            {
                "license_id": license_id,
                f"kind_{place}": span.kind,
                f"from_{place}": span.from_ or "",
                f"to_{place}": span.to or "~",
            },
        )
        if span.to is not None:  # by then the thread was there
            before = _within(first_number(span.to) + CLOCKS_APART_US * 1024)
            source.bound(f"{{number}} < :before_{place}", {f"before_{place}": before})


def _within(number: int) -> int:
    return max(-(2**63), min(2**63 - 1, number))


class _Sqlite:
    @staticmethod
    async def read(connection: AsyncConnection, source: _Source, place: _Place) -> tuple[list[int], int]:
        """Numbers from a place on, and how many there are in all: FTS5 counts some twenty million a second."""
        numbers = list(await connection.scalars(text(source.select_page(place)), source.values | place.values))
        if place.after is None and len(numbers) < place.count:
            return numbers, len(numbers)
        return numbers, int((await connection.execute(text(source.select("count(*)")), source.values)).scalar_one())

    @staticmethod
    def source(license_id: int, clauses: Sequence[_Clause], *, by_id: bool) -> _Source:
        if not clauses:
            return _Source("archive", "archive.number", [_OF_LICENSE], {"license_id": license_id})
        wanted = [_any(clause.tokens) for clause in clauses if not clause.negated]
        refused = [" AND ".join(clause.tokens) for clause in clauses if clause.negated]
        # Always with the license: tokens are short, and another license's may be the same as one that is asked for.
        match = " AND ".join([token(license_id, "license"), *(f"({each})" for each in wanted)])
        if refused:
            match = f"({match}) NOT ({_any([f'({each})' for each in refused])})"
        return _Source("archive_index", "archive_index.rowid", ["archive_index MATCH :match"], {"match": match})

    @staticmethod
    def limit(source: _Source, column: str, ids: Sequence[str]) -> None:
        # The sign keeps FTS5 from looking each of them up, which is better for a few threads only.
        sign = "+" if source.table == "archive_index" and column == "chat_id" else ""
        among = f"SELECT number FROM archive WHERE {column} IN (SELECT value FROM json_each(:{column}))"  # noqa: S608
        source.where(f"{sign}{{number}} IN ({among})", {column: orjson.dumps(ids).decode()})

    @staticmethod
    def reach(reached: Sequence[_Clause]) -> tuple[str, dict[str, str]]:
        if not reached:
            return "true", {}
        [clause] = reached
        any_of = "EXISTS (SELECT 1 FROM json_each(:reached) WHERE instr(p.labels, value))"
        return any_of, {"reached": orjson.dumps(clause.tokens).decode()}


_WIDTH = 8


def _any(terms: Sequence[str]) -> str:
    """FTS5's words for one of these at least.

    FTS5 looks at each term of an OR for each thread that it finds, so a long one becomes a tree of short ones. It would
    make them one again, were there not something between them: a NOT of what is no thread's token.
    """
    while len(terms) > _WIDTH:
        terms = [f"(({' OR '.join(terms[i : i + _WIDTH])}) NOT none)" for i in range(0, len(terms), _WIDTH)]
    return " OR ".join(terms)


_COLUMNS: tuple[Column, ...] = ("labels", "words")


class _PostgreSql:
    @staticmethod
    async def read(connection: AsyncConnection, source: _Source, place: _Place) -> tuple[list[int], int]:
        """Numbers from a place on, and how many there are in all, of more than EXACT about how many.

        Each row must be visited to be counted. Also to be put in order; so of many, those next in the list are tried
        first, as pages are found there unless what is asked for is all at the list's other end.
        """
        if source.conditions == [_OF_LICENSE] and not source.refused:
            found = (await connection.execute(text(source.select("count(*)")), source.values)).scalar_one()
            page = await connection.scalars(text(source.select_page(place)), source.values | place.values)
            return list(page), int(found)
        for column in source.refused:
            await _refuse_common(connection, source, column, replace(place, after=None))
        await connection.execute(_BY_TOKENS, {"ordered": "off"})
        some = f"""
            WITH found AS MATERIALIZED ({_every(source)} LIMIT {EXACT + 1})
            SELECT (SELECT count(*) FROM found) AS count,
                ARRAY(SELECT number FROM found WHERE {place.then("number")} {place.first("number")}) AS numbers
        """  # noqa: S608 - nothing but our own text and integers
        found, numbers = (await connection.execute(text(some), source.values | place.values)).one()
        if found > EXACT:
            estimate = text(f"EXPLAIN (FORMAT JSON) {source.select_tried()}")
            [plan] = (await connection.execute(estimate, source.values)).scalar_one()
            found = max(found, int(plan["Plan"]["Plan Rows"]))
            await connection.execute(_BY_TOKENS, {"ordered": "on"})
            numbers = list(await connection.scalars(text(source.select_near(place)), source.values | place.values))
            if len(numbers) < place.count:
                await connection.execute(_BY_TOKENS, {"ordered": "off"})
                every = f"{_every(source, place.then(source.number))} {place.first('number')}"
                numbers = list(await connection.scalars(text(every), source.values | place.values))
        await connection.rollback()  # and with it what the planner was told
        return numbers, found

    @staticmethod
    def source(license_id: int, clauses: Sequence[_Clause], *, by_id: bool) -> _Source:
        source = _Source("archive", "archive.number", [_OF_LICENSE], {"license_id": license_id}, [_OF_LICENSE])
        for column in _COLUMNS:
            of_column = [clause for clause in clauses if clause.column == column]
            if of_column:
                source.tried.append(f"{column} @@ CAST(:{column}_tried AS tsquery)")
                source.values[f"{column}_tried"] = _tsquery(of_column)
        if by_id:
            source.conditions += source.tried
            return source
        for column in _COLUMNS:
            refused = [" & ".join(each.tokens) for each in clauses if each.negated and each.column == column]
            if len(refused) > _MANY:
                source.refused[column] = refused
                clauses = [each for each in clauses if not (each.negated and each.column == column)]
        wide = next((clause for clause in clauses if _is_wide(clause)), None)
        if wide is not None:
            # One of them is looked up with the rest; the sum keeps the planner from trying it on all of the license's.
            clauses = [clause for clause in clauses if clause is not wide]
            source.conditions = ["license_id + 0 = :license_id", f"{wide.column} @@ ANY(CAST(:wide AS tsquery[]))"]
            source.values["wide"] = list(wide.tokens)
        for column in _COLUMNS:
            _look_up(source, license_id, column, [clause for clause in clauses if clause.column == column])
        return source

    @staticmethod
    def limit(source: _Source, column: str, ids: Sequence[str]) -> None:
        source.where(f"{column} = ANY(CAST(:{column} AS text[]))", {column: list(ids)})

    @staticmethod
    def reach(reached: Sequence[_Clause]) -> tuple[str, dict[str, str]]:
        return ("p.labels @@ CAST(:reached AS tsquery)", {"reached": _tsquery(reached)}) if reached else ("true", {})


async def _refuse_common(connection: AsyncConnection, source: _Source, column: Column, start: _Place) -> None:
    """Have GIN refuse what is common at the beginning of the list: few threads have to be told from the others then."""
    threads = source.select_next(column, start, SAMPLE)
    most_often = f"""
        SELECT token FROM ({threads}) AS first, unnest(tsvector_to_array({column})) AS token
        WHERE token = ANY(CAST(:refused AS text[])) GROUP BY token ORDER BY count(*) DESC LIMIT {_FEW}
    """  # noqa: S608 - nothing but our own text and integers
    refused = source.refused[column]
    await connection.execute(_BY_TOKENS, {"ordered": "on"})
    often = list(await connection.scalars(text(most_often), {**source.values, "refused": refused}))
    source.values[f"{column}_refused"] = [each for each in refused if each not in often]
    is_there = token(cast("int", source.values["license_id"]), "license")
    # Apart, as what has one of the first is not tried for the others then.
    for name, tokens in ((f"{column}_first", often[:_MANY]), (f"{column}_often", often[_MANY:])):
        if tokens:
            source.conditions.append(f"{column} @@ CAST(:{name} AS tsquery)")
            source.values[name] = f"{is_there} & !{_tree('|', tokens)}"


def _every(source: _Source, *conditions: str) -> str:
    """A statement that finds all; whoever reads only some of them has no other plan made for that.

    What is refused stands apart, or the planner would rather remember all that is not.
    """
    every = f"every AS MATERIALIZED ({source.select('number', *conditions)})"
    if not source.refused:
        return f"WITH {every} SELECT number FROM every"  # noqa: S608
    having = " UNION ALL ".join(_having(column, f"{column}_refused") for column in source.refused)
    is_refused = "SELECT 1 FROM refused WHERE refused.number = every.number"
    return f"WITH refused AS MATERIALIZED ({having}), {every} SELECT number FROM every WHERE NOT EXISTS ({is_refused})"  # noqa: S608


# Left to itself the planner goes through threads in order, or all of them, where it takes tokens to be common: wrongly,
# if they are not, or only long ago. Both cost more than the index ever does, as does a plan that is for any tokens, to
# have it compiled, or to have other processes join in. To try tokens on a thread costs twenty times what it thinks, and
# numbers of all threads of a license fit into 16 MB.
_BY_TOKENS = text("""
    SELECT set_config('enable_indexscan', :ordered, true), set_config('enable_seqscan', 'off', true),
        set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true),
        set_config('max_parallel_workers_per_gather', '0', true), set_config('cpu_operator_cost', '0.05', true),
        set_config('work_mem', '16MB', true)
""")


_FEW = 32
"""Tokens of which one is wanted that one look at GIN is for: it tries each on each thread that it finds."""
_MANY = 8
"""Tokens that are not wanted, up to which GIN is for them."""


def _is_wide(clause: _Clause) -> bool:
    return not clause.negated and len(clause.tokens) > _FEW


def _look_up(source: _Source, license_id: int, column: Column, clauses: Sequence[_Clause]) -> None:
    """The conditions on the tokens of one column: as many as can be are one, which only the index answers."""
    at_once = [clause for clause in clauses if not _is_wide(clause)]
    if at_once and all(clause.negated for clause in at_once):
        # Without something that is there GIN would be of no use.
        at_once.append(_Clause(column, [token(license_id, "license")]))
    if at_once:
        source.conditions.append(f"{column} @@ CAST(:{column} AS tsquery)")
        source.values[column] = _tsquery(at_once)
    for place, clause in enumerate(filter(_is_wide, clauses)):
        source.conditions.append(f"archive.number IN ({_having(column, f'{column}_{place}')})")
        source.values[f"{column}_{place}"] = list(clause.tokens)


def _having(column: Column, name: str) -> str:
    """Numbers of threads that one of these is true of at least. OFFSET keeps it from being tried on each thread."""
    return f"SELECT o.number FROM archive o WHERE o.{column} @@ ANY(CAST(:{name} AS tsquery[])) OFFSET 0"  # noqa: S608


def _tsquery(clauses: Sequence[_Clause]) -> str:
    return _tree("&", [_of_clause(clause) for clause in clauses])


def _of_clause(clause: _Clause) -> str:
    return f"!{_tree('&', clause.tokens)}" if clause.negated else _tree("|", clause.tokens)


def _tree(operator: str, terms: Sequence[str]) -> str:
    """PostgreSQL descends into what is on the left of an operator: into a long list once for each of its terms."""
    while len(terms) > 1:
        terms = [f"({f' {operator} '.join(terms[i : i + 2])})" for i in range(0, len(terms), 2)]
    return terms[0]
