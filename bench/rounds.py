"""Servers measured in turn, round by round: what disturbs the machine disturbs them alike.

A round is about a second of every server in every case; a figure is the median of the rounds, a ratio the median of
the ratios within each round. Before it counts, each server is run for a moment.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Protocol

from bench.clients import LoadError
from bench.peers import PEERS
from bench.server import CannotStart, Server

WARM_UP_S = 0.2

# In the order of the table: what a machine can do, what rtm is built on, rtm, and the usual ways.
SERVERS = {
    name: "rtm, all of it" if name == "rtm" else PEERS[name].label
    for name in ("kernel", "uwebsockets", "wire", "rtm", "websockets", "starlette")
}


class Load(Protocol):
    """Work that one server is given; a case is the load's own number, such as how many messages go at once."""

    server: Server

    def run(self, case: int, seconds: float) -> int:
        """Keep the server busy for about `seconds`; the number of operations done. Raises LoadError, OSError."""

    def keep_alive(self) -> None:
        """Called between any two runs: a session needs a ping every now and then."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run; `server_cpu_s` is None where the server's process is not known."""

    operations: int
    seconds: float
    server_cpu_s: float | None
    client_cpu_s: float

    @property
    def cpu_us(self) -> float | None:
        """Server CPU per operation."""
        return None if self.server_cpu_s is None else self.server_cpu_s / self.operations * 1e6

    @property
    def server_busy(self) -> float | None:
        """Cores that the server kept busy."""
        return None if self.server_cpu_s is None else self.server_cpu_s / self.seconds

    @property
    def client_busy(self) -> float:
        """Cores that the load kept busy: near 1, it is the load that limits `per_second`."""
        return self.client_cpu_s / self.seconds

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds


@dataclass
class Contestant:
    """A server in the comparison, with its samples of each case. Without a load it stands there with its `remark`."""

    name: str
    label: str
    load: Load | None = None
    remark: str = ""
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    def median(self, case: int, value: Callable[[Sample], float | None]) -> float | None:
        found = [number for sample in self.samples.get(case, []) if (number := value(sample)) is not None]
        return median(found) if found else None

    def ratio(self, case: int, other: "Contestant") -> float | None:
        """How many times the CPU of `other` an operation costs here."""
        rounds = zip(self.samples.get(case, []), other.samples.get(case, []), strict=False)
        ratios = [mine.cpu_us / its.cpu_us for mine, its in rounds if mine.cpu_us and its.cpu_us]
        return median(ratios) if ratios else None


def contestants_of(names: Sequence[str]) -> list[Contestant]:
    """Those servers, in the order of the table."""
    return [Contestant(name, label) for name, label in SERVERS.items() if name in names]


def set_up(contestants: Sequence[Contestant], start: Callable[[str], Load], tick: Callable[[str], None]) -> None:
    """Start every server and its load, rtm first: the peers take its message sizes."""
    for contestant in sorted(contestants, key=lambda contestant: contestant.name != "rtm"):
        tick(f"{contestant.label}: starting")
        try:
            contestant.load = start(contestant.name)
        except (CannotStart, LoadError, OSError) as error:
            contestant.remark = str(error)


def schedule(seconds: float, cases: int) -> tuple[int, float]:
    """How many rounds, and how long a case runs in each, when a server is measured for `seconds` in all."""
    rounds = max(1, round(seconds / cases))
    return rounds, seconds / cases / rounds


def measure(
    contestants: Sequence[Contestant], cases: Sequence[int], seconds: float, tick: Callable[[str], None]
) -> None:
    """Fill in the samples, with a `tick` before each run. A server that fails is left out of the rounds that follow."""
    rounds, length = schedule(seconds, len(cases))
    for number in range(rounds + 1):
        for case in cases:
            for contestant in contestants:
                tick(f"{contestant.label}: {f'round {number} of {rounds}' if number else 'warm-up'}")
                for each in contestants:
                    _attempt(each, _keep_alive)
                _attempt(contestant, partial(_run, case, length if number else min(length, WARM_UP_S), bool(number)))


def _attempt(contestant: Contestant, work: Callable[[Contestant, Load], None]) -> None:
    if contestant.load is None:
        return
    try:
        work(contestant, contestant.load)
    except (LoadError, OSError) as error:
        contestant.load, contestant.remark = None, f"failed: {error}"


def _keep_alive(_contestant: Contestant, load: Load) -> None:
    load.keep_alive()


def _run(case: int, seconds: float, counts: bool, contestant: Contestant, load: Load) -> None:
    server_cpu_s, client_cpu_s, started = load.server.cpu_s(), time.process_time(), time.perf_counter()
    operations = load.run(case, seconds)
    elapsed, client_spent_s = time.perf_counter() - started, time.process_time() - client_cpu_s
    server_spent_s = None if server_cpu_s is None else (load.server.cpu_s() or 0) - server_cpu_s
    if counts:
        contestant.samples.setdefault(case, []).append(Sample(operations, elapsed, server_spent_s, client_spent_s))
