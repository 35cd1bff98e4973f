"""The servers under load: started, stopped, and what the operating system says they cost.

running(command)       any server, stopped at the end whatever happens
peer(name, mode)       one of `bench.peers`
rtm(target, agents)    `rtm serve --demo` in a directory of its own, or the server that the user named
rtm_processes(count)   several, which form one system
"""

import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.agents import Credentials
from bench.peers import PEERS, Mode

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10

_PROJECT = Path(__file__).parent.parent


class CannotStart(Exception):
    """A server that is not installed, or did not come up; the message says which."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a server and its children. What processes have in common, `rss_bytes` counts twice and `pss_bytes` once."""

    rss_bytes: int
    pss_bytes: int


class Server:
    """Where a server listens, and its process if that is on this machine. Raises CannotStart if there is none."""

    def __init__(self, address: tuple[str, int], pid: int | None) -> None:
        self.address = address
        try:
            self._process = None if pid is None else psutil.Process(pid)
        except psutil.NoSuchProcess as error:
            raise CannotStart(f"no process has the id {pid}") from error

    def cpu_s(self) -> float | None:
        """User and system time that the server and its children have spent so far; kept in steps of 10 ms."""
        if self._process is None:
            return None
        times = [process.cpu_times() for process in self._family()]
        return float(sum(spent.user + spent.system for spent in times))

    def memory(self) -> Memory | None:
        if self._process is None:
            return None
        each = [process.memory_full_info() for process in self._family()]
        return Memory(sum(info.rss for info in each), sum(info.pss for info in each))

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        return [self._process, *self._process.children(recursive=True)]


@dataclass(frozen=True, slots=True)
class Target:
    """The rtm to measure: a running one, given by its credentials file, or none: then one is started."""

    credentials: Path | None = None
    url: str | None = None
    pid: int | None = None


def raise_open_files() -> None:
    """Allow this process, and the servers it starts, as many sockets as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def running(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A server process; its standard error goes to `directory/server.log`."""
    paths = [str(_PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        )
    try:
        yield process
    finally:
        _stop(process)


@contextmanager
def peer(name: str, mode: Mode) -> Iterator[Server]:
    """A peer, ready. Raises CannotStart."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        command = PEERS[name].command(mode, directory)
        if command is None:
            raise CannotStart("not installed")
        process = stack.enter_context(running(command, directory, {}))
        yield Server(("127.0.0.1", int(_first_line(process, directory))), process.pid)


@contextmanager
def rtm(target: Target, agents: int) -> Iterator[tuple[Server, Credentials]]:
    """The rtm to measure, ready, with at least `agents` agents. Raises CannotStart."""
    if target.credentials is None:
        with _demo(agents) as started:
            yield started
        return
    credentials = Credentials.load(target.credentials)
    if len(credentials.agents) < agents:
        raise CannotStart(f"{target.credentials} names {len(credentials.agents)} agents, this load needs {agents}")
    yield Server(_address(target.url or credentials.base_url), target.pid), credentials


@contextmanager
def rtm_processes(
    count: int, agents: int, environment: Mapping[str, str]
) -> Iterator[tuple[list[Server], Credentials]]:
    """Several processes, each on a port of its own; `environment` names their PostgreSQL and Redis."""
    with ExitStack() as stack:
        server, credentials = stack.enter_context(_demo(agents, environment))
        others = [_started(stack, [], environment) for _ in range(1, count)]
        yield [server, *[_ready(*other) for other in others]], credentials


@contextmanager
def _demo(agents: int, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Server, Credentials]]:
    """A server of our own; settings from the environment (RTM_DATABASE_URL and so on) reach it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        path = directory / "credentials.json"
        options = ["--demo", "--demo-agents", str(agents), "--credentials", str(path)]
        server = _ready(*_started(stack, options, environment or {}))
        yield server, Credentials.load(path)


def _started(
    stack: ExitStack, options: Sequence[str], environment: Mapping[str, str]
) -> tuple[subprocess.Popen[str], Path]:
    """A server that may not be ready yet, and its directory."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    defaults = {
        "RTM_HOST": "127.0.0.1",
        "RTM_PORT": "0",
        "RTM_DATA_DIR": str(directory / "data"),
        # One license, and one socket, is asked for more than any real one asks.
        "RTM_LIMITS__REQUESTS_PER_MINUTE": "0",
        "RTM_LIMITS__MESSAGES_PER_SECOND": "0",
        "RTM_LOG_LEVEL": "warning",
        "RTM_DRAIN_S": "0",
    }
    command = [sys.executable, "-m", "rtm", "serve", *options]
    return stack.enter_context(running(command, directory, {**defaults, **environment})), directory


def _ready(process: subprocess.Popen[str], directory: Path) -> Server:
    """The server, when its port accepts connections: its first line says where that is. Raises CannotStart."""
    return Server(_address(_first_line(process, directory).split()[2]), process.pid)


def _first_line(process: subprocess.Popen[str], directory: Path) -> str:
    """What a server says when its port accepts connections. Raises CannotStart."""
    assert process.stdout is not None
    output = select.poll()
    output.register(process.stdout, select.POLLIN)
    # What is readable is a whole line, or the end.
    line = process.stdout.readline() if output.poll(START_TIMEOUT_S * 1000) else ""
    if not line:
        raise CannotStart(_last_words(directory))
    return line


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "ws") or parts.hostname is None:
        raise CannotStart(f"the load speaks plain http, not {url}")
    return parts.hostname, parts.port or 80


def _last_words(directory: Path) -> str:
    lines = (directory / "server.log").read_text().split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process and, if it has to be killed, the children it would leave behind."""
    with process:  # closes the pipes
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            for child in family:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
