"""A database is served by one process, or on PostgreSQL by several that have Redis in common.

Others would each take the agents of the rest for gone, and give their chats away.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NoReturn

import asyncpg
import structlog
from anyio.from_thread import start_blocking_portal

from rtm.outage import Outage, again_and_again, reason
from rtm.settings import Settings
from rtm.store.database import DatabaseError, StoreUnavailable, dsn, open_postgresql, shown

_LOCK = 0x73727665
_INTERVAL_S = 2.0
_TIMEOUT_S = 5.0
# PostgreSQL lets go of a lock whose machine is gone within 20 s; by itself it would ask after two hours.
_TRY = """
    SELECT {function}($1), set_config('tcp_keepalives_idle', '5', false),
        set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)
"""

log = structlog.get_logger(__name__)


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """Hold the database for this process; it is let go of however the process ends.

    Raises DatabaseError when another process serves it, or when it cannot be reached.
    """
    if settings.database.get_backend_name() == "sqlite":
        with holding_file(settings):
            yield
    else:  # in a thread, as it begins before the loop of the server and ends after it
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(_holding_postgresql(settings)):
            yield


@contextmanager
def holding_file(settings: Settings) -> Iterator[None]:
    """Hold the SQLite file. Short commands may write beside the server: they do this only to change its tables.

    Raises DatabaseError when another process has it.
    """
    path = Path(f"{settings.database.database}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseError(f"cannot write to {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DatabaseError(
            f"another process serves {settings.database.database}: stop it, or use PostgreSQL for several processes"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _holding_postgresql(settings: Settings) -> AsyncIterator[None]:
    session = _Session(settings)
    try:
        is_held = await session.try_to_hold()
    except Exception as error:
        raise DatabaseError(f"cannot use the database {shown(settings.database)}: {reason(error)}") from error
    if not is_held:
        session.end()
        raise DatabaseError(
            f"another process serves {shown(settings.database)}: stop it, or set the same --redis-url for all processes"
        )
    holding = asyncio.create_task(session.hold())
    try:
        yield
    finally:
        holding.cancel()
        session.end()


class _Session:
    """A connection of PostgreSQL to which the lock belongs: shared with the others that have Redis, else for one."""

    def __init__(self, settings: Settings) -> None:
        self._dsn = dsn(settings.database)
        self._try = _TRY.format(function="pg_try_advisory_lock" + ("_shared" if settings.redis_url else ""))
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def try_to_hold(self) -> bool:
        """Whether the lock is ours now, or still. Raises what asyncpg raises, and begins anew the next time."""
        try:
            if self._connection is None:
                self._connection = await open_postgresql(self._dsn, _TIMEOUT_S)
            return bool(await self._connection.fetchval(self._try, _LOCK))
        except BaseException:
            self.end()
            raise

    async def hold(self) -> NoReturn:
        """Have it again whenever the connection was lost: who serves goes on meanwhile, as without PostgreSQL."""
        lost, taken = Outage(log, "database_lock_lost", (Exception,)), Outage(log, "database_served_by_others")

        async def look() -> None:
            if await self.try_to_hold():
                taken.over()
            else:
                taken.noticed(StoreUnavailable("another process has taken its lock"))

        await again_and_again(look, lost, every_s=_INTERVAL_S)

    def end(self) -> None:
        """Let go, without waiting for anybody."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
