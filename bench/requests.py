"""What a durable event costs: C agents each send events to a chat with one colleague.

For rtm: C agents log in, each starts a chat with an agent of its own who is logged in too; an event is a `send_event`,
committed, answered, and pushed to the colleague. Each agent sends the next event when it has the answer to the last.
The peers echo the same bytes on as many connections, and neither read nor keep nor push them.
"""

import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain

from hdrh.histogram import HdrHistogram

from bench.agents import call_each, encode_message, logged_in
from bench.clients import (
    PING_INTERVAL_S,
    Client,
    LoadError,
    connected,
    epoll_of,
    ping,
    poll_busily,
    text_frame,
    unmasked_text_frame,
)
from bench.peers import PEERS
from bench.report import (
    Report,
    comparison,
    comparison_columns,
    draw_cpu,
    histogram_us,
    number,
    progress,
    remarks,
    samples,
)
from bench.rounds import Contestant, Load, contestants_of, measure, schedule, set_up
from bench.server import Server, Target, peer, rtm
from bench.stage import PUSHES


@dataclass(frozen=True, slots=True)
class Settings:
    """`size_bytes` is that of a request with its envelope; where the envelope alone is more, that is the size."""

    servers: tuple[str, ...]
    connections: int
    size_bytes: int
    seconds: float
    target: Target


class Caller:
    """A connection with at most one request under way."""

    __slots__ = ("_answer", "_frame", "asked_at", "client")

    def __init__(self, client: Client, frame: bytes, answer: bytes) -> None:
        self.client = client
        self.asked_at = 0.0
        self._frame = frame
        self._answer = answer

    def ask(self, now: float) -> None:
        self.asked_at = now
        self.client.send(self._frame)

    def answered(self) -> bool:
        """Read what has arrived. Raises LoadError if the request was refused."""
        for message in self.client.read():
            if self._answer in message:
                return True
            if b'"success":false' in message:
                raise LoadError(f"refused: {message.decode()}")
        return False


class Requests:
    """A load: every caller repeats its request as soon as it is answered.

    Each request is also pushed to one of the `listeners`, where there are any.
    """

    def __init__(self, running: Server, callers: Sequence[Caller], listeners: Sequence[Client] = ()) -> None:
        self.server = running
        # Of each run; the first is the warm-up.
        self.latencies_s: list[array[float]] = []
        self._callers = {caller.client.socket.fileno(): caller for caller in callers}
        self._listeners = {client.socket.fileno(): client for client in listeners}
        self._epoll = epoll_of([*(caller.client for caller in callers), *listeners])
        self._pinged_at = 0.0

    def run(self, case: int, seconds: float) -> int:
        latencies = array("d")
        until = time.perf_counter() + seconds
        for each in self._callers.values():
            each.ask(time.perf_counter())
        waiting, heard = len(self._callers), 0
        while waiting or (self._listeners and heard < len(latencies)):
            ready = poll_busily(self._epoll)
            if not ready:
                raise LoadError(f"{waiting} requests unanswered, {heard} of {len(latencies)} pushes delivered")
            for fd, _ in ready:
                caller = self._callers.get(fd)
                if caller is None:
                    heard += len(self._listeners[fd].read())
                elif caller.answered():
                    now = time.perf_counter()
                    latencies.append(now - caller.asked_at)
                    if now < until:
                        caller.ask(now)
                    else:
                        waiting -= 1
        self.latencies_s.append(latencies)
        return len(latencies)

    def keep_alive(self) -> None:
        if self._listeners and time.monotonic() - self._pinged_at > PING_INTERVAL_S:
            ping([*(caller.client for caller in self._callers.values()), *self._listeners.values()])
            self._pinged_at = time.monotonic()


def run(settings: Settings) -> Report:
    """Start the servers asked for, load them in turn, stop them."""
    contestants = contestants_of(settings.servers)
    rounds, _ = schedule(settings.seconds, 1)
    request = b"x" * settings.size_bytes

    def start(name: str) -> Load:
        nonlocal request
        if name == "rtm":
            load, request = _rtm(stack, settings)
            return load
        raw = PEERS[name].raw
        running = stack.enter_context(peer(name, "echo"))
        clients = stack.enter_context(connected(running.address, settings.connections, None if raw else "/"))
        frame = unmasked_text_frame(request) if raw else text_frame(request)
        return Requests(running, [Caller(client, frame, b"") for client in clients])

    with ExitStack() as stack:
        tick = stack.enter_context(progress(len(contestants) * (2 + rounds)))
        set_up(contestants, start, tick)
        loads = {contestant.name: contestant.load for contestant in contestants}
        measure(contestants, [settings.connections], settings.seconds, tick)
    latencies = {
        name: histogram_us(chain.from_iterable(load.latencies_s[1:]))
        for name, load in loads.items()
        if isinstance(load, Requests)
    }
    return _report(settings, contestants, latencies, len(request))


def _rtm(stack: ExitStack, settings: Settings) -> tuple[Requests, bytes]:
    """The load, and one of its requests without the frame."""
    count = settings.connections
    running, credentials = stack.enter_context(rtm(settings.target, 2 * count))
    speakers, colleagues = credentials.agents[:count], credentials.agents[count : 2 * count]
    listeners = stack.enter_context(logged_in(running.address, colleagues, [PUSHES["event"]]))
    clients = stack.enter_context(logged_in(running.address, speakers, []))
    wanted = [{"chat": {"users": [{"id": agent.id, "type": "agent"}]}, "continuous": True} for agent in colleagues]
    chats = [answer["chat_id"] for answer in call_each(clients, "start_chat", wanted)]
    requests = [request_of(chat_id, settings.size_bytes) for chat_id in chats]
    callers = [
        Caller(client, text_frame(request), b'"success":true')
        for client, request in zip(clients, requests, strict=True)
    ]
    return Requests(running, callers, listeners), requests[0]


def request_of(chat_id: str, size_bytes: int) -> bytes:
    """A `send_event` of that size."""
    shortest = encode_message(chat_id, "x")
    return encode_message(chat_id, "x" * max(1, 1 + size_bytes - len(shortest)))


def _report(
    settings: Settings, contestants: list[Contestant], latencies_us: dict[str, HdrHistogram], size: int
) -> Report:
    case = settings.connections
    rounds, _ = schedule(settings.seconds, 1)
    rows = []
    for one in contestants:
        cells = comparison(contestants, one, case)
        if cells:
            cells += [number(latencies_us[one.name].get_value_at_percentile(at) / 1e3, 2) for at in (50, 99)]
        rows.append([one.label, *cells])
    return Report(
        title=f"requests: {settings.connections:,} connections, requests of {size} bytes, one at a time on each",
        columns=["server", *comparison_columns(contestants, "event", "events"), "p50 ms", "p99 ms"],
        rows=rows,
        data={"size_bytes": size, "connections": settings.connections, **samples(contestants)},
        draw=partial(draw_cpu, contestants, {case: f"{case} connections"}, "event"),
        notes=[
            *remarks(contestants),
            "rtm: each event is committed, answered, and pushed to one other agent; the others echo the request",
            f"rounds: {rounds}, servers in turn; figures are medians, latency as the load sees it",
        ],
    )
