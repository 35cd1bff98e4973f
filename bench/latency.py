"""How late pushes are at a fixed rate, and whether subscribers that never read make them later for the others.

An owner sends events when they are due, whatever has become of those before; the lateness of a push is the time from
when its event was due until a subscriber has it, the load's own reading included. With `stalled`, phases without and
with such subscribers take turns in one run: they join for one phase, read nothing, and are asked at its end whether
the server has cut them: it does when what they were sent in a phase is more than it holds back for one connection.
"""

import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

from bench.agents import logged_in
from bench.clients import PATIENCE_S, Client, LoadError, epoll_of, ping
from bench.report import Report, histogram_us, number, progress
from bench.server import Target
from bench.stage import PUSHES, Stage, staged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASE_S = 5
WARM_UP_S = 0.5
PERCENTILES = (50, 90, 99, 99.9, 100)


@dataclass(frozen=True, slots=True)
class Settings:
    subscribers: int
    rate: float
    size_bytes: int
    stalled: int
    seconds: float
    target: Target


@dataclass
class Condition:
    """What was seen in all phases of one kind."""

    label: str
    stalled: int
    phases_us: list[HdrHistogram] = field(default_factory=list)
    peak_rss_bytes: int | None = None
    cut: int = 0

    def total_us(self) -> HdrHistogram:
        total = histogram_us()
        for phase_us in self.phases_us:
            total.add(phase_us)
        return total


class FixedRate:
    """Events sent when they are due, and how late each subscriber had them."""

    def __init__(self, stage: Stage, frame: bytes, rate: float) -> None:
        self._stage = stage
        self._frame = frame
        self._rate = rate
        self._publisher_fd = stage.publisher.socket.fileno()
        self._subscribers = {client.socket.fileno(): client for client in stage.subscribers}
        self._epoll = epoll_of([stage.publisher, *stage.subscribers])

    def run(self, seconds: float) -> HdrHistogram:
        """Lateness in µs of every push to every subscriber."""
        count = max(1, round(seconds * self._rate))
        start = time.perf_counter() + 0.01
        due = [start + number / self._rate for number in range(count)]
        heard = dict.fromkeys(self._subscribers, 0)
        late = array("d")
        sent = 0
        while len(late) < count * len(heard):
            now = time.perf_counter()
            if sent < count and now >= due[sent]:
                self._stage.publisher.send(self._frame)
                sent += 1
            elif now > due[-1] + PATIENCE_S:
                raise LoadError(f"{len(late)} of {count * len(heard)} pushes came")
            for fd, _ in self._epoll.poll(_nap(due[sent] - time.perf_counter()) if sent < count else 1):
                if fd == self._publisher_fd:
                    self._stage.publisher.read()
                    continue
                messages = self._subscribers[fd].read()
                now = time.perf_counter()
                for _ in messages:
                    late.append(now - due[heard[fd]])
                    heard[fd] += 1
        return histogram_us(late)


def _nap(until_due_s: float) -> float:
    """How long to wait for input: epoll sleeps in whole milliseconds, so the last one is spent awake."""
    return max(0.0, until_due_s - 0.001)


def run(settings: Settings) -> Report:
    """Raises CannotStart, LoadError, OSError."""
    conditions = [Condition("everybody reads", 0)]
    if settings.stalled:
        conditions.append(Condition(f"{settings.stalled} more never read", settings.stalled))
    rounds = max(1, round(settings.seconds / PHASE_S / len(conditions)))
    length = settings.seconds / rounds / len(conditions)
    with ExitStack() as stack:
        tick = stack.enter_context(progress(2 + rounds * len(conditions)))
        tick("rtm: starting")
        stage = stack.enter_context(staged(settings.target, settings.subscribers, spare=settings.stalled))
        frame, push = stage.sized_request(settings.size_bytes)
        load = FixedRate(stage, frame, settings.rate)
        tick("warm-up")
        load.run(min(length, WARM_UP_S))
        for turn in range(rounds):
            for condition in conditions:
                tick(f"round {turn + 1} of {rounds}: {condition.label}")
                ping([stage.publisher, *stage.subscribers])
                _phase(stage, load, condition, length)
    return _report(settings, conditions, len(push), rounds)


def _phase(stage: Stage, load: FixedRate, condition: Condition, seconds: float) -> None:
    agents = stage.spare[: condition.stalled]
    with logged_in(stage.server.address, agents, [PUSHES["event"]], narrow=True) as stalled:
        stage.follow(stalled)
        condition.phases_us.append(load.run(seconds))
        memory = stage.server.memory()
        if memory is not None:
            condition.peak_rss_bytes = max(memory.rss_bytes, condition.peak_rss_bytes or 0)
        condition.cut += sum(_was_cut(client) for client in stalled)


def _was_cut(client: Client) -> bool:
    """Whether the stream ends after what was kept for the client; one that is still served goes silent instead."""
    client.socket.settimeout(0.5)
    try:
        while client.socket.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def _report(settings: Settings, conditions: Sequence[Condition], size: int, rounds: int) -> Report:
    rows = []
    for condition in conditions:
        total = condition.total_us()
        late = [number(total.get_value_at_percentile(at) / 1e3, 2) for at in PERCENTILES]
        rss = None if condition.peak_rss_bytes is None else condition.peak_rss_bytes / 2**20
        rows.append([condition.label, f"{total.get_total_count():,}", *late, number(rss)])
    notes = [f"phases of each kind: {rounds}, in turn; lateness as the load sees it"]
    if settings.stalled:
        plain, disturbed = conditions
        pairs = zip(plain.phases_us, disturbed.phases_us, strict=True)
        ratio = median(its.get_value_at_percentile(99) / mine.get_value_at_percentile(99) for mine, its in pairs)
        notes.append(f"p99 with those that never read: {ratio:.3f} times that without, median of the rounds")
        notes.append(f"the server cut {disturbed.cut} of the {rounds * settings.stalled} that never read")
    return Report(
        title=f"latency: {settings.subscribers:,} subscribers, {settings.rate:g} events/s, pushes of {size} bytes",
        columns=["subscribers", "pushes", *[f"p{at:g} ms" if at < 100 else "max ms" for at in PERCENTILES], "RSS MiB"],
        rows=rows,
        data={
            "size_bytes": size,
            "rate": settings.rate,
            "subscribers": settings.subscribers,
            "conditions": {
                condition.label: {
                    "phases_us": [
                        {f"p{at:g}": phase_us.get_value_at_percentile(at) for at in PERCENTILES}
                        for phase_us in condition.phases_us
                    ],
                    "peak_rss_bytes": condition.peak_rss_bytes,
                    "cut": condition.cut,
                }
                for condition in conditions
            },
        },
        draw=partial(_draw, conditions),
        notes=notes,
    )


def _draw(conditions: Sequence[Condition], axes: "Axes") -> None:
    shown = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99]
    for condition in conditions:
        total = condition.total_us()
        late = [total.get_value_at_percentile(at) / 1e3 for at in shown]
        axes.plot([1 / (1 - at / 100) for at in shown], late, marker="o", label=condition.label)
    axes.set_xscale("log")
    axes.set_xticks([1 / (1 - at / 100) for at in (50, 90, 99, 99.9, 99.99)], ["50", "90", "99", "99.9", "99.99"])
    axes.set_xlabel("percentile")
    axes.set_ylabel("lateness, ms")
    axes.set_ylim(bottom=0)
    axes.legend()
