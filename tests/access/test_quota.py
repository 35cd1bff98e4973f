"""How often something may be done, in one process and over several."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
import redis

from rtm.access import quota as module
from rtm.access import tally as module_of_tally
from rtm.access.quota import Quota
from rtm.access.tally import Tally
from rtm.protocol.errors import TooManyRequests
from rtm.redis_client import Cluster
from tests.servers import RedisServer

LIMIT = 1000
PORTION = LIMIT // 100
LICENSE = 7
OTHER = 8


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spent(quota: Quota, most: int = 10 * LIMIT, key: int = LICENSE) -> int:
    """How many of `most` are granted, one after the other, without a pause."""
    for number in range(most):
        try:
            quota.spend(key)
        except TooManyRequests:
            return number
    return most


# One process


@pytest.mark.parametrize("limit", [1, 4, 99, 1000, 1001])
def test_a_process_alone_counts_exactly(clock: Clock, limit: int) -> None:
    quota = Quota(limit, "requests", clock=clock)
    assert spent(quota) == limit
    assert quota.used(LICENSE) == limit
    assert spent(quota, key=OTHER) == limit


def test_who_is_refused_is_told_when_to_come_again(clock: Clock) -> None:
    quota = Quota(5, "requests", clock=clock)
    spent(quota)
    with pytest.raises(TooManyRequests, match="Too many requests: at most 5 in 60 s, try again in") as refusal:
        quota.spend(LICENSE)
    wait_s = int(refusal.value.headers["Retry-After"])
    assert 1 <= wait_s <= 60

    clock.now += wait_s - 1.01
    assert spent(quota) == 0
    clock.now += 1.01
    assert spent(quota) == 5


def test_what_is_left_of_a_minute_is_not_taken_along(clock: Clock) -> None:
    quota = Quota(LIMIT, "requests", clock=clock)
    assert spent(quota, 5) == 5
    clock.now += 60
    assert quota.used(LICENSE) == 0
    assert spent(quota) == LIMIT


def test_headers_say_what_is_left(clock: Clock) -> None:
    quota = Quota(LIMIT, "requests", clock=clock)
    fresh = quota.headers(LICENSE)
    assert (fresh["RateLimit-Limit"], fresh["RateLimit-Remaining"]) == ("1000", "1000")
    spent(quota, 3)
    assert quota.headers(LICENSE)["RateLimit-Remaining"] == "997"
    spent(quota)
    exhausted = quota.headers(LICENSE)
    assert exhausted["RateLimit-Remaining"] == "0"
    with pytest.raises(TooManyRequests) as refusal:
        quota.check(LICENSE)
    assert refusal.value.headers["Retry-After"] == exhausted["RateLimit-Reset"] == fresh["RateLimit-Reset"]


def test_a_limit_of_zero_is_none(clock: Clock) -> None:
    quota = Quota(0, "requests", clock=clock)
    assert spent(quota) == 10 * LIMIT
    quota.check(LICENSE)
    assert quota.headers(LICENSE) == {}


def test_not_everybody_s_minute_begins_at_once(clock: Clock) -> None:
    quota = Quota(LIMIT, "requests", clock=clock)
    assert len({quota.headers(license_id)["RateLimit-Reset"] for license_id in range(100)}) > 30


def test_who_is_idle_is_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Quota(LIMIT, "requests", clock=clock)
    for license_id in range(100):
        quota.spend(license_id)
    for _ in range(3):
        clock.now += 60
        quota.spend(LICENSE)
    assert len(quota._counts) + len(quota._older) == 1

    monkeypatch.setattr(module, "MAX_KEYS", 10)  # an attack with ever new keys
    for license_id in range(1000):
        quota.spend(license_id)
    assert len(quota._counts) + len(quota._older) <= 20


# Several processes


@asynccontextmanager
async def processes(count: int, url: str, clock: Clock) -> AsyncIterator[list[tuple[Quota, Tally]]]:
    """As many as share a Redis, all in this one."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            tally = Tally(url)
            running = asyncio.create_task(tally.run())
            stack.push_async_callback(_ended, running)
            found.append((Quota(LIMIT, "requests", shared=tally, clock=clock), tally))
        yield found


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def is_told(quota: Quota, total: int) -> bool:
    """Whether the last news were that all have used so many."""
    return quota._counts[LICENSE].told >= total


