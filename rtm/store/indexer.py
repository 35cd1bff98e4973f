"""Keeps `archive`, the index that lists of archives are filtered by, up to date.

Commands do not write it: one that changes a thread, its access or its chat's properties notes in its transaction that
the thread is due (`archive_due`), and events are only remembered here. Threads are indexed from there on, a few in a
step, each step a transaction of a few milliseconds on its own; an index row holds how many of its thread's events it
knows, so that new ones are added to it. A change of earlier ones that matters here has the thread indexed afresh.
By a chat's properties all of its threads are found, of which there may be thousands: the chat is noted
(`archive_due_chats`), and some of its earlier threads at a time are due whenever nothing else is, each chat in turn.

How fresh it is: a list of archives first lets 100 changed threads of its license be indexed, those that changed last
first, for up to 0.25 s (`catch_up`). The others follow in the background within some seconds, the oldest first; an open
thread once nothing has been said in it for a second, and the longer it is the less often: PostgreSQL writes all of a
row's tokens again, 20,000 in 50 ms. Of an open thread, what another process was told since then is not found until it
is indexed or closed. What is due survives a restart; open threads are looked at when a process starts.

What a thread costs SQLite follows what is new in it: of a row that is there, the inverted index is told the tokens that
come and go. (FTS5 keeps for each token the rows that have it, and does not mind which statement brought it.) What is
left of a thread's length is its row in `archive`, which is written anew: 11 bytes for each of its tokens.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice, takewhile
from time import monotonic
from typing import Any

import orjson
import structlog
from sqlalchemy import ColumnElement, Row, Table, Text, and_, cast, exists, false, func, or_, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.chat import EventBody, NewEvent, UserType
from rtm.model.labels import MAX_TOKENS, Facts, moments, of_events, of_thread
from rtm.outage import Outage, again_and_again
from rtm.protocol.timestamps import to_microseconds
from rtm.store.database import Database
from rtm.store.rows import DUE_ALREADY
from rtm.store.sqlite import SqliteStore, transaction
from rtm.store.tables import all_events, archive, archive_due, archive_due_chats, chats, customers, threads

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
QUIET_S = 1.0
"""An open thread is indexed once nothing has been said in it for so long."""
REST_S = 30.0
"""Until an open thread of MAX_TOKENS is indexed again, unless somebody asks; of others in proportion."""
PAUSE_S = 0.01
"""Between two steps, for those who write."""
CATCH_UP_S = 0.25
CATCH_UP_THREADS = 100
THREADS_IN_STEP = 10
EARLIER_THREADS_AT_ONCE = 100
"""Of a chat; the others' threads wait for these."""
EVENTS_IN_STEP = 500
BYTES_IN_STEP = 2 << 20
"""Of events, all but the last of them."""
WRITTEN_AT_ONCE = 1 << 18
"""Characters of tokens, some 24,000 of them, after which a step lets SQLite's other writers go first."""

# Any number, as long as no other program on the same PostgreSQL takes a lock of the same one.
_LOCK = 0x61726368

_UPSERT = """
    INSERT INTO archive (number, thread_id, chat_id, license_id, events_count, labels, words)
    VALUES (:number, :thread_id, :chat_id, :license_id, :events_count, :labels, :words)
    ON CONFLICT (thread_id) DO UPDATE
    SET events_count = excluded.events_count, labels = excluded.labels, words = excluded.words
"""
_INDEX = "INSERT INTO archive_index (rowid, labels, words) VALUES (:number, :labels, :words)"
_UNINDEX = "INSERT INTO archive_index (archive_index, rowid, labels, words) VALUES ('delete', :number, :labels, :words)"
"""What comes and what goes; always both, for FTS5 counts them as rows."""
_ADD_MOMENT = """
    INSERT INTO archive_moments (number, kind, at, license_id) VALUES (:number, :kind, :at, :license_id)
    ON CONFLICT DO NOTHING
"""
_FORGET_MOMENTS = "DELETE FROM archive_moments WHERE number = :number"
_BEGUN = "UPDATE archive_due SET afresh = false WHERE id = :id"
"""A thread whose first events have been indexed afresh, and not yet all."""
_DONE = "DELETE FROM archive_due WHERE id = :id"
# Threads are always noted in the order of their ids: else two who do so on PostgreSQL might wait for each other.
_LOOK_AT_OPEN_THREADS = """
    INSERT INTO archive_due (license_id, thread_id) SELECT license_id, id FROM threads WHERE active ORDER BY id
    ON CONFLICT DO NOTHING
"""
_NOTE = f"INSERT INTO archive_due (license_id, thread_id) VALUES (:license_id, :thread_id) {DUE_ALREADY}"  # noqa: S608
_CHAT_BEGUN = "UPDATE archive_due_chats SET before = :before WHERE license_id = :license_id AND chat_id = :chat_id"
_CHAT_DONE = "DELETE FROM archive_due_chats WHERE license_id = :license_id AND chat_id = :chat_id AND NOT again"
_CHAT_AGAIN = """
    UPDATE archive_due_chats SET before = '9', again = false WHERE license_id = :license_id AND chat_id = :chat_id
"""

