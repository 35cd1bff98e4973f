"""Presence over several processes, of which some die or freeze, and a Redis that goes away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
import redis.asyncio
from structlog.testing import capture_logs

from rtm.bus.base import Envelope
from rtm.protocol.errors import ServiceUnavailable
from rtm.routing import presence_redis
from rtm.routing.presence import Member, TooManyConnections, nobody_listens
from rtm.routing.presence_redis import RedisPresence
from rtm.settings import Limits
from tests.routing.test_presence import ACCEPTING, NOT_ACCEPTING, OFFLINE, Person
from tests.servers import RedisCluster, RedisServer, RedisWithSentinel

LIMIT_S = 2.0
SMITH = "smith@example.com"
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_redis, "CALL_TIMEOUT_S", 1.0)


class Process:
    """One of those that are one system."""

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self.presence = RedisPresence(url, LIMIT_S, limits)
        self.presence.listen(self._evict, nobody_listens)
        self.smith = Person(self.presence)
        self.evicted: list[str] = []

    def _evict(self, _: int, connection_ids: Sequence[str]) -> None:
        self.evicted += connection_ids

    def freeze(self) -> None:
        """It does nothing by itself any more."""
        for task in self.presence._tasks:
            task.cancel()

    async def thaw(self) -> None:
        await self.presence.start()


@asynccontextmanager
async def running(url: str, **limits: Any) -> AsyncIterator[Process]:
    process = Process(url, Limits(**limits))
    await process.presence.start()
    yield process
    await process.presence.stop()


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Person]:
    """An agent as this process knows it."""
    async with running(redis_server.url) as process:
        yield process.smith


@pytest.fixture
async def there(redis_server: RedisServer) -> AsyncIterator[Person]:
    """The same agent as another process knows it."""
    async with running(redis_server.url) as process:
        yield process.smith


class Told:
    """What is pushed to the license, in order."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    async def next(self, within_s: float = PATIENCE_S) -> tuple[str, str]:
        """The agent and its status."""
        async with asyncio.timeout(within_s):
            while (message := await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=None)) is None:
                pass
        head, _, envelope = message["data"].partition(b"\n")
        assert len(head) == 16
        push = Envelope.decode(envelope)
        assert (push.license_id, push.name, push.audience.everyone) == (7, "routing_status_set", True)
        payload = orjson.loads(push.payload)
        return payload["agent_id"], payload["status"]

    async def nothing_more(self, process: Person) -> None:
        """Tell something of somebody else: it is the next that is heard."""
        other = Member(7, "nobody@example.com", ACCEPTING, is_bot=False)
        await process.presence.join(other, "c0", away=False, reconnect=False)
        assert await self.next() == (other.agent_id, ACCEPTING)
        await process.presence.leave(other, "c0")
        assert await self.next() == (other.agent_id, OFFLINE)


@pytest.fixture
async def told(redis_server: RedisServer) -> AsyncIterator[Told]:
    async with listening(redis_server.url) as told:
        yield told


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Told]:
    client: Any = redis.asyncio.Redis.from_url(url, socket_timeout=None)
    async with client, client.pubsub() as pubsub:
        await pubsub.subscribe("rtm:push:{7}")
        assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"
        yield Told(pubsub)


async def test_a_session_spans_processes(here: Person, there: Person) -> None:
    assert await here.join("c1") == (OFFLINE, ACCEPTING)
    assert await there.join("c2") == (ACCEPTING, ACCEPTING)
    assert await here.away(True, "c1") == (ACCEPTING, ACCEPTING)
    assert await there.away(True, "c2") == (ACCEPTING, NOT_ACCEPTING)
    assert await there.choose(ACCEPTING) == (NOT_ACCEPTING, ACCEPTING)
    assert await here.leave("c1") == (ACCEPTING, NOT_ACCEPTING)
    assert await there.leave("c2") == (NOT_ACCEPTING, OFFLINE)


async def test_each_change_is_told_once_in_order(here: Person, there: Person, told: Told) -> None:
    await here.join("c1")
    await there.join("c2")
    await there.choose(NOT_ACCEPTING)
    await here.choose(NOT_ACCEPTING)
    await here.leave("c1")
    await there.leave("c2")
    assert [await told.next() for _ in range(3)] == [(SMITH, ACCEPTING), (SMITH, NOT_ACCEPTING), (SMITH, OFFLINE)]
    await told.nothing_more(here)


