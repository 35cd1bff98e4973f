"""How the Redis bus gets in: as which user, and over TLS."""

import ssl
from pathlib import Path

import pytest
import trustme

from rtm.bus.base import BusUnavailable
from rtm.bus.redis import RedisBus
from rtm.redis_client import RedisUrl
from tests.bus.hearing import envelope, hearing
from tests.faults.proxy import Proxy
from tests.servers import RedisCluster, RedisServer, RedisWithSentinel


@pytest.fixture(params=["redis_server", "redis_with_sentinel", "redis_cluster"])
def servers(request: pytest.FixtureRequest) -> tuple[str, list[RedisServer]]:
    """A URL with a user and its password, and the servers that want them; their Sentinel wants others."""
    match request.getfixturevalue(request.param):
        case RedisServer() as server:
            return server.url.replace("//", "//clerk:s%40cret@"), [_guarded(server)]
        case RedisWithSentinel() as system:
            _guarded(system.sentinel, "guard")
            url = f"{system.url}?sentinel_username=guard&sentinel_password=s%40cret"
            return url.replace("//", "//clerk:s%40cret@"), [_guarded(system.master)]
        case RedisCluster() as cluster:
            return cluster.url.replace("//", "//clerk:s%40cret@"), [_guarded(node) for node in cluster.nodes]
    raise AssertionError(request.param)


def _guarded(server: RedisServer, user: str = "clerk") -> RedisServer:
    server.ask("ACL SETUSER", user, "on", ">s@cret", "+@all", "~rtm:*", "&rtm:*")
    return server


async def test_user_and_password_are_given_to_every_server(servers: tuple[str, list[RedisServer]]) -> None:
    url, guarded = servers
    async with (
        hearing(url) as here,
        hearing(url, 1, 2, 3) as there,
        RedisUrl.parse(url).client(timeout_s=2, max_connections=1) as client,
    ):
        for license_id in (1, 2, 3):
            here.bus.publish([envelope(license_id)])
            assert await there.next() == envelope(license_id)
        assert await client.ping()
        for server in guarded:
            users = {entry["name"]: entry["user"] for entry in server.ask("CLIENT LIST")}
            assert users.get("rtm", "clerk") == "clerk"
        assert any("rtm" in {entry["name"] for entry in server.ask("CLIENT LIST")} for server in guarded)


async def test_a_wrong_password_refuses_the_start(redis_server: RedisServer) -> None:
    _guarded(redis_server)
    with pytest.raises(BusUnavailable, match="WRONGPASS"):
        await RedisBus(redis_server.url.replace("//", "//clerk:wrong@")).start()


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(f"unixsocket {path}"):
        async with hearing(f"unix://{path}") as here, hearing(f"unix://{path}?db=1", 7) as there:
            here.bus.publish([envelope(7)])
            assert await there.next() == envelope(7)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


async def test_tls_with_a_certificate_of_ones_own(redis_url: str, tls: ssl.SSLContext, ca_file: Path) -> None:
    async with Proxy(RedisUrl.parse(redis_url).nodes[0][1], tls) as front:
        url = f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={ca_file}"
        async with hearing(url) as here, hearing(url, 7) as there:
            here.bus.publish([envelope(7)])
            assert await there.next() == envelope(7)
        async with RedisUrl.parse(url).client(timeout_s=2, max_connections=1) as client:
            assert await client.ping()


async def test_a_certificate_of_nobody_we_know_refuses_the_start(redis_url: str, tls: ssl.SSLContext) -> None:
    async with Proxy(RedisUrl.parse(redis_url).nodes[0][1], tls) as front:
        with pytest.raises(BusUnavailable, match="certificate verify failed"):
            await RedisBus(f"rediss://127.0.0.1:{front.port}/0").start()
