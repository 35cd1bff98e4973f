"""`kill -9` of one of two processes under load, again and again: nothing that was acknowledged or pushed is missed."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.conftest import Plotted
from tests.faults.drill import EVENTS_PER_S, Cast, Drill, Pair
from tests.servers import RedisServer

KILLS = 10
BETWEEN_S = 0.7
"""What it takes to start a process again comes on top, under the same load."""


@pytest.mark.timeout(180)
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
