"""A license's stored pushes in the order of their sequence, each once.

What is committed here comes at once, what other processes commit comes over the bus, later and perhaps not at all. So
a push that is too early waits; when the one before it does not come, the gap is read from the outbox.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from rtm.bus.base import Envelope

log = structlog.get_logger(__name__)

PATIENCE_S = 0.05
"""How long a push that is too early waits for the one before it: several times what the bus takes."""
REPAIR_BATCH = 500
RETRY_S = 1.0

ReadOutbox = Callable[[int, int, int], Awaitable[Sequence[Envelope]]]
"""license_id, sequence, limit -> the stored pushes that follow."""


class Feed:
    """Calls `deliver` for each envelope; `delivered` is the place of the last one, None until `start_at`."""

    def __init__(self, license_id: int, deliver: Callable[[Envelope], None], read_outbox: ReadOutbox) -> None:
        self.license_id = license_id
        self.delivered: int | None = None
        self.gaps_repaired = 0
        self._deliver = deliver
        self._read_outbox = read_outbox
        self._early: dict[int, Envelope] = {}
        self._highest = 0
        """The last place that is known to be taken."""
        self._timer: asyncio.TimerHandle | None = None
        self._repair: asyncio.Task[None] | None = None

    def start_at(self, sequence: int) -> None:
        """Everything up to this place is known; deliver what follows. Does nothing once it has been told."""
        if self.delivered is None:
            self.delivered = sequence
            self._early = {place: envelope for place, envelope in self._early.items() if place > sequence}
            self._drain()

    def offer(self, envelope: Envelope) -> None:
        """Take an envelope from wherever it comes; one that is not stored has no place and is delivered at once."""
        if envelope.sequence == 0:
            self._deliver(envelope)
        elif self.delivered is not None and envelope.sequence == self.delivered + 1:
            self.delivered = envelope.sequence
            self._deliver(envelope)
            if self._early:
                self._drain()
        elif self.delivered is None or envelope.sequence > self.delivered:
            self._early[envelope.sequence] = envelope
            self.expect(envelope.sequence)

    def expect(self, sequence: int) -> None:
        """This place is taken: what is there must come."""
        self._highest = max(self._highest, sequence)
        self._watch_gap()

    def catch_up(self) -> None:
        """Read from the outbox now: something may have been lost."""
        if self.delivered is not None and self._repair is None:
            self._repair = asyncio.get_running_loop().create_task(self._read_missing())

    def stop(self) -> None:
        """Deliver nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._repair is not None:
            self._repair.cancel()

    def _drain(self) -> None:
        assert self.delivered is not None
        while (envelope := self._early.pop(self.delivered + 1, None)) is not None:
            self.delivered = envelope.sequence
            self._deliver(envelope)
        self._watch_gap()

    def _watch_gap(self) -> None:
        if self._timer is None and self._misses():
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._lost_patience)

    def _lost_patience(self) -> None:
        self._timer = None
        if self._misses():
            self.catch_up()

    def _misses(self) -> bool:
        return self.delivered is not None and self.delivered < self._highest

    async def _read_missing(self) -> None:
        try:
            while await self._read_batch():
                pass
        except Exception:
            log.exception("outbox_unreadable", license_id=self.license_id)
            self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._lost_patience)
        finally:
            self._repair = None
        if self._timer is None:
            self._watch_gap()

    async def _read_batch(self) -> bool:
        """Deliver what the outbox has next; whether there may be more."""
        assert self.delivered is not None
        missing = await self._read_outbox(self.license_id, self.delivered, REPAIR_BATCH)
        for envelope in missing:
            if envelope.sequence == self.delivered + 1:
                self.gaps_repaired += 1
                self.delivered = envelope.sequence
                self._early.pop(envelope.sequence, None)
                self._deliver(envelope)
        self._drain()
        return len(missing) == REPAIR_BATCH
