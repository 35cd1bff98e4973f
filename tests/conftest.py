"""What every test may ask for: the loop of the product, and real servers that start when first asked for."""

import asyncio
import gc
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from rtm.settings import Limits, Settings
from tests.servers import PostgresServer, RedisCluster, RedisServer, RedisWithSentinel
from tests.world import Server, World, visiting


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The tests run on the event loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/faults --plots bench/plots`"""
    parser.addoption("--plots", metavar="DIR", help="draw what each drill of tests/faults looked like, into DIR")


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember who fails."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a failed test leaves open is collected without a word: else a later one would fail for it."""
    result = yield
    if item.stash[_failed]:
        sys.last_type = sys.last_value = sys.last_traceback = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return result


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(_redis_server: RedisServer) -> str:
    """An empty Redis, shared by the tests of one worker one after the other."""
    with redis.Redis.from_url(_redis_server.url) as client:
        client.flushall()
    return _redis_server.url


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of one's own, to kill, freeze and start again."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster(node_timeout_ms=15_000) as cluster:  # nothing fails here, however busy the machine is
        yield cluster


@pytest.fixture
def redis_cluster_url(_redis_cluster: RedisCluster) -> str:
    """An empty Cluster, shared like `redis_url`."""
    for node in _redis_cluster.masters:
        node.ask("FLUSHALL")
    return _redis_cluster.url


@pytest.fixture
def redis_cluster() -> Iterator[RedisCluster]:
    """A Cluster of one's own."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def redis_with_sentinel() -> Iterator[RedisWithSentinel]:
    with RedisWithSentinel() as system:
        yield system


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def postgres_url(_postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A new, empty PostgreSQL database."""
    url = await _postgres_server.create_database()
    yield url
    await _postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_database(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with an empty database: what uses it runs on SQLite, and again on PostgreSQL."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Settings(data_dir=tmp_path, database_url=url)


@pytest.fixture(scope="session")
async def _server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with Server(Settings(data_dir=tmp_path_factory.mktemp("rtm"))) as server:
        yield server


@pytest.fixture(scope="session")
async def _server_on_postgresql(
    _postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    url = await _postgres_server.create_database()
    async with Server(Settings(data_dir=tmp_path_factory.mktemp("rtm"), database_url=url)) as server:
        yield server


@pytest.fixture
async def world(_server: Server) -> AsyncIterator[World]:
    """A license of one's own on a server with the default settings, on SQLite."""
    async with visiting(_server) as world:
        yield world


@pytest.fixture(params=["_server", "_server_on_postgresql"], ids=["sqlite", "postgresql"])
def _either_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def either_world(_either_server: Server) -> AsyncIterator[World]:
    """The same: what uses it runs on SQLite, and again on PostgreSQL."""
    async with visiting(_either_server) as world:
        yield world


@pytest.fixture
async def world_with(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Starts a server with these settings (`limits` as a dict), and gives a license on it."""
    async with AsyncExitStack() as stack:

        async def start(limits: dict[str, Any] | None = None, **settings: Any) -> World:
            wanted = Settings(data_dir=tmp_path, limits=Limits(**(limits or {})), **settings)
            server = await stack.enter_async_context(Server(wanted))
            return await stack.enter_async_context(visiting(server))

        yield start
