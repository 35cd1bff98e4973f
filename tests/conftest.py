"""What every test may ask for: the loop of the product, and real servers that start when first asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import redis
import uvloop

from rtm.settings import Settings
from tests.servers import PostgresServer, RedisServer


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The tests run on the event loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


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
