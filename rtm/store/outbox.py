"""The outbox is kept short: a push goes when every process has passed it, or at last when it is too old.

A process has passed a moment when each of its rooms has delivered what was stored before it. One moment tells it for
all rooms, so that a process says one thing every few seconds, whatever it serves. Pushes are dated by the clocks of
the processes that stored them, a little before their commit: what was passed is kept for `outbox_keep_s` more, which
covers both. A process that is dead, frozen or cut off keeps the others from trimming for `outbox_max_age_s` and no
longer. When it goes on, its feeds find out that what they need is gone, and end the sessions behind it (see
`rtm.gateway.feed`).

Nothing here locks more than the rows it deletes, and those nobody else changes.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from rtm.outage import Outage, again_and_again, reason
from rtm.protocol.timestamps import from_seconds
from rtm.store.sqlite import SqliteStore, transaction

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
TIMEOUT_S = 30.0
PAUSE_S = 0.01
"""Between two steps, for those who write."""

# Any number, as long as no other program on the same PostgreSQL takes a lock of the same one.
_LOCK = 0x6F757462

# Found by a few looks into the key for each license, not by reading the outbox: an index by time would cost every
# push 2.5 µs.
_LICENSES = """
    WITH RECURSIVE present(license_id) AS (
        SELECT min(license_id) FROM outbox WHERE license_id > :after
        UNION ALL
        SELECT (SELECT min(license_id) FROM outbox WHERE outbox.license_id > present.license_id)
        FROM present WHERE present.license_id IS NOT NULL
    )
    SELECT license_id FROM present
    WHERE license_id IS NOT NULL AND :before > (
        SELECT created_at FROM outbox WHERE outbox.license_id = present.license_id ORDER BY sequence LIMIT 1
    )
    LIMIT :licenses
"""
"""Licenses that have pushes from before, in order of id."""
_DELETE = """
    DELETE FROM outbox WHERE license_id = :license_id AND sequence <= (
        SELECT max(sequence) FROM (
            SELECT sequence, created_at FROM outbox WHERE license_id = :license_id ORDER BY sequence LIMIT :rows
        ) AS first WHERE created_at < :before
    )
"""
"""The first of them."""


class Outbox(Protocol):
    """The outbox as it is trimmed; times are in the protocol's form."""

    async def passed_by_all(self, here: str, oldest: str) -> str:
        """Tell how far this process has come; how far the last one has that has passed `oldest`."""

    async def trim(self, before: str, after: int) -> Sequence[int]:
        """Delete some pushes that were made before, of some licenses after this one; their ids, in order."""

    async def stop(self) -> None:
        """Keep nobody waiting any more."""


class SqliteOutbox:
    """One process, which knows what it has passed; the writer's thread deletes between its batches."""

    LICENSES_IN_STEP, ROWS_AT_ONCE = 4, 256
    STEP_S = 0.01
    """The writer waits for a step, and a flush to the disk: a row takes 3 µs, one of a megabyte 5 ms."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def passed_by_all(self, here: str, oldest: str) -> str:
        return here

    async def trim(self, before: str, after: int) -> Sequence[int]:
        def step(connection: sqlite3.Connection) -> Sequence[int]:
            found = {"before": before, "after": after, "licenses": self.LICENSES_IN_STEP}
            license_ids = [license_id for (license_id,) in connection.execute(_LICENSES, found)]
            trimmed: list[int] = []
            if license_ids:
                until = perf_counter() + self.STEP_S
                with transaction(connection):
                    for license_id in license_ids:
                        rows = {"before": before, "license_id": license_id}
                        self._delete(connection, rows, self.ROWS_AT_ONCE // len(license_ids), until)
                        trimmed.append(license_id)
                        if perf_counter() > until:
                            break
            return trimmed

        return await self._store.between_batches(step)

    @staticmethod
    def _delete(connection: sqlite3.Connection, of: dict[str, Any], most: int, until: float) -> None:
        """More at once each time: how long one takes is known by then."""
        rows = 1
        while rows <= most:
            deleted = connection.execute(_DELETE, {**of, "rows": rows}).rowcount
            if deleted < rows or perf_counter() > until:
                return
            rows *= 2

    async def stop(self) -> None:
        """Nobody else waits."""


class PostgresqlOutbox:
    """Several processes, which tell each other in the database; one of them trims at a time."""

    LICENSES_IN_STEP, ROWS_IN_STEP = 20, 2000

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._each_on_its_own = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._id = secrets.token_hex(8)

    async def passed_by_all(self, here: str, oldest: str) -> str:
        async with self._each_on_its_own.connect() as connection:
            tell = (
                "INSERT INTO outbox_readers (id, passed_at) VALUES (:id, :passed_at)"
                " ON CONFLICT (id) DO UPDATE SET passed_at = excluded.passed_at"
            )
            await connection.execute(text(tell), {"id": self._id, "passed_at": here})
            await connection.execute(text("DELETE FROM outbox_readers WHERE passed_at < :oldest"), {"oldest": oldest})
            passed: str | None = await connection.scalar(text("SELECT min(passed_at) FROM outbox_readers"))
            return passed or oldest

    async def trim(self, before: str, after: int) -> Sequence[int]:
        async with self._engine.begin() as connection:
            if not await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")):
                return []
            found = {"before": before, "after": after, "licenses": self.LICENSES_IN_STEP}
            license_ids = list(await connection.scalars(text(_LICENSES), found))
            for license_id in license_ids:
                rows = {"before": before, "license_id": license_id, "rows": self.ROWS_IN_STEP // len(license_ids)}
                await connection.execute(text(_DELETE), rows)
            return license_ids

    async def stop(self) -> None:
        async with self._each_on_its_own.connect() as connection:
            await connection.execute(text("DELETE FROM outbox_readers WHERE id = :id"), {"id": self._id})


class Trimmer:
    """Trims the outbox for as long as `run` runs; `passed` is up to when (`time.time()`) this process has delivered."""

    def __init__(self, outbox: Outbox, passed: Callable[[], float], *, keep_s: float, max_age_s: float) -> None:
        self._outbox = outbox
        self._passed = passed
        self._keep_s = keep_s
        self._max_age_s = max_age_s

    async def run(self) -> None:
        """Trim every few seconds until cancelled."""
        await again_and_again(self.trim, Outage(log, "outbox_not_trimmed"), every_s=INTERVAL_S, timeout_s=TIMEOUT_S)

    async def trim(self) -> None:
        """Delete all that may go. Raises what the database driver raises."""
        now = time.time()
        oldest = from_seconds(now - self._max_age_s)
        # What is younger than this is kept whoever has passed it, so nobody needs to say that he has come further.
        passed = await self._outbox.passed_by_all(from_seconds(min(self._passed(), now) - self._keep_s), oldest)
        before = max(passed, oldest)
        after, trimmed = 0, False
        while True:
            license_ids = await self._outbox.trim(before, after)
            if license_ids:
                after, trimmed = license_ids[-1], True
                await asyncio.sleep(PAUSE_S)
            elif trimmed:  # some may have had more than one step deletes
                after, trimmed = 0, False
            else:
                return

    async def stop(self) -> None:
        """Keep nobody from trimming any more."""
        try:
            async with asyncio.timeout(INTERVAL_S):
                await self._outbox.stop()
        except Exception as error:  # noqa: BLE001 - the others will find out by themselves
            log.warning("outbox_not_left", reason=reason(error))
