"""What is particular to the Redis bus: a Redis that dies, freezes, comes back empty or carries rubbish."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
import structlog
from hiredis import ReplyError
from redis.backoff import ConstantBackoff

import rtm.bus.redis
import rtm.bus.redis_shard
from rtm.bus.base import BusUnavailable, Lost
from rtm.bus.redis import RedisBus
from rtm.bus.redis_connection import RedisConnection, connect
from rtm.bus.redis_places import Address, OneServer
from rtm.bus.redis_shard import OUTGOING_BYTES
from rtm.redis_client import RedisUrl
from tests.bus.hearing import PATIENCE_S, Hearing, envelope, hearing, until
from tests.faults.proxy import Proxy
from tests.servers import RedisServer, free_port


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtm.bus.redis, "CALL_TIMEOUT_S", 0.8)
    monkeypatch.setattr(rtm.bus.redis_shard, "CALL_TIMEOUT_S", 0.8)
    monkeypatch.setattr(rtm.bus.redis, "PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr(rtm.bus.redis_shard, "PROBE_INTERVAL_S", 0.1)


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[RedisBus]:
    async with hearing(redis_server.url) as process:
        assert isinstance(process.bus, RedisBus)
        yield process.bus


@pytest.fixture
async def there(redis_server: RedisServer) -> AsyncIterator[Hearing]:
    async with hearing(redis_server.url, 7) as process:
        yield process


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator["redis.asyncio.Redis"]:
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        yield client


async def test_a_redis_that_is_not_there_refuses_the_start() -> None:
    with pytest.raises(BusUnavailable, match="refused"):
        await RedisBus(f"redis://127.0.0.1:{free_port()}/0").start()


async def test_a_redis_that_says_nothing_refuses_the_start(redis_server: RedisServer) -> None:
    redis_server.freeze()
    with pytest.raises(BusUnavailable, match="did not answer"):
        await RedisBus(redis_server.url).start()


async def test_a_redis_killed_and_started_again_is_a_loss_and_then_messages_flow(
    here: RedisBus, there: Hearing, redis_server: RedisServer
) -> None:
    redis_server.kill()
    redis_server.start()
    assert await there.next() == Lost(7)
    here.publish([envelope(7)])
    assert await there.next_envelope() == envelope(7)


async def test_health_is_lost_with_redis_and_comes_back_with_the_probe(
    there: Hearing, redis_server: RedisServer
) -> None:
    await until(lambda: there.bus.healthy)
    redis_server.freeze()
    await until(lambda: not there.bus.healthy)
    redis_server.thaw()
    await until(lambda: there.bus.healthy)
    assert await there.next() == Lost(7)


async def test_what_is_published_while_redis_is_away_waits_up_to_a_bound(
    here: RedisBus, there: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: here.healthy)
    monkeypatch.setattr(rtm.bus.redis_shard, "_BACKOFF", ConstantBackoff(0.5))
    for shard in here._shards.values():
        shard.abort("a cut of one process only: the other is to hear what comes after it")
    await until(lambda: not here.healthy)
    size = OUTGOING_BYTES // 10
    here.publish([envelope(7, sequence, size) for sequence in range(1, 31)])
    assert await there.next() == Lost(7)
    heard = [await there.next()]
    while heard[-1] != envelope(7, 30, size):
        heard.append(await there.next())
    assert heard == [envelope(7, sequence, size) for sequence in range(31 - len(heard), 31)]
    assert len(heard) < 10
    assert here.traffic.dropped == 30 - len(heard)


async def test_a_subscriber_too_slow_for_redis_is_told_of_the_loss(there: Hearing, redis_server: RedisServer) -> None:
    redis_server.ask("CONFIG SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    message = b"0123456789abcdef\n" + envelope(7, 1, 1 << 20).encode()
    for _ in range(50):  # the loop stands still, and nothing is read: not even the kernel keeps as much
        redis_server.ask("PUBLISH", "rtm:push:{7}", message)
    while await there.next() != Lost(7):
        pass
    assert there.bus.traffic.reconnects == 1
    await until(lambda: there.bus.healthy)


async def test_a_master_that_becomes_a_replica_is_left_until_it_is_one_again(
    here: RedisBus, there: Hearing, redis_server: RedisServer
) -> None:
    await until(lambda: there.bus.healthy)
    redis_server.ask("REPLICAOF", "127.0.0.1", free_port())
    await until(lambda: not (here.healthy or there.bus.healthy))
    here.publish([envelope(7)])
    redis_server.ask("REPLICAOF", "NO", "ONE")
    await until(lambda: here.healthy and there.bus.healthy)
    assert await there.next() == Lost(7)


async def test_a_replica_refuses_the_start(redis_server: RedisServer) -> None:
    redis_server.ask("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(BusUnavailable, match="READONLY"):
        await RedisBus(redis_server.url).start()


@pytest.fixture
async def loading() -> AsyncIterator[RedisServer]:
    """A server that reads its data, for half a second and more."""
    slowly = "key-load-delay 5000", "loading-process-events-interval-bytes 1024"
    with RedisServer("enable-debug-command yes", *slowly) as server:
        for number in range(100):
            server.ask("SET", number, random.randbytes(300))
        reloading = asyncio.create_task(asyncio.to_thread(server.ask, "DEBUG", "RELOAD"))
        async with redis.asyncio.Redis.from_url(server.url) as client, asyncio.timeout(10):
            while not (await client.info("persistence"))["loading"]:
                pass
        yield server
        await reloading


async def test_a_redis_that_still_loads_its_data_answers_each_question_with_its_own_answer(
    loading: RedisServer,
) -> None:
    connection = await connect(RedisUrl.parse(loading.url), ("127.0.0.1", loading.port), Deaf())
    for command in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
        confirmed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection.subscribe(confirmed.set_result, command, b"channel")
        async with asyncio.timeout(PATIENCE_S):
            assert not isinstance(await confirmed, Exception)
    with pytest.raises(ReplyError, match="LOADING"):
        await connection.answer("DEL", "channel")
    assert await connection.answer("PUBLISH", "channel", "x") == 0
    connection.abort("it is answered")


async def test_a_redis_that_still_loads_its_data_is_not_the_place_yet(loading: RedisServer) -> None:
    with pytest.raises(BusUnavailable, match="LOADING"):
        await RedisBus(loading.url).start()


async def test_a_silent_redis_is_noticed_within_10_s(
    here: RedisBus, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: here.healthy)
    monkeypatch.undo()
    redis_server.freeze()
    async with asyncio.timeout(10):
        await until(lambda: not here.healthy)


async def test_a_license_subscribed_to_while_redis_is_away_is_heard_when_it_is_back(
    here: RedisBus, there: Hearing, redis_server: RedisServer
) -> None:
    redis_server.kill()
    await until(lambda: not there.bus.healthy)
    await there.bus.subscribe(8)
    redis_server.start()
    assert await there.next() == Lost(7)
    here.publish([envelope(8)])
    assert await there.next_envelope() == envelope(8)


async def test_what_could_not_be_published_is_announced_as_lost(
    there: Hearing, client: "redis.asyncio.Redis", redis_server: RedisServer
) -> None:
    await acl(client, "clerk", "on", "nopass", "+@all", "allchannels")
    async with hearing(redis_server.url.replace("//", "//clerk:any@")) as clerk:
        await until(lambda: clerk.bus.healthy)
        await acl(client, "clerk", "-publish")
        clerk.bus.publish([envelope(7, 1)])
        await until(lambda: not clerk.bus.healthy)
        await acl(client, "clerk", "+publish")
        assert await there.next() == Lost(7)
        clerk.bus.publish([envelope(7, 2)])
        assert await there.next() == envelope(7, 2)


async def test_rubbish_on_a_channel_is_logged_and_skipped(
    here: RedisBus, there: Hearing, client: "redis.asyncio.Redis"
) -> None:
    head = b"0123456789abcdef\n"
    rubbish = [b"", b"no head", head + b"{", head + b"[]", head + b'{"license_id":7}', head + b"\xff\n", head + b"null"]
    with structlog.testing.capture_logs() as logs:
        for message in rubbish:
            await client.publish("rtm:push:{7}", message)
        here.publish([envelope(7)])
        while await there.next() != envelope(7):
            pass
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["bus_message_malformed"] * len(rubbish)


async def test_a_burst_is_one_message(here: RedisBus, client: "redis.asyncio.Redis") -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("rtm:push:{7}")
        await pubsub.parse_response()
        for sequence in range(1, 21):
            here.publish([envelope(7, sequence)])
        _, _, message = await pubsub.parse_response()
    assert message.split(b"\n")[1:] == [envelope(7, sequence).encode() for sequence in range(1, 21)]


async def test_what_is_queued_leaves_before_the_stop(redis_server: RedisServer, there: Hearing) -> None:
    async with hearing(redis_server.url) as process:
        process.bus.publish([envelope(7)])
    assert await there.next() == envelope(7)


async def test_a_frozen_redis_does_not_hold_up_the_stop(redis_server: RedisServer) -> None:
    async with asyncio.timeout(10), hearing(redis_server.url) as process:
        redis_server.freeze()
        process.bus.publish([envelope(7)])


async def test_a_redis_that_refuses_everything_does_not_keep_the_stop_from_its_end(
    redis_server: RedisServer, client: "redis.asyncio.Redis"
) -> None:
    redis_server.ask("CONFIG SET", "busy-reply-threshold", "1")
    bus = RedisBus(redis_server.url)
    await bus.start()
    script: asyncio.Future[Any] = asyncio.ensure_future(client.eval("while true do end", 0))
    async with redis.asyncio.Redis.from_url(redis_server.url) as other:
        with contextlib.suppress(redis.ResponseError):  # BUSY
            while await other.ping():
                pass
        await bus.stop()
        await other.script_kill()
    with pytest.raises(redis.ResponseError):
        await script
    assert all(task.done() for task in bus._tasks.values())
    assert [shard._connection for shard in bus._shards.values()] == [None]


class Elsewhere(OneServer):
    """The channels have moved to another server, or to none."""

    def of(self, channel: bytes) -> Address:
        if self._address not in self.all:
            raise LookupError("no server")
        return super().of(channel)


async def test_what_was_on_its_way_to_a_server_that_is_given_up_is_announced_as_lost(
    there: Hearing, redis_server: RedisServer
) -> None:
    async with Proxy(redis_server.port) as network, hearing(f"redis://127.0.0.1:{network.port}/0") as here:
        assert isinstance(here.bus, RedisBus)
        await until(lambda: here.bus.healthy)
        network.silence()
        here.bus.publish([envelope(7)])
        await until(lambda: here.bus.traffic.published == 1)
        here.bus._places = Elsewhere(RedisUrl.parse(redis_server.url))
        here.bus._settle()
        assert await there.next() == Lost(7)


async def test_what_no_server_would_carry_is_announced_as_lost_by_the_next(
    there: Hearing, redis_server: RedisServer
) -> None:
    async with hearing(redis_server.url) as here:
        assert isinstance(here.bus, RedisBus)
        places = here.bus._places = Elsewhere(RedisUrl.parse(redis_server.url))
        places.all = frozenset()
        here.bus.publish([envelope(7, 1)])  # waits for the server that is given up
        here.bus._settle()
        here.bus.publish([envelope(7, 2)])
        here.bus._places = Elsewhere(RedisUrl.parse(redis_server.url))
        here.bus._settle()
        assert await there.next() == Lost(7)
        assert here.bus.traffic.dropped == 2
        here.bus.publish([envelope(7, 3)])
        assert await there.next() == envelope(7, 3)


async def test_a_cancellation_that_is_lost_does_not_hold_up_the_stop(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the client of a Cluster loses one now and then."""
    looking = asyncio.Event()

    async def find(_: OneServer) -> None:
        looking.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with asyncio.timeout(10), hearing(redis_server.url) as process:
        monkeypatch.setattr(OneServer, "find", find)
        process.bus._misplaced.set()  # type: ignore[attr-defined]
        await looking.wait()


