"""The one place where the parts are put together."""

import asyncio
import gc
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

import anyio
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from rtm import metrics, versions
from rtm.access.attempts import Attempts
from rtm.access.directory import Directories, Directory
from rtm.access.quota import Quota
from rtm.access.tally import Tally
from rtm.access.tokens import Authenticator
from rtm.access.watch import Watch
from rtm.actions import agent, registry
from rtm.actions.agent.chats import introduce
from rtm.actions.context import Services
from rtm.actions.dispatch import Dispatcher
from rtm.actions.outcomes import Outcomes
from rtm.actions.pages import PageIds
from rtm.bus.base import Bus, Envelope
from rtm.bus.memory import MemoryBus
from rtm.bus.redis import RedisBus
from rtm.gateway.cork import Flusher
from rtm.gateway.hub import Hub
from rtm.gateway.session import Gateway, Session
from rtm.gateway.tracking import Recounts
from rtm.gateway.unsupported import UnsupportedSession
from rtm.gateway.wire import Wires, WireSession
from rtm.protocol.errors import NotFound, ValidationError
from rtm.routing.handover import Return
from rtm.routing.introductions import Introductions
from rtm.routing.presence import Evict, MemoryPresence, Presence
from rtm.routing.presence_redis import RedisPresence
from rtm.routing.router import Router
from rtm.routing.timers import Timers
from rtm.settings import Limits, Settings
from rtm.store.archive import Archive
from rtm.store.customers import CustomerQueries
from rtm.store.database import Database, connect, dsn
from rtm.store.files import Files, postgresql_writes, sqlite_writes
from rtm.store.indexer import Indexer
from rtm.store.outbox import PostgresqlOutbox, SqliteOutbox, Trimmer
from rtm.store.postgresql import PostgresqlStore
from rtm.store.queries import Queries
from rtm.store.sqlite import SqliteStore
from rtm.store.writer import Writer
from rtm.summaries.extract import Extract
from rtm.summaries.summaries import Scribe, Summaries
from rtm.web.browsers import Browsers
from rtm.web.documents import Documents
from rtm.web.health import Health
from rtm.web.metrics import Metrics
from rtm.web.routes import WebApi

log = structlog.get_logger(__name__)

_SOCKET_PATH = re.compile(r"/v([0-9.]{1,16})/agent/rtm/ws/?")
MAX_ORGANIZATION_ID_LENGTH = 64
MAX_QUERY_FIELDS = 20
STATEMENT_TIMEOUT_S = 10.0
"""Less than a request has."""


@dataclass(frozen=True, slots=True)
class App:
    """What a server serves: HTTP through `asgi`, sockets through `accept` (uvicorn's `Config(ws=...)`)."""

    asgi: Starlette
    accept: Callable[..., asyncio.Protocol]
    health: Health
    """Told when the process begins to end: `health.draining`."""


