"""What a logged-in connection that does nothing keeps in the server's memory.

Agents log in, one connection each, in steps; after each step the memory is read when it has come to rest. The first
step pays for what the server makes once, and what is counted is the growth since.
"""

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.agents import logged_in
from bench.clients import PING_INTERVAL_S, Client, ping
from bench.report import Report, number, progress
from bench.server import CannotStart, Memory, Server, Target, rtm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REST_S, _REST_BYTES, _REST_TIMEOUT_S = 0.5, 1 << 16, 10


@dataclass(frozen=True, slots=True)
class Settings:
    connections: int
    steps: int
    target: Target


@dataclass(frozen=True, slots=True)
class Level:
    connections: int
    memory: Memory


def run(settings: Settings) -> Report:
    """Raises CannotStart if the memory cannot be read: the server has to run here, its process known."""
    levels: list[Level] = []
    clients: list[Client] = []
    with ExitStack() as stack:
        tick = stack.enter_context(progress(settings.steps + 1))
        tick("starting rtm")
        server, credentials = stack.enter_context(rtm(settings.target, settings.connections))
        counts = [settings.connections * step // settings.steps for step in range(settings.steps + 1)]
        pinged_at = time.monotonic()
        for have, want in pairwise(counts):
            tick(f"{want} connections")
            clients += stack.enter_context(logged_in(server.address, credentials.agents[have:want], []))
            levels.append(Level(want, _at_rest(server)))
            if time.monotonic() - pinged_at > PING_INTERVAL_S:
                ping(clients)
                pinged_at = time.monotonic()
    return _report(levels)


def _at_rest(server: Server) -> Memory:
    """The memory when it has stopped to change."""
    give_up = time.monotonic() + _REST_TIMEOUT_S
    memory = _memory(server)
    while time.monotonic() < give_up:
        time.sleep(_REST_S)
        before, memory = memory, _memory(server)
        if abs(memory.rss_bytes - before.rss_bytes) <= _REST_BYTES:
            break
    return memory


def _memory(server: Server) -> Memory:
    memory = server.memory()
    if memory is None:
        raise CannotStart("memory can only be read with --pid")
    return memory


def _report(levels: list[Level]) -> Report:
    first = levels[0]
    rows = []
    for level in levels:
        new = level.connections - first.connections
        rss = (level.memory.rss_bytes - first.memory.rss_bytes) / new / 1024 if new else None
        pss = (level.memory.pss_bytes - first.memory.pss_bytes) / new / 1024 if new else None
        rss_mib, pss_mib = level.memory.rss_bytes / 2**20, level.memory.pss_bytes / 2**20
        rows.append([f"{level.connections:,}", number(rss_mib), number(pss_mib), number(rss, 2), number(pss, 2)])
    return Report(
        title=f"idle: {levels[-1].connections:,} logged-in connections, of as many agents",
        columns=["connections", "RSS MiB", "PSS MiB", "RSS KiB a connection", "PSS KiB a connection"],
        rows=rows,
        data={"levels": [asdict(level) for level in levels]},
        draw=partial(_draw, levels),
        notes=[f"a connection: growth since the first {first.connections:,}, shared by those that came after"],
    )


def _draw(levels: list[Level], axes: "Axes") -> None:
    counts = [level.connections for level in levels]
    axes.plot(counts, [level.memory.rss_bytes / 2**20 for level in levels], marker="o", label="RSS")
    axes.plot(counts, [level.memory.pss_bytes / 2**20 for level in levels], marker="o", label="PSS")
    axes.set_xlabel("logged-in connections")
    axes.set_ylabel("server memory, MiB")
    axes.set_ylim(bottom=0)
    axes.legend()
