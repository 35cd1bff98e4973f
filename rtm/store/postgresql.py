"""The writer's side of PostgreSQL: one asyncpg connection, several processes.

A batch begins by locking the rows of its licenses, in order of id: the license's sequence is then given in commit
order, and what is read after the lock stays true until the commit. Chats are kept, and read anew when another process
has changed their license since. Each statement is a journey to the server and back (50 to 70 µs of our CPU, however
little it does), so what most batches write is one statement.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter

import asyncpg
import orjson

from rtm.model.chat import Thread
from rtm.model.customer import Customer
from rtm.model.files import StoredFile
from rtm.outage import reason
from rtm.slices import in_slices
from rtm.store import rows
from rtm.store.chat_rows import AFTER_STATE_ON_POSTGRESQL
from rtm.store.database import CONNECT_TIMEOUT_S, StoreUnavailable, open_postgresql
from rtm.store.kept_chats import KeptChats
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

COMMAND_TIMEOUT_S = 10.0

_UNAVAILABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,  # a deadlock, for one
    asyncpg.IdleInTransactionSessionTimeoutError,  # we were frozen
    asyncpg.ReadOnlySQLTransactionError,  # what was the primary is a standby now
    asyncpg.InternalClientError,  # a connection that was cut in the middle of a command
    TimeoutError,
)

_LOCK_LICENSES = """
    SELECT id, sequence, xmin::text FROM licenses WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
"""
_LOAD_CHATS = f"""
    SELECT id, license_id, properties::text, state::text, (
        SELECT coalesce(jsonb_agg(body), '[]')::text FROM ({AFTER_STATE_ON_POSTGRESQL}) AS after_state
    )
    FROM chats WHERE id = ANY($1::text[])
"""  # noqa: S608 - nothing but our own text
_LOAD_CUSTOMERS = """
    SELECT c.id, c.license_id, c.name, c.email, c.created_at, c.state::text
    FROM customers c JOIN unnest($1::bigint[], $2::text[]) AS k(license_id, id) USING (license_id, id)
"""
_FIND_OPEN_CHATS = f"""
    SELECT k.license_id, c.id FROM unnest($1::bigint[], $2::text[]) AS k(license_id, customer_id), LATERAL (
        SELECT chats.id FROM chat_users AS u JOIN chats ON chats.id = u.chat_id
        WHERE u.license_id = k.license_id AND u.user_id = k.customer_id AND u.present AND chats.active
        LIMIT {MAX_OPEN_CHATS}
    ) AS c
"""  # noqa: S608 - nothing but our own text
_LOAD_QUEUES = "SELECT license_id, id FROM chats WHERE license_id = ANY($1::bigint[]) AND queued_at IS NOT NULL"
# Not by EXISTS, which the planner makes a join with all customers that there ever were.
_LOAD_LOADS = """
    SELECT busy.license_id, busy.user_id, count(*) FROM chat_users AS busy
    WHERE busy.license_id = ANY($1::bigint[]) AND busy.present AND busy.type = 'agent'
        AND busy.chat_id <> ALL($2::text[])
        AND (
            SELECT true FROM chat_users AS c
            WHERE c.chat_id = busy.chat_id AND c.type = 'customer' AND c.present LIMIT 1
        )
    GROUP BY busy.license_id, busy.user_id
"""
_LOAD_TURNS = "SELECT license_id, agent_id, given_at FROM routing_turns WHERE license_id = ANY($1::bigint[])"
_LOAD_EVENTS = """
    SELECT thread_id, number, body::text FROM events WHERE thread_id = ANY($1::text[]) ORDER BY thread_id, number
"""
_LOAD_THREADS = "SELECT chat_id, id, state::text FROM threads WHERE id = ANY($1::text[])"
_LOAD_SINGLE_EVENTS = """
    SELECT e.thread_id, e.number, e.body::text
    FROM events e JOIN unnest($1::text[], $2::int[]) AS k(thread_id, number) USING (thread_id, number)
"""
_LOAD_CUSTOM_IDS = """
    SELECT e.thread_id, e.custom_id, e.author_id, e.number
    FROM event_custom_ids e JOIN unnest($1::text[], $2::text[]) AS k(thread_id, custom_id) USING (thread_id, custom_id)
