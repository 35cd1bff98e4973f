"""One process's ear, and something for it to hear."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rtm.bus.base import Bus, Envelope, Lost
from rtm.bus.redis import RedisBus
from rtm.model.audience import Audience

PATIENCE_S = 30


class Hearing:
    """Takes what a bus hears, item by item; to be made before the bus is started."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._heard: asyncio.Queue[Envelope | Lost] = asyncio.Queue()
        bus.listen(self._heard.put_nowait)

    async def next(self, within_s: float = PATIENCE_S) -> Envelope | Lost:
        async with asyncio.timeout(within_s):
            return await self._heard.get()

    async def next_envelope(self) -> Envelope:
        """The next, past losses: those who listen and those who publish each report their own."""
        while isinstance(heard := await self.next(), Lost):
            pass
        return heard


@asynccontextmanager
async def hearing(url: str, *license_ids: int) -> AsyncIterator[Hearing]:
    """A process with a Redis bus that hears these licenses."""
    bus = RedisBus(url)
    there = Hearing(bus)
    await bus.start()
    try:
        for license_id in license_ids:
            await bus.subscribe(license_id)
        yield there
    finally:
        await bus.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def envelope(license_id: int, sequence: int = 1, size: int = 0) -> Envelope:
    payload = b'{"text":"%s"}' % (b"x" * size)
    return Envelope(license_id, "incoming_event", payload, Audience(everyone=True), sequence)
