"""A license's stored pushes in the order of their sequence, each once.

What is committed here comes at once, what other processes commit comes over the bus, later and perhaps not at all. So
a push that is too early waits; when the one before it does not come, the gap is read from the outbox. Who waits behind
a gap that cannot be read is not left waiting: see `GIVE_UP_S`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from rtm.bus.base import Envelope
from rtm.outage import UNAVAILABLE, reason
from rtm.slices import in_slices
from rtm.store.queries import PUSHES_BYTES

log = structlog.get_logger(__name__)

PATIENCE_S = 0.05
"""How long a push that is too early waits for the one before it: several times what the bus takes."""
REPAIR_BATCH = 500
RETRY_S = 1.0
GIVE_UP_S = 15.0
"""How long a gap may last before those who wait for what is in it are better off with a new snapshot."""
MAX_EARLY = 10_000
"""Pushes that are kept while the one before them is missing; those past it are read from the outbox."""

ReadOutbox = Callable[[int, int, int], Awaitable[Sequence[Envelope]]]
"""license_id, sequence, limit -> the stored pushes that follow, none after PUSHES_BYTES of payloads."""


class Trimmed(Exception):
    """What is missing is no longer in the outbox."""


class Feed:
    """Calls `deliver` for each envelope; `delivered` is the place of the last one, None until `start_at`.

    `give_up` is called when what is missing could not be read for GIVE_UP_S, or is gone.
    """

    def __init__(
        self,
        license_id: int,
        deliver: Callable[[Envelope], None],
        read_outbox: ReadOutbox,
        give_up: Callable[[], None],
    ) -> None:
        self.license_id = license_id
        self.delivered: int | None = None
        self.gaps_repaired = 0
        self._deliver = deliver
        self._read_outbox = read_outbox
        self._give_up = give_up
        self._early: dict[int, Envelope] = {}
        self._highest = 0
        """The last place that is known to be taken."""
        self._may_miss = False
        """Something may have been lost, and the outbox has not been read since."""
        self._timer: asyncio.TimerHandle | None = None
        self._repair: asyncio.Task[None] | None = None

    @property
    def behind(self) -> int:
        """How many pushes are known to be stored and not delivered yet."""
        return 0 if self.delivered is None else max(0, self._highest - self.delivered)

    def start_at(self, sequence: int) -> None:
        """Everything up to this place is known; deliver what follows. Does nothing once it has been told."""
        if self.delivered is None:
            self.delivered = sequence
            self._early = {place: envelope for place, envelope in self._early.items() if place > sequence}
            self._drain()
            if self._may_miss:
                self.catch_up()

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
            if len(self._early) < MAX_EARLY:
                self._early[envelope.sequence] = envelope
            self.expect(envelope.sequence)

    def expect(self, sequence: int) -> None:
        """This place is taken: what is there must come."""
        self._highest = max(self._highest, sequence)
        self._watch_gap()

    def has_passed(self, sequence: int) -> bool:
        """Whether all up to this place has been delivered, or nobody waits for it."""
        return self.delivered is None or self.delivered >= sequence

    def catch_up(self) -> None:
        """Read from the outbox now: something may have been lost."""
        self._may_miss = True
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
        if self._timer is None and self._repair is None and self._misses():
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._lost_patience)

    def _lost_patience(self) -> None:
        self._timer = None
        if self._misses():
            self.catch_up()

    def _misses(self) -> bool:
        return self.delivered is not None and self.delivered < self._highest

    async def _read_missing(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(GIVE_UP_S) as patience:
                while self._may_miss or self._misses():
                    before = self.delivered
                    await asyncio.sleep(await self._read_on())
                    if self.delivered != before:
                        patience.reschedule(loop.time() + GIVE_UP_S)
        except (TimeoutError, Trimmed):
            log.warning("gap_not_closed", license_id=self.license_id, after=self.delivered, expected=self._highest)
            self._give_up()
        finally:
            self._repair = None

    async def _read_on(self) -> float:
        """Read once; seconds to wait before it is worth reading again."""
        self._may_miss = False
        try:
            if await self._read_batch():
                self._may_miss = True
        except Trimmed:
            raise
        except UNAVAILABLE as error:
            log.warning("outbox_unreadable", license_id=self.license_id, reason=reason(error))
            self._may_miss = True
            return RETRY_S
        except Exception:
            log.exception("outbox_unreadable", license_id=self.license_id)
            self._may_miss = True
            return RETRY_S
        return PATIENCE_S if self._misses() and not self._may_miss else 0

    async def _read_batch(self) -> bool:
        """Deliver what the outbox has next; whether there may be more."""
        assert self.delivered is not None
        missing = await self._read_outbox(self.license_id, self.delivered, REPAIR_BATCH)
        await in_slices(map(self._take_missing, missing))
        self._drain()
        # Places are given without gaps in the order of commits: when a later one is there, those before it were.
        if missing and missing[-1].sequence > self.delivered:
            raise Trimmed
        return len(missing) == REPAIR_BATCH or sum(len(each.payload) for each in missing) >= PUSHES_BYTES

    def _take_missing(self, envelope: Envelope) -> None:
        assert self.delivered is not None
        if envelope.sequence == self.delivered + 1:
            self.gaps_repaired += 1
            self.delivered = envelope.sequence
            self._early.pop(envelope.sequence, None)
            self._deliver(envelope)
