"""The Redis bus on a Cluster and with Sentinels: masters that change, slots that move."""

import asyncio
import contextlib
from itertools import count

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

import rtm.bus.redis
import rtm.bus.redis_shard
from rtm.bus.base import BusUnavailable, Lost
from rtm.bus.redis import RedisBus
from rtm.redis_client import RedisUrl
from tests.bus.hearing import PATIENCE_S, Hearing, envelope, hearing, until
from tests.servers import RedisCluster, RedisWithSentinel, free_port


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtm.bus.redis_shard, "CALL_TIMEOUT_S", 1.0)
    monkeypatch.setattr(rtm.bus.redis_shard, "PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr(rtm.bus.redis, "PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr(rtm.bus.redis, "PLACES_INTERVAL_S", 1.0)


def license_on(cluster: RedisCluster, number: int) -> int:
    """A license whose channel is with the master of that number."""
    return next(license_id for license_id in count(1) if key_slot(b"%d" % license_id) in cluster.slots[number])


async def test_a_license_is_with_the_master_that_has_its_slot(redis_cluster: RedisCluster) -> None:
    async with hearing(redis_cluster.url) as here, hearing(redis_cluster.url) as there:
        for number, master in enumerate(redis_cluster.masters):
            license_id = license_on(redis_cluster, number)
            await there.bus.subscribe(license_id)
            here.bus.publish([envelope(license_id)])
            assert await there.next() == envelope(license_id)
            assert f"rtm:push:{{{license_id}}}" in master.ask("PUBSUB SHARDCHANNELS")


async def test_a_slot_that_moves_takes_its_license_along(redis_cluster: RedisCluster) -> None:
    license_id = license_on(redis_cluster, 0)
    async with hearing(redis_cluster.url) as here, hearing(redis_cluster.url, license_id) as there:
        redis_cluster.move(key_slot(b"%d" % license_id), 0, 1)
        assert await there.next() == Lost(license_id)
        await all_goes_through(here, there, license_id)
        assert f"rtm:push:{{{license_id}}}" in redis_cluster.masters[1].ask("PUBSUB SHARDCHANNELS")


async def test_the_slot_of_a_probe_may_move_too(redis_cluster: RedisCluster) -> None:
    async with hearing(redis_cluster.url) as here:
        await until(lambda: here.bus.healthy)
        probes: list[str] = redis_cluster.masters[0].ask("PUBSUB SHARDCHANNELS")
        [slot] = {key_slot(probe.encode()) for probe in probes}
        redis_cluster.move(slot, 0, 1)
        await until(lambda: redis_cluster.masters[0].ask("PUBSUB SHARDCHANNELS") not in ([], probes))
        await until(lambda: here.bus.healthy)


@pytest.mark.parametrize("end", ["kill", "freeze"])
async def test_a_master_that_is_gone_is_followed_by_its_replica(redis_cluster: RedisCluster, end: str) -> None:
    lost, kept = license_on(redis_cluster, 0), license_on(redis_cluster, 1)
    async with hearing(redis_cluster.url) as here, hearing(redis_cluster.url, lost, kept) as there:
        await until(lambda: there.bus.healthy)
        getattr(redis_cluster.masters[0], end)()
        await until(lambda: not there.bus.healthy)
        here.bus.publish([envelope(kept)])
        assert await there.next() == envelope(kept)
        assert await there.next() == Lost(lost)
        await all_goes_through(here, there, lost)
        if end == "freeze":  # it comes back as a replica
            redis_cluster.masters[0].thaw()
            await all_goes_through(here, there, lost)
        assert f"rtm:push:{{{lost}}}" in redis_cluster.replica.ask("PUBSUB SHARDCHANNELS")


async def test_a_cluster_that_is_all_gone_and_back(redis_cluster: RedisCluster) -> None:
    async with hearing(redis_cluster.url) as here, hearing(redis_cluster.url, 7) as there:
        await until(lambda: there.bus.healthy)
        for node in redis_cluster.nodes:
            node.kill()
        await until(lambda: not there.bus.healthy)
        here.bus.publish([envelope(7)])
        for node in redis_cluster.nodes:
            node.start()
        assert await there.next() == Lost(7)
        await all_goes_through(here, there, 7)


async def test_a_cluster_that_is_not_there_refuses_the_start() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with pytest.raises(BusUnavailable, match="cannot be connected"):
        await RedisBus(url).start()
    with pytest.raises(RedisError, match="cannot be connected"):
        async with RedisUrl.parse(url).client(timeout_s=2, max_connections=1) as client:
            await client.get("key")


async def test_sentinels_that_are_not_there_refuse_the_start() -> None:
    with pytest.raises(BusUnavailable, match="No master"):
        await RedisBus(f"redis+sentinel://127.0.0.1:{free_port()}/mymaster").start()


@pytest.mark.parametrize("end", ["kill", "freeze"])
async def test_the_sentinels_new_master_is_found(redis_with_sentinel: RedisWithSentinel, end: str) -> None:
    system = redis_with_sentinel
    async with hearing(system.url) as here, hearing(system.url, 7) as there:
        await until(lambda: there.bus.healthy)
        getattr(system.master, end)()
        await until(lambda: not there.bus.healthy)
        assert await there.next() == Lost(7)
        await all_goes_through(here, there, 7)
        if end == "freeze":
            system.master.thaw()
            await all_goes_through(here, there, 7)
        assert "rtm:push:{7}" in system.replica.ask("PUBSUB CHANNELS")


async def all_goes_through(here: Hearing, there: Hearing, license_id: int) -> None:
    """Until both have followed, each in its own time; then what is published is heard, and nothing is lost."""
    await until(lambda: here.bus.healthy and there.bus.healthy)
    async with asyncio.timeout(PATIENCE_S):
        for sequence in count(1):
            here.bus.publish([envelope(license_id, sequence)])
            with contextlib.suppress(TimeoutError):
                while await there.next(0.5) != envelope(license_id, sequence):
                    pass
                return
