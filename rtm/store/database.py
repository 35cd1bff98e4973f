"""The database: its engine, and whether its tables are those that this version of the code knows.

connect(settings)       an engine, without a connection yet
schema(settings)        how the tables compare with ours
schema_of(database)     the same, while serving
try_to_write(database)  raise what the driver raises unless something can be stored
migrate(settings)       bring them up to date
check_schema(settings)  raise DatabaseError unless they are
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Self

import asyncpg
import orjson
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, event, inspect, text
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from rtm.outage import Unavailable, reason
from rtm.settings import Settings

_MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 5.0
# A transaction has a few milliseconds of Python in it. Shorter than others wait for its locks.
IDLE_IN_TRANSACTION_TIMEOUT_MS = 5000
# How long a SQLite connection waits for another one that writes: a request has 15 s in all.
_BUSY_TIMEOUT_MS = 10_000
# Some milliseconds: for each look at the clock SQLite's thread must wait for the interpreter's lock.
_STEPS_BETWEEN_LOOKS = 100_000
# As everywhere else: what one side wrote, the other can read. `json` makes integers that orjson refuses to write.
_JSON: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}


class DatabaseError(Exception):
    """The database cannot be used; the message is one line for the operator."""


class StoreUnavailable(Unavailable):
    """The database does not answer or refuses to write; trying again later may help.

    `message` is what clients are told beyond that, where they or their operator can do something about it.
    """

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(reason)
        self.message = message


class Schema(Enum):
    """How the tables of a database compare with ours."""

    EMPTY = auto()
    OLDER = auto()
    CURRENT = auto()
    NEWER = auto()


@dataclass(frozen=True, slots=True)
class Database:
    """An engine and which of the two dialects it speaks; closed by `close`, or at the end of `async with`."""

    engine: AsyncEngine
    dialect: Literal["sqlite", "postgresql"]

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def connect(settings: Settings, *, statement_timeout_s: float | None = None) -> Database:
    """An engine for the settings' database; the first statement opens the first connection. Raises DatabaseError.

    With `statement_timeout_s` no statement takes longer: SQLite interrupts it, a PostgreSQL that falls silent is given
    up. Nor does one that is cancelled go on.
    """
    url = settings.database
    if url.get_backend_name() == "sqlite":
        _make_place(Path(str(url.database)))
        engine = create_async_engine(url, hide_parameters=True, **_JSON)
        event.listen(engine.sync_engine, "connect", _stop_once, insert=True)
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        if statement_timeout_s is not None:
            _limit_statements(engine, statement_timeout_s)
        return Database(engine, "sqlite")
    engine = create_async_engine(
        url,
        hide_parameters=True,
        async_creator=partial(open_postgresql, dsn(url), statement_timeout_s),
        **_JSON,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return Database(engine, "postgresql")


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool open another connection for one that the server has ended; asyncpg knows without asking it.

    `pool_pre_ping` asks, by three statements that cost more than most queries do.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def open_postgresql(dsn: str, statement_timeout_s: float | None) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection that gives the server up when it falls silent, and that the server gives up when we do.

    A process that is frozen, or cut off, in the middle of a transaction holds its locks until then. Raises what asyncpg
    raises.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=statement_timeout_s)
    try:
        if statement_timeout_s is not None:
            await connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_TIMEOUT_MS}")
    except BaseException:  # also of who does not wait any longer
        connection.terminate()
        raise
    return connection


def dsn(url: URL) -> str:
    """The URL as asyncpg reads it: with the password, and with libpq's parameters, such as `sslmode`."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _make_place(path: Path) -> None:
    """A file that only its owner may read, in whatever directory; SQLite gives its other files the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseError(f"cannot create {path}: {error.strerror}") from error


def _stop_once(connection: Any, _record: object) -> None:
    """Let the connection's thread be stopped twice, as happens when a statement is cancelled.

    SQLAlchemy then closes the connection and stops it as well; the second to come would wait for a thread that has
    ended, and the whole process for that, at its end (seen with aiosqlite 0.22.1).
    """
    driver = connection.driver_connection
    driver.stop = cache(driver.stop)


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


class _Clock:
    """What SQLite asks, as it works on a statement of a connection, whether that is to go on."""

    def __init__(self) -> None:
        self.ends_at = inf

    def is_over(self) -> bool:
        return monotonic() > self.ends_at


def _limit_statements(engine: AsyncEngine, timeout_s: float) -> None:
    """Have SQLite interrupt what takes longer, and at once what is cancelled: whoever cancels waits for its thread."""

    def give_clock(connection: Any, record: Any) -> None:
        clock = record.info[_Clock] = _Clock()
        connection.run_async(lambda driver: driver.set_progress_handler(clock.is_over, _STEPS_BETWEEN_LOOKS))

    def begin(connection: Connection, *_: object) -> None:
        connection.info[_Clock].ends_at = monotonic() + timeout_s

    def cancel(_connection: object, record: Any, _error: object) -> None:
        record.info[_Clock].ends_at = -inf

    event.listen(engine.sync_engine, "connect", give_clock)
    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "invalidate", cancel)


async def schema(settings: Settings) -> Schema:
    """How the database compares with this version. Raises DatabaseError when it cannot be reached."""
    async with _connection(settings) as connection:
        return await connection.run_sync(_compare)


async def schema_of(database: Database) -> Schema:
    """The same as `schema`, by a connection of the pool. Raises what the driver raises."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(_compare)