"""
_LOAD_FILES = f"SELECT {rows.FILE} FROM files WHERE id = ANY($1::text[])"  # noqa: S608 - nothing but our own text
_INSERT_CHATS = """
    INSERT INTO chats (id, license_id, active, last_thread_id, sorted_at, queued_at, due_at, properties, state)
    SELECT id, license_id, active, last_thread_id, sorted_at, queued_at, due_at, properties::jsonb, state::jsonb
    FROM unnest($1::text[], $2::bigint[], $3::bool[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[])
        AS r(id, license_id, active, last_thread_id, sorted_at, queued_at, due_at, properties, state)
"""
# A thread of another chat would get no `chat_id`, and is refused for that.
_UPSERT_THREADS = f"""
    WITH written_due AS (
        INSERT INTO archive_due (license_id, thread_id, afresh)
        SELECT * FROM unnest($7::bigint[], $8::text[], $9::bool[]) {rows.DUE_ALREADY}
    )
    INSERT INTO threads (id, chat_id, license_id, active, created_at, state)
    SELECT id, chat_id, license_id, active, created_at, state::jsonb
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bool[], $5::text[], $6::text[])
        AS r(id, chat_id, license_id, active, created_at, state)
    ON CONFLICT (id) DO UPDATE SET active = excluded.active, state = excluded.state,
        chat_id = CASE threads.chat_id WHEN excluded.chat_id THEN excluded.chat_id END
"""  # noqa: S608 - nothing but our own text
_NOTE_CHATS = f"""
    INSERT INTO archive_due_chats (license_id, chat_id) SELECT * FROM unnest($1::bigint[], $2::text[]) {rows.DUE_AGAIN}
"""  # noqa: S608 - nothing but our own text
_UPDATE_EVENTS = """
    UPDATE events SET body = r.body::jsonb
    FROM unnest($1::text[], $2::int[], $3::text[]) AS r(thread_id, number, body)
    WHERE events.thread_id = r.thread_id AND events.number = r.number
"""
_DELETE_GROUPS = "DELETE FROM chat_groups WHERE chat_id = ANY($1::text[])"
_INSERT_GROUPS = """
    INSERT INTO chat_groups (chat_id, group_id, license_id)
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[])
"""
_UPSERT_USERS = """
    INSERT INTO chat_users (chat_id, user_id, license_id, type, present, follows)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bool[], $6::bool[])
    ON CONFLICT (chat_id, user_id) DO UPDATE SET present = excluded.present, follows = excluded.follows
"""
_KEEP_FILES = "UPDATE files SET expires_at = NULL WHERE id = ANY($1::text[])"
_UPSERT_CUSTOMERS = """
    INSERT INTO customers (license_id, id, name, email, created_at, state)
    SELECT license_id, id, name, email, created_at, state::jsonb
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS r(license_id, id, name, email, created_at, state)
    ON CONFLICT (license_id, id) DO UPDATE SET name = excluded.name, email = excluded.email, state = excluded.state
"""
_UPSERT_BANS = """
    INSERT INTO customer_bans (license_id, customer_id, ip, agent_id, created_at, expires_at)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    ON CONFLICT (license_id, customer_id) DO UPDATE SET ip = excluded.ip, agent_id = excluded.agent_id,
        created_at = excluded.created_at, expires_at = excluded.expires_at
"""
_UPSERT_TURNS = """
    INSERT INTO routing_turns (license_id, agent_id, given_at)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
    ON CONFLICT (license_id, agent_id) DO UPDATE SET given_at = excluded.given_at
"""
# Reads the same moment throughout, so nothing in it may depend on the rest; foreign keys are checked at its end.
# The row's version is PostgreSQL's own, the transaction that wrote it.
_WRITE = f"""
    WITH written_chats AS (
        {_INSERT_CHATS}
        ON CONFLICT (id) DO UPDATE SET active = excluded.active, last_thread_id = excluded.last_thread_id,
            sorted_at = excluded.sorted_at, queued_at = excluded.queued_at, due_at = excluded.due_at,
            properties = excluded.properties, state = excluded.state
    ), written_events AS (
        INSERT INTO events (thread_id, number, body)
        SELECT thread_id, number, body::jsonb
        FROM unnest($10::text[], $11::int[], $12::text[]) AS r(thread_id, number, body)
    ), written_custom_ids AS (
        INSERT INTO event_custom_ids (thread_id, custom_id, author_id, number)
        SELECT * FROM unnest($13::text[], $14::text[], $15::text[], $16::int[])
    ), written_outbox AS (
        INSERT INTO outbox (license_id, sequence, created_at, envelope)
        SELECT license_id, sequence, created_at, envelope::jsonb
        FROM unnest($17::bigint[], $18::bigint[], $19::text[], $20::text[])
            AS r(license_id, sequence, created_at, envelope)
    )
    UPDATE licenses SET sequence = r.sequence FROM unnest($21::bigint[], $22::bigint[]) AS r(id, sequence)
    WHERE licenses.id = r.id
    RETURNING licenses.id, licenses.xmin::text
