"""The bus of a server that is one process; several of them in one process (in tests) meet at an `Exchange`."""

import asyncio
from collections.abc import Sequence

from rtm.bus.base import Envelope, Take, Traffic


class Exchange:
    """Where the buses of one process meet."""

    def __init__(self) -> None:
        self.buses: set[MemoryBus] = set()


class MemoryBus:
    """See `rtm.bus.base.Bus`. Alone, as in a server without Redis, it carries nothing and costs nothing."""

    def __init__(self, exchange: Exchange | None = None) -> None:
        self.traffic = Traffic()
        self._exchange = exchange or Exchange()
        self._licenses: set[int] = set()
        self._take: Take = lambda _: None

    @property
    def healthy(self) -> bool:
        return True

    def listen(self, take: Take) -> None:
        self._take = take

    async def start(self) -> None:
        self._exchange.buses.add(self)

    async def stop(self) -> None:
        self._exchange.buses.discard(self)

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        for bus in self._exchange.buses:
            if bus is not self:
                bus.deliver(envelopes)

    def deliver(self, envelopes: Sequence[Envelope]) -> None:
        """What another bus publishes."""
        loop = asyncio.get_running_loop()
        for envelope in envelopes:
            if envelope.license_id in self._licenses:
                # Encoded as on its way through Redis, so that two processes' worth of code never share an object.
                loop.call_soon(self._take, Envelope.decode(envelope.encode()))

    async def subscribe(self, license_id: int) -> None:
        self._licenses.add(license_id)

    async def unsubscribe(self, license_id: int) -> None:
        self._licenses.discard(license_id)
