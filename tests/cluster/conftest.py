"""Two processes that are one system: the same PostgreSQL, the same Redis, two ports."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import ServerProcess, serving, serving_demo
from tests.servers import PostgresServer, RedisServer


@dataclass(frozen=True, slots=True)
class Cluster:
    """Either server knows the demo's tokens."""

    here: ServerProcess
    there: ServerProcess
    database_url: str


@contextmanager
def cluster_of_two(data_dir: Path, database_url: str, redis_url: str, *options: str) -> Iterator[Cluster]:
    """Both servers, while they run."""
    options = ("--database-url", database_url, "--redis-url", redis_url, *options)
    with serving_demo(data_dir, *options) as here, serving(data_dir, *options) as there:
        yield Cluster(here, there, database_url)


@pytest.fixture(scope="module")
async def cluster(_postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Shared by the tests of a module."""
    database_url = await _postgres_server.create_database()
    with (
        RedisServer() as redis_server,
        cluster_of_two(tmp_path_factory.mktemp("cluster"), database_url, redis_server.url) as cluster,
    ):
        yield cluster
    await _postgres_server.drop_database(database_url)