def build(settings: Settings, siblings: Path | None = None) -> App:
    """All parts of one process; they start with the lifespan of `asgi`.

    `siblings` is a directory for the workers that share a port to find each other in.
    """
    registry.load(agent)
    database = connect(settings, statement_timeout_s=STATEMENT_TIMEOUT_S)
    # Apart, so that neither a revocation nor a look at the health waits for a connection of the pool.
    watched = connect(settings, statement_timeout_s=STATEMENT_TIMEOUT_S)
    # Apart from what handlers read, which may take seconds: who comes in, and what rooms have missed.
    prompt = connect(settings, statement_timeout_s=STATEMENT_TIMEOUT_S)
    queries, customers, missed = Queries(database), CustomerQueries(database), Queries(prompt)
    bus, presence, tally = _among_processes(
        settings,
        lambda *too_many: hub.evict(*too_many),  # noqa: PLW0108 - there is no hub yet
        lambda license_id: timers.agents_may_be_gone(license_id),  # noqa: PLW0108 - nor timers
    )
    store = _write_store(settings, database)
    flusher, outcomes, indexer = Flusher(), Outcomes(), Indexer(database, store)
    hub = Hub(
        bus,
        lambda *place: _settled(writer, missed.pushes_after(*place)),
        missed.sequences,
        lambda license_id: _statuses(directories, presence, license_id),
        customers.counted,
        flusher,
        settings.heartbeat_limit_s,
    )
    writer = Writer(
        store,
        lambda pushes: _tell((hub.publish, services.summaries.heard, router.committed), pushes),
        settings.limits.request_timeout_s,
        indexer.said,
    )
    trimmer = _trimmer(settings, store, watched, hub)
    authenticator = Authenticator(prompt, _attempts(settings.limits, tally), region=settings.region)
    directories = Directories(
        prompt,
        lambda *replaced: _tell(
            (hub.directory_replaced, router.directory_replaced, timers.directory_replaced), *replaced
        ),
    )
    router, timers = _routing(settings, queries, writer, directories, presence)
    services = Services(
        settings,
        authenticator,
        directories,
        queries,
        customers,
        Archive(database, indexer),
        writer,
        PageIds(database),
        presence,
        Summaries(_scribe(settings), queries, writer, directories, hub.publish),
        _files(store, database, settings.limits.unused_upload_bytes),
        publish=hub.publish,
        poke=router.poke,
        unfollow=timers.agent_restricted,
    )
    dispatcher = Dispatcher(services, Quota(settings.limits.requests_per_minute, "requests", shared=tally))
    gateway = Gateway(hub, dispatcher, services, outcomes, timers.agent_gone)
    wires = Wires(
        lambda path, query: _session(gateway, path, query),
        settings.limits,
        permessage_deflate=settings.permessage_deflate,
        flusher=flusher,
    )
    health, scraped = (
        Health(watched, bus, lambda: writer.outage.lasts),
        Metrics(metrics.registry(gateway, wires, flusher, writer, outcomes, bus), settings.metrics_token, siblings),
    )

    def revoked(token_id: str) -> None:
        authenticator.forget(token_id)
        hub.token_revoked(token_id)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        """Start each part after those it needs, and stop them in the opposite order."""
        async with AsyncExitStack() as stack:
            for pool in (database, prompt, watched):
                await stack.enter_async_context(pool)
            await _start(stack, store, bus, presence)
            stack.push_async_callback(router.stop)
            await services.page_ids.start()
            stack.push_async_callback(trimmer.stop)
            loops = (
                writer.run,
                Watch(watched, directories, revoked).run,
                trimmer.run,
                services.files.run,
                timers.run,
                timers.sweep_up,
                Recounts(lambda: hub.rooms, customers.here).run,
            )
            polls = (hub.poll,) if settings.redis_url or database.dialect == "postgresql" else ()  # others write too
            await stack.enter_async_context(_running(*loops, indexer.run, *polls, *((tally.run,) if tally else ())))
            await stack.enter_async_context(scraped.listening())
            stack.push_async_callback(services.summaries.stop)
            stack.push_async_callback(gateway.finish)
            _tune_the_interpreter()
            yield

    return App(
        _asgi(
            WebApi(dispatcher, services, outcomes),
            lifespan,
            *health.routes(),
            *scraped.routes(),
            *Documents().routes(),
        ),
        wires.accept,
        health,
    )


class _Part(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


async def _start(stack: AsyncExitStack, *parts: _Part) -> None:
    """Start them in this order; they are stopped with the stack."""
    for part in parts:
        await part.start()
        stack.push_async_callback(part.stop)


def _routing(
    settings: Settings, queries: Queries, writer: Writer, directories: Directories, presence: Presence
) -> tuple[Router, Timers]:
    """Both give out chats: they show them in one way, and wait for the same agents to come back."""
    introductions, return_ = Introductions(writer, introduce), Return.begins(settings.disconnect_grace_s)
    router = Router(queries, writer, directories, presence, introductions, return_)
    timers = Timers(
        queries, writer, directories, presence, introductions, return_, router.poke, settings.disconnect_grace_s
    )
    return router, timers


def _asgi(web: WebApi, lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]], *others: Route) -> Starlette:
    asgi = Starlette(
        routes=[*web.routes(), *others],
        middleware=[Middleware(Browsers)],
        exception_handlers={404: web.not_found, 405: web.wrong_method, 500: web.failed},
        lifespan=lifespan,
    )
    asgi.router.redirect_slashes = False
    return asgi


