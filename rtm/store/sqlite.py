"""The writer's side of SQLite: one connection in one thread, full durability (WAL, `synchronous=FULL`).

This process is the only one that changes chats, so they are kept: a chat is read once and then lives here, and a batch
costs one visit to the thread. Statements take many rows each, and their values are made before: a statement gives up
the interpreter's lock, and a row at a time would hand it to and fro with the event loop.

Events of many chats at once are dear to file: each goes to a page of its own of the index by which threads find them.
So they wait in `new_events`, the index of which is a few pages, and are filed by the thousand: several a page.
"""

import asyncio
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import orjson

from rtm.model.chat import Chat, EventBody, Thread
from rtm.model.customer import Customer
from rtm.model.files import StoredFile
from rtm.store import rows
from rtm.store.chat_rows import AFTER_STATE_ON_SQLITE
from rtm.store.database import StoreUnavailable
from rtm.store.kept_chats import MAX_LICENSES, Bounds
from rtm.store.work import (
    MAX_OPEN_CHATS,
    Command,
    Loaded,
    custom_ids_needed,
    customers_needed,
    earlier_threads_needed,
    events_needed,
    files_needed,
    open_chats_needed,
    routing_needed,
    threads_needed,
)
from rtm.store.writer import Changes

_T = TypeVar("_T")
Statement = tuple[str, Sequence[object]]

MAX_ROWS = 64
"""Rows in one statement; each count of rows is a statement of its own to prepare, and those are kept."""
FILED_TOGETHER = 1000
"""Events; as many may wait to be filed, and are looked for in two tables."""
FILED_BYTES = 4 << 20
"""The same of their size, as `rows.decoded_size` tells it: to file them is a part of a commit, and all others wait."""
FILED_AT_ONCE = 8
"""Fewer events of a batch touch no more pages by being filed than by waiting, if no others wait."""
BUSY_TIMEOUT_S = 5.0
LONG_LOG_BYTES = 256 << 20
"""Of the write-ahead log: it begins anew only when nobody reads of it, which overlapping reads may put off for good."""
LOG_RESTART_TIMEOUT_S = 1.0
"""How long to wait for the reads under way, so that it can begin anew."""

_MESSAGES = {
    sqlite3.SQLITE_FULL: "Service unavailable: there is no space left to store changes",
    sqlite3.SQLITE_READONLY: "Service unavailable: the database cannot be written to",
    sqlite3.SQLITE_IOERR: "Service unavailable: the database cannot be written to",
}
"""What clients are told, by SQLite's primary error code."""

_CHATS = "chats (id, license_id, active, last_thread_id, sorted_at, queued_at, due_at, properties, state)"
_STORED_CHAT = f"""
    id, license_id, properties, state, (SELECT json_group_array(json(body)) FROM ({AFTER_STATE_ON_SQLITE}))
"""
_COPY_NEW_EVENTS = """
    INSERT INTO events (thread_id, number, body)
    SELECT thread_id, number, body FROM new_events ORDER BY thread_id, number
"""
_FILE_EVENTS: list[Statement] = [(_COPY_NEW_EVENTS, ()), ("DELETE FROM new_events", ())]
_OPEN_CHATS = f"""
    SELECT chats.id FROM chat_users JOIN chats ON chats.id = chat_users.chat_id
    WHERE chat_users.license_id = ? AND user_id = ? AND present AND active LIMIT {MAX_OPEN_CHATS}
"""
_TURNS = "SELECT agent_id, given_at FROM routing_turns WHERE license_id = ?"
_BUSY = """
    SELECT user_id, chat_id FROM chat_users AS busy INDEXED BY ix_chat_users_busy
    WHERE license_id = ? AND present AND type = 'agent' AND EXISTS (
        SELECT 1 FROM chat_users WHERE chat_id = busy.chat_id AND type = 'customer' AND present
    )
"""


