"""Servers for the machine, and the loop of its clients: one for all, as Hypothesis knows nothing of coroutines."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from rtm.settings import Limits, Settings
from rtm.store import database
from tests.lifecycle.scene import Stage
from tests.running import serving
from tests.servers import PostgresServer, RedisServer
from tests.world import Server

_NO_HURRY = Limits(ping_timeout_s=0)
"""Nobody pings while Hypothesis thinks."""


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs what is asynchronous, each to its end, on one loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@asynccontextmanager
async def serving_alone(data_dir: Path) -> AsyncIterator[Stage]:
    """A server in this process, on SQLite."""
    async with Server(Settings(data_dir=data_dir, limits=_NO_HURRY)) as server:
        yield Stage(server, [server.port])


@asynccontextmanager
async def serving_together(data_dir: Path, postgres: PostgresServer, redis: RedisServer) -> AsyncIterator[Stage]:
    """Two that are one system, on PostgreSQL and Redis."""
    url = await postgres.create_database()
    settings = Settings(data_dir=data_dir, database_url=url)
    await database.migrate(settings)
    options = ("--database-url", url, "--redis-url", redis.url)
    with (
        serving(data_dir, *options, RTM_LIMITS__PING_TIMEOUT_S="0") as here,
        serving(data_dir, *options, RTM_LIMITS__PING_TIMEOUT_S="0") as there,
    ):
        clients = Server(settings)
        try:
            yield Stage(clients, [here.port, there.port])
        finally:
            await clients.database.close()
    await postgres.drop_database(url)


@pytest.fixture
def one_process(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Stage]:
    """One process with SQLite."""
    stage = serving_alone(tmp_path)
    yield runner.run(stage.__aenter__())
    runner.run(stage.__aexit__(None, None, None))


@pytest.fixture
def two_processes(
    runner: asyncio.Runner, tmp_path: Path, _postgres_server: PostgresServer, _redis_server: RedisServer
) -> Iterator[Stage]:
    """Two processes with PostgreSQL and Redis."""
    stage = serving_together(tmp_path, _postgres_server, _redis_server)
    yield runner.run(stage.__aenter__())
    runner.run(stage.__aexit__(None, None, None))