"""  # noqa: S608 - nothing but our own text


class PostgresqlStore:
    """`rtm.store.writer.WriteStore` on a PostgreSQL database; `dsn` is a libpq URL."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._in_transaction = False
        self._batch = Loaded()
        self._kept: KeptChats

    async def start(self) -> None:
        """Connect. Raises StoreUnavailable."""
        # It may be another server than before, which takes the numbers of lost transactions for others.
        self._kept = KeptChats()
        try:
            self._connection = await open_postgresql(self._dsn, COMMAND_TIMEOUT_S)
        except _UNAVAILABLE as error:
            raise StoreUnavailable(reason(error)) from error

    async def stop(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close(timeout=CONNECT_TIMEOUT_S)

    async def begin(self, commands: Sequence[Command]) -> Loaded:
        if self._connection is None or self._connection.is_closed():
            await self.start()
        try:
            return await self._load(commands)
        except _UNAVAILABLE as error:
            await self._disconnect()
            raise StoreUnavailable(reason(error)) from error

    async def commit(self, changes: Changes) -> None:
        try:
            stored, added = rows.of_chats(changes), [rows.of_event(event) for event in changes.events]
            versions = await self._write(changes, stored, added)
            if self._in_transaction:
                await self._db.execute("COMMIT")
                self._in_transaction = False
        except _UNAVAILABLE as error:
            await self._disconnect()
            raise StoreUnavailable(reason(error)) from error
        for event, (_, _, body) in zip(changes.events, added, strict=True):
            self._kept.grown(event.chat_id, rows.decoded_size(body))
        for chat in (*changes.new_chats, *changes.changed_chats):
            chat.saved()
            if chat.id in stored:
                self._kept.keep(chat, stored[chat.id].size)
        for license_id, version in versions:
            self._kept.committed(license_id, version)
        self._kept.make_room()

    async def rollback(self) -> None:
        self._forget()
        self._kept.make_room()
        if self._in_transaction and self._connection is not None:
            self._in_transaction = False
            try:
                await self._connection.execute("ROLLBACK")
            except (*_UNAVAILABLE, asyncpg.PostgresError):
                await self._disconnect()

    @property
    def _db(self) -> "asyncpg.Connection[asyncpg.Record]":
        assert self._connection is not None, "begin() comes first"
        return self._connection

    async def _disconnect(self) -> None:
        """Give the connection up; the server rolls back what was not committed."""
        self._forget()
        self._in_transaction = False
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _forget(self) -> None:
        for chat in self._batch.chats.values():
            if chat.revision:
                self._kept.forget(chat)

    async def _load(self, commands: Sequence[Command]) -> Loaded:
        self._batch = batch = Loaded(sizes=self._kept.sizes)
        licenses = sorted({command.license_id for command in commands if command.stores})
        if licenses:
            await self._db.execute("BEGIN")
            self._in_transaction = True
            for license_id, sequence, version in await self._db.fetch(_LOCK_LICENSES, licenses):
                batch.sequences[license_id] = sequence
                self._kept.locked(license_id, version)
        routed = routing_needed(commands)
        found = await self._db.fetch(_LOAD_QUEUES, routed) if routed else []
        customers = open_chats_needed(commands)
        if customers:
            found += await self._db.fetch(_FIND_OPEN_CHATS, *zip(*customers, strict=True))
        missing = self._find_kept(commands, found, batch)
        if missing:
            stored = await self._db.fetch(_LOAD_CHATS, missing)
            for row, chat in zip(stored, await in_slices(rows.to_chat(*row) for row in stored), strict=True):
                batch.chats[chat.id] = chat
                if chat.license_id in batch.sequences:
                    self._kept.keep(chat, sum(map(rows.decoded_size, row[2:])))
        if routed:
            await self._load_routing(routed, batch)
        await self._load_more(commands, batch)
        return batch

    async def _load_routing(self, license_ids: list[int], batch: Loaded) -> None:
        for license_id in license_ids:
            batch.loads[license_id], batch.turns[license_id] = Counter(), {}
        for license_id, agent_id, chats in await self._db.fetch(_LOAD_LOADS, license_ids, list(batch.chats)):
            batch.loads[license_id][agent_id] = chats
        for license_id, agent_id, given_at in await self._db.fetch(_LOAD_TURNS, license_ids):
            batch.turns[license_id][agent_id] = given_at

    async def _load_more(self, commands: Sequence[Command], batch: Loaded) -> None:
        """What the commands need besides chats."""
        keys = customers_needed(commands, batch)
        if keys:
            for id_, license_id, name, email, created_at, state in await self._db.fetch(
                _LOAD_CUSTOMERS, *zip(*keys, strict=True)
            ):
                customer = Customer(id_, license_id, name, email, created_at, orjson.loads(state))
                batch.customers[license_id, id_] = customer
        threads = threads_needed(commands, batch)
        if threads:
            for thread_id, number, body in await self._db.fetch(_LOAD_EVENTS, threads):
                batch.texts.setdefault(thread_id, {})[number] = body
        earlier_threads = earlier_threads_needed(commands, batch)
        if earlier_threads:
            for chat_id, thread_id, state in await self._db.fetch(_LOAD_THREADS, earlier_threads):
                batch.threads[chat_id, thread_id] = Thread(**orjson.loads(state))
        events = events_needed(commands)
        if events:
            for thread_id, number, body in await self._db.fetch(_LOAD_SINGLE_EVENTS, *zip(*events, strict=True)):
                batch.events.setdefault(thread_id, {}).setdefault(number, orjson.loads(body))
        file_ids = files_needed(commands)
        if file_ids:
            batch.files = {row["id"]: StoredFile(*row) for row in await self._db.fetch(_LOAD_FILES, file_ids)}
        named = custom_ids_needed(commands, batch)
        if named:
            for *key, number in await self._db.fetch(_LOAD_CUSTOM_IDS, *zip(*named, strict=True)):
                batch.custom_ids[tuple(key)] = number

    def _find_kept(self, commands: Iterable[Command], found: Iterable[tuple[int, str]], batch: Loaded) -> list[str]:
        """Take what is kept of the licenses that are locked; ids of the chats that must be read."""
        missing: dict[str, None] = {}
        named = ((command.license_id, chat_id) for command in commands for chat_id in command.needs.chat_ids)
        for license_id, chat_id in chain(named, found):
            if chat_id not in batch.chats:
                chat = self._kept.find(license_id, chat_id) if license_id in batch.sequences else None
                if chat is None:
                    missing[chat_id] = None
                else:
                    batch.chats[chat_id] = chat
        return list(missing)

    async def _write(
        self, changes: Changes, stored: Mapping[str, rows.ChatRow], added: Sequence[rows.Row]
    ) -> list[tuple[int, str]]:
        """Write all, with these rows of chats and events; the versions of the licenses' rows from now on."""
        # Of most there is nothing but an event.
        chats = [*changes.new_chats, *(chat for chat in changes.changed_chats if chat.unsaved.state)]
        await self._insert(_INSERT_CHATS, [stored[chat.id] for chat in changes.new_chats])
        # Everybody writes to `archive_due` in this order: else two might wait for each other.
        threads, due = rows.of_threads(chats), sorted(rows.of_archive_due(chats), key=itemgetter(1))
        if threads or due:
            await self._db.execute(_UPSERT_THREADS, *_columns(6, threads), *_columns(3, due))
        await self._insert(_NOTE_CHATS, rows.of_archive_due_chats(chats))
        of_new_groups = [chat for chat in chats if chat.unsaved.groups]
        if of_new_groups:
            await self._db.execute(_DELETE_GROUPS, [chat.id for chat in of_new_groups])
            await self._insert(_INSERT_GROUPS, rows.of_groups(of_new_groups))
        await self._insert(_UPSERT_USERS, rows.of_users(chats))
        await self._insert(_UPDATE_EVENTS, [rows.of_event(event) for event in changes.changed_events])
        await self._insert(_UPSERT_CUSTOMERS, [rows.of_customer(customer) for customer in changes.customers])
        await self._insert(_UPSERT_BANS, [rows.of_ban(ban) for ban in changes.bans])
        await self._insert(_UPSERT_TURNS, [rows.of_turn(turn) for turn in changes.turns])
        if changes.kept_file_ids:
            await self._db.execute(_KEEP_FILES, changes.kept_file_ids)
        changed = (chat.license_id for chat in (*changes.new_chats, *changes.changed_chats))
        license_ids = dict.fromkeys([*changed, *changes.sequences])
        return [
            (license_id, version)
            for license_id, version in await self._db.fetch(
                _WRITE,
                *_columns(9, [stored[chat.id] for chat in changes.changed_chats if chat.id in stored]),
                *_columns(3, added),
                *_columns(4, rows.of_custom_ids(changes.events)),
                *_columns(4, [rows.of_envelope(envelope, changes.at) for envelope in changes.outbox]),
                # Also of those without a push: whoever keeps their chats sees by the row that they have changed.
                *_columns(2, [(license_id, self._batch.sequences[license_id]) for license_id in license_ids]),
            )
        ]

    async def _insert(self, statement: str, values: Sequence[rows.Row]) -> None:
        """Run a statement that takes a column an argument; nothing for no rows."""
        if values:
            await self._db.execute(statement, *zip(*values, strict=True))


def _columns(count: int, values: Sequence[rows.Row]) -> Sequence[Sequence[object]]:
    """So many columns of any number of rows."""
    return list(zip(*values, strict=True)) or [()] * count