async def test_a_process_that_stops_takes_its_connections_with_it(
    redis_server: RedisServer, here: Person, told: Told
) -> None:
    async with running(redis_server.url) as stopping:
        await stopping.smith.join()
        assert await here.status() == ACCEPTING
    assert await here.status() == OFFLINE
    assert [await told.next() for _ in range(2)] == [(SMITH, ACCEPTING), (SMITH, OFFLINE)]
    await told.nothing_more(here)


async def test_the_agents_of_a_dead_process_go_offline_within_the_limit_and_it_is_told_once(
    redis_server: RedisServer, here: Person, there: Person, told: Told
) -> None:
    dead = Process(redis_server.url)
    agents = [Member(7, f"agent{number}", ACCEPTING, is_bot=False) for number in range(120)]
    await dead.presence.start()
    await asyncio.gather(*(dead.presence.join(each, "c1", away=False, reconnect=False) for each in agents))
    for _ in agents:
        await told.next()
    await dead.smith.join("c1")
    await dead.smith.choose(NOT_ACCEPTING)
    assert [await told.next() for _ in range(2)] == [(SMITH, ACCEPTING), (SMITH, NOT_ACCEPTING)]

    dead.freeze()
    died_at = asyncio.get_running_loop().time()
    offline = [await told.next() for _ in range(121)]
    assert asyncio.get_running_loop().time() - died_at < 3 * LIMIT_S  # on a busy machine
    assert sorted(offline) == sorted((each, OFFLINE) for each in (SMITH, *(agent.agent_id for agent in agents)))
    assert await here.status() == OFFLINE
    await told.nothing_more(there)

    # Its session ended with it, so the next one is another.
    assert await here.join("c2", reconnect=True) == (OFFLINE, NOT_ACCEPTING)
    await here.leave("c2")
    assert await here.join("c3") == (OFFLINE, ACCEPTING)
    await dead.presence.stop()


async def test_who_comes_back_elsewhere_before_that_never_goes_offline(
    redis_server: RedisServer, here: Person, there: Person, told: Told
) -> None:
    dead = Process(redis_server.url)
    await dead.presence.start()
    other = Person(dead.presence, id="other@example.com")
    await dead.smith.join("c1")
    await other.join("c2")
    await dead.smith.choose(NOT_ACCEPTING)
    dead.freeze()
    assert await here.join("c3", reconnect=True) == (NOT_ACCEPTING, NOT_ACCEPTING)

    statuses = [(SMITH, ACCEPTING), (other.id, ACCEPTING), (SMITH, NOT_ACCEPTING), (other.id, OFFLINE)]
    assert [await told.next() for _ in statuses] == statuses
    await told.nothing_more(there)
    assert await there.status() == NOT_ACCEPTING
    assert await here.leave("c3") == (NOT_ACCEPTING, OFFLINE)
    await dead.presence.stop()