class SqliteStore:
    """`rtm.store.writer.WriteStore` on an SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._longest_log = LONG_LOG_BYTES
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-writer")
        self._connection: sqlite3.Connection | None = None
        self._chats: OrderedDict[str, Chat] = OrderedDict()
        """In the order of their last use."""
        self._bounds = Bounds()
        self._sequences: dict[int, int] = {}
        self._batch = Loaded()
        self._waiting = 0  # rows of `new_events`
        self._waiting_bytes = 0

    async def start(self) -> None:
        """Open the file."""
        await self._run(self._open)

    async def stop(self) -> None:
        """Close the file, whatever was committed being safe in it."""
        if self._connection is not None:
            await self._run(self._connection.close)
        self._thread.shutdown()

    async def begin(self, commands: Sequence[Command]) -> Loaded:
        self._batch = batch = Loaded(sizes=self._bounds.sizes)
        wanted = {chat_id for command in commands for chat_id in command.needs.chat_ids}
        customers_with_chats = open_chats_needed(commands)
        if customers_with_chats:
            wanted.update(await self._run(lambda: self._find_open_chats(customers_with_chats)))
        routed = routing_needed(commands)
        if routed:
            wanted.update(await self._run(lambda: self._load_queues(routed)))
        licenses = {command.license_id for command in commands if command.stores}
        missing_chats = [chat_id for chat_id in wanted if chat_id not in self._chats]
        missing_licenses = [license_id for license_id in licenses if license_id not in self._sequences]
        if missing_chats or missing_licenses:
            await self._run(lambda: self._load(missing_chats, missing_licenses))
        batch.chats = self._find(wanted)
        batch.sequences = {license_id: self._sequences[license_id] for license_id in licenses}
        if routed:
            await self._run(lambda: self._load_routing(routed, batch))
        customers = customers_needed(commands, batch)
        if customers:
            batch.customers = await self._run(lambda: self._load_customers(customers))
        threads = threads_needed(commands, batch)
        if threads:
            batch.texts = await self._run(lambda: self._load_events(threads))
        earlier_threads = earlier_threads_needed(commands, batch)
        if earlier_threads:
            batch.threads = await self._run(lambda: self._load_threads(earlier_threads))
        events = events_needed(commands)
        if events:
            for (thread_id, number), body in (await self._run(lambda: self._load_single_events(events))).items():
                batch.events.setdefault(thread_id, {}).setdefault(number, body)
        file_ids = files_needed(commands)
        if file_ids:
            batch.files = await self._run(lambda: self._load_files(file_ids))
        custom_ids = custom_ids_needed(commands, batch)
        if custom_ids:
            batch.custom_ids = await self._run(lambda: self._load_custom_ids(custom_ids))
        return batch

    async def commit(self, changes: Changes) -> None:
        try:
            stored, added = rows.of_chats(changes), [rows.of_event(event) for event in changes.events]
            sizes = [rows.decoded_size(body) for _, _, body in added]
            waits = self._waits(sizes)
            statements = _statements(changes, stored, added, events="new_events" if waits else "events")
            if added and self._waiting and not waits:
                statements += _FILE_EVENTS
            await self._run(lambda: self._write(statements))
        except StoreUnavailable:
            await self.rollback()
            raise
        for event, size in zip(changes.events, sizes, strict=True):
            self._bounds.grown(event.chat_id, size)
        for chat in (*changes.new_chats, *changes.changed_chats):
            chat.saved()
            if chat.id in stored:
                self._keep(chat, stored[chat.id].size)
        self._sequences.update(changes.sequences)
        if waits:
            self._waiting += len(added)
            self._waiting_bytes += sum(sizes)
        elif added:
            self._waiting = self._waiting_bytes = 0
        self._make_room()

    async def rollback(self) -> None:
        for chat_id, chat in self._batch.chats.items():
            if chat.revision and chat_id in self._chats:
                self._forget(chat_id)
        self._make_room()

    async def between_batches(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run this in the writer's thread, where nobody else writes meanwhile. Raises StoreUnavailable."""
        return await self._run(lambda: work(self._db))

    def _waits(self, sizes: Sequence[int]) -> bool:
        """Whether a batch's events of these sizes are to wait; if not, they are filed and all that wait with them.

        Few wait with others, too: under load a batch of many and one of those that came before it take turns.
        """
        are_many = self._waiting > 0 or len(sizes) >= FILED_AT_ONCE
        has_room = self._waiting + len(sizes) < FILED_TOGETHER and self._waiting_bytes + sum(sizes) < FILED_BYTES
        return are_many and has_room

    def _find(self, chat_ids: Iterable[str]) -> dict[str, Chat]:
        """Those of these that are kept, to be used."""
        found = {chat_id: self._chats[chat_id] for chat_id in chat_ids if chat_id in self._chats}
        for chat_id in found:
            self._chats.move_to_end(chat_id)
        return found

    def _keep(self, chat: Chat, size: int) -> None:
        self._chats[chat.id] = chat
        self._bounds.kept(chat.id, size)

    def _forget(self, chat_id: str) -> None:
        del self._chats[chat_id]
        self._bounds.forgotten(chat_id)

    def _make_room(self) -> None:
        while self._bounds.exceeded:
            self._forget(next(iter(self._chats)))
        if len(self._sequences) > MAX_LICENSES:
            self._sequences.clear()

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(str(error), _MESSAGES.get(error.sqlite_errorcode & 0xFF)) from error

    # In the thread

    def _open(self) -> None:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA wal_autocheckpoint=10000")
        connection.execute(f"PRAGMA journal_size_limit={LONG_LOG_BYTES // 4}")  # when it begins anew
        waiting = connection.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM new_events")
        [(self._waiting, self._waiting_bytes)] = waiting
        self._connection = connection

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "start() comes first"
        return self._connection

    def _load(self, chat_ids: list[str], license_ids: list[int]) -> None:
        for part in _parts(chat_ids):
            query = f"SELECT {_STORED_CHAT} FROM chats WHERE id IN ({_marks(part)})"
            for row in self._db.execute(query, part):
                self._keep(rows.to_chat(*row), sum(map(rows.decoded_size, row[2:])))
        for license_id in license_ids:
            query = "SELECT id, sequence FROM licenses WHERE id = ?"
            self._sequences.update(self._db.execute(query, (license_id,)).fetchall())

    def _find_open_chats(self, customers: list[tuple[int, str]]) -> list[str]:
        return [chat_id for key in customers for (chat_id,) in self._db.execute(_OPEN_CHATS, key)]

    def _load_queues(self, license_ids: list[int]) -> list[str]:
        query = "SELECT id FROM chats WHERE license_id = ? AND queued_at IS NOT NULL"
        return [chat_id for license_id in license_ids for (chat_id,) in self._db.execute(query, (license_id,))]

    def _load_routing(self, license_ids: list[int], batch: Loaded) -> None:
        for license_id in license_ids:
            batch.turns[license_id] = dict(self._db.execute(_TURNS, (license_id,)).fetchall())
            loads = batch.loads[license_id] = Counter()
            for agent_id, chat_id in self._db.execute(_BUSY, (license_id,)):
                loads[agent_id] += chat_id not in batch.chats

    def _load_customers(self, keys: list[tuple[int, str]]) -> dict[tuple[int, str], Customer]:
        found = {}
        for part in _parts(keys):
            query = by_keys("id, license_id, name, email, created_at, state", "customers", "license_id, id", len(part))
            for id_, license_id, name, email, created_at, state in self._db.execute(
                query, [x for key in part for x in key]
            ):
                found[license_id, id_] = Customer(id_, license_id, name, email, created_at, orjson.loads(state))
        return found

    def _load_events(self, thread_ids: list[str]) -> dict[str, dict[int, str]]:
        found: dict[str, dict[int, str]] = {}
        for part in _parts(thread_ids):
            query = (
                f"SELECT thread_id, number, body FROM all_events WHERE thread_id IN ({_marks(part)})"
                " ORDER BY thread_id, number"
            )
            for thread_id, number, body in self._db.execute(query, part):
                found.setdefault(thread_id, {})[number] = body
        return found

    def _load_threads(self, thread_ids: list[str]) -> dict[tuple[str, str], Thread]:
        found = {}
        for part in _parts(thread_ids):
            query = f"SELECT chat_id, id, state FROM threads WHERE id IN ({_marks(part)})"
            for chat_id, thread_id, state in self._db.execute(query, part):
                found[chat_id, thread_id] = Thread(**orjson.loads(state))
        return found

    def _load_single_events(self, keys: list[tuple[str, int]]) -> dict[tuple[str, int], EventBody]:
        found = {}
        for part in _parts(keys):
            query = by_keys("thread_id, number, body", "all_events", "thread_id, number", len(part))
            for thread_id, number, body in self._db.execute(query, [x for key in part for x in key]):
                found[thread_id, number] = orjson.loads(body)
        return found

    def _load_custom_ids(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str, str], int]:
        found = {}
        for part in _parts(keys):
            columns = "thread_id, custom_id, author_id, number"
            query = by_keys(columns, "event_custom_ids", "thread_id, custom_id", len(part))
            for *key, number in self._db.execute(query, [x for pair in part for x in pair]):
                found[tuple(key)] = number
        return found

    def _load_files(self, file_ids: list[str]) -> dict[str, StoredFile]:
        found = {}
        for part in _parts(file_ids):
            query = f"SELECT {rows.FILE} FROM files WHERE id IN ({_marks(part)})"
            found.update({row[0]: StoredFile(*row) for row in self._db.execute(query, part)})
        return found

    def _write(self, statements: Sequence[Statement]) -> None:
        db = self._db
        with transaction(db):
            for statement, values in statements:
                db.execute(statement, values)
        with suppress(OSError, sqlite3.Error):  # what is stored is stored; there will be other times
            self._shorten_log()

    def _shorten_log(self) -> None:
        """Have a long log begin anew; if reads under way do not end in time, try again when it is longer by a quarter.

        Those that begin meanwhile are in nobody's way: when all of the log is in the database, they read there.
        """
        size = self._log.stat().st_size
        if size <= self._longest_log:
            return
        self._db.execute(f"PRAGMA busy_timeout={round(LOG_RESTART_TIMEOUT_S * 1000)}")
        try:
            [(is_held_up, _, _)] = self._db.execute("PRAGMA wal_checkpoint(RESTART)")
        finally:
            self._db.execute(f"PRAGMA busy_timeout={round(BUSY_TIMEOUT_S * 1000)}")
        self._longest_log = size + LONG_LOG_BYTES // 4 if is_held_up else LONG_LOG_BYTES


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end of the block, or roll back."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(
    changes: Changes, stored: Mapping[str, rows.ChatRow], added: Sequence[rows.Row], events: str
) -> list[Statement]:
    """What stores the changes, these rows of chats and of events in this table, with every value ready to be bound."""
    # Of most there is nothing but an event.
    chats = [*changes.new_chats, *(chat for chat in changes.changed_chats if chat.unsaved.state)]
    of_new_groups = [chat for chat in chats if chat.unsaved.groups]
    # What most changes leave alone is not written, and so its indexes are not.
    changed = [chat for chat in changes.changed_chats if chat.id in stored]
    keyed = [stored[chat.id] for chat in changed if chat.unsaved.keys]
    others = [stored[chat.id] for chat in changed if not chat.unsaved.keys]
    return [
        *_insert(_CHATS, [stored[chat.id] for chat in changes.new_chats]),
        *_insert(
            _CHATS,
            keyed,
            " ON CONFLICT (id) DO UPDATE SET active = excluded.active, last_thread_id = excluded.last_thread_id,"
            " sorted_at = excluded.sorted_at, queued_at = excluded.queued_at, due_at = excluded.due_at,"
            " properties = excluded.properties, state = excluded.state",
        ),
        *_insert(
            _CHATS,
            others,
            " ON CONFLICT (id) DO UPDATE SET properties = excluded.properties, state = excluded.state",
        ),
        *_insert(
            "threads (id, chat_id, license_id, active, created_at, state)",
            rows.of_threads(chats),
            # A thread of another chat would get no `chat_id`, and is refused for that.
            " ON CONFLICT (id) DO UPDATE SET active = excluded.active, state = excluded.state,"
            " chat_id = CASE threads.chat_id WHEN excluded.chat_id THEN excluded.chat_id END",
        ),
        *_insert("archive_due (license_id, thread_id, afresh)", rows.of_archive_due(chats), rows.DUE_ALREADY),
        *_insert("archive_due_chats (license_id, chat_id)", rows.of_archive_due_chats(chats), rows.DUE_AGAIN),
        *_delete_groups([chat.id for chat in of_new_groups]),
        *_insert("chat_groups (chat_id, group_id, license_id)", rows.of_groups(of_new_groups)),
        *_insert(
            "chat_users (chat_id, user_id, license_id, type, present, follows)",
            rows.of_users(chats),
            " ON CONFLICT (chat_id, user_id) DO UPDATE SET present = excluded.present, follows = excluded.follows",
        ),
        *(
            (f"UPDATE {table} SET body = ? WHERE thread_id = ? AND number = ?", (body, thread_id, number))
            for thread_id, number, body in map(rows.of_event, changes.changed_events)
            for table in ("events", "new_events")
        ),
        *_insert(
            "customers (license_id, id, name, email, created_at, state)",
            [rows.of_customer(customer) for customer in changes.customers],
            " ON CONFLICT (license_id, id) DO UPDATE SET"
            " name = excluded.name, email = excluded.email, state = excluded.state",
        ),
        *_insert(
            "customer_bans (license_id, customer_id, ip, agent_id, created_at, expires_at)",
            [rows.of_ban(ban) for ban in changes.bans],
            " ON CONFLICT (license_id, customer_id) DO UPDATE SET ip = excluded.ip, agent_id = excluded.agent_id,"
            " created_at = excluded.created_at, expires_at = excluded.expires_at",
        ),
        *_insert(
            "routing_turns (license_id, agent_id, given_at)",
            [rows.of_turn(turn) for turn in changes.turns],
            " ON CONFLICT (license_id, agent_id) DO UPDATE SET given_at = excluded.given_at",
        ),
        *_insert(f"{events} (thread_id, number, body)", added),
        *_insert("event_custom_ids (thread_id, custom_id, author_id, number)", rows.of_custom_ids(changes.events)),
        *_insert(
            "outbox (license_id, sequence, created_at, envelope)",
            [rows.of_envelope(envelope, changes.at) for envelope in changes.outbox],
        ),
        *(("UPDATE files SET expires_at = NULL WHERE id = ?", (file_id,)) for file_id in changes.kept_file_ids),
        *(
            ("UPDATE licenses SET sequence = ? WHERE id = ?", (sequence, license_id))
            for license_id, sequence in changes.sequences.items()
        ),
    ]


def _insert(into: str, values: Sequence[rows.Row], on_conflict: str = "") -> Iterable[Statement]:
    for part in _parts(values):
        marks = f"({_marks(part[0])})"
        yield (
            f"INSERT INTO {into} VALUES {', '.join([marks] * len(part))}{on_conflict}",
            [value for row in part for value in row],
        )


def by_keys(columns: str, table: str, key: str, count: int) -> str:
    """The query for so many keys of two columns; SQLite would read the whole table for `(a, b) IN (VALUES ...)`."""
    values = ", ".join(["(?, ?)"] * count)
    return f"WITH keys ({key}) AS (VALUES {values}) SELECT {columns} FROM keys CROSS JOIN {table} USING ({key})"


def _delete_groups(chat_ids: Sequence[str]) -> Iterable[Statement]:
    for part in _parts(chat_ids):
        yield f"DELETE FROM chat_groups WHERE chat_id IN ({_marks(part)})", part


def _parts(values: Sequence[_T]) -> Iterable[Sequence[_T]]:
    for start in range(0, len(values), MAX_ROWS):
        yield values[start : start + MAX_ROWS]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