async def try_to_write(database: Database) -> None:
    """Write something as it is. Raises what the driver raises."""
    async with database.engine.begin() as connection:
        await connection.execute(
            text("UPDATE licenses SET sequence = sequence WHERE id = (SELECT min(id) FROM licenses)")
        )


async def migrate(settings: Settings) -> None:
    """Create the tables or bring them up to date; nothing happens if they are. Raises DatabaseError."""
    async with _connection(settings) as connection:
        if await connection.run_sync(_compare) is Schema.NEWER:
            raise DatabaseError(_newer(settings))
        await connection.rollback()
        await connection.run_sync(_upgrade)


async def check_schema(settings: Settings) -> None:
    """Raises DatabaseError unless the tables are exactly those of this version."""
    if _is_missing_file(settings.database):  # opening it would create it
        raise DatabaseError(f"there is no database {shown(settings.database)}: run `rtm init` or `rtm serve`")
    match await schema(settings):
        case Schema.NEWER:
            raise DatabaseError(_newer(settings))
        case Schema.OLDER:
            raise DatabaseError(f"the database {shown(settings.database)} is out of date: run `rtm migrate`")
        case Schema.EMPTY:
            raise DatabaseError(f"the database {shown(settings.database)} has no tables yet: run `rtm migrate`")


async def make_ready(settings: Settings, *, create: bool) -> None:
    """Bring an SQLite file up to date; of PostgreSQL only a database without tables, and that only to `create` them.

    A file has one server, which may change it when it starts. A database may have others of an older version.
    Raises DatabaseError, also if it can only be read; one without space is another matter, as that may end.
    """
    is_sqlite = settings.database.get_backend_name() == "sqlite"
    if is_sqlite or (create and await schema(settings) is Schema.EMPTY):
        await migrate(settings)
    else:
        await check_schema(settings)
    async with transaction(settings) as connection:
        await connection.execute(text("UPDATE licenses SET sequence = sequence WHERE 1 = 0"))


@asynccontextmanager
async def transaction(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """One transaction on an engine of its own, for a command; whatever the driver raises becomes a DatabaseError."""
    async with _connection(settings) as connection, connection.begin():
        yield connection


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    try:
        async with connect(settings) as database:
            connection = await _opened(settings, database)
            try:
                yield connection
            finally:
                await connection.close()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise DatabaseError(f"cannot use the database {shown(settings.database)}: {reason(error)}") from error


async def _opened(settings: Settings, database: Database) -> AsyncConnection:
    try:
        return await database.engine.connect()
    except (TypeError, ValueError) as error:  # the driver does not know a parameter of the URL
        raise DatabaseError(f"cannot use the database {shown(settings.database)}: {reason(error)}") from error


def _is_missing_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _compare(connection: Connection) -> Schema:
    revision = MigrationContext.configure(connection).get_current_revision()
    newest, *older = _revisions()
    if revision == newest:
        return Schema.CURRENT
    if revision is not None:
        # A revision that we have no script of was made by a later version.
        return Schema.OLDER if revision in older else Schema.NEWER
    return Schema.OLDER if inspect(connection).get_table_names() else Schema.EMPTY


@cache
def _revisions() -> list[str]:
    """Those we have a script of, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _upgrade(connection: Connection) -> None:
    command.upgrade(_config(connection), "head")


def _newer(settings: Settings) -> str:
    return f"the database {shown(settings.database)} was made by a newer version of rtm: upgrade rtm"


def shown(url: URL) -> str:
    """The database's name for people, without a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string(hide_password=True)
