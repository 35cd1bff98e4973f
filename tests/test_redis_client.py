"""Which URLs name a Redis, and the client that they give."""

import asyncio
from itertools import count

import pytest
from redis.asyncio import Redis
from redis.asyncio import RedisCluster as Cluster
from redis.crc import key_slot
from redis.exceptions import RedisError

from rtm.redis_client import RedisUrl
from tests.servers import RedisCluster, RedisWithSentinel


@pytest.mark.parametrize(
    ("url", "topology", "nodes", "master", "options"),
    [
        ("redis://cache", "server", [("cache", 6379)], "", {}),
        ("REDIS://cache/", "server", [("cache", 6379)], "", {}),
        ("redis://:p%40ss@[::1]:7000/3", "server", [("::1", 7000)], "", {"password": "p@ss", "db": 3}),
        ("unix:///run/redis.sock?db=2", "server", [], "", {"path": "/run/redis.sock", "db": 2}),
        ("redis+sentinel://a,b:5000/main", "sentinel", [("a", 26379), ("b", 5000)], "main", {}),
        (
            "redis+sentinel://u:p@a/main/2",
            "sentinel",
            [("a", 26379)],
            "main",
            {"username": "u", "password": "p", "db": 2},
        ),
        ("redis+cluster://a:1,[::1]:2", "cluster", [("a", 1), ("::1", 2)], "", {}),
        ("redis+cluster://:p@a/0", "cluster", [("a", 6379)], "", {"password": "p"}),
    ],
)
def test_what_a_url_says(
    url: str, topology: str, nodes: list[tuple[str, int]], master: str, options: dict[str, object]
) -> None:
    parsed = RedisUrl.parse(url)
    assert (parsed.topology, list(parsed.nodes), parsed.master) == (topology, nodes, master)
    assert parsed.options == options
    assert not parsed.tls


def test_tls_is_for_servers_and_sentinels_but_their_passwords_differ() -> None:
    url = "rediss+sentinel://:theirs@a/main?ssl_ca_certs=/ca.pem&sentinel_password=ours"
    parsed = RedisUrl.parse(url)
    assert parsed.tls
    assert parsed.options == {"password": "theirs", "ssl_ca_certs": "/ca.pem"}
    assert parsed.sentinel_options == {"password": "ours", "ssl": True, "ssl_ca_certs": "/ca.pem"}
    assert "theirs" not in repr(parsed)
    assert "ours" not in repr(parsed)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache:6379",
        "http://cache",
        "redis+other://cache",
        "redis+://cache",
        "unix+cluster:///run/redis.sock",
        "redis://",
        "redis://cache:port",
        "redis://cache:70000",
        "redis://[::1",
        "redis://one,two",
        "redis://cache/name",
        "redis+sentinel://a",
        "redis+sentinel://a/main/name",
        "redis+cluster://a,,b",
        "redis+cluster://a/1",
        "redis://cache?db=name",
        "redis://cache?socket_timeout=0",
        "redis://cache?no_such_option=1",
    ],
)
def test_what_is_no_such_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(expected|Invalid value)"):
        RedisUrl.parse(url.replace("://", "://user:secret@", 1)) if "://" in url else RedisUrl.parse(url)


def test_a_refusal_shows_no_password() -> None:
    for url in ("redis://user:secret@cache:port", "redis://user:secret@cache?db=x", "http://user:secret@cache"):
        with pytest.raises(ValueError, match=r"expected|Invalid value") as refusal:
            RedisUrl.parse(url)
        assert "secret" not in str(refusal.value)


@pytest.fixture(params=["redis_server", "redis_with_sentinel", "redis_cluster"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param).url
    return url


async def test_more_calls_than_connections_wait_for_each_other(url: str) -> None:
    async with RedisUrl.parse(url).client(timeout_s=10, max_connections=2) as client:
        increment = client.register_script("return redis.call('INCR', KEYS[1])")
        counts = await asyncio.gather(*(increment(keys=[f"count:{{{key}}}"]) for key in [*range(40), *range(40)]))
    assert sorted(counts) == [1] * 40 + [2] * 40


async def test_connections_that_have_ended_are_replaced(url: str) -> None:
    """uvloop has a word of its own for writing to them, which redis-py does not know."""
    async with RedisUrl.parse(url).client(timeout_s=10, max_connections=2) as client:
        await client.set("key", "value")
        nodes = client.get_nodes() if isinstance(client, Cluster) else [client.connection_pool]
        connections = [each for node in nodes for each in getattr(node, "_connections", ())]
        connections += [each for node in nodes for each in getattr(node, "_available_connections", ())]
        for connection in connections:
            if connection.is_connected:
                connection._writer.transport.abort()
        await asyncio.sleep(0)
        assert connections
        assert await client.get("key") == b"value"


async def test_after_a_failover_the_client_asks_the_new_master(redis_with_sentinel: RedisWithSentinel) -> None:
    async with RedisUrl.parse(redis_with_sentinel.url).client(timeout_s=2, max_connections=2) as client:
        await client.set("key", "value")
        redis_with_sentinel.master.freeze()
        await _answers(client, "key")
        assert redis_with_sentinel.replica.ask("GET", "key") == "other"


async def test_after_a_failover_the_client_of_a_cluster_asks_the_new_master(redis_cluster: RedisCluster) -> None:
    async with RedisUrl.parse(redis_cluster.url).client(timeout_s=2, max_connections=2) as client:
        key = next(f"key:{number}" for number in count() if key_slot(b"key:%d" % number) in redis_cluster.slots[0])
        await client.set(key, "value")
        redis_cluster.masters[0].freeze()
        await _answers(client, key)
        assert redis_cluster.replica.ask("GET", key) == "other"


async def _answers(client: Redis | Cluster, key: str) -> None:
    """Ask until it is answered, each time with the limit that every caller has."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with asyncio.timeout(2):
                    await client.set(key, "other")
                    return
            except (RedisError, TimeoutError):
                continue
