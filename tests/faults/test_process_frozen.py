"""A process is frozen (SIGSTOP) under load and goes on: the others do not wait for it, and nobody is left behind."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import Plotted
from tests.faults.drill import EVENTS_PER_S, Cast, Drill, Pair
from tests.faults.test_frozen import frozen
from tests.running import PATIENCE_S
from tests.servers import RedisServer

BETWEEN_S = 1.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "frozen_s",
    [pytest.param([6.0, 1.0, 1.0], id="short"), pytest.param([30.0], id="30 s", marks=pytest.mark.soak)],
)
async def test_a_process_frozen(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted, frozen_s: list[float]
) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url)
    async with (
        Pair(tmp_path, *options).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials), repeats=True) as drill,
    ):
        plotted(drill.log, f"one of two processes frozen, {EVENTS_PER_S} events/s")
        async with drill.load():
            for seconds in frozen_s:
                await asyncio.sleep(BETWEEN_S)
                with drill.log.fault("frozen"), frozen(pair.servers["there"]):
                    await asyncio.sleep(seconds)
            await asyncio.sleep(BETWEEN_S)
            await drill.homecoming()
        await drill.judge()


@pytest.mark.timeout(300)
async def test_a_process_that_wakes_up_when_the_outbox_has_been_trimmed(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted
) -> None:
    """What it has missed is gone, so its clients are sent away with a reason, and begin anew."""
    ages = ("--outbox-keep-s", "0", "--outbox-max-age-s", "1")
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url, *ages)
    async with (
        Pair(tmp_path, *options).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials), repeats=True) as drill,
    ):
        plotted(drill.log, f"a process frozen for longer than the outbox is kept, {EVENTS_PER_S} events/s")
        async with drill.load():
            await asyncio.sleep(BETWEEN_S)
            with drill.log.fault("frozen"), frozen(pair.servers["there"]):
                # Else what is published meanwhile waits in its connection, and it may not need the outbox.
                await asyncio.to_thread(redis_server.ask, "CLIENT KILL", "TYPE", "pubsub")
                await trimmed(postgres_url)
            await asyncio.sleep(BETWEEN_S)
            await drill.homecoming()
        await drill.judge()
    assert any(connection.process == "there" for connection in drill.log.ended_by_server())


async def trimmed(database_url: str) -> None:
    """Return when the outbox has lost something that is written from now on."""
    connection = await asyncpg.connect(database_url)
    try:
        before = written = await connection.fetchval("SELECT max(sequence) FROM licenses")
        async with asyncio.timeout(PATIENCE_S):
            while written == before:
                written = await connection.fetchval("SELECT max(sequence) FROM licenses")
            while await connection.fetchval("SELECT count(*) FROM outbox WHERE sequence <= $1", written):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()
