"""The bus of a server that is one process; several of them in one process (in tests) meet at an `Exchange`."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from rtm.bus.base import Envelope, Lost

QUEUE_LENGTH = 10_000
"""Envelopes that wait for a bus's reader before it is told of a loss instead."""


class Exchange:
    """Where the buses of one process meet."""

    def __init__(self) -> None:
        self.buses: set[MemoryBus] = set()


class MemoryBus:
    """See `rtm.bus.base.Bus`. Alone, as in a server without Redis, it carries nothing and costs nothing."""

    def __init__(self, exchange: Exchange | None = None) -> None:
        self._exchange = exchange or Exchange()
        self._licenses: set[int] = set()
        self._arrived: asyncio.Queue[bytes | Lost] = asyncio.Queue(QUEUE_LENGTH)

    @property
    def healthy(self) -> bool:
        return True

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
        for envelope in envelopes:
            if envelope.license_id in self._licenses:
                if self._arrived.full():
                    self._start_afresh()
                # Encoded as on its way through Redis, so that two processes' worth of code never share an object.
                self._arrived.put_nowait(envelope.encode())

    def _start_afresh(self) -> None:
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self._arrived.put_nowait(Lost())

    async def subscribe(self, license_id: int) -> None:
        self._licenses.add(license_id)

    async def unsubscribe(self, license_id: int) -> None:
        self._licenses.discard(license_id)

    async def received(self) -> AsyncIterator[Envelope | Lost]:
        while True:
            arrived = await self._arrived.get()
            yield arrived if isinstance(arrived, Lost) else Envelope.decode(arrived)
