"""What a process tells of itself to Prometheus.

Each part counts for itself, most of it in plain numbers that are read only when somebody asks.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rtm.actions.outcomes import Outcomes
from rtm.actions.registry import RTM
from rtm.bus.base import Bus
from rtm.gateway.cork import Flusher
from rtm.gateway.session import Gateway
from rtm.gateway.wire import Wires
from rtm.store.writer import Writer

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that says when it began

# Places of the powers of two that are told apart.
_CORK_FRAMES = range(1, 13)  # 1 to 4,095
_FANOUT_NS = range(13, 29)  # 8 µs to 268 ms


def registry(
    gateway: Gateway, wires: Wires, flusher: Flusher, writer: Writer, outcomes: Outcomes, bus: Bus
) -> CollectorRegistry:
    """The metrics of one process, which is made of these parts."""
    found = CollectorRegistry()
    ProcessCollector(registry=found)
    PlatformCollector(registry=found)
    GCCollector(registry=found)
    for histogram in (outcomes.seconds, writer.batch_sizes, writer.commit_seconds):
        found.register(histogram)
    found.register(_Numbers(gateway, wires, flusher, outcomes, bus))
    return found


class _Numbers(Collector):
    """What the parts count in plain numbers; must be read on the event loop."""

    def __init__(self, gateway: Gateway, wires: Wires, flusher: Flusher, outcomes: Outcomes, bus: Bus) -> None:
        self._gateway = gateway
        self._wires = wires
        self._flusher = flusher
        self._outcomes = outcomes
        self._bus = bus

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._of_sockets()
        yield from self._of_requests()
        yield from self._of_pushes()
        yield from self._of_bus()
        yield GaugeMetricFamily("rtm_tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))

    def _of_sockets(self) -> Iterable[Metric]:
        logged_in = sum(len(room.sessions) for room in self._gateway.hub.rooms)
        states = {"logged_in": logged_in, "not_logged_in": self._gateway.unauthorized.total()}
        yield _gauges("rtm_sockets", "Open sockets.", "state", states)
        yield GaugeMetricFamily("rtm_licenses", "Licenses somebody is connected of.", len(self._gateway.hub.rooms))
        yield _counters(
            "rtm_disconnects",
            "Sockets ended from here, by reason.",
            "reason",
            self._gateway.disconnects,
        )
        yield CounterMetricFamily(
            "rtm_slow_readers_cut",
            "Sockets cut, with what waited for them.",
            self._wires.slow_readers_cut,
        )

    def _of_requests(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "rtm_requests",
            "Requests answered: ok, or the type of the error.",
            labels=("transport", "action", "outcome"),
        )
        logins = CounterMetricFamily("rtm_logins", "Attempts to log in on a socket.", labels=("outcome",))
        for (transport, action, outcome), count in self._outcomes.counts.items():
            requests.add_metric((transport, action, outcome), count)
            if (transport, action) == (RTM, "login"):
                logins.add_metric((outcome,), count)
        yield requests
        yield logins

    def _of_pushes(self) -> Iterable[Metric]:
        hub = self._gateway.hub
        yield _counters("rtm_pushes", "Pushes to licenses that are connected here.", "push", hub.fanout.pushes)
        yield CounterMetricFamily("rtm_gaps_repaired", "Pushes read from the outbox.", hub.gaps_repaired)
        behind = max((room.feed.behind for room in hub.rooms), default=0)
        yield GaugeMetricFamily("rtm_outbox_lag_pushes", "Stored pushes that the last license still waits for.", behind)
        yield CounterMetricFamily("rtm_writes", "Writes to sockets.", self._flusher.writes)
        yield _doublings(
            "rtm_cork_frames",
            "Frames in one write; a shared one counts once.",
            self._flusher.sizes,
            _CORK_FRAMES,
            self._flusher.corked,
        )
        yield _doublings(
            "rtm_fanout_seconds",
            "Time to find a push's recipients here, to encode it, and to give it to all of them.",
            hub.fanout.times_ns,
            _FANOUT_NS,
            hub.fanout.total_ns,
            1e-9,
        )

    def _of_bus(self) -> Iterable[Metric]:
        traffic = self._bus.traffic
        yield GaugeMetricFamily("rtm_bus_healthy", "Whether what is published is heard.", float(self._bus.healthy))
        yield CounterMetricFamily("rtm_bus_published", "Envelopes sent.", traffic.published)
        yield CounterMetricFamily("rtm_bus_heard", "Envelopes of other processes.", traffic.heard)
        yield CounterMetricFamily("rtm_bus_dropped", "Envelopes that never left, as too many waited.", traffic.dropped)
        yield CounterMetricFamily("rtm_bus_lost", "Times that envelopes may have been missed.", traffic.lost)
        yield CounterMetricFamily("rtm_bus_reconnects", "Connections that were made anew.", traffic.reconnects)


def _gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def _counters(name: str, help_: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def _doublings(name: str, help_: str, counts: Sequence[int], places: range, total: int, unit: float = 1) -> Metric:
    """A histogram of integers, each of which was counted at the place of its `bit_length()`."""
    family = HistogramMetricFamily(name, help_, labels=())
    up_to = list(accumulate(counts))
    buckets = [(repr((2**place - 1) * unit), up_to[place]) for place in places]
    family.add_metric((), [*buckets, ("+Inf", up_to[-1])], total * unit)
    return family
