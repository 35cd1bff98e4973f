"""`rtm serve` as a process of its own: started, asked, stopped or killed.

Its log goes to stderr, where pytest keeps what each test caused and shows it if the test fails, or to a file.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from tests.world import STABLE, Client, Web

PATIENCE_S = 60
"""The longest that a process may take to do what is asked of it."""

_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RTM_")}


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that comes to its end."""
    return subprocess.run(
        _command(*arguments),
        env=_ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _command(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "rtm", *arguments]


@dataclass(frozen=True)
class ServerProcess:
    """A server that accepts connections."""

    process: subprocess.Popen[str]
    base_url: str
    data_dir: Path

    @property
    def address(self) -> str:
        """Host and port."""
        return self.base_url.partition("://")[2]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @cached_property
    def credentials(self) -> dict[str, Any]:
        """What `--credentials` has written; of a server that was started by `serving_demo`."""
        content: dict[str, Any] = json.loads(_credentials_of(self.data_dir).read_bytes())
        return content

    def token(self, agent_id: str) -> str:
        """The access token of a demo agent."""
        agents = self.credentials["agents"]
        return next(str(agent["access_token"]) for agent in agents if agent["id"] == agent_id)

    def web(self, agent_id: str, version: str = STABLE) -> Web:
        """A demo agent at the Web API."""
        return Web(self.port, version, f"Bearer {self.token(agent_id)}")

    @asynccontextmanager
    async def agent(self, agent_id: str, *, token: str | None = None, **login: Any) -> AsyncIterator[Client]:
        """A demo agent, logged in on a socket."""
        client = await Client.open(self.port)
        try:
            client.id = agent_id
            client.greeting = await client.call("login", token=f"Bearer {token or self.token(agent_id)}", **login)
            yield client
        finally:
            await client.close()

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    data_dir: Path,
    *arguments: str | Path,
    log: IO[str] | None = None,
    within: Sequence[str | Path] = (),
    **environment: str,
) -> Iterator[ServerProcess]:
    """A server on a free port; one that has not been killed is stopped at the end, which must be a good one.

    `within` is a command that becomes the one after it, such as `nice`.
    """
    process = subprocess.Popen(
        [*within, *_command("serve", "--port", "0", "--data-dir", data_dir, *arguments)],
        env=_ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield ServerProcess(process, _base_url(process), data_dir)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def _base_url(process: subprocess.Popen[str]) -> str:
    """The first line says it, when the port accepts connections and the credentials are written."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    words = process.stdout.readline().split() if readable else []
    assert words, f"the server did not start; exit status {process.poll()}"
    return words[2]


@contextmanager
def serving_demo(
    data_dir: Path,
    *arguments: str | Path,
    log: IO[str] | None = None,
    within: Sequence[str | Path] = (),
    **environment: str,
) -> Iterator[ServerProcess]:
    """A server with demo data."""
    demo = ("--demo", "--credentials", _credentials_of(data_dir))
    with serving(data_dir, *demo, *arguments, log=log, within=within, **environment) as server:
        yield server


def _credentials_of(data_dir: Path) -> Path:
    return data_dir / "credentials.json"