async def test_who_dies_burying_is_relieved(
    redis_server: RedisServer, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, dying = Process(redis_server.url), Process(redis_server.url)
    await dead.presence.start()
    await dead.smith.join()
    assert await told.next() == (SMITH, ACCEPTING)
    dead.freeze()

    monkeypatch.setattr(dying.presence, "_begin_burial", lambda _: dying.freeze())
    await dying.presence.start()
    await until(lambda: _all_done(dying), wanted=True)
    async with running(redis_server.url) as heir:
        assert await told.next() == (SMITH, OFFLINE)
        await told.nothing_more(heir.smith)
    await dead.presence.stop()
    await dying.presence.stop()


async def _all_done(process: Process) -> bool:
    return all(task.done() for task in process.presence._tasks)


async def test_a_frozen_process_that_goes_on_is_there_again(
    redis_server: RedisServer, here: Person, told: Told
) -> None:
    frozen = Process(redis_server.url)
    await frozen.presence.start()
    await frozen.smith.join("c1", away=True)
    await frozen.smith.choose(ACCEPTING)
    frozen.freeze()
    statuses = [NOT_ACCEPTING, ACCEPTING, OFFLINE]
    assert [await told.next() for _ in statuses] == [(SMITH, status) for status in statuses]

    await frozen.presence._say_alive(frozen.presence._process_id)  # its answer is lost on its way
    await frozen.thaw()
    assert await told.next() == (SMITH, ACCEPTING)
    assert await here.join("c2") == (ACCEPTING, ACCEPTING)
    assert await here.leave("c2") == (ACCEPTING, NOT_ACCEPTING)
    assert await told.next() == (SMITH, NOT_ACCEPTING)
    await frozen.presence.leave(frozen.smith.member, "c1")
    assert await told.next() == (SMITH, OFFLINE)
    await told.nothing_more(here)
    await frozen.presence.stop()


async def test_what_a_frozen_process_does_before_it_knows_is_right(
    redis_server: RedisServer, here: Person, told: Told
) -> None:
    frozen = Process(redis_server.url)
    await frozen.presence.start()
    other = Person(frozen.presence, id="other@example.com")
    for person in (frozen.smith, other):
        await person.join()
        await told.next()
    frozen.freeze()
    assert sorted([await told.next() for _ in range(2)]) == [(other.id, OFFLINE), (SMITH, OFFLINE)]

    await frozen.presence.leave(frozen.smith.member, "c1")
    await frozen.thaw()
    # Whether it has gone elsewhere was not known for some time: so that is told, and the same as before if it has not.
    heard = [await told.next() for _ in range(2)]
    assert sorted(heard) == [(other.id, ACCEPTING), (SMITH, OFFLINE)]
    await told.nothing_more(here)
    await frozen.presence.stop()
    assert await told.next() == (other.id, OFFLINE)


async def test_a_process_lives_as_long_as_its_heart_beats(here: Person, there: Person, told: Told) -> None:
    await here.join()
    assert await told.next() == (SMITH, ACCEPTING)
    await asyncio.sleep(2 * LIMIT_S)
    assert await there.status() == ACCEPTING
    await told.nothing_more(there)


async def test_nobody_goes_offline_because_redis_was_away(
    here: Person, there: Person, told: Told, redis_server: RedisServer
) -> None:
    await here.join()
    assert await told.next() == (SMITH, ACCEPTING)
    redis_server.freeze()
    await asyncio.sleep(2 * LIMIT_S)
    redis_server.thaw()
    await asyncio.sleep(2 * LIMIT_S)
    assert await there.status() == ACCEPTING
    await told.nothing_more(there)


async def test_a_redis_that_comes_back_empty_is_told_again_and_nobody_hears_of_it(
    here: Person, there: Person, redis_server: RedisServer
) -> None:
    bot = Person(here.presence, kind="bot", id="5c9871d5372c824cbf22d860a707a578")
    await bot.choose(OFFLINE)
    await here.join("c1")
    await there.join("c2", away=True)
    await here.leave("c1")
    await here.join("c3", away=True)
    other = Person(here.presence, id="other@example.com")
    await other.join("c4")
    await other.choose(NOT_ACCEPTING)
    redis_server.kill()
    redis_server.start()
    async with listening(redis_server.url) as told:
        await until(here.status, NOT_ACCEPTING)
        await until(other.status, NOT_ACCEPTING)
        await until(bot.status, OFFLINE)
        await asyncio.sleep(LIMIT_S)
        await told.nothing_more(there)
        assert await there.leave("c2") == (NOT_ACCEPTING, NOT_ACCEPTING)
        assert await here.leave("c3") == (NOT_ACCEPTING, OFFLINE)
        assert await told.next() == (SMITH, OFFLINE)


async def test_nobody_goes_offline_before_all_have_told_an_empty_redis(
    here: Person, there: Person, redis_server: RedisServer
) -> None:
    await here.join("c1")
    await there.join("c2")
    async with redis.asyncio.Redis.from_url(redis_server.url) as client, listening(redis_server.url) as told:
        await client.flushall()
        await here.presence.leave(here.member, "c1")
        assert await told.next() == (SMITH, ACCEPTING)  # once it is known
        await told.nothing_more(there)
    assert await here.status() == ACCEPTING


@pytest.mark.parametrize("asked", ["here", "there"])
async def test_statuses_are_not_settled_before_all_have_told_an_empty_redis(
    here: Person, there: Person, redis_server: RedisServer, asked: str
) -> None:
    await here.join("c1")
    asker = {"here": here, "there": there}[asked]  # there nobody of the license is connected
    assert await asker.settled() == ACCEPTING
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        for _ in range(3):
            await client.flushall()
            with pytest.raises(ServiceUnavailable):
                await asker.settled()
            assert await answered(asker.settled) == ACCEPTING
            await until(here.status, ACCEPTING)


@pytest.mark.parametrize("asked", ["here", "there"])
async def test_who_has_patience_is_told_what_all_have_told_an_empty_redis(
    here: Person, there: Person, redis_server: RedisServer, asked: str
) -> None:
    await here.join("c1")
    asker = {"here": here, "there": there}[asked]
    assert await asker.status(PATIENCE_S) == ACCEPTING
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        for _ in range(3):
            await client.flushall()
            assert await asker.status(PATIENCE_S) == ACCEPTING
        await client.flushall()
        began = time.monotonic()
        await asker.status(LIMIT_S / 20)  # who has less is told what there is
        assert time.monotonic() - began < PATIENCE_S / 2


async def test_nor_after_one_that_was_away_and_has_missed_something(
    here: Person, there: Person, redis_server: RedisServer
) -> None:
    await here.join("c1")
    redis_server.kill()
    with pytest.raises(ServiceUnavailable):
        await there.settled()
    redis_server.start()
    assert await answered(there.settled) == ACCEPTING


async def test_what_happened_while_redis_was_away_is_told_when_it_is_back(
    here: Person, there: Person, told: Told, redis_server: RedisServer
) -> None:
    await there.join("c1")
    assert await told.next() == (SMITH, ACCEPTING)
    redis_server.freeze()
    coming = here.presence.join(here.member, "c2", away=True, reconnect=False)
    going = there.presence.leave(there.member, "c1")
    came, went = await asyncio.gather(coming, going)
    assert (came.after, came.told) == (NOT_ACCEPTING, True)
    assert (went.after, went.told) == (OFFLINE, True)
    redis_server.thaw()
    await until(there.status, NOT_ACCEPTING)
    async with asyncio.timeout(10):
        while await told.next() != (SMITH, NOT_ACCEPTING):
            pass


async def test_a_status_cannot_be_chosen_or_listed_while_redis_is_away(here: Person, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(ServiceUnavailable):
        await here.choose(NOT_ACCEPTING)
    with pytest.raises(ServiceUnavailable):
        await here.status()


async def test_a_silent_redis_is_waited_for_once(here: Person, told: Told, redis_server: RedisServer) -> None:
    redis_server.freeze()
    with pytest.raises(ServiceUnavailable):
        await here.status()
    agents = [Member(7, f"agent{number}", ACCEPTING, is_bot=False) for number in range(20)]
    async with asyncio.timeout(len(agents) * presence_redis.CALL_TIMEOUT_S / 4):
        for each in agents:
            change = await here.presence.join(each, "c1", away=False, reconnect=False)
            assert (change.after, change.told) == (ACCEPTING, True)
        with pytest.raises(ServiceUnavailable):
            await here.choose(NOT_ACCEPTING)
    redis_server.thaw()
    assert sorted([await told.next() for _ in agents]) == sorted((each.agent_id, ACCEPTING) for each in agents)


async def test_a_redis_that_is_away_is_spoken_of_when_that_begins_and_when_it_is_over(
    here: Person, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(here.presence, RedisPresence)
    beat, failures = here.presence._beat, [redis.exceptions.ConnectionError(), TimeoutError(), TimeoutError()]

    async def beat_or_fail() -> None:
        if failures:
            raise failures.pop()
        await beat()

    monkeypatch.setattr(here.presence, "_beat", beat_or_fail)
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            while not any(line["event"] == "presence_away_over" for line in logs):
                await asyncio.sleep(0.01)
    told = [(line["event"], line.get("reason")) for line in logs]
    assert told == [("presence_away", "no answer in time"), ("presence_away_over", None)]


async def test_a_replica_that_takes_over_is_told_what_it_does_not_know(redis_with_sentinel: RedisWithSentinel) -> None:
    redis = redis_with_sentinel
    async with running(redis.url) as here, running(redis.url) as there:
        await here.smith.join("c1")
        redis.replica.ask("REPLICAOF", "NO", "ONE")
        redis.replica.ask("DEL", "rtm:presence:{7}:states")  # as if it had not been told in time
        redis.master.kill()
        await until(there.smith.status, ACCEPTING)


async def test_a_cluster_may_be_away_too(redis_cluster: RedisCluster) -> None:
    async with running(redis_cluster.url) as process:
        for node in redis_cluster.nodes:
            node.kill()
        change = await process.presence.join(process.smith.member, "c1", away=False, reconnect=False)
        assert (change.after, change.told) == (ACCEPTING, True)
        with pytest.raises(ServiceUnavailable):
            await process.smith.status()
        await asyncio.sleep(LIMIT_S)
        assert not any(task.done() for task in process.presence._tasks)


@pytest.mark.parametrize("after_s", [0, 0.09, 0.1, 0.11])
async def test_a_redis_that_dies_or_freezes_does_not_hold_up_the_stop(
    redis_server: RedisServer, after_s: float
) -> None:
    process = Process(redis_server.url)
    await process.presence.start()
    await process.smith.join()
    redis_server.kill()
    redis_server.start()
    await asyncio.sleep(after_s)  # before, while and after it is told again
    redis_server.freeze()
    async with asyncio.timeout(10):
        await process.presence.stop()


async def test_of_many_logins_at_once_one_brings_the_agent_online(here: Person, there: Person) -> None:
    joins = (here.presence.join(here.member, f"c{number}", away=False, reconnect=False) for number in range(200))
    changes = await asyncio.gather(*joins)
    assert [change.before for change in changes if change.before != change.after] == [OFFLINE]
    assert await there.status() == ACCEPTING


async def test_a_count_that_was_overtaken_on_its_way_changes_nothing(here: Person, there: Person) -> None:
    presence = here.presence
    assert isinstance(presence, RedisPresence)
    await here.join()
    older = presence._counted(here.member) | {"restore": True, "tell": "changed"}
    await here.leave()
    await presence._call(presence._process_id, "count", 7, None, older)
    assert await there.status() == OFFLINE


async def test_what_comes_late_under_an_id_that_was_given_up_does_not_stay(here: Person, there: Person) -> None:
    presence = here.presence
    assert isinstance(presence, RedisPresence)
    await here.join()
    late = Person(presence, id="late@example.com")
    was = presence._process_id
    presence._come_back(was)
    counted = presence._counted(late.member) | {"connections": 1, "restore": True, "tell": "known"}
    await presence._client.sadd(f"rtm:presence:of:{was}", 7)
    await presence._call(was, "count", 7, None, counted)
    assert await late.status() == ACCEPTING
    await until(late.status, OFFLINE)
    assert await there.status() == ACCEPTING


# Limits


@pytest.mark.parametrize("server", ["redis_url", "redis_cluster_url"])
async def test_the_oldest_connection_of_all_processes_gives_way(request: pytest.FixtureRequest, server: str) -> None:
    url = request.getfixturevalue(server)
    async with running(url, connections_per_agent=2) as here, running(url, connections_per_agent=2) as there:
        await here.smith.join("c1")
        await there.smith.join("c2")
        await there.smith.join("c3")
        assert (here.evicted, there.evicted) == ([], ["c1"])
        await here.smith.leave("c1")
        await here.smith.join("c4")
        assert (here.evicted, there.evicted) == (["c2"], ["c1"])
        await there.smith.leave("c2")
        await here.smith.join("c5")
        assert (here.evicted, there.evicted) == (["c2", "c3"], ["c1"])


async def test_of_many_that_come_at_once_as_many_stay_as_may(redis_url: str) -> None:
    async with (
        running(redis_url, connections_per_agent=3) as here,
        running(redis_url, connections_per_agent=3) as there,
    ):
        processes = [here, there]
        present = {f"c{number}": processes[number % 2] for number in range(20)}
        await asyncio.gather(
            *(
                process.presence.join(process.smith.member, connection_id, away=False, reconnect=False)
                for connection_id, process in present.items()
            )
        )
        while evicted := here.evicted + there.evicted:
            here.evicted, there.evicted = [], []
            for connection_id in evicted:
                if connection_id in present:
                    process = present.pop(connection_id)
                    await process.presence.leave(process.smith.member, connection_id)
        assert len(present) == 3


async def test_the_newest_connection_is_refused_if_that_is_the_policy(redis_url: str) -> None:
    limits: dict[str, Any] = {"connections_per_agent": 2, "connections_per_agent_policy": "refuse"}
    async with running(redis_url, **limits) as here, running(redis_url, **limits) as there:
        await here.smith.join("c1")
        await there.smith.join("c2")
        for process in (here, there):
            with pytest.raises(TooManyConnections):
                await process.smith.join("c3")
        await here.smith.leave("c1")
        await there.smith.join("c3")
        with pytest.raises(TooManyConnections):
            await here.smith.join("c4")
        assert (here.evicted, there.evicted) == ([], [])


@pytest.mark.parametrize("policy", ["evict", "refuse"])
async def test_the_limit_of_each_process_holds_while_redis_is_away(redis_server: RedisServer, policy: str) -> None:
    async with running(redis_server.url, connections_per_agent=1, connections_per_agent_policy=policy) as process:
        member = process.smith.member
        redis_server.kill()
        await process.presence.join(member, "c1", away=False, reconnect=False)
        if policy == "evict":
            await process.presence.join(member, "c2", away=False, reconnect=False)
            assert process.evicted == ["c1"]
        else:
            with pytest.raises(TooManyConnections):
                await process.presence.join(member, "c2", away=False, reconnect=False)


async def answered(status: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer that there is."""
    async with asyncio.timeout(10):
        while True:
            with suppress(ServiceUnavailable):
                return await status()
            await asyncio.sleep(0.02)


async def until(status: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if await status() == wanted:
                    return
            except ServiceUnavailable:
                pass
            await asyncio.sleep(0.02)