class Deaf:
    """Opens a connection, and is told nothing."""

    def heard(self, channel: bytes, message: bytes) -> None: ...
    def unsubscribed(self, channel: bytes) -> None: ...
    def writable(self) -> None: ...
    def closed(self, connection: RedisConnection, reason: str) -> None: ...


async def acl(client: Any, user: str, *rules: str) -> None:
    await client.execute_command("ACL", "SETUSER", user, *rules)


async def test_what_nobody_has_foreseen_is_logged_and_begun_again(
    here: RedisBus, there: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: RedisBus) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(rtm.bus.redis, "_WORK_PAUSE_S", 0.01)
    with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(RedisBus, "_settle", fail)
        there.bus._misplaced.set()  # type: ignore[attr-defined]
        await until(lambda: any(log["event"] == "bus_work_failed" for log in logs))
    here.publish([envelope(7)])
    assert await there.next() == envelope(7)
    assert not there.bus._tasks["follow"].done()  # type: ignore[attr-defined]


async def test_a_cut_of_one_process_is_its_own_loss(here: RedisBus, redis_server: RedisServer) -> None:
    async with Proxy(redis_server.port) as network, hearing(f"redis://127.0.0.1:{network.port}/0", 7) as there:
        await until(lambda: there.bus.healthy)
        network.cut()
        await until(lambda: not there.bus.healthy)
        here.publish([envelope(7, 1)])
        network.mend()
        assert await there.next() == Lost(7)
        here.publish([envelope(7, 2)])
        assert await there.next() == envelope(7, 2)


async def test_a_network_that_swallows_everything_is_a_loss(here: RedisBus, redis_server: RedisServer) -> None:
    async with Proxy(redis_server.port) as network, hearing(f"redis://127.0.0.1:{network.port}/0", 7) as there:
        await until(lambda: there.bus.healthy)
        network.silence()
        await until(lambda: not there.bus.healthy)
        network.mend()
        await until(lambda: there.bus.healthy)
        assert await there.next() == Lost(7)
