"""One process's ear, and something for it to hear."""

import asyncio

from rtm.bus.base import Bus, Envelope, Lost
from rtm.model.audience import Audience


class Hearing:
    """Reads a bus item by item."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._received = bus.received()

    async def next(self, within_s: float = 10) -> Envelope | Lost:
        async with asyncio.timeout(within_s):
            return await anext(self._received)


def envelope(license_id: int, sequence: int = 1, size: int = 0) -> Envelope:
    payload = b'{"text":"%s"}' % (b"x" * size)
    return Envelope(license_id, "incoming_event", payload, Audience(everyone=True), sequence)
