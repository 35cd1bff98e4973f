"""What pushes cost here: how many of each name, and how long each takes to reach the connections' corks.

In plain numbers, as a push should cost next to nothing of it: 0.3 µs, however many it is for.
"""

from collections import Counter
from collections.abc import Callable
from time import perf_counter_ns

from rtm.bus.base import Envelope


class Fanout:
    """The pushes of one process."""

    def __init__(self) -> None:
        self.pushes: Counter[str] = Counter()
        """By name."""
        self.total_ns = 0
        """Spent on finding recipients, encoding, and giving frames to connections."""
        self.times_ns = [0] * 64
        """How many pushes took, at place n, less than 2**n ns, and no less than half of that."""

    def measured(self, deliver: Callable[[Envelope], None]) -> Callable[[Envelope], None]:
        """The same function, under observation."""
        pushes, times_ns = self.pushes, self.times_ns

        def deliver_measured(envelope: Envelope) -> None:
            began = perf_counter_ns()
            deliver(envelope)
            spent = perf_counter_ns() - began
            self.total_ns += spent
            times_ns[spent.bit_length()] += 1
            pushes[envelope.name] += 1

        return deliver_measured
