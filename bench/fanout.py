"""What a delivered push costs: one agent sends, N subscribers are told.

For rtm: an owner starts a chat, N agents log in and follow it, the owner sends events (durable) or multicasts (not
stored). The next batch goes when everybody has had the last. The peers deliver the same bytes to as many sockets, and
know nothing of what is in them.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.agents import answers
from bench.clients import PING_INTERVAL_S, Audience, Client, connected, ping, text_frame, unmasked_text_frame
from bench.peers import PEERS
from bench.report import Report, comparison, comparison_columns, draw_cpu, progress, remarks, samples
from bench.rounds import Contestant, Load, contestants_of, measure, schedule, set_up
from bench.server import Server, Target, peer
from bench.stage import Via, staged


@dataclass(frozen=True, slots=True)
class Settings:
    """`size_bytes` is that of a push with its envelope; where the envelope alone is more, that is the size."""

    servers: tuple[str, ...]
    subscribers: int
    burst: int
    size_bytes: int
    via: Via
    seconds: float
    target: Target


class Fanout:
    """A load: messages from one publisher to everybody in an audience."""

    def __init__(self, running: Server, publisher: Client, subscribers: list[Client], frame: bytes) -> None:
        self.server = running
        self._publisher = publisher
        self._audience = Audience(subscribers)
        self._frame = frame

    def run(self, case: int, seconds: float) -> int:
        batch, batches = self._frame * case, 0
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._publisher.send(batch)
            self._audience.receive(case)
            self._acknowledged(case)
            batches += 1
        self._audience.check()
        return batches * case * len(self._audience.clients)

    def keep_alive(self) -> None:
        """A peer asks for no pings."""

    def _acknowledged(self, messages: int) -> None:
        """A peer acknowledges nothing."""


class RtmFanout(Fanout):
    """The same through the whole gateway."""

    _pinged_at = 0.0

    def keep_alive(self) -> None:
        if time.monotonic() - self._pinged_at > PING_INTERVAL_S:
            ping([self._publisher, *self._audience.clients])
            self._pinged_at = time.monotonic()

    def _acknowledged(self, messages: int) -> None:
        answers(self._publisher, messages)


def run(settings: Settings) -> Report:
    """Start the servers asked for, load them in turn, stop them."""
    cases = {1: "one at a time"} | ({settings.burst: f"{settings.burst} at once"} if settings.burst > 1 else {})
    contestants = contestants_of(settings.servers)
    rounds, _ = schedule(settings.seconds, len(cases))
    message = b"x" * settings.size_bytes

    def start(name: str) -> Load:
        nonlocal message
        if name == "rtm":
            stage = stack.enter_context(staged(settings.target, settings.subscribers, settings.via))
            frame, message = stage.sized_request(settings.size_bytes)
            return RtmFanout(stage.server, stage.publisher, stage.subscribers, frame)
        raw = PEERS[name].raw
        running = stack.enter_context(peer(name, "fanout"))
        clients = stack.enter_context(connected(running.address, settings.subscribers + 1, None if raw else "/"))
        frame = unmasked_text_frame(message) if raw else text_frame(message)
        # When what the last one sends is read, all the others have been accepted.
        return Fanout(running, clients[-1], clients[:-1], frame)

    with ExitStack() as stack:
        tick = stack.enter_context(progress(len(contestants) * (1 + (1 + rounds) * len(cases))))
        set_up(contestants, start, tick)
        measure(contestants, list(cases), settings.seconds, tick)
    return _report(settings, contestants, cases, len(message))


def _report(settings: Settings, contestants: list[Contestant], cases: dict[int, str], size: int) -> Report:
    return Report(
        title=f"fanout: {settings.subscribers:,} subscribers, pushes of {size} bytes, by {settings.via}",
        columns=["server", "messages", *comparison_columns(contestants, "push", "pushes")],
        rows=[
            [one.label, label, *comparison(contestants, one, case)]
            for case, label in cases.items()
            for one in contestants
        ],
        data={"size_bytes": size, "subscribers": settings.subscribers, "via": settings.via, **samples(contestants)},
        draw=partial(draw_cpu, contestants, cases, "push"),
        notes=[
            *remarks(contestants),
            f"rounds: {schedule(settings.seconds, len(cases))[0]}, servers in turn; figures are medians",
            "pushes/s is what one sender that waits for everybody reaches; CPU is the server's, whoever waits",
        ],
    )