async def news(holds: Callable[[], bool]) -> None:
    """Wait until what was told has made this true."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_the_sum_exceeds_the_limit_by_a_hundredth_a_process(redis_url: str, clock: Clock) -> None:
    async with processes(4, redis_url, clock) as group:
        (first, _), *others = group
        # The worst that can be: the others have each used just so much that they need not tell it yet.
        hidden = sum(spent(quota, PORTION) for quota, _ in others)
        total = hidden + spent(first)
        await news(partial(is_told, first, LIMIT))
        for quota, _ in others:
            granted = spent(quota, 1)  # with it, they tell and are told
            await news(partial(is_told, quota, LIMIT))
            total += granted + spent(quota)
        assert spent(first) == 0
        assert LIMIT <= total <= LIMIT + (len(group) - 1) * (PORTION + 1)


async def test_processes_under_the_same_load_share_the_limit(redis_url: str, clock: Clock) -> None:
    async with processes(4, redis_url, clock) as group:
        total, refused = 0, 0
        while refused < len(group):
            refused = 0
            for quota, _ in group:
                granted = spent(quota, 3)
                total += granted
                refused += granted == 0
                await asyncio.sleep(0.001)
        # What was under way to Redis when it was used comes on top.
        assert LIMIT <= total <= LIMIT + 2 * len(group) * PORTION


async def test_redis_is_told_now_and_then_only(redis_url: str, clock: Clock) -> None:
    async with processes(2, redis_url, clock) as group:
        with redis.Redis.from_url(redis_url) as client:
            client.config_resetstat()
            for quota, tally in group:
                assert spent(quota, PORTION) == PORTION
                assert not tally._due
            for _ in range(LIMIT // PORTION):
                for quota, _ in group:
                    spent(quota, PORTION)
                await asyncio.sleep(0.001)
            statistics = client.info("commandstats")
            assert sum(each["calls"] for name, each in statistics.items() if "eval" in name) <= 2 * LIMIT // PORTION
            assert 0 < client.ttl(client.keys("rtm:quota:*")[0]) <= 60


async def test_without_redis_each_process_serves_by_its_own_count(redis_server: RedisServer, clock: Clock) -> None:
    async with processes(3, redis_server.url, clock) as ((here, _), (there, _), (later, _)):
        assert spent(here, LIMIT // 2) == LIMIT // 2
        await news(partial(is_told, here, LIMIT // 2 - PORTION))
        redis_server.kill()
        assert spent(here) == LIMIT // 2
        assert spent(there) == LIMIT
        await asyncio.sleep(0)
        assert spent(there) == 0

        redis_server.start()  # empty: each tells what the others do not know yet
        await news(partial(is_told, there, LIMIT))
        spent(later, PORTION + 1)
        await news(partial(is_told, later, LIMIT))
        assert spent(later) == 0


async def test_what_nobody_has_foreseen_does_not_end_the_telling(
    redis_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with processes(1, redis_url, clock) as ((quota, tally),):
        failed = asyncio.Event()
        whole = tally._add

        async def fail(*_: object) -> int:
            failed.set()
            monkeypatch.setattr(tally, "_add", whole)
            raise RuntimeError

        monkeypatch.setattr(tally, "_add", fail)
        spent(quota, 2 * PORTION)
        await failed.wait()
        await news(partial(is_told, quota, 2 * PORTION))


async def test_a_cluster_that_is_away_at_the_start_is_asked_again(
    redis_cluster_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_of_tally, "RETRY_S", 0.01)
    whole = Cluster.initialize

    async def fail_once(*_: object, **__: object) -> Cluster:
        monkeypatch.setattr(Cluster, "initialize", whole)
        raise redis.ConnectionError

    monkeypatch.setattr(Cluster, "initialize", fail_once)
    async with processes(1, redis_cluster_url, clock) as ((quota, _),):
        spent(quota, 2 * PORTION)
        await news(partial(is_told, quota, 2 * PORTION))


async def test_a_redis_that_says_nothing_holds_nobody_up(redis_server: RedisServer, clock: Clock) -> None:
    async with processes(2, redis_server.url, clock) as ((here, _), (there, _)):
        spent(here, 2 * PORTION)
        redis_server.freeze()
        for _ in range(20):
            assert spent(here, PORTION) == PORTION
            await asyncio.sleep(0.001)
        redis_server.thaw()
        await news(partial(is_told, here, 20 * PORTION))
        spent(there, PORTION + 1)
        await news(partial(is_told, there, 20 * PORTION))


@pytest.mark.parametrize("topology", ["redis_cluster", "redis_with_sentinel"])
async def test_it_is_the_same_on_a_cluster_and_behind_sentinels(
    topology: str, request: pytest.FixtureRequest, clock: Clock
) -> None:
    url = request.getfixturevalue(topology).url
    async with processes(2, url, clock) as ((here, _), (there, _)):
        spent(here, LIMIT // 2 + 1)
        await news(partial(is_told, here, LIMIT // 2))
        spent(there, PORTION + 1)
        await news(partial(is_told, there, LIMIT // 2 + PORTION))