Statement = tuple[str, Sequence[Mapping[str, object]]]
"""With the values of each time that it is run."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a thread's row in the index is made of."""

    thread_id: str
    created_at: str
    facts: Facts
    number: int
    events_count: int
    labels: str
    words: str
    """Those that the index has, with spaces between them; it has labels of any thread that it has."""
    new_events: Sequence[tuple[int, EventBody]]
    """Those after `events_count`, or the first of them."""
    afresh: bool = False
    """Whether what the index has of the thread's events is forgotten."""

    @property
    def kept_words(self) -> str:
        """Those that it goes on to have."""
        return "" if self.afresh else self.words


def number(created_at: str, thread_id: str) -> int:
    """The place of a thread in the order of archives: by its creation."""
    [low, high] = blake2b(thread_id.encode(), digest_size=2).digest()
    return first_number(created_at) + ((low << 8 | high) & 1023)


def first_number(created_at: str) -> int:
    """The least place of a thread of that moment; 1024 less than that of one a microsecond later."""
    return to_microseconds(created_at) << 10


class Indexer:
    """Indexes threads for as long as `run` runs, and at once when asked to `catch_up`."""

    def __init__(self, database: Database, store: object) -> None:
        self._engine = database.engine
        self._sqlite = store if isinstance(store, SqliteStore) else None
        self._said: dict[int, dict[str, float]] = {}
        """By license, the threads that got events here since they were indexed, and when the last one: in that order.

        What is left of one that has more events than a step takes is behind the others, and as old as can be.
        """
        self._rests: dict[str, float] = {}
        """Until when threads that are indexed are left alone, where that is longer than they must be quiet."""
        self._last_chat = (0, "")
        """License and id of the chat of which threads were last made due by its properties."""
        self._started = False
        """Open threads are known to be due, of which a process that ended may have said nothing."""
        self._one_at_a_time = asyncio.Lock()
        self._outage = Outage(log, "archive_not_indexed")

    def said(self, license_id: int, added: Iterable[NewEvent]) -> None:
        """These events were stored."""
        of_license = self._said.get(license_id)
        if of_license is None:
            of_license = self._said[license_id] = {}
        now = monotonic()
        for event in added:
            of_license.pop(event.thread_id, None)
            of_license[event.thread_id] = now

    async def catch_up(self, license_id: int) -> None:
        """Index what has changed of the license's threads, within limits; whatever fails is made up for later."""
        deadline = monotonic() + CATCH_UP_S
        try:
            for _ in range(CATCH_UP_THREADS // THREADS_IN_STEP):
                said = [
                    (license_id, each) for each in islice(reversed(self._said.get(license_id, {})), THREADS_IN_STEP)
                ]
                if monotonic() > deadline or not (said or await self._is_due(license_id)):
                    return
                await self._step(said, license_id)
        except Exception as error:  # noqa: BLE001 - the list is shown without
            self._outage.noticed(error)

    async def run(self) -> None:
        """Index until cancelled."""
        await again_and_again(self._index_all, self._outage, every_s=INTERVAL_S)

    async def _index_all(self) -> None:
        """All that is due, and with each step of it open threads that are quiet."""
        if not self._started:
            async with self._at_work() as connection:
                await self._write(connection, [(_LOOK_AT_OPEN_THREADS, [{}])])
            self._started = True
        while (quiet := self._quiet()) or await self._is_due():
            await self._step(quiet)
            await asyncio.sleep(PAUSE_S)

    def _quiet(self) -> list[tuple[int, str]]:
        """Some of the threads in which nothing has been said for a while, by license and id."""
        now = monotonic()
        quiet = (
            (license_id, thread_id)
            for license_id, of_license in self._said.items()
            for thread_id, _ in takewhile(lambda item: item[1] < now - QUIET_S, of_license.items())
            if self._rests.get(thread_id, 0.0) < now
        )
        return list(islice(quiet, THREADS_IN_STEP))

    async def _is_due(self, license_id: int | None = None) -> bool:
        """Whether any thread is due, of the license or of all; if none is, those of a chat are from now on."""
        of_threads, of_chats = (_any(each, license_id) for each in (archive_due, archive_due_chats))
        async with self._engine.connect() as connection:
            threads_are, chats_are = (await connection.execute(select(of_threads, of_chats))).one()
        if chats_are and not threads_are:
            await self._make_due(license_id)
        return bool(threads_are or chats_are)

    async def _make_due(self, license_id: int | None) -> None:
        """Note some of the threads of the next chat whose properties have changed."""
        async with self._one_at_a_time, self._at_work() as connection:
            chat = await self._next_chat(connection, license_id)
            if chat is None:
                return
            left = (
                select(threads.c.id, threads.c.created_at)
                .where(threads.c.chat_id == chat.chat_id, threads.c.created_at < chat.before)
                .order_by(threads.c.created_at.desc())
                .limit(EARLIER_THREADS_AT_ONCE)
            )
            rows = (await connection.execute(left)).all()
            key = {"license_id": chat.license_id, "chat_id": chat.chat_id}
            noted = [{"license_id": chat.license_id, "thread_id": each} for each in sorted(row.id for row in rows)]
            if len(rows) == EARLIER_THREADS_AT_ONCE:
                how_far: list[Statement] = [(_CHAT_BEGUN, [key | {"before": rows[-1].created_at}])]
            else:
                how_far = [(_CHAT_DONE, [key]), (_CHAT_AGAIN, [key])]
            await self._write(connection, [*([(_NOTE, noted)] if noted else []), *how_far])

    async def _next_chat(self, connection: AsyncConnection, license_id: int | None) -> Row[Any] | None:
        """The chat after the one before, all round, however often it changes."""
        key = tuple_(archive_due_chats.c.license_id, archive_due_chats.c.chat_id)
        for after in (self._last_chat, (0, "")):
            rest = select(archive_due_chats).where(_of(archive_due_chats, license_id), key > after)
            row = (await connection.execute(rest.order_by(*key).limit(1))).first()
            if row is not None:
                self._last_chat = (row.license_id, row.chat_id)
                return row
        return None

    async def _step(self, said: Sequence[tuple[int, str]], license_id: int | None = None) -> None:
        """Index these threads, and some of those that are due, of the license or of all."""
        async with self._one_at_a_time:
            began = monotonic()
            for each in said:
                self._forget(*each)
            left = said
            try:
                complete = await self._index(said, license_id)
                left = [each for each in said if each not in complete]
                for of_license, thread_id in complete:
                    # What was said since may not have been read.
                    if self._said.get(of_license, {}).get(thread_id, began) < began:
                        self._forget(of_license, thread_id)
            finally:
                for of_license, thread_id in left:
                    self._said.setdefault(of_license, {}).setdefault(thread_id, 0.0)

    def _forget(self, license_id: int, thread_id: str) -> None:
        """What was said in the thread; the license's others come after those of other licenses."""
        of_license = self._said.pop(license_id, {})
        of_license.pop(thread_id, None)
        if of_license:
            self._said[license_id] = of_license

    async def _index(self, said: Sequence[tuple[int, str]], license_id: int | None) -> set[tuple[int, str]]:
        """Index these threads and some that are due; those that are complete now, by license and id."""
        async with self._at_work() as connection:
            transactions, complete = await self._changes(connection, said, license_id)
            for statements in transactions:
                await self._write(connection, statements)
            return complete

    async def write(self, sources: Iterable[Source]) -> None:
        """Index threads of which all is known, as somebody does who brings many."""
        async with self._at_work() as connection:
            await self._write(connection, _statements(sources, fts5=self._sqlite is not None))

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[AsyncConnection]:
        """A connection; on PostgreSQL one transaction, in which no other process is at work."""
        if self._sqlite is not None:
            async with self._engine.connect() as connection:
                yield connection
        else:
            async with self._engine.begin() as connection:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                yield connection

    async def _write(self, connection: AsyncConnection, statements: Sequence[Statement]) -> None:
        """On SQLite a transaction of its own, of the writer's connection."""
        if self._sqlite is not None:
            await self._sqlite.between_batches(lambda db: _write_to_sqlite(db, statements))
        else:
            await _write_to_postgresql(connection, statements)

    async def _changes(
        self, connection: AsyncConnection, said: Sequence[tuple[int, str]], license_id: int | None
    ) -> tuple[list[list[Statement]], set[tuple[int, str]]]:
        """What is to be written, in parts that may be committed one after the other.

        And the threads of which that is all, by license and id.
        """
        # Who asks for those of a license shall find the newest; in general none waits for good.
        in_turn = archive_due.c.id if license_id is None else archive_due.c.id.desc()
        due = select(archive_due).where(_of(archive_due, license_id)).order_by(in_turn).limit(THREADS_IN_STEP)
        rows = sorted((await connection.execute(due)).all(), key=lambda row: row.thread_id)
        wanted = list(dict.fromkeys([*said, *((row.license_id, row.thread_id) for row in rows)]))
        afresh = {row.thread_id for row in rows if row.afresh}
        sources, incomplete = await self._read(connection, [thread_id for _, thread_id in wanted], afresh)
        # In a thread: the words of long texts take some milliseconds.
        transactions = await asyncio.to_thread(_transactions, sources, fts5=self._sqlite is not None)
        begun = afresh & incomplete & {source.thread_id for source in sources}
        begun_rows = [{"id": row.id} for row in rows if row.thread_id in begun]
        done_rows = [{"id": row.id} for row in rows if row.thread_id not in incomplete]
        transactions[-1] += [each for each in ((_BEGUN, begun_rows), (_DONE, done_rows)) if each[1]]
        self._rest(transactions, but=incomplete)
        return [each for each in transactions if each], {each for each in wanted if each[1] not in incomplete}

    def _rest(self, transactions: Iterable[Iterable[Statement]], but: Collection[str]) -> None:
        """Leave alone for a while the threads that are written in these."""
        now = monotonic()
        self._rests = {thread_id: until for thread_id, until in self._rests.items() if until > now}
        rows = (row for statement, rows in chain.from_iterable(transactions) if statement is _UPSERT for row in rows)
        for row in rows:
            rest_s = REST_S * str(row["words"]).count(" ") / MAX_TOKENS
            if rest_s > QUIET_S and row["thread_id"] not in but:
                self._rests[str(row["thread_id"])] = now + rest_s

    async def _read(
        self, connection: AsyncConnection, thread_ids: Sequence[str], afresh: Collection[str]
    ) -> tuple[list[Source], set[str]]:
        """What the threads' rows are made of, and the ids of those of which that is not all.

        Those to index `afresh` are left out until it is their turn to have events read.
        """
        wanted = (
            select(
                threads.c.id,
                threads.c.chat_id,
                threads.c.license_id,
                threads.c.created_at,
                threads.c.state,
                chats.c.state.label("chat"),
                chats.c.properties,
                archive.c.number,
                archive.c.events_count,
                self._text(archive.c.labels).label("labels"),
                self._text(archive.c.words).label("words"),
            )
            .select_from(threads.join(chats).outerjoin(archive, archive.c.thread_id == threads.c.id))
            .where(threads.c.id.in_(thread_ids))
        )
        rows = (await connection.execute(wanted.order_by(threads.c.id))).all()
        countries, numbers = await _countries(connection, rows), await _numbers(connection, rows)
        counts = {row.id: 0 if row.id in afresh else row.events_count or 0 for row in rows}
        new_events, incomplete = await _new_events(connection, counts)
        sources = [
            Source(
                thread_id=row.id,
                created_at=row.created_at,
                facts=_facts(row, countries),
                number=numbers[row.id],
                events_count=counts[row.id],
                labels=row.labels or "",
                words=row.words or "",
                new_events=new_events.get(row.id, ()),
                afresh=row.id in afresh,
            )
            for row in rows
            if row.id not in afresh or row.id in new_events or row.id not in incomplete
        ]
        return sources, incomplete

    def _text(self, tokens: ColumnElement[str]) -> ColumnElement[str]:
        """Tokens with spaces between them."""
        return tokens if self._sqlite else func.array_to_string(func.tsvector_to_array(tokens), " ")


def _of(due: Table, license_id: int | None) -> ColumnElement[bool]:
    return true() if license_id is None else due.c.license_id == license_id


def _any(due: Table, license_id: int | None) -> ColumnElement[bool]:
    return exists().select_from(due).where(_of(due, license_id))


async def _new_events(
    connection: AsyncConnection, counts: Mapping[str, int]
) -> tuple[dict[str, list[tuple[int, EventBody]]], set[str]]:
    """By thread, events after so many, and the ids of those of which there are more."""
    events = all_events.c
    after = (and_(events.thread_id == thread_id, events.number > count) for thread_id, count in counts.items())
    columns = events.thread_id, events.number, cast(events.body, Text).label("body")
    in_order = select(*columns).where(or_(false(), *after)).order_by(events.thread_id, events.number)
    rows: list[Row[Any]] = []
    size = 0
    async with connection.stream(in_order.limit(EVENTS_IN_STEP), execution_options={"max_row_buffer": 50}) as result:
        async for row in result:
            rows.append(row)
            size += len(row.body)
            if size >= BYTES_IN_STEP:
                break
    found = await asyncio.to_thread(_decoded, rows)
    last = rows[-1].thread_id if len(rows) == EVENTS_IN_STEP or size >= BYTES_IN_STEP else None
    return found, set() if last is None else {last, *(each for each in counts if each not in found)}


def _decoded(rows: Iterable[Row[Any]]) -> dict[str, list[tuple[int, EventBody]]]:
    found: dict[str, list[tuple[int, EventBody]]] = {}
    for row in rows:
        found.setdefault(row.thread_id, []).append((row.number, orjson.loads(row.body)))
    return found


async def _numbers(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> dict[str, int]:
    """By thread, its number or the next that no thread has; whoever else asks waits for the end of this step."""
    numbers = {row.id: row.number for row in rows if row.number is not None}
    new = {row.id: number(row.created_at, row.id) for row in rows if row.number is None}
    taken = set(await connection.scalars(select(archive.c.number).where(archive.c.number.in_(new.values()))))
    for thread_id, wanted in new.items():
        free = wanted
        while free in taken:
            free += 1
            if await connection.scalar(select(archive.c.number).where(archive.c.number == free)) is not None:
                taken.add(free)
        numbers[thread_id] = free
        taken.add(free)
    return numbers


async def _countries(connection: AsyncConnection, rows: Iterable[Row[Any]]) -> dict[tuple[int, str], str]:
    """By license and customer, the code of the country that they last came from."""
    keys = {(row.license_id, user_id) for row in rows for user_id in _user_ids(row, "customer")}
    if not keys:
        return {}
    license_ids, customer_ids = ({*each} for each in zip(*keys, strict=True))
    among = customers.c.license_id.in_(license_ids), customers.c.id.in_(customer_ids)  # a few more than needed
    found = await connection.execute(select(customers).where(*among))
    codes = {
        (row.license_id, row.id): row.state.get("visit", {}).get("geolocation", {}).get("country_code") for row in found
    }
    return {key: code.upper() for key, code in codes.items() if isinstance(code, str)}


def _user_ids(thread: Row[Any], kind: UserType) -> list[str]:
    of_kind = {user["id"] for user in thread.chat["users"] if user["type"] == kind}
    return [user_id for user_id in thread.state["user_ids"] if user_id in of_kind]


def _facts(thread: Row[Any], countries: Mapping[tuple[int, str], str]) -> Facts:
    customer_ids = _user_ids(thread, "customer")
    codes = (countries.get((thread.license_id, customer_id)) for customer_id in customer_ids)
    return Facts(
        license_id=thread.license_id,
        chat_id=thread.chat_id,
        group_ids=thread.state["group_ids"],
        agent_ids=_user_ids(thread, "agent"),
        customer_ids=customer_ids,
        countries=[code for code in codes if code is not None],
        tags=thread.state["tags"],
        properties=(thread.state["properties"], thread.properties),
    )


def _transactions(sources: Iterable[Source], *, fts5: bool) -> list[list[Statement]]:
    """One at least; what is written of a thread is in one of them."""
    transactions: list[list[Statement]] = [[]]
    size = 0
    for source in sources:
        if size >= WRITTEN_AT_ONCE:
            transactions.append([])
            size = 0
        statements = _statements([source], fts5=fts5)
        transactions[-1] += statements
        size += sum(len(str(row["words"])) for written, rows in statements if written is _UPSERT for row in rows)
    return transactions


def _statements(sources: Iterable[Source], *, fts5: bool) -> list[Statement]:
    """Those that have something to write."""
    rows: list[Mapping[str, object]] = []
    gone: list[Mapping[str, object]] = []
    new: list[Mapping[str, object]] = []
    forgotten: list[Mapping[str, object]] = []
    found: list[Mapping[str, object]] = []
    for source in sources:
        try:
            row = _row(source)
            if source.new_events or (row["labels"], row["words"]) != (source.labels, source.words):
                rows.append(row)
                if fts5 and source.labels:  # else a trigger tells all of them
                    before = {**row, "labels": source.labels, "words": source.words}
                    gone.append(_without(before, row))
                    new.append(_without(row, before))
                found += _moments(source)
                if source.afresh:
                    forgotten.append({"number": source.number})
        except Exception:  # it must not keep the others from being indexed
            log.exception("thread_not_indexed", thread_id=source.thread_id)
    of_index, of_moments = [(_UNINDEX, gone), (_INDEX, new)], [(_FORGET_MOMENTS, forgotten), (_ADD_MOMENT, found)]
    written: list[Statement] = [(_UPSERT, rows), *of_index, *of_moments]
    return [each for each in written if each[1]]


def _without(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, object]:
    """The tokens of a row that another of the same thread has not."""
    tokens = {column: _difference(row[column], other[column]) for column in ("labels", "words")}
    return {"number": row["number"], **tokens}


def _difference(tokens: str, others: str) -> str:
    """Words are mostly added behind those there were, and need not be taken apart."""
    if tokens.startswith(others):
        return tokens.removeprefix(others).strip()
    if others.startswith(tokens):
        return ""
    return " ".join(set(tokens.split()).difference(others.split()))


def _row(source: Source) -> dict[str, Any]:
    labels = of_thread(source.facts)
    known = frozenset(source.kept_words.split())
    words = of_events(source.facts, (body for _, body in source.new_events), known)
    return {
        "number": source.number,
        "thread_id": source.thread_id,
        "chat_id": source.facts.chat_id,
        "license_id": source.facts.license_id,
        "events_count": source.new_events[-1][0] if source.new_events else source.events_count,
        "labels": " ".join(sorted(labels)),
        "words": " ".join([*source.kept_words.split(), *sorted(words - known)]),
    }


def _moments(source: Source) -> Iterable[dict[str, object]]:
    found = moments(source.facts, source.created_at, [body for _, body in source.new_events])
    of_thread = {"number": source.number, "license_id": source.facts.license_id}
    return [{**of_thread, "kind": kind, "at": at} for kind, at in found]


async def _write_to_postgresql(connection: AsyncConnection, statements: Iterable[Statement]) -> None:
    for statement, values in statements:
        # It must be told of what type tokens are.
        typed = statement.replace(":labels", "CAST(:labels AS tsvector)").replace(":words", "CAST(:words AS tsvector)")
        await connection.execute(text(typed), values)


def _write_to_sqlite(db: sqlite3.Connection, statements: Iterable[Statement]) -> None:
    with transaction(db):
        for statement, values in statements:
            db.executemany(statement, values)
