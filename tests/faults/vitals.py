"""What a server process holds: memory, file descriptors, tasks; and what says so from within."""

import asyncio
import json
import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.running import PATIENCE_S

SITECUSTOMIZE = """
import asyncio, json, os, signal
from collections import Counter


def report(*_):
    tasks = [task for task in list(asyncio.tasks._all_tasks) if not task.done()]
    counts = Counter(task.get_coro().__qualname__ for task in tasks)
    path = os.path.join(os.path.dirname(__file__), str(os.getpid()))
    with open(path + ".new", "w") as file:
        json.dump(counts, file)
    os.rename(path + ".new", path)


signal.signal(signal.SIGUSR1, report)
"""


@dataclass(frozen=True, slots=True)
class Vitals:
    """At one moment; `tasks` by the name of their coroutine."""

    rss_bytes: int
    descriptors: int
    tasks: Counter[str]

    def __str__(self) -> str:
        return f"{self.rss_bytes / 2**20:.1f} MiB, {self.descriptors} descriptors, {self.tasks.total()} tasks"


class Watched:
    """Processes that are started with `environment` can be asked for their vitals."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self._folder = folder
        self.environment = {"PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())])}

    async def vitals(self, pid: int) -> Vitals:
        """Ask one of them."""
        process = psutil.Process(pid)
        report = self._folder / str(pid)
        report.unlink(missing_ok=True)
        process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(PATIENCE_S):
            while not report.exists():
                await asyncio.sleep(0.01)
        tasks = Counter(json.loads(report.read_text()))
        return Vitals(process.memory_info().rss, process.num_fds(), tasks)
