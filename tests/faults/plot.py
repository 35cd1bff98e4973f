"""What a drill looked like: events sent, acknowledged and delivered over time, with the faults marked."""

from collections import Counter
from pathlib import Path

from tests.faults.log import Log

STEP_S = 0.25


def draw(log: Log, title: str, path: Path) -> None:
    """Write the plot, .png or .svg: rates above, how long each push took below."""
    from matplotlib.figure import Figure

    acknowledged_at = {ask.event_id: ask.answered_at for ask in log.asks if ask.event_id is not None}
    told = [each for connection in log.connections for each in connection.told]
    figure = Figure(figsize=(10, 6), layout="constrained")
    rates, delays = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    once: Counter[int] = Counter()
    for label, times, shares in (
        ("sent", [ask.at for ask in log.asks], once),
        ("acknowledged", list(acknowledged_at.values()), once),
        ("delivered, to each connection", [each.at for each in told], _listening(log)),
    ):
        counts = Counter(int((at - log.started) / STEP_S) for at in times if at is not None)
        steps = range(max(counts, default=0) + 1)
        shown = [counts[step] / (shares[step] or 1) / STEP_S for step in steps]
        rates.step([step * STEP_S for step in steps], shown, where="post", label=label)
    points = [
        (each.at - log.started, max(each.at - asked, 1e-4) * 1e3)
        for each in told
        if (asked := acknowledged_at.get(each.event_id)) is not None
    ]
    if points:
        delays.plot(*zip(*points, strict=True), ",", color="tab:green")
    for axes in (rates, delays):
        for fault in log.faults:
            ended = fault.ended if fault.ended is not None else fault.started
            axes.axvspan(fault.started - log.started, ended - log.started, color="tab:red", alpha=0.15, linewidth=0)
            axes.axvline(fault.started - log.started, color="tab:red", linewidth=0.8)
    for name in dict.fromkeys(fault.what for fault in log.faults):
        rates.plot([], [], color="tab:red", label=name)
    rates.set_title(title, fontsize=10)
    rates.set_ylabel("events a second")
    rates.set_ylim(bottom=0)
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)
    delays.set_yscale("log")
    delays.set_ylabel("delivered after the\nacknowledgement, ms")
    delays.set_xlabel("seconds")
    figure.savefig(path)


def _listening(log: Log) -> Counter[int]:
    """How many connections heard of events in each step."""
    listening: Counter[int] = Counter()
    for connection in log.connections:
        if connection.told and connection.logged_in_at is not None:
            until = connection.end.at if connection.end is not None else connection.told[-1].at
            first, last = ((at - log.started) / STEP_S for at in (connection.logged_in_at, until))
            listening.update(range(round(first), round(last)))
    return listening
