"""Which server carries a channel: the only one, the master that Sentinels know, or the one with the channel's slot."""

from typing import Protocol, cast

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import RedisClusterException

from rtm.redis_client import Cluster, RedisUrl

Address = tuple[str, int] | None
"""Host and port; None is a Unix socket."""


class Places(Protocol):
    """Known once found."""

    all: frozenset[Address]
    """The servers that carry anything."""

    async def find(self) -> None:
        """Look where the channels are now. Raises RedisError; lasts as long as the caller waits."""

    def of(self, channel: bytes) -> Address:
        """The server that carries the channel. Raises LookupError if none does now."""
        ...

    async def close(self) -> None: ...


def places_of(url: RedisUrl, timeout_s: float) -> Places:
    """Within `timeout_s` those who know the places are asked in turn."""
    match url.topology:
        case "server":
            return OneServer(url)
        case "sentinel":
            return Master(url, timeout_s)
        case "cluster":
            return Slots(url, timeout_s)


class OneServer:
    """See `Places`."""

    def __init__(self, url: RedisUrl) -> None:
        self._address: Address = url.nodes[0] if url.nodes else None
        self.all: frozenset[Address] = frozenset([self._address])

    async def find(self) -> None:
        pass

    def of(self, channel: bytes) -> Address:
        return self._address

    async def close(self) -> None:
        pass


class Master:
    """See `Places`."""

    def __init__(self, url: RedisUrl, timeout_s: float) -> None:
        self._name = url.master
        self._sentinel = url.sentinel(timeout_s=timeout_s)
        self.all: frozenset[Address] = frozenset()

    async def find(self) -> None:
        self.all = frozenset([await self._sentinel.discover_master(self._name)])

    def of(self, channel: bytes) -> Address:
        if not self.all:
            raise LookupError("no master")
        return next(iter(self.all))

    async def close(self) -> None:
        await self._sentinel.aclose()


class Slots:
    """See `Places`."""

    def __init__(self, url: RedisUrl, timeout_s: float) -> None:
        self._client = cast(Cluster, url.client(timeout_s=timeout_s, max_connections=1))
        self.all: frozenset[Address] = frozenset()

    async def find(self) -> None:
        await self._client.find_slots()
        self.all = frozenset(map(_address, self._client.get_primaries()))

    def of(self, channel: bytes) -> Address:
        try:
            node = self._client.get_node_from_key(channel.decode())
        except RedisClusterException as error:
            raise LookupError(str(error)) from error
        assert node is not None, "the slot's master"
        return _address(node)

    async def close(self) -> None:
        await self._client.aclose()


def _address(node: ClusterNode) -> Address:
    return node.host, int(node.port)
