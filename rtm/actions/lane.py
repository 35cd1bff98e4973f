"""The order of one connection's changes."""

from collections import deque
from collections.abc import Callable


class Lane:
    """Starts the changes of one connection in the order they were sent.

    Commands may follow each other at once, for the writer keeps their order. A change that is no command is started
    alone: it waits for all before it, and all after it wait for it.
    """

    __slots__ = ("_alone", "_running", "_waiting")

    def __init__(self) -> None:
        self._running = 0
        self._alone = False
        self._waiting: deque[tuple[Callable[[], None], bool]] | None = None

    def enter(self, start: Callable[[], None], *, alone: bool) -> None:
        """Call `start` when its turn has come; what was started calls `exit` when it is done."""
        if self._waiting or self._alone or (alone and self._running):
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append((start, alone))
        else:
            self._begin(start, alone)

    def exit(self) -> None:
        """One that was started is done."""
        self._running -= 1
        self._alone = False
        while self._waiting and not self._alone:
            start, alone = self._waiting[0]
            if alone and self._running:
                return
            self._waiting.popleft()
            self._begin(start, alone)

    def _begin(self, start: Callable[[], None], alone: bool) -> None:
        self._running += 1
        self._alone = alone
        start()