def _tune_the_interpreter() -> None:
    """Keep the cyclic garbage collector off what lives long, and the threads of the database from waiting for the loop.

    By default the collector looks at everything young after 700 allocations, which a batch in flight makes many times
    over, and promotes what is only waiting for its commit: a fifth of the CPU of a durable event (bench requests, 119
    against 93 us). References free nearly all that we make; what is left can wait.

    A thread needs the interpreter some ten times in a commit, for which a busy loop lets it wait 5 ms each by default.
    With a tenth of that an event's p99 was 12 ms in place of 20 beside a flood of `list_chats`, and its CPU the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    sys.setswitchinterval(0.0005)


def _among_processes(
    settings: Settings, evict: Evict, buried: Callable[[int], None]
) -> tuple[Bus, Presence, Tally | None]:
    """What processes have in common beside the database; one alone has nobody to share its quotas with."""
    url, limits = settings.redis_url, settings.limits
    if url is None:
        return MemoryBus(), MemoryPresence(limits, evict), None
    return RedisBus(url), RedisPresence(url, settings.heartbeat_limit_s, limits, evict, buried), Tally(url)


def _attempts(limits: Limits, tally: Tally | None) -> Attempts:
    return Attempts(
        Quota(limits.refused_tokens_per_minute, "refused tokens", shared=tally),
        Quota(limits.logins_per_minute, "log-ins with one token"),
    )


def _tell(hearers: Iterable[Callable[..., None]], *told: Any) -> None:
    for hear in hearers:
        hear(*told)


def _scribe(settings: Settings) -> Scribe:
    if settings.summary.url is None:
        return Extract()
    from rtm.summaries.endpoint import Endpoint

    return Endpoint(settings.summary)


async def _settled(writer: Writer, pushes: Awaitable[Sequence[Envelope]]) -> Sequence[Envelope]:
    """What the outbox has, but for what the writer is about to answer and deliver itself."""
    return writer.settled(await pushes)


async def _statuses(
    directories: Directories, presence: Presence, license_id: int
) -> tuple[Directory, Mapping[str, str]]:
    directory = await directories.get(license_id)
    return directory, await presence.statuses(license_id, directory.agents)


def _write_store(settings: Settings, database: Database) -> SqliteStore | PostgresqlStore:
    if database.dialect == "sqlite":
        return SqliteStore(Path(str(settings.database.database)))
    return PostgresqlStore(dsn(settings.database))


def _files(store: SqliteStore | PostgresqlStore, database: Database, unused_bytes: int) -> Files:
    if isinstance(store, SqliteStore):
        return Files(database, sqlite_writes(store), unused_bytes)
    return Files(database, postgresql_writes(database.engine), unused_bytes)


def _trimmer(settings: Settings, store: SqliteStore | PostgresqlStore, database: Database, hub: Hub) -> Trimmer:
    ages = {"keep_s": settings.outbox_keep_s, "max_age_s": settings.outbox_max_age_s}
    if isinstance(store, SqliteStore):  # what is committed here is delivered here, in the same turn
        return Trimmer(SqliteOutbox(store), time.time, **ages)
    return Trimmer(PostgresqlOutbox(database.engine), lambda: hub.passed_at, **ages)


def _session(gateway: Gateway, path: str, query: str) -> WireSession:
    """A session for a socket's path. Raises NotFound, ValidationError."""
    match = _SOCKET_PATH.fullmatch(path)
    if match is None:
        raise NotFound("There is nothing at this path")
    version = match[1]
    if version not in versions.SERVED:
        return UnsupportedSession()
    try:
        organization_ids = parse_qs(query, max_num_fields=MAX_QUERY_FIELDS).get("organization_id", [])
    except ValueError:
        raise ValidationError(f"Query must have at most {MAX_QUERY_FIELDS} fields") from None
    organization_id = organization_ids[0] if organization_ids else None
    if organization_id is not None and len(organization_id) > MAX_ORGANIZATION_ID_LENGTH:
        raise ValidationError(f"`organization_id` must be at most {MAX_ORGANIZATION_ID_LENGTH} characters long")
    return Session(gateway, version, organization_id)


@asynccontextmanager
async def _running(*loops: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run these beside everything else until the end of the block."""
    async with anyio.create_task_group() as tasks:
        for loop in loops:
            tasks.start_soon(_run_for_good, loop)
        yield
        tasks.cancel_scope.cancel()


async def _run_for_good(loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the loop; if it ends by itself, so does the process: without it the port would promise what nobody keeps.

    At once, as after `kill -9`: what was acknowledged is stored, and clients come back to a process that works.
    """
    try:
        await loop()
    except Exception:
        log.exception("loop_failed", loop=loop.__qualname__)
    else:
        log.error("loop_ended", loop=loop.__qualname__)
    os._exit(1)
