"""One fault upon another, at random, several at a time: the promises hold all the same.

RTM_CHAOS_S=300 RTM_CHAOS_SEED=7 pytest tests/faults/test_chaos.py -m soak
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import Plotted
from tests.faults.drill import EVENTS_PER_S, Cast, Drill, Pair
from tests.faults.proxy import Proxy
from tests.servers import RedisServer

CHAOS_S = float(os.environ.get("RTM_CHAOS_S", "60"))
SEED = int(os.environ.get("RTM_CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)

Fault = Callable[[], Awaitable[None]]


@pytest.mark.soak
@pytest.mark.timeout(CHAOS_S + 300)
async def test_chaos(tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url)
    async with (
        Proxy(redis_server.port) as proxy,
        Pair(tmp_path, *options, here=("--redis-url", f"redis://127.0.0.1:{proxy.port}/0")).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials), repeats=True) as drill,
    ):
        plotted(drill.log, f"faults at random, several at a time, {EVENTS_PER_S} events/s, seed {SEED}")
        chaos = Chaos(drill, pair, proxy, redis_server, postgres_url)
        async with drill.load():
            await chaos.reign(CHAOS_S)
            await asyncio.sleep(2)
        await drill.judge()


class Chaos:
    """Faults of several kinds, each of which comes and goes at its own pace."""

    def __init__(self, drill: Drill, pair: Pair, proxy: Proxy, redis_server: RedisServer, database_url: str) -> None:
        self._random = random.Random(SEED)
        self._drill = drill
        self._pair = pair
        self._proxy = proxy
        self._redis = redis_server
        self._database_url = database_url

    async def reign(self, seconds: float) -> None:
        """For so long; when it ends all is well again."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._now_and_then((self._kill_process,), until, pause_s=4))
            group.create_task(self._now_and_then((self._kill_redis, self._freeze_redis, self._kill_clients), until, 2))
            group.create_task(self._now_and_then((self._cut_off, self._silence), until, 3))
            group.create_task(self._now_and_then((self._end_database_connections,), until, 5))
            group.create_task(self._now_and_then((self._freeze_process,), until, 8))

    async def _now_and_then(self, faults: tuple[Fault, ...], until: float, pause_s: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(self._random.uniform(0, 2 * pause_s))
            await self._random.choice(faults)()

    async def _last(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 5))

    async def _kill_process(self) -> None:
        victim = self._random.choice(self._pair.doors).name
        with self._drill.log.fault("process killed", cuts=victim):
            await self._pair.kill(victim)
            while self._pair.servers[victim].process.returncode is not None:
                with contextlib.suppress(AssertionError):  # without Redis or the database none starts
                    await self._pair.start(victim)
        await self._drill.homecoming()

    async def _freeze_process(self) -> None:
        process = self._pair.servers[self._random.choice(self._pair.doors).name].process
        with self._drill.log.fault("process frozen"):
            process.send_signal(signal.SIGSTOP)
            await self._last()
            process.send_signal(signal.SIGCONT)

    async def _kill_redis(self) -> None:
        with self._drill.log.fault("Redis killed"):
            await asyncio.to_thread(self._redis.kill)
            await self._last()
            await asyncio.to_thread(self._redis.start)

    async def _freeze_redis(self) -> None:
        with self._drill.log.fault("Redis frozen"):
            self._redis.freeze()
            await self._last()
            self._redis.thaw()

    async def _kill_clients(self) -> None:
        with self._drill.log.fault("connections to Redis killed"):
            await asyncio.to_thread(self._redis.ask, "CLIENT KILL", "TYPE", self._random.choice(["pubsub", "normal"]))

    async def _cut_off(self) -> None:
        with self._drill.log.fault("here cut off from Redis"):
            self._proxy.cut()
            await self._last()
            self._proxy.mend()

    async def _silence(self) -> None:
        with self._drill.log.fault("Redis silent for here"):
            self._proxy.silence()
            await self._last()
            self._proxy.mend()

    async def _end_database_connections(self) -> None:
        """As an administrator of the database may, or a failover."""
        with self._drill.log.fault("connections to the database ended"):
            connection = await asyncpg.connect(self._database_url)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await connection.close()
