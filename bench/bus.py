"""What the bus costs the process that publishes and the one that hears, for each push.

Both have a process of their own that does nothing else, a third wakes the publisher at a fixed rate, as the end of a
commit does in a server. What being woken costs is measured in turn with the rest, and subtracted.
"""

import asyncio
import multiprocessing
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop
from hdrh.histogram import HdrHistogram

from bench.clients import LoadError
from bench.report import Report, histogram_us, number, progress
from bench.rounds import WARM_UP_S, schedule
from bench.server import START_TIMEOUT_S
from rtm import logs
from rtm.bus.base import Envelope, Lost
from rtm.bus.redis import RedisBus
from rtm.model.audience import Audience

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LICENSE_ID = 1
_SETTLE_S = 0.1
Work = Callable[..., None]
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Settings:
    redis_url: str | None
    rate: float
    """Pushes a second."""
    burst: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of a case."""

    pushes: int
    seconds: float
    waking_cpu_s: float
    publisher_cpu_s: float
    receiver_cpu_s: float

    @property
    def waking_us(self) -> float:
        return self.waking_cpu_s / self.pushes * 1e6

    @property
    def publisher_us(self) -> float:
        return (self.publisher_cpu_s - self.waking_cpu_s) / self.pushes * 1e6

    @property
    def receiver_us(self) -> float:
        return self.receiver_cpu_s / self.pushes * 1e6


@dataclass
class Case:
    """So many pushes at once."""

    burst: int
    samples: list[Sample] = field(default_factory=list)
    delays_us: HdrHistogram = field(default_factory=histogram_us)

    @property
    def label(self) -> str:
        return "one at a time" if self.burst == 1 else f"{self.burst} at once"


def run(settings: Settings) -> Report:
    """Raises LoadError, OSError."""
    cases = [Case(1), Case(settings.burst)]
    rounds, length = schedule(settings.seconds, len(cases))
    with ExitStack() as stack:
        tick = stack.enter_context(progress((rounds + 1) * len(cases) + 1))
        tick("starting")
        url = settings.redis_url or stack.enter_context(_redis())
        pair = stack.enter_context(_processes(url, settings.size_bytes))
        for round_number in range(rounds + 1):
            for case in cases:
                tick(f"{case.label}: {f'round {round_number} of {rounds}' if round_number else 'warm-up'}")
                sample, delays_us = pair.run(settings.rate, case.burst, length if round_number else WARM_UP_S)
                if round_number:
                    case.samples.append(sample)
                    case.delays_us.add(histogram_us(delay_us / 1e6 for delay_us in delays_us))
    return _report(settings, cases)


@contextmanager
def _redis() -> Iterator[str]:
    from tests.servers import RedisServer

    with RedisServer() as server:
        yield server.url


# The processes


@dataclass(frozen=True, slots=True)
class _Pair:
    """The publisher and the receiver; each answers, when asked, with the CPU time that it has spent."""

    wake: socket.socket
    publisher: Connection
    receiver: Connection

    def run(self, rate: float, burst: int, seconds: float) -> "tuple[Sample, array[float]]":
        """A round, with the delays of its pushes in µs. Raises LoadError."""
        ticks = max(1, round(seconds * rate / burst))
        _ask(self.receiver)
        waking_cpu_s = self._tick(ticks, burst / rate, 0)[0]
        before, started = _ask(self.receiver)[0], time.perf_counter()
        publisher_cpu_s = self._tick(ticks, burst / rate, burst)[0]
        elapsed = time.perf_counter() - started - _SETTLE_S
        after, delays_us = _ask(self.receiver)
        if len(delays_us) != ticks * burst:
            raise LoadError(f"of {ticks * burst} pushes {len(delays_us)} were heard")
        return Sample(ticks * burst, elapsed, waking_cpu_s, publisher_cpu_s, after - before), delays_us

    def _tick(self, ticks: int, interval_s: float, burst: int) -> "tuple[float, array[float]]":
        """Wake the publisher so often, each time for so many pushes; the CPU time it took."""
        before, _ = _ask(self.publisher)
        start = time.perf_counter()
        for tick in range(ticks):
            while (wait_s := start + tick * interval_s - time.perf_counter()) > 0:
                time.sleep(wait_s)
            self.wake.send(bytes([burst]))
        time.sleep(_SETTLE_S)
        after, delays = _ask(self.publisher)
        return after - before, delays


def _ask(process: Connection) -> tuple[float, "array[float]"]:
    process.send(None)
    if not process.poll(START_TIMEOUT_S):
        raise LoadError("a process of the load does not answer")
    try:
        answer: tuple[float, array[float]] = process.recv()
    except EOFError:
        raise LoadError("a process of the load has ended; is Redis there?") from None
    return answer


@contextmanager
def _processes(url: str, size_bytes: int) -> Iterator[_Pair]:
    wake, woken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    to_publisher, publisher = _SPAWN.Pipe()
    to_receiver, receiver = _SPAWN.Pipe()
    processes = [
        _SPAWN.Process(target=_run, args=(_publish, publisher, url, woken, size_bytes), daemon=True),
        _SPAWN.Process(target=_run, args=(_hear, receiver, url), daemon=True),
    ]
    with wake, woken, to_publisher, to_receiver:
        for process in processes:
            process.start()
        publisher.close()
        receiver.close()
        try:
            _ask(to_receiver)
            _ask(to_publisher)
            yield _Pair(wake, to_publisher, to_receiver)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _run(work: Work, control: Connection, url: str, *arguments: Any) -> None:
    logs.configure("warning")
    with suppress(KeyboardInterrupt):
        uvloop.run(_with_bus(work, control, url, *arguments))


async def _with_bus(work: Work, control: Connection, url: str, *arguments: Any) -> None:
    """A process's bus, with one license to hear, as a server's that somebody is connected to."""
    bus = RedisBus(url)
    delays_us = array("d")

    def heard(item: Envelope | Lost) -> None:
        if isinstance(item, Envelope):
            delays_us.append((time.perf_counter_ns() - item.sequence) / 1000)

    def answer() -> None:
        control.recv()
        control.send((time.process_time(), delays_us))
        del delays_us[:]

    bus.listen(heard)
    await bus.start()
    await bus.subscribe(_LICENSE_ID)
    asyncio.get_running_loop().add_reader(control.fileno(), answer)
    work(bus, *arguments)
    await asyncio.Event().wait()


def _hear(_: RedisBus) -> None:
    """Nothing more."""


def _publish(bus: RedisBus, woken: socket.socket, size_bytes: int) -> None:
    payload = b'{"text":"%s"}' % (b"x" * size_bytes)
    audience = Audience(agents=("smith@example.com",), groups=(0,))

    def publish() -> None:
        at_once = woken.recv(1)[0]
        if at_once:
            now = time.perf_counter_ns()
            bus.publish([Envelope(_LICENSE_ID, "incoming_event", payload, audience, now) for _ in range(at_once)])

    asyncio.get_running_loop().add_reader(woken.fileno(), publish)


# The report


def _report(settings: Settings, cases: list[Case]) -> Report:
    return Report(
        title=f"bus: {settings.rate:,.0f} pushes of {settings.size_bytes} bytes a second, from one process to another",
        columns=[
            "",
            "publisher CPU µs/push",
            "receiver CPU µs/push",
            "waking µs/push",
            "pushes/s",
            "delay ms p50",
            "p99",
        ],
        rows=[
            [
                case.label,
                number(median(sample.publisher_us for sample in case.samples), 1),
                number(median(sample.receiver_us for sample in case.samples), 1),
                number(median(sample.waking_us for sample in case.samples), 1),
                number(median(sample.pushes / sample.seconds for sample in case.samples), 0),
                *[number(case.delays_us.get_value_at_percentile(percentile) / 1000, 2) for percentile in (50, 99)],
            ]
            for case in cases
        ],
        data={
            "settings": {**asdict(settings), "redis_url": None},
            "cases": {
                case.burst: {
                    "samples": [asdict(sample) for sample in case.samples],
                    "delay_us": {
                        percentile: case.delays_us.get_value_at_percentile(percentile)
                        for percentile in (50, 90, 99, 100)
                    },
                }
                for case in cases
            },
        },
        draw=partial(_draw, cases),
        notes=[
            "CPU for each push: medians of rounds of about a second, the kernel's part included",
            "waking: to be woken and read a byte: how busy the machine is; not in the publisher's figure",
        ],
    )


def _draw(cases: list[Case], axes: "Axes") -> None:
    for offset, (label, values) in enumerate(
        {
            "publisher": [median(sample.publisher_us for sample in case.samples) for case in cases],
            "receiver": [median(sample.receiver_us for sample in case.samples) for case in cases],
        }.items()
    ):
        bars = axes.bar([place + 0.4 * offset for place in range(len(cases))], values, 0.4, label=label)
        axes.bar_label(bars, fmt="%.1f")
    axes.set_xticks([place + 0.2 for place in range(len(cases))], [case.label for case in cases])
    axes.set_ylabel("CPU, µs per push")
    axes.legend()
