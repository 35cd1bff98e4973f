"""Redis dies under load, comes back empty or fails over, or one process is cut off from it: nobody misses a push."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.conftest import Plotted
from tests.faults.drill import EVENTS_PER_S, Cast, Drill, Pair
from tests.faults.proxy import Proxy
from tests.running import PATIENCE_S
from tests.servers import RedisCluster, RedisServer, RedisWithSentinel

BETWEEN_S = 1.0
LATE_S = 5.0
"""After the acknowledgement, or after the return of Redis for what was acknowledged without it."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "outages_s",
    [
        pytest.param([5.0, 0.5, 0.5, 0.5, 0.5], id="one-long"),
        pytest.param([5.0] * 5, id="all-long", marks=pytest.mark.soak),
    ],
)
async def test_redis_killed(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted, outages_s: list[float]
) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url)
    async with (
        Pair(tmp_path, *options).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials)) as drill,
    ):
        plotted(drill.log, f"Redis killed and restarted empty, {len(outages_s)} times, {EVENTS_PER_S} events/s")
        async with drill.load():
            for outage_s in outages_s:
                await asyncio.sleep(BETWEEN_S)
                with drill.log.fault("Redis away"):
                    await asyncio.to_thread(redis_server.kill)
                    await asyncio.sleep(outage_s)
                    await asyncio.to_thread(redis_server.start)
            await asyncio.sleep(BETWEEN_S)
        await drill.judge(late_s=LATE_S)
        assert not drill.log.ended_by_server()


def _cut_off_by(redis_server: RedisServer) -> int:
    """How many connections Redis has ended because they were not read."""
    count: int = redis_server.ask("INFO", "stats")["client_output_buffer_limit_disconnections"]
    return count


@pytest.mark.timeout(300)
async def test_a_process_cut_off_from_redis(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted
) -> None:
    """Cut; silent for longer than the bus takes to notice; too slow for Redis; its connections killed one by one."""
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url)
    async with (
        Proxy(redis_server.port) as proxy,
        Pair(tmp_path, *options, here=("--redis-url", f"redis://127.0.0.1:{proxy.port}/0")).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials)) as drill,
    ):
        plotted(drill.log, f"one of two processes cut off from Redis, {EVENTS_PER_S} events/s")
        async with drill.load():
            await asyncio.sleep(BETWEEN_S)
            with drill.log.fault("cut off"):
                proxy.cut()
                await asyncio.sleep(1.5)
                proxy.mend()
            await asyncio.sleep(BETWEEN_S)
            with drill.log.fault("silent"):
                proxy.silence()
                await asyncio.sleep(4)
                proxy.mend()
            await asyncio.sleep(BETWEEN_S)
            with drill.log.fault("too slow"):
                await asyncio.to_thread(redis_server.ask, "CONFIG SET", "client-output-buffer-limit", "pubsub 8kb 0 0")
                proxy.silence()
                async with asyncio.timeout(PATIENCE_S):
                    while not await asyncio.to_thread(_cut_off_by, redis_server):
                        await asyncio.sleep(0.1)
                proxy.mend()
            for kind in ("pubsub", "normal") * 3:
                await asyncio.sleep(BETWEEN_S / 3)
                with drill.log.fault(f"{kind} connections killed"):
                    await asyncio.to_thread(redis_server.ask, "CLIENT KILL", "TYPE", kind)
            await asyncio.sleep(BETWEEN_S)
        await drill.judge(late_s=LATE_S)
        assert not drill.log.ended_by_server()


@pytest.mark.timeout(300)
async def test_redis_failed_over(tmp_path: Path, postgres_url: str, plotted: Plotted) -> None:
    """Its Sentinel makes a master of the replica, to which both processes find their way."""
    with RedisWithSentinel() as redis_servers:
        options = ("--database-url", postgres_url, "--redis-url", redis_servers.url)
        async with (
            Pair(tmp_path, *options).running() as pair,
            Drill.prepared(pair.doors, Cast.of_demo(pair.credentials)) as drill,
        ):
            plotted(drill.log, f"the master of a Sentinel killed, {EVENTS_PER_S} events/s")
            async with drill.load():
                await asyncio.sleep(BETWEEN_S)
                with drill.log.fault("master killed"):
                    await asyncio.to_thread(redis_servers.master.kill)
                    await asyncio.sleep(3)
                with drill.log.fault("back as a replica"):
                    await asyncio.to_thread(redis_servers.master.start)
                await asyncio.sleep(2 * BETWEEN_S)
            await drill.judge(late_s=LATE_S)
            assert not drill.log.ended_by_server()


@pytest.mark.timeout(300)
async def test_nodes_of_a_redis_cluster_killed(tmp_path: Path, postgres_url: str, plotted: Plotted) -> None:
    """One master after the other; only the first has a replica that takes its place."""
    with RedisCluster() as redis_servers:
        options = ("--database-url", postgres_url, "--redis-url", redis_servers.url)
        async with (
            Pair(tmp_path, *options).running() as pair,
            Drill.prepared(pair.doors, Cast.of_demo(pair.credentials)) as drill,
        ):
            plotted(drill.log, f"masters of a Redis Cluster killed in turn, {EVENTS_PER_S} events/s")
            async with drill.load():
                for node in redis_servers.masters:
                    await asyncio.sleep(BETWEEN_S)
                    with drill.log.fault("master killed"):
                        await asyncio.to_thread(node.kill)
                        await asyncio.sleep(2)
                        await asyncio.to_thread(node.start)
                await asyncio.sleep(2 * BETWEEN_S)
            await drill.judge(late_s=LATE_S)
            assert not drill.log.ended_by_server()
