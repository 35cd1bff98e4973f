"""Redis as `redis_url` names it: one server, the master that Sentinels know, or a Cluster.

    redis://[user:password@]host[:6379][/0]
    unix://[user:password@]/path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:26379][,host[:26379]...]/master[/0]
    redis+cluster://[user:password@]host[:6379][,host[:6379]...]

`rediss` in the place of `redis` is TLS; `?ssl_ca_certs=/path/to/ca.pem` and its like are those of redis-py. User and
password are for the servers; Sentinels may have their own, `?sentinel_username=...&sentinel_password=...`. Pomerium,
Prefect and LangChain take the same forms.
"""

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

Topology = Literal["server", "sentinel", "cluster"]

_TOPOLOGIES: dict[str, Topology] = {"": "server", "+sentinel": "sentinel", "+cluster": "cluster"}
_TLS_OPTIONS = {
    f"ssl_{name}" for name in "ca_certs ca_data certfile keyfile cert_reqs check_hostname min_version ciphers".split()
}
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
_OPTIONS = {"db", "username", "password", "client_name"} | _TLS_OPTIONS | _SENTINEL_OPTIONS
_EXPECTED = "expected a URL such as redis://host:6379/0"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a `redis_url` says."""

    topology: Topology
    nodes: tuple[tuple[str, int], ...]
    """Hosts and ports of the server, of the Sentinels, or of some of the Cluster; none with a Unix socket."""
    tls: bool
    options: dict[str, Any] = field(repr=False)
    """What redis-py's connections to the servers take, besides host and port."""
    master: str = ""
    """The name by which the Sentinels know the master."""
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)
    """What redis-py's connections to the Sentinels take."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError; its message shows nothing of the URL, in which there may be a password."""
        scheme, separator, rest = url.partition("://")
        protocol, plus, kind = scheme.lower().partition("+")
        if not separator or protocol not in ("redis", "rediss", "unix") or plus + kind not in _TOPOLOGIES:
            raise ValueError(_EXPECTED)
        if protocol == "unix":
            return cls("server", (), False, _options(url))
        topology = _TOPOLOGIES[plus + kind]
        place, question_mark, query = rest.partition("?")
        authority, _, path = place.partition("/")
        login, at, hosts = authority.rpartition("@")
        master = ""
        if topology == "sentinel":
            master, _, path = path.partition("/")
            if not master:
                raise ValueError("expected the master's name too: redis+sentinel://host:26379/mymaster")
        if path and not path.isdecimal():
            raise ValueError("expected the number of a database after the last slash")
        nodes = tuple(_node(host, 26379 if topology == "sentinel" else 6379) for host in hosts.split(","))
        if topology == "server" and len(nodes) > 1:
            raise ValueError("expected one host; several are redis+sentinel:// or redis+cluster://")
        options = _options(f"redis://{login}{at}host/{path}{question_mark}{query}")
        if topology == "cluster" and options.pop("db", 0):
            raise ValueError("expected no database: a Cluster has only one")
        tls = protocol == "rediss"
        sentinel_options = {
            name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS & set(options)
        }
        if tls:
            sentinel_options |= {"ssl": True} | {name: options[name] for name in _TLS_OPTIONS & set(options)}
        return cls(topology, nodes, tls, options, master, sentinel_options)

    def client(self, *, timeout_s: float, max_connections: int) -> Redis | RedisCluster:
        """A client that connects when it is first asked; it belongs to the caller, who closes it.

        At most `max_connections` calls are under way at once, the others wait: limit each to `timeout_s` in all. Within
        that time a server of a Cluster, or a Sentinel, that does not answer is left for another.
        """
        # redis-py's own time limits stand on `asyncio.wait_for`, which in Python 3.11 can lose a cancellation. Only a
        # Cluster's client needs them, to look for the slots anew.
        retry = Retry(EqualJitterBackoff(cap=0.2, base=0.02), retries=2)
        options = self.options | {"protocol": 2, "retry": retry}
        if self.topology == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self.nodes]
            return Cluster(max_connections, timeout_s, nodes, ssl=self.tls, **options)
        options |= {"socket_timeout": None, "timeout": timeout_s, "max_connections": max_connections}
        if self.topology == "sentinel":
            sentinel = self.sentinel(timeout_s=timeout_s)
            pool = _SentinelPool(self.master, sentinel, ssl=self.tls, **options)  # type: ignore[no-untyped-call]
            return Redis.from_pool(pool)
        if not self.nodes:
            connection_class: type[Any] = UnixDomainSocketConnection
        else:
            connection_class = SSLConnection if self.tls else Connection
            options |= {"host": self.nodes[0][0], "port": self.nodes[0][1]}
        return Redis.from_pool(BlockingConnectionPool(connection_class=connection_class, **options))

    def tls_context(self) -> ssl.SSLContext | None:
        """For a connection made without redis-py; None without TLS. Raises OSError, RedisError."""
        if not self.tls:
            return None
        return SSLConnection(
            **{name: self.options[name] for name in _TLS_OPTIONS & set(self.options)}
        ).ssl_context.get()

    def sentinel(self, *, timeout_s: float) -> Sentinel:
        """A client of the Sentinels that asks them in turn, each for a quarter of `timeout_s`."""
        limits = {"socket_timeout": timeout_s / 4, "socket_connect_timeout": timeout_s / 4}
        options = self.sentinel_options | limits | {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        return Sentinel(self.nodes, sentinel_kwargs=options)  # type: ignore[no-untyped-call]


async def cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them, and wait for their end.

    Again and again: a Cluster's client stands on `asyncio.wait_for`, which in Python 3.11 can lose a cancellation.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Waits when all connections are busy, and closes its Sentinels' connections too."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


@contextmanager
def _as_redis_error() -> Iterator[None]:
    """Raise a RedisError where redis-py says of a Cluster that is away something that is none.

    When it has looked where the slots are it ends idle connections, while others may just begin to use one: they find
    neither its reader nor its writer.
    """
    try:
        yield
    except (RedisClusterException, AttributeError) as error:
        raise RedisConnectionError(str(error)) from error


class Cluster(RedisCluster):
    """Waits when all connections are busy, as the pool of one server does; redis-py's raises. Raises RedisError."""

    def __init__(self, max_connections: int, timeout_s: float, nodes: list[ClusterNode], **options: Any) -> None:
        super().__init__(
            startup_nodes=nodes,
            max_connections=max_connections,
            socket_timeout=timeout_s / 4,
            socket_connect_timeout=timeout_s / 4,
            reinitialize_steps=1,
            require_full_coverage=False,
            **options,
        )
        self._max_connections = max_connections
        self._turns = asyncio.Semaphore(max_connections)

    async def initialize(self, *arguments: Any, **options: Any) -> RedisCluster:
        with _as_redis_error():
            return await super().initialize(*arguments, **options)

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        async with self._turns:
            for _ in range(self._max_connections):
                with _as_redis_error(), suppress(RuntimeError):
                    # uvloop's word for writing to a connection that has ended, which redis-py takes for no reason to
                    # try again. Nothing was sent, and that connection is made anew when its turn comes.
                    return await super().execute_command(*arguments, **options)
            raise RedisConnectionError("every connection has ended")

    async def find_slots(self) -> None:
        """Look where the slots are now. Raises RedisError."""
        with _as_redis_error():
            await self.nodes_manager.initialize()

    async def aclose(self) -> None:
        await super().aclose()
        # redis-py 8.1 leaves one in ten connections open at the first attempt, and those of `find_slots`.
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")


def _options(url: str) -> dict[str, Any]:
    """What is beside the host in a URL that redis-py understands. Raises ValueError."""
    try:
        options = {
            name: value for name, value in parse_url(url).items() if name not in ("host", "port", "connection_class")
        }
    except ValueError as error:
        raise ValueError(str(error) if "Invalid value for" in str(error) else _EXPECTED) from None
    unknown = options.keys() - _OPTIONS - {"path"}
    if unknown:
        raise ValueError(f"expected no parameter {', '.join(sorted(unknown))}")
    return options


def _node(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if not host:
        raise ValueError(_EXPECTED)
    return host, default_port if port is None else port
