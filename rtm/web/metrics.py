"""`GET /metrics`: what all processes of one `rtm serve` tell of themselves, in one answer.

Only who shows the token that was set (`metrics_token`) is answered, since the port is open to the world. Without one
there is nothing at this path.

A scrape reaches one worker of several, on whichever the connection falls. So each worker listens, for the others, on a
socket in a directory that is theirs alone, and who is asked asks them all. Samples then have the label `pid`. The
library's own way for several processes, files that all of them map, has no collectors and no figures of the process,
costs a request three times as much, and keeps what the dead have counted until the end.
"""

import asyncio
import contextlib
import hmac
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rtm.protocol.errors import AuthenticationError

SIBLING_TIMEOUT_S = 2.0
"""For another worker to tell its metrics; one that hangs is left out."""

log = structlog.get_logger(__name__)


class Metrics:
    """Answers scrapes; `siblings` is the directory where the workers find each other, None for a lone process."""

    def __init__(self, registry: CollectorRegistry, token: str | None, siblings: Path | None) -> None:
        self._registry = registry
        self._token = token
        self._siblings = siblings

    def routes(self) -> list[Route]:
        """Where they are scraped."""
        return [Route("/metrics", self._scrape)] if self._token is not None else []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer the other workers until the end of the block."""
        if self._siblings is None:
            yield
            return
        path = self._siblings / str(os.getpid())
        async with await asyncio.start_unix_server(self._tell, path):
            yield
        path.unlink(missing_ok=True)

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        families = [
            (family.name, family.documentation, family.type, [sample[:3] for sample in family.samples])
            for family in self._registry.collect()
        ]
        with contextlib.suppress(OSError):
            writer.write(orjson.dumps(families))
            await writer.drain()
        writer.close()

    async def _scrape(self, request: Request) -> Response:
        shown = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(shown, f"Bearer {self._token}".encode()):
            error = AuthenticationError()
            return JSONResponse({"error": error.as_dict()}, error.status, {"WWW-Authenticate": "Bearer"})
        if self._siblings is None:
            families = list(self._registry.collect())
        else:
            workers = sorted(self._siblings.iterdir())
            families = _together(zip(workers, await asyncio.gather(*map(_ask, workers)), strict=True))
        # Some milliseconds for each worker: in a thread they hold the event loop up for no longer than one of it.
        text = await asyncio.to_thread(generate_latest, _Collected(families))
        return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _ask(worker: Path) -> list[Any]:
    """What the worker tells; nothing if it has died or hangs."""
    try:
        async with asyncio.timeout(SIBLING_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(worker)
            try:
                families: list[Any] = orjson.loads(await reader.read())
                return families
            finally:
                writer.close()
    except ConnectionRefusedError:
        worker.unlink(missing_ok=True)  # noqa: ASYNC240 - an entry of a directory of sockets
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        log.warning("worker_silent", pid=worker.name, reason=type(error).__name__)
    return []


def _together(told: Iterable[tuple[Path, list[Any]]]) -> list[Metric]:
    """The families of all workers, each once, with each sample's worker as its label `pid`."""
    merged: dict[str, Metric] = {}
    for worker, families in told:
        for name, documentation, kind, samples in families:
            family = merged.setdefault(name, Metric(name, documentation, kind))
            for sample, labels, value in samples:
                family.add_sample(sample, {**labels, "pid": worker.name}, value)
    return list(merged.values())


class _Collected(Collector):
    """What has been collected already, for the library to write."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
