"""Whether the process says rightly that it can serve."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, text
from starlette.applications import Starlette

from rtm.bus.memory import MemoryBus
from rtm.settings import Settings
from rtm.store.database import Database, connect, migrate
from rtm.web.health import Health
from tests.servers import PostgresServer, RedisServer
from tests.world import Web, World

WorldWith = Callable[..., Awaitable[World]]
NOTICED_WITHIN_S = 30
WELL = {"database": "ok", "migrations": "ok", "bus": "ok"}


async def ready(web: Web) -> tuple[int, dict[str, Any]]:
    """What the process says it is ready for."""
    answer = await web.request("GET", "/health/ready")
    return answer.status_code, answer.json()


async def until_ready_says(web: Web, status: int, **parts: str) -> None:
    """Ask until each part is as expected, and the others well."""
    expected = status, {"status": "ok" if status == 200 else "unavailable", "parts": WELL | parts}
    deadline = time.monotonic() + NOTICED_WITHIN_S
    while (said := await ready(web)) != expected:
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.05)


async def test_a_process_that_has_all_it_needs_is_ready(either_world: World) -> None:
    web = await either_world.web("alice")
    for path in ("/health/ready", "/health"):
        answer = await web.request("GET", path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "parts": WELL})
        assert answer.headers["cache-control"] == "no-store"


async def test_a_bus_that_says_nothing_is_noticed(world_with: WorldWith, redis_server: RedisServer) -> None:
    web = await (await world_with(redis_url=redis_server.url)).web("alice")
    await until_ready_says(web, 200)
    redis_server.freeze()
    await until_ready_says(web, 503, bus="unavailable")
    assert (await web.request("GET", "/health/live")).status_code == 200
    redis_server.thaw()
    await until_ready_says(web, 200)


async def test_a_database_that_is_gone_is_noticed(world_with: WorldWith) -> None:
    with PostgresServer() as server:
        web = await (await world_with(database_url=await server.create_database())).web("alice")
        await until_ready_says(web, 200)
        server.kill()
        await until_ready_says(web, 503, database="unavailable", migrations="unknown")
        assert (await web.request("GET", "/health/live")).status_code == 200
        server.start()
        await until_ready_says(web, 200)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE alembic_version SET version_num = 'later'", "newer than this version"),
        ("DELETE FROM alembic_version", "older than this version"),
    ],
)
async def test_tables_of_another_version_are_noticed(world_with: WorldWith, change: str, said: str) -> None:
    world = await world_with()
    web = await world.web("alice")
    await until_ready_says(web, 200)
    async with world.server.database.engine.begin() as connection:
        await connection.execute(text(change))
    await until_ready_says(web, 503, migrations=said)


async def test_a_database_that_takes_no_changes_is_noticed_until_it_does(
    world_with: WorldWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtm.store.sqlite.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("rtm.web.health.CHECK_TIMEOUT_S", 0.2)
    world = await world_with()
    web = await world.web("alice")
    async with world.server.database.engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        assert (await web.post("start_chat", {})).status_code == 503
        await until_ready_says(web, 503, database="cannot be written to")
    await until_ready_says(web, 200)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    settings = Settings(data_dir=tmp_path)
    await migrate(settings)
    async with connect(settings) as database:
        yield database


def visitor(health: Health) -> httpx2.AsyncClient:
    app = Starlette(routes=health.routes())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://rtm")


async def test_a_process_that_is_about_to_end_is_not_ready(database: Database) -> None:
    health = Health(database, MemoryBus())
    async with visitor(health) as client:
        assert (await client.get("/health/ready")).status_code == 200
        health.draining = True
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
        assert (await client.get("/health/live")).status_code == 200


async def test_many_who_ask_at_once_cost_the_database_one_look(database: Database) -> None:
    looks = 0

    def count(*_: object) -> None:
        nonlocal looks
        looks += 1

    async with visitor(Health(database, MemoryBus())) as client:
        event.listen(database.engine.sync_engine, "checkout", count)
        answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert looks == 1
