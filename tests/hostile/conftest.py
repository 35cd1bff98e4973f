"""One server on each database for all cases: what one of them breaks, the next one finds broken."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rtm import administration
from rtm.settings import Settings
from tests.hostile.scene import Scene
from tests.hostile.target import Target
from tests.running import serving_demo
from tests.servers import PostgresServer


@asynccontextmanager
async def _serving(data_dir: Path, database_url: str | None = None) -> AsyncIterator[Target]:
    """A server with demo data, and with a license of somebody else."""
    log = data_dir / "log"
    database = () if database_url is None else ("--database-url", database_url)
    with log.open("w") as output, serving_demo(data_dir, "--permessage-deflate", *database, log=output) as server:
        settings = Settings(data_dir=data_dir, database_url=database_url)
        stranger = await administration.init(settings, owner="owner@elsewhere.test", name="Stranger", groups=[])
        yield Target(server, log, stranger_token=f"Bearer {stranger['token']}")


@pytest.fixture(scope="session")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    """A server on SQLite."""
    async with _serving(tmp_path_factory.mktemp("sqlite")) as target:
        yield target


@pytest.fixture(scope="session")
async def postgres_target(
    _postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Target]:
    """A server on PostgreSQL."""
    url = await _postgres_server.create_database()
    async with _serving(tmp_path_factory.mktemp("postgresql"), url) as target:
        yield target
    await _postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def scene(target: Target) -> Scene:
    """Chats to be hostile to."""
    return Scene.on(target)


@pytest.fixture(scope="session")
def _postgres_scene(postgres_target: Target) -> Scene:
    return Scene.on(postgres_target)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_scene(request: pytest.FixtureRequest) -> Scene:
    """The same on each database."""
    scene: Scene = request.getfixturevalue("scene" if request.param == "sqlite" else "_postgres_scene")
    return scene


@pytest.fixture
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the test the server it was done to is as it was."""
    on_either = "either_scene" in request.fixturenames
    target: Target = request.getfixturevalue("either_scene").target if on_either else request.getfixturevalue("target")
    yield
    target.assert_unharmed()
