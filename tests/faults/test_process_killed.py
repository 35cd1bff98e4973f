"""A process is killed or stopped under load, again and again: nothing acknowledged or pushed is missed."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.conftest import Plotted
from tests.faults.drill import EVENTS_PER_S, Cast, Drill, Pair, Single
from tests.servers import RedisServer

KILLS = 10
BETWEEN_S = 0.7
"""What it takes to start a process again comes on top, under the same load."""


@pytest.mark.timeout(300)
async def test_the_only_process_killed(tmp_path: Path, plotted: Plotted) -> None:
    """On SQLite; its clients come back when it does."""
    async with (
        Single(tmp_path).running() as single,
        Drill.prepared(single.doors, Cast.of_demo(single.credentials)) as drill,
    ):
        plotted(drill.log, f"kill -9 of the only process, {KILLS} times, {EVENTS_PER_S} events/s")
        async with drill.load():
            for _ in range(KILLS):
                await asyncio.sleep(BETWEEN_S)
                with drill.log.fault("kill -9", cuts="here"):
                    await single.kill("here")
                    await single.start("here")
                await drill.homecoming()
            await asyncio.sleep(BETWEEN_S)
        await drill.judge()
        assert not drill.log.ended_by_server()


@pytest.mark.timeout(300)
async def test_a_process_killed(tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url)
    async with (
        Pair(tmp_path, *options).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials)) as drill,
    ):
        plotted(drill.log, f"kill -9 of one of two processes, {KILLS} times, {EVENTS_PER_S} events/s")
        async with drill.load():
            for number in range(KILLS):
                victim = pair.doors[number % 2].name
                await asyncio.sleep(BETWEEN_S)
                with drill.log.fault("kill -9 of a process", cuts=victim):
                    await pair.kill(victim)
                    await pair.start(victim)
                await drill.homecoming()
        await drill.judge()
        assert not drill.log.ended_by_server()


async def test_a_process_stopped(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted
) -> None:
    """Its clients are told to go; what it had begun is answered, and whoever asks again is answered the same."""
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url, "--drain-s", "1")
    async with (
        Pair(tmp_path, *options).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials), repeats=True) as drill,
    ):
        plotted(drill.log, f"SIGTERM to one of two processes, and again, {EVENTS_PER_S} events/s")
        async with drill.load():
            for _ in range(2):
                await asyncio.sleep(BETWEEN_S)
                with drill.log.fault("SIGTERM, until it is back"):
                    await pair.stop("there")
                    await pair.start("there")
                await drill.homecoming()
        await drill.judge()
        told_to_go = drill.log.ended_by_server()
        assert len(told_to_go) >= 8
        assert {connection.process for connection in told_to_go} == {"there"}
