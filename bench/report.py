"""What a run leaves: a table, the same in Markdown, JSON with every sample, a plot."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.rounds import Contestant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PACKAGES = ("rtm", "websockets", "uvicorn", "uvloop", "starlette", "socketify", "orjson")


# How busy others kept the machine in the minute before the run.
_LOAD_BEFORE = os.getloadavg()[0]

# Of a table that goes to a file.
_WIDTH = 140


@dataclass
class Report:
    """`data` is what `--json` writes besides the machine; `draw` fills the plot."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: dict[str, Any]
    draw: Callable[["Axes"], None]
    notes: list[str] = field(default_factory=list)

    def show(self) -> None:
        console = Console()
        if not console.is_terminal:
            console.width = _WIDTH
        table = Table(title=self.title)
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in [*self.notes, machine()]:
            console.print(note, style="dim", highlight=False)

    def markdown(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        width = len(self.columns)
        table = [f"| {' | '.join([*cells, *[''] * (width - len(cells))])} |" for cells in lines]
        return "\n".join([f"### {self.title}", "", *table, "", *[f"- {note}" for note in [*self.notes, machine()]], ""])

    def json(self) -> bytes:
        content = {
            "title": self.title,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "packages": {name: found for name in _PACKAGES if (found := _version(name))},
            "notes": self.notes,
            **self.data,
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)

    def plot(self, path: Path) -> None:
        """PNG or SVG, as the name ends."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        self.draw(axes)
        axes.set_title(self.title, fontsize=10)
        figure.savefig(path)


@contextmanager
def progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar that moves by one step at each call. It is drawn only then: never while something is measured."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps)

        def tick(description: str) -> None:
            bar.update(task, advance=1, description=description, refresh=True)

        yield tick


def number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def histogram_us(times_s: Iterable[float] = ()) -> HdrHistogram:
    """Of times, in µs: from one to a minute, to three digits."""
    histogram = HdrHistogram(1, 60_000_000, 3)
    for time_s in times_s:
        histogram.record_value(max(1, round(time_s * 1e6)))
    return histogram


# What the others are measured against, where it takes part.
_REFERENCES = ("kernel", "uwebsockets", "wire")


def comparison_columns(contestants: Sequence[Contestant], operation: str, operations: str) -> list[str]:
    """The heads of `comparison`."""
    ratios = [f"x {one.name}" for one in contestants if one.name in _REFERENCES]
    return [f"CPU µs/{operation}", *ratios, f"{operations}/s", "server cores", "load cores"]


def comparison(contestants: Sequence[Contestant], one: Contestant, case: int) -> list[str]:
    """What one server costs in a case, and how many times what the references cost; nothing if there is no figure."""
    if not one.samples.get(case):
        return []
    return [
        number(one.median(case, lambda sample: sample.cpu_us), 2),
        *[number(one.ratio(case, other), 2) for other in contestants if other.name in _REFERENCES],
        number(one.median(case, lambda sample: sample.per_second), 0),
        number(one.median(case, lambda sample: sample.server_busy), 2),
        number(one.median(case, lambda sample: sample.client_busy), 2),
    ]


def remarks(contestants: Sequence[Contestant]) -> list[str]:
    """Why some have no figures, or not all."""
    return [f"{one.label}: {one.remark}" for one in contestants if one.remark]


def samples(contestants: Sequence[Contestant]) -> dict[str, Any]:
    """Every sample of a comparison, for `Report.data`."""
    return {
        contestant.name: {
            "label": contestant.label,
            "remark": contestant.remark,
            "cases": {case: [asdict(sample) for sample in taken] for case, taken in contestant.samples.items()},
        }
        for contestant in contestants
    }


def draw_cpu(contestants: Sequence[Contestant], cases: dict[int, str], unit: str, axes: "Axes") -> None:
    """A bar for each server and case."""
    shown = [contestant for contestant in reversed(contestants) if contestant.samples]
    height = 0.8 / len(cases)
    for index, (case, label) in enumerate(cases.items()):
        positions = [row + (len(cases) - 1 - index) * height for row in range(len(shown))]
        values = [contestant.median(case, lambda sample: sample.cpu_us) or 0.0 for contestant in shown]
        bars = axes.barh(positions, values, height, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks([row + (len(cases) - 1) * height / 2 for row in range(len(shown))])
    axes.set_yticklabels([contestant.label for contestant in shown], fontsize=8)
    axes.set_xlabel(f"server CPU, µs per {unit}")
    axes.legend(fontsize=8)


def machine() -> str:
    """The machine, the interpreter, and whether others were at work, in a line."""
    system = f"Linux {platform.release()}, CPython {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {system}; load average before the run {_LOAD_BEFORE:.1f}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
