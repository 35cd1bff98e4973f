"""Whether the process is up, and whether it can do its work; for whoever sends it clients.

`/health/live` says that it runs: if not, start another. `/health/ready`, and `/health`, say what it needs to serve:

    {"status": "unavailable", "parts": {"database": "ok", "migrations": "ok", "bus": "unavailable"}}

with status 200, or 503 if a part is not `ok`. A process that is about to end says `draining` in place of the parts. A
database that answers but stores nothing is `cannot be written to`. Without its bus a process still serves, slower:
whoever would rather have that than no process looks at the database's part, or only whether it lives.
"""

import asyncio
from http import HTTPStatus

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rtm.bus.base import Bus
from rtm.outage import Outage
from rtm.store.database import Database, Schema, schema_of, try_to_write

CHECK_TIMEOUT_S = 2.0
CACHE_AGE_S = 1.0
"""However often it is asked, the database is not asked more often than this."""

_MIGRATIONS = {
    Schema.CURRENT: "ok",
    Schema.OLDER: "older than this version",
    Schema.NEWER: "newer than this version",
    Schema.EMPTY: "missing",
}

_READ_ONLY = "cannot be written to"

log = structlog.get_logger(__name__)


class Health:
    """What the process says of itself; `database` should be one whose connections nobody has to wait for."""

    def __init__(self, database: Database, bus: Bus, changes: Outage | None = None) -> None:
        self.draining = False
        """The process takes no new clients, as it is about to end."""
        self._database = database
        self._bus = bus
        self._changes = changes
        """What lasts while changes cannot be stored."""
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")
        self._parts: dict[str, str] = {}
        self._trying: asyncio.Task[None] | None = None
        self._outage = Outage(log, "database_unavailable")

    def routes(self) -> list[Route]:
        """Where it is asked."""
        return [
            Route("/health/live", self._live),
            Route("/health/ready", self._ready),
            Route("/health", self._ready),
        ]

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        if self.draining:
            return _answer({"status": "draining"}, is_ready=False)
        parts = {**await self._checked(), "bus": "ok" if self._bus.healthy else "unavailable"}
        is_ready = set(parts.values()) == {"ok"}
        return _answer({"status": "ok" if is_ready else "unavailable", "parts": parts}, is_ready=is_ready)

    async def _checked(self) -> dict[str, str]:
        """The parts that must be asked; those who ask at the same time share one look."""
        now = asyncio.get_running_loop().time
        async with self._checking:
            if now() - self._checked_at >= CACHE_AGE_S:
                self._parts = await self._check()
                self._checked_at = now()
            return self._parts

    async def _check(self) -> dict[str, str]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                found = await schema_of(self._database)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
            self._outage.noticed(error)
            return {"database": "unavailable", "migrations": "unknown"}
        self._outage.over()
        return {"database": await self._check_writing(), "migrations": _MIGRATIONS[found]}

    async def _check_writing(self) -> str:
        """What cannot be stored is tried here too: a process that is not ready may be asked for no change any more."""
        if self._changes is None or not self._changes.lasts:
            return "ok"
        if self._trying is None:
            self._trying = asyncio.create_task(try_to_write(self._database))
        # It is not cancelled: the thread of a SQLite connection that waits for a lock would be waited for.
        done, _ = await asyncio.wait({self._trying}, timeout=CHECK_TIMEOUT_S)
        if not done:
            return _READ_ONLY
        failure, self._trying = self._trying.exception(), None
        return "ok" if failure is None else _READ_ONLY


def _answer(body: dict[str, object], *, is_ready: bool) -> Response:
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(body, status, {"Cache-Control": "no-store"})
