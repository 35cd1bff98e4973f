"""Presence over several processes, and a Redis that goes away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import rtm.routing.presence_redis
from rtm.protocol.errors import ServiceUnavailable
from rtm.routing.presence_redis import RedisPresence
from tests.routing.test_presence import ACCEPTING, NOT_ACCEPTING, OFFLINE, Person
from tests.servers import RedisServer


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtm.routing.presence_redis, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(rtm.routing.presence_redis, "CALL_TIMEOUT_S", 0.5)


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Person]:
    """An agent as this process knows it."""
    presence = RedisPresence(redis_server.url)
    await presence.start()
    yield Person(presence)
    await presence.stop()


@pytest.fixture
async def there(redis_server: RedisServer) -> AsyncIterator[Person]:
    """The same agent as another process knows it."""
    presence = RedisPresence(redis_server.url)
    await presence.start()
    yield Person(presence)
    await presence.stop()


async def test_a_session_spans_processes(here: Person, there: Person) -> None:
    assert await here.join("c1") == (OFFLINE, ACCEPTING)
    assert await there.join("c2") == (ACCEPTING, ACCEPTING)
    assert await here.away(True, "c1") == (ACCEPTING, ACCEPTING)
    assert await there.away(True, "c2") == (ACCEPTING, NOT_ACCEPTING)
    assert await there.choose(ACCEPTING) == (NOT_ACCEPTING, ACCEPTING)
    assert await here.leave("c1") == (ACCEPTING, NOT_ACCEPTING)
    assert await there.leave("c2") == (NOT_ACCEPTING, OFFLINE)


async def test_a_process_that_stops_takes_its_connections_with_it(redis_server: RedisServer, here: Person) -> None:
    presence = RedisPresence(redis_server.url)
    await presence.start()
    await Person(presence).join()
    assert await here.status() == ACCEPTING
    await presence.stop()
    assert await here.status() == OFFLINE


async def test_the_connections_of_a_dead_process_stop_counting(redis_server: RedisServer, here: Person) -> None:
    dead = Person(RedisPresence(redis_server.url))  # never started: no heartbeat
    await dead.join("c1")
    await dead.choose(NOT_ACCEPTING)
    assert await here.status() == NOT_ACCEPTING
    await until(here.status, OFFLINE)
    # Its session ended with it, so the next one is another.
    assert await here.join("c2", reconnect=True) == (OFFLINE, NOT_ACCEPTING)
    await here.leave("c2")
    assert await here.join("c3") == (OFFLINE, ACCEPTING)
    await dead.presence.stop()


async def test_a_process_lives_as_long_as_its_heart_beats(here: Person, there: Person) -> None:
    await here.join()
    await asyncio.sleep(3 * rtm.routing.presence_redis.HEARTBEAT_S)
    assert await there.status() == ACCEPTING


async def test_a_redis_that_comes_back_empty_is_told_again(
    here: Person, there: Person, redis_server: RedisServer
) -> None:
    await here.join("c1")
    await there.join("c2", away=True)
    await here.leave("c1")
    await here.join("c3", away=True)
    redis_server.kill()
    redis_server.start()
    await until(here.status, NOT_ACCEPTING)
    assert await there.leave("c2") == (NOT_ACCEPTING, NOT_ACCEPTING)
    assert await here.leave("c3") == (NOT_ACCEPTING, OFFLINE)


async def test_connections_come_and_go_while_redis_is_away(
    here: Person, there: Person, redis_server: RedisServer
) -> None:
    await there.join("c1")
    redis_server.freeze()
    coming = here.presence.join(7, here.name, "c2", default_status=ACCEPTING, is_bot=False, away=True, reconnect=False)
    going = there.presence.leave(7, there.name, "c1", default_status=ACCEPTING, is_bot=False)
    came, went = await asyncio.gather(coming, going)
    assert came.after == NOT_ACCEPTING
    assert went.after == OFFLINE
    redis_server.thaw()
    await until(there.status, NOT_ACCEPTING)


async def test_a_status_cannot_be_chosen_or_listed_while_redis_is_away(here: Person, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(ServiceUnavailable):
        await here.choose(NOT_ACCEPTING)
    with pytest.raises(ServiceUnavailable):
        await here.status()


@pytest.mark.parametrize("after_s", [0, 0.09, 0.1, 0.11])
async def test_a_redis_that_dies_or_freezes_does_not_hold_up_the_stop(
    redis_server: RedisServer, after_s: float
) -> None:
    presence = RedisPresence(redis_server.url)
    await presence.start()
    await Person(presence).join()
    redis_server.kill()
    redis_server.start()
    await asyncio.sleep(after_s)  # before, while and after it is told again
    redis_server.freeze()
    async with asyncio.timeout(10):
        await presence.stop()


async def test_of_many_logins_at_once_one_brings_the_agent_online(here: Person, there: Person) -> None:
    joins = (
        here.presence.join(
            7, here.name, f"c{number}", default_status=ACCEPTING, is_bot=False, away=False, reconnect=False
        )
        for number in range(200)
    )
    changes = await asyncio.gather(*joins)
    assert [change.before for change in changes if change.before != change.after] == [OFFLINE]
    assert await there.status() == ACCEPTING


async def test_a_count_that_was_overtaken_on_its_way_changes_nothing(redis_server: RedisServer, there: Person) -> None:
    presence = RedisPresence(redis_server.url)
    newer, older = (0, 0, 2, 0), (1, 0, 1, 0)
    await presence._call("count", 7, there.name, ACCEPTING, False, *newer)
    await presence._call("count", 7, there.name, ACCEPTING, False, *older)
    assert await there.status() == OFFLINE
    await presence.stop()


async def until(status: Callable[[], Awaitable[str]], wanted: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                if await status() == wanted:
                    return
            except ServiceUnavailable:
                pass
            await asyncio.sleep(0.02)
