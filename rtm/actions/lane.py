"""The order of one connection's changes, and how many of its queries run at once."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

QUERIES_AT_ONCE = 2
"""Of one connection: so that it takes neither all of its license's share (`actions.shares`) nor all the time.

Under a flood of `list_chats` from one connection another license's events took 6.7 ms with 4, and 2.9 ms with 2.
"""


class _Waiting(NamedTuple):
    start: Callable[[], None]
    overdue: Callable[[], None]
    alone: bool
    expires_at: float


class Lane:
    """Starts the changes of one connection in the order they were sent.

    Commands may follow each other at once, for the writer keeps their order. A change that is no command is started
    alone: it waits for all before it, and all after it wait for it.
    """

    __slots__ = ("_alone", "_queries", "_running", "_timer", "_waiting")

    def __init__(self) -> None:
        self._running = 0
        self._alone = False
        self._waiting: deque[_Waiting] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._queries: asyncio.Semaphore | None = None

    @property
    def queries(self) -> asyncio.Semaphore:
        """Entered by queries, which are in no order, while they run."""
        if self._queries is None:
            self._queries = asyncio.Semaphore(QUERIES_AT_ONCE)
        return self._queries

    def enter(self, *, alone: bool) -> bool:
        """Whether a change may start now; one that may not has to `wait`. Who has started calls `exit` when done."""
        if self._waiting or not self._is_free(alone):
            return False
        self._begin(alone)
        return True

    def wait(self, start: Callable[[], None], overdue: Callable[[], None], *, alone: bool, expires_at: float) -> None:
        """Call `start` when its turn has come, or `overdue` when it has not come by then on the monotonic clock."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(_Waiting(start, overdue, alone, expires_at))
        if self._timer is None:
            self._watch()

    def exit(self) -> None:
        """One that was started is done."""
        self._running -= 1
        self._alone = False
        if self._waiting:
            self._go_on()

    async def emptied(self, within_s: float) -> None:
        """Wait until the changes that have come so far are done, though no longer than that."""
        if self._running or self._waiting:
            emptied = asyncio.Event()

            def start() -> None:
                emptied.set()
                self.exit()

            self.wait(start, emptied.set, alone=True, expires_at=monotonic() + within_s)
            await emptied.wait()

    def _is_free(self, alone: bool) -> bool:
        return not (self._alone or (alone and self._running))

    def _begin(self, alone: bool) -> None:
        self._running += 1
        self._alone = alone

    def _go_on(self) -> None:
        while self._waiting and self._is_free(self._waiting[0].alone):
            first = self._waiting.popleft()
            self._begin(first.alone)
            first.start()

    def _watch(self) -> None:
        """One timer serves all: they expire in the order they came."""
        self._timer = None
        now = monotonic()
        while self._waiting and self._waiting[0].expires_at <= now:
            self._waiting.popleft().overdue()
        self._go_on()
        if self._waiting and self._waiting[0].expires_at < math.inf:
            delay_s = self._waiting[0].expires_at - now
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._watch)
