"""Drills leave plots where they are asked to: `pytest tests/faults --plots DIR`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.log import Log
from tests.faults.plot import draw

Plotted = Callable[[Log, str], None]


@pytest.fixture
def plotted(request: pytest.FixtureRequest) -> Iterator[Plotted]:
    """Have this log drawn when the test has ended, well or not; the file is called as the test."""
    folder = request.config.getoption("--plots")
    drawn: list[tuple[Log, str]] = []
    yield lambda log, title: drawn.append((log, title))
    if folder is not None:
        name = request.node.originalname.removeprefix("test_").replace("_", "-")
        for log, title in drawn:
            Path(folder).mkdir(parents=True, exist_ok=True)
            draw(log, title, Path(folder) / f"fault-{name}.png")
