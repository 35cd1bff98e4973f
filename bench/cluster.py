"""What several processes cost and how late they are: one system of 1, 2 and 4 on PostgreSQL and Redis.

C agents are spread over the processes; each talks to one colleague, who is logged in to the next process. First every
agent sends the next event when it has the answer to the last: what a durable event costs rtm, PostgreSQL and Redis.
Then events are sent at a fixed rate, whatever has become of those before: how late the colleague has each, from when
it was due, the load's own reading included. At the fixed rate the load sleeps until there is something to do, for the
rest of the machine needs its processors; in the first part it polls, as in `requests`.
"""

import asyncio
import select
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

from bench.agents import Agent, call_each, logged_in
from bench.clients import PATIENCE_S, Client, LoadError, epoll_of, ping, text_frame
from bench.report import Report, histogram_us, number, progress
from bench.requests import Caller, Requests, request_of
from bench.rounds import WARM_UP_S
from bench.server import CannotStart, Server, rtm_processes
from bench.stage import PUSHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tests.servers import PostgresServer, RedisServer

PHASE_S = 2
PERCENTILES = (50, 90, 99, 99.9, 100)
PARTS = ("rtm", "PostgreSQL", "Redis")


@dataclass(frozen=True, slots=True)
class Settings:
    """Without a URL, the server is started for the run, and what it costs is seen."""

    processes: tuple[int, ...]
    connections: int
    rate: float
    """Events a second."""
    size_bytes: int
    seconds: float
    database_url: str | None = None
    redis_url: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One phase; `cpu_s` by part, without those whose process is not known."""

    events: int
    seconds: float
    cpu_s: dict[str, float]

    def cpu_us(self, part: str) -> float | None:
        """CPU for each event."""
        return self.cpu_s[part] / self.events * 1e6 if part in self.cpu_s else None


@dataclass
class Result:
    """Of one number of processes."""

    processes: int
    busy: list[Sample] = field(default_factory=list)
    paced: list[Sample] = field(default_factory=list)
    late_us: HdrHistogram = field(default_factory=histogram_us)

    @staticmethod
    def cpu_us(samples: Sequence[Sample], part: str) -> float | None:
        found = [cpu_us for sample in samples if (cpu_us := sample.cpu_us(part)) is not None]
        return median(found) if found else None

    @property
    def per_second(self) -> float:
        return median(sample.events / sample.seconds for sample in self.busy)


@dataclass
class System:
    """The processes under load; `costs` are theirs and of what they stand on, by part."""

    costs: dict[str, list[Server]]
    speakers: list[Client]
    colleagues: list[Client]
    requests: list[bytes]
    """Frames, one for each speaker."""

    def spent_s(self) -> dict[str, float]:
        return {part: sum(server.cpu_s() or 0 for server in servers) for part, servers in self.costs.items()}


class FixedRate:
    """Events sent when they are due, by each speaker in turn, and how late each colleague had them."""

    def __init__(self, system: System, rate: float) -> None:
        self._requests = list(zip(system.speakers, system.requests, strict=True))
        self._rate = rate
        self._speakers = {client.socket.fileno(): client for client in system.speakers}
        self._colleagues = {client.socket.fileno(): (place, client) for place, client in enumerate(system.colleagues)}
        self._epoll = epoll_of([*system.speakers, *system.colleagues])

    def run(self, seconds: float) -> "array[float]":
        """How late each event was, in s. Raises LoadError if one does not come."""
        count = max(1, round(seconds * self._rate))
        start = time.perf_counter() + 0.01
        heard = [0] * len(self._requests)
        late = array("d")
        sent = 0
        while len(late) < count:
            now = time.perf_counter()
            due = start + sent / self._rate
            if sent < count and now >= due:
                speaker, request = self._requests[sent % len(self._requests)]
                speaker.send(request)
                sent += 1
                continue
            if now > due + PATIENCE_S:
                raise LoadError(f"{len(late)} of {count} pushes came")
            # An epoll by itself would sleep in whole milliseconds.
            select.select([self._epoll], [], [], due - now if sent < count else 1)
            for fd, _ in self._epoll.poll(0):
                if fd in self._speakers:
                    self._speakers[fd].read()
                    continue
                place, colleague = self._colleagues[fd]
                messages = colleague.read()
                now = time.perf_counter()
                for _ in messages:
                    late.append(now - start - (place + heard[place] * len(heard)) / self._rate)
                    heard[place] += 1
        return late


def run(settings: Settings) -> Report:
    """Raises CannotStart, LoadError, OSError."""
    share_s = settings.seconds / len(settings.processes) / 2
    rounds = max(1, round(share_s / PHASE_S))
    results = [Result(count) for count in settings.processes]
    with ExitStack() as stack:
        tick = stack.enter_context(progress(1 + len(results) * (1 + 2 * rounds)))
        tick("databases: starting")
        databases = stack.enter_context(_databases(settings))
        for result in results:
            tick(f"{_processes(result.processes)}: starting")
            with _system(settings, result.processes, databases) as system:
                for turn in range(rounds):
                    label = f"{_processes(result.processes)}, round {turn + 1} of {rounds}"
                    tick(f"{label}: as fast as they can")
                    _busy(system, result, share_s / rounds)
                    tick(f"{label}: {settings.rate:g} events/s")
                    _paced(system, settings.rate, result, share_s / rounds)
    return _report(settings, results, rounds)


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


@dataclass
class _Databases:
    """Those that the run has started; a `Settings` with a URL needs none."""

    postgres: "PostgresServer | None" = None
    redis: "RedisServer | None" = None

    @property
    def costs(self) -> dict[str, list[Server]]:
        started = {"PostgreSQL": self.postgres, "Redis": self.redis}
        return {part: [Server(("127.0.0.1", each.port), each.pid)] for part, each in started.items() if each}

    def environment(self, settings: Settings) -> dict[str, str]:
        """For one system, on a database of its own if that is ours."""
        database_url = asyncio.run(self.postgres.create_database()) if self.postgres else settings.database_url
        redis_url = self.redis.url if self.redis else settings.redis_url
        return {"RTM_DATABASE_URL": database_url or "", "RTM_REDIS_URL": redis_url or ""}


@contextmanager
def _databases(settings: Settings) -> Iterator[_Databases]:
    with ExitStack() as stack:
        found = _Databases()
        try:
            from tests.servers import PostgresServer, RedisServer

            if settings.database_url is None:
                found.postgres = stack.enter_context(PostgresServer(durable=True))
            if settings.redis_url is None:
                found.redis = stack.enter_context(RedisServer())
        except (ImportError, RuntimeError) as error:
            raise CannotStart(f"{error}; or name them with --database-url and --redis-url") from error
        yield found


@contextmanager
def _system(settings: Settings, processes: int, databases: _Databases) -> Iterator[System]:
    """The processes, with the agents logged in and their chats started."""
    count = settings.connections
    with ExitStack() as stack:
        servers, credentials = stack.enter_context(rtm_processes(processes, 2 * count, databases.environment(settings)))
        agents = credentials.agents

        def log_in(those: Sequence[Agent], shift: int, pushes: Sequence[str]) -> list[Client]:
            """Each on its process, one after the other."""
            found: dict[int, Client] = {}
            for place, server in enumerate(servers):
                mine = range((place - shift) % processes, count, processes)
                clients = stack.enter_context(logged_in(server.address, [those[each] for each in mine], pushes))
                found |= dict(zip(mine, clients, strict=True))
            return [found[each] for each in range(count)]

        colleagues = log_in(agents[count : 2 * count], 1, [PUSHES["event"]])
        speakers = log_in(agents[:count], 0, [])
        wanted = [
            {"chat": {"users": [{"id": agent.id, "type": "agent"}]}, "continuous": True}
            for agent in agents[count : 2 * count]
        ]
        chats = [answer["chat_id"] for answer in call_each(speakers, "start_chat", wanted)]
        requests = [text_frame(request_of(chat_id, settings.size_bytes)) for chat_id in chats]
        system = System({"rtm": servers, **databases.costs}, speakers, colleagues, requests)
        _busy(system, Result(processes), WARM_UP_S)
        yield system


def _busy(system: System, result: Result, seconds: float) -> None:
    _keep_alive(system)
    pairs = zip(system.speakers, system.requests, strict=True)
    callers = [Caller(client, request, b'"success":true') for client, request in pairs]
    load = Requests(system.costs["rtm"][0], callers, system.colleagues)
    before, started = system.spent_s(), time.perf_counter()
    events = load.run(0, seconds)
    result.busy.append(_sample(events, started, before, system))


def _paced(system: System, rate: float, result: Result, seconds: float) -> None:
    _keep_alive(system)
    load = FixedRate(system, rate)
    before, started = system.spent_s(), time.perf_counter()
    late_s = load.run(seconds)
    result.paced.append(_sample(len(late_s), started, before, system))
    result.late_us.add(histogram_us(late_s))


def _keep_alive(system: System) -> None:
    ping([*system.speakers, *system.colleagues])


def _sample(events: int, started: float, before: dict[str, float], system: System) -> Sample:
    spent_s = {part: after - before[part] for part, after in system.spent_s().items()}
    return Sample(events, time.perf_counter() - started, spent_s)


def _report(settings: Settings, results: Sequence[Result], rounds: int) -> Report:
    rows = []
    for result in results:
        costs = [number(result.cpu_us(result.busy, part)) for part in PARTS]
        late = [number(result.late_us.get_value_at_percentile(at) / 1e3, 2) for at in PERCENTILES]
        rows.append([_processes(result.processes), number(result.per_second, 0), *costs, *late])
    return Report(
        title=f"cluster: {settings.connections:,} connections, requests of {settings.size_bytes} bytes, "
        f"and {settings.rate:g} events/s",
        columns=[
            "rtm",
            "events/s",
            *[f"{part} µs/event" for part in PARTS],
            *[f"p{at:g} ms" if at < 100 else "max ms" for at in PERCENTILES],
        ],
        rows=rows,
        data={
            "size_bytes": settings.size_bytes,
            "connections": settings.connections,
            "rate": settings.rate,
            "systems": {
                result.processes: {
                    "busy": [asdict(sample) for sample in result.busy],
                    "paced": [asdict(sample) for sample in result.paced],
                    "late_us": {f"p{at:g}": result.late_us.get_value_at_percentile(at) for at in PERCENTILES},
                }
                for result in results
            },
        },
        draw=partial(_draw, settings, results),
        notes=[
            "events/s, µs/event: each connection sends one event at a time; CPU is that of all processes together",
            "all are of one license, for whose sequence processes take turns; the load, which polls, keeps a core busy",
            f"ms: how late an event of one process is for a socket of the next, at {settings.rate:g} events/s",
            *[
                f"{_processes(result.processes)}: {_paced_costs(result)} for an event at that rate"
                for result in results
            ],
            f"rounds: {rounds} for each number of processes; figures are medians, latency is that of all rounds",
        ],
    )


def _paced_costs(result: Result) -> str:
    return ", ".join(f"{part} {number(result.cpu_us(result.paced, part), 0)} µs" for part in PARTS)


def _draw(settings: Settings, results: Sequence[Result], axes: "Axes") -> None:
    places = range(len(results))
    heights = [0.0] * len(results)
    for part in PARTS:
        values = [result.cpu_us(result.busy, part) or 0.0 for result in results]
        bars = axes.bar(places, values, 0.5, bottom=heights, label=f"{part}, CPU")
        axes.bar_label(bars, [f"{value:.0f}" for value in values], label_type="center", fontsize=8)
        heights = [height + value for height, value in zip(heights, values, strict=True)]
    axes.set_ylim(top=1.3 * max(heights))  # room for the legends
    axes.set_xticks(list(places), [_processes(result.processes) for result in results])
    axes.set_ylabel("CPU, µs per event")
    lateness = axes.twinx()
    for at in (50, 99):
        late = [result.late_us.get_value_at_percentile(at) / 1e3 for result in results]
        lateness.plot(places, late, marker="o", color="black", linestyle="-" if at == 50 else ":", label=f"p{at}")
    lateness.set_ylabel(f"lateness at {settings.rate:g} events/s, ms")
    lateness.set_ylim(0, 1.3 * lateness.get_ylim()[1])
    axes.legend(loc="upper left", fontsize=8)
    lateness.legend(loc="upper right", fontsize=8)
