"""The one place where the parts are put together."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from rtm import metrics
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
from rtm.gateway.address import session_at
from rtm.gateway.cork import Flusher
from rtm.gateway.hub import Hub
from rtm.gateway.session import Gateway
from rtm.gateway.tracking import Recounts
from rtm.gateway.wire import Wires
from rtm.lifetime import Lifespan, lifespan, running, step
from rtm.routing.presence import MemoryPresence, Presence
from rtm.routing.presence_redis import RedisPresence
from rtm.routing.restart import Return
from rtm.routing.router import Router
from rtm.routing.timers import Timers
from rtm.settings import Limits, Settings
from rtm.store.archive import Archive
from rtm.store.customers import CustomerQueries
from rtm.store.database import Database
from rtm.store.files import Files, postgresql_writes, sqlite_writes
from rtm.store.indexer import Indexer
from rtm.store.outbox import PostgresqlOutbox, SqliteOutbox, Trimmer
from rtm.store.pools import pools, write_store
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
    limits = settings.limits
    every_pool = database, prompt, watched = pools(settings)
    store = write_store(settings)
    bus, presence, tally = _among_processes(settings)
    queries, customers = Queries(database), CustomerQueries(database)
    flusher, outcomes, indexer = Flusher(), Outcomes(), Indexer(database, store)
    writer, directories = Writer(store, limits.request_timeout_s, indexer.said), Directories(prompt)
    authenticator = Authenticator(prompt, _attempts(limits, tally), region=settings.region)
    hub = _hub(settings, bus, writer, Queries(prompt), customers, directories, presence, flusher)
    trimmer = _trimmer(settings, store, watched, hub)
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
        _files(store, database, limits.unused_upload_bytes),
        publish=hub.publish,
        poke=router.poke,
        unfollow=timers.agent_restricted,
    )
    writer.deliver_to(hub.publish, services.summaries.heard, router.committed)
    directories.on_replaced(hub.directory_replaced, router.directory_replaced, timers.directory_replaced)
    presence.listen(hub.evict, timers.agents_may_be_gone)
    watch = Watch(watched, directories, authenticator.forget, hub.token_revoked)

    dispatcher = Dispatcher(services, Quota(limits.requests_per_minute, "requests", shared=tally))
    gateway = Gateway(hub, dispatcher, services, outcomes, timers.agent_gone)
    wires = Wires(partial(session_at, gateway), limits, permessage_deflate=settings.permessage_deflate, flusher=flusher)
    health = Health(watched, bus, writer.outage)
    scraped = Metrics(
        metrics.registry(gateway, wires, flusher, writer, outcomes, bus), settings.metrics_token, siblings
    )
    loops = [
        *(writer.run, watch.run, trimmer.run, indexer.run, services.files.run),
        *(timers.run, timers.sweep_up, Recounts(lambda: hub.rooms, customers.here).run),
        *([hub.poll] if settings.redis_url or database.dialect == "postgresql" else []),  # others write, too
        *([tally.run] if tally else []),
    ]
    life = lifespan(  # each after those it needs
        *every_pool,
        *(step(part.start, part.stop) for part in (store, bus, presence)),
        *(step(stop=router.stop), step(services.page_ids.start), step(stop=trimmer.stop)),
        *(running(*loops), scraped.listening(), step(stop=services.summaries.stop), step(stop=gateway.finish)),
    )
    web = WebApi(dispatcher, services, outcomes)
    return App(_asgi(web, life, *health.routes(), *scraped.routes(), *Documents().routes()), wires.accept, health)


def _hub(
    settings: Settings,
    bus: Bus,
    writer: Writer,
    missed: Queries,
    customers: CustomerQueries,
    directories: Directories,
    presence: Presence,
    flusher: Flusher,
) -> Hub:
    async def read_outbox(license_id: int, after: int, limit: int) -> Sequence[Envelope]:
        """But for what the writer is about to answer and deliver itself."""
        return writer.settled(await missed.pushes_after(license_id, after, limit))

    async def read_statuses(license_id: int) -> tuple[Directory, Mapping[str, str]]:
        directory = await directories.get(license_id)
        return directory, await presence.statuses(license_id, directory.agents)

    return Hub(
        bus, read_outbox, missed.sequences, read_statuses, customers.counted, flusher, settings.heartbeat_limit_s
    )


def _routing(
    settings: Settings, queries: Queries, writer: Writer, directories: Directories, presence: Presence
) -> tuple[Router, Timers]:
    """Both give out chats: they show them in one way, and wait for the same agents to come back."""
    return_ = Return.begins(settings.disconnect_grace_s)
    router = Router(queries, writer, directories, presence, introduce, return_)
    timers = Timers(
        queries, writer, directories, presence, introduce, return_, router.poke, settings.disconnect_grace_s
    )
    return router, timers


def _asgi(web: WebApi, life: Lifespan, *others: Route) -> Starlette:
    asgi = Starlette(
        routes=[*web.routes(), *others],
        middleware=[Middleware(Browsers)],
        exception_handlers={404: web.not_found, 405: web.wrong_method, 500: web.failed},
        lifespan=life,
    )
    asgi.router.redirect_slashes = False
    return asgi


def _among_processes(settings: Settings) -> tuple[Bus, Presence, Tally | None]:
    """What processes have in common beside the database; one alone has nobody to share its quotas with."""
    url, limits = settings.redis_url, settings.limits
    if url is None:
        return MemoryBus(), MemoryPresence(limits), None
    return RedisBus(url), RedisPresence(url, settings.heartbeat_limit_s, limits), Tally(url)


def _attempts(limits: Limits, tally: Tally | None) -> Attempts:
    return Attempts(
        Quota(limits.refused_tokens_per_minute, "refused tokens", shared=tally),
        Quota(limits.logins_per_minute, "log-ins with one token"),
    )


def _scribe(settings: Settings) -> Scribe:
    if settings.summary.url is None:
        return Extract()
    from rtm.summaries.endpoint import Endpoint

    return Endpoint(settings.summary)


def _files(store: SqliteStore | PostgresqlStore, database: Database, unused_bytes: int) -> Files:
    if isinstance(store, SqliteStore):
        return Files(database, sqlite_writes(store), unused_bytes)
    return Files(database, postgresql_writes(database.engine), unused_bytes)


def _trimmer(settings: Settings, store: SqliteStore | PostgresqlStore, database: Database, hub: Hub) -> Trimmer:
    ages = {"keep_s": settings.outbox_keep_s, "max_age_s": settings.outbox_max_age_s}
    if isinstance(store, SqliteStore):  # what is committed here is delivered here, in the same turn
        return Trimmer(SqliteOutbox(store), time.time, **ages)
    return Trimmer(PostgresqlOutbox(database.engine), lambda: hub.passed_at, **ages)
