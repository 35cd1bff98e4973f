"""Serves the app: what must be right before, the socket it listens on, one process or several, and a clean end."""

import asyncio
import math
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

import uvicorn
from redis.exceptions import RedisClusterException, RedisError
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from rtm import logs
from rtm.banner import show
from rtm.demo.credentials import Credentials
from rtm.demo.license import ensure
from rtm.gateway.drain import drain
from rtm.private import write_private
from rtm.redis_client import RedisUrl
from rtm.settings import Settings
from rtm.store.database import make_ready
from rtm.store.lock import serving
from rtm.tls import Certificate, certificate
from rtm.web.http import BoundedHttp

_BACKLOG = 2048
_REDIS_TIMEOUT_S = 5
_GOODBYE_TIMEOUT_S = 5
"""For clients to go when the last of them has been told to and has its answers; who has not gone by then is cut."""
_HANG_UP_S = 0.5
"""For an HTTP client with nothing to say any more to hang up as well, once or twice."""
_WORKERS_READY_TIMEOUT_S = 60
_WORKER_SILENT_S = 20
"""After which a worker that answers its parent nothing is replaced, and one that takes as long to start is given up."""


class StartError(Exception):
    """The server cannot start; the message is one line for the operator."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl+C, and drain; a second one ends it at once.

    Raises StartError, DatabaseError or CertificateError if it cannot start.
    """
    logs.configure(settings.log_level)
    # uvicorn ends well at SIGTERM and then raises it once more, for whoever had it before: that is a good end too.
    signal.signal(signal.SIGTERM, _exit)
    if settings.http2 and find_spec("zttp") is None:
        raise StartError('--http2 needs the package zttp: pip install "rtm[http2]"')
    if settings.credentials is not None and not os.access(settings.credentials.parent, os.W_OK):
        raise StartError(f"cannot write to the directory {settings.credentials.parent}")
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        shown = certificate(settings)
        stack.enter_context(serving(settings))
        are_siblings = settings.workers > 1 and settings.metrics_token is not None
        siblings = Path(stack.enter_context(TemporaryDirectory(prefix="rtm-"))) if are_siblings else None
        credentials = asyncio.run(_prepare(settings))
        base_url = _base_url(settings, listener)

        def ready() -> None:
            _write_credentials(settings.credentials, credentials, base_url)
            show(base_url, credentials, shown)

        _run(_Config(settings, shown, siblings), listener, ready)


def _write_credentials(path: Path | None, credentials: Credentials | None, base_url: str) -> None:
    if path is None or credentials is None:
        return
    try:
        write_private(path, credentials.document(base_url))
    except OSError as error:
        raise StartError(f"cannot write to {path}: {error.strerror}") from error


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises StartError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    except UnicodeError as error:
        raise StartError(f"cannot listen on {host}:{port}: no such name") from error
    return listener


def _base_url(settings: Settings, listener: socket.socket) -> str:
    """Where a client on this machine reaches the server."""
    address, port = listener.getsockname()[:2]
    host = settings.host
    if ip_address(address).is_unspecified:  # it listens on every network
        host = "::1" if listener.family is socket.AF_INET6 else "127.0.0.1"
    return f"{'https' if settings.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


async def _prepare(settings: Settings) -> Credentials | None:
    """Make sure of what the app will need, so that what is missing is said in one line before it starts."""
    await make_ready(settings, create=settings.demo)
    if settings.redis_url is not None:
        await _ping(settings.redis_url)
    return await ensure(settings) if settings.demo else None


async def _ping(url: str) -> None:
    try:
        async with asyncio.timeout(_REDIS_TIMEOUT_S):
            async with RedisUrl.parse(url).client(timeout_s=_REDIS_TIMEOUT_S, max_connections=1) as client:
                await client.ping()
    except (RedisError, RedisClusterException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StartError(f"Redis does not answer: {reason}") from error


class _Config(uvicorn.Config):
    """Builds the app in the process that serves it: a worker is given the settings, not the app."""

    def __init__(self, settings: Settings, shown: Certificate | None, siblings: Path | None) -> None:
        self.settings = settings
        self._siblings = siblings
        super().__init__(
            "rtm.app:build",
            workers=settings.workers,
            loop="uvloop",
            http="zttp" if settings.http2 else BoundedHttp,
            http2=settings.http2,
            lifespan="on",
            access_log=False,
            forwarded_allow_ips=settings.trusted_proxies,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.limits.request_timeout_s) + _GOODBYE_TIMEOUT_S,
            timeout_worker_healthcheck=_WORKER_SILENT_S,
            ssl_certfile=shown.chain if shown else None,
            ssl_keyfile=shown.key if shown else None,
        )

    def configure_logging(self) -> None:
        logs.configure(self.settings.log_level)

    def load(self) -> None:
        from rtm.app import build

        app = build(self.settings, self._siblings)
        self.app = app.asgi
        self.health = app.health
        self.ws = app.accept  # type: ignore[assignment]  # called like the class it is declared as
        super().load()


class _Server(uvicorn.Server):
    """One process, which drains before it ends."""

    config: _Config

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, let the clients go, and end."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        self.config.health.draining = True
        # On the connections they have HTTP clients may ask once more: few requests will cross with our good-bye.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await drain(self.server_state.connections, self.config.settings.drain_s)
        hanging_up = asyncio.create_task(self._hang_up())
        await super().shutdown(sockets)
        hanging_up.cancel()

    async def _hang_up(self) -> None:
        """Wait no longer for HTTP clients that have everything: over TLS a close waits for theirs."""
        leaving: set[asyncio.Transport] = set()
        while True:
            await asyncio.sleep(_HANG_UP_S)
            transports = {getattr(each, "transport", None) for each in self.server_state.connections}
            closing = {each for each in transports if each and each.is_closing() and not each.get_write_buffer_size()}
            for transport in closing & leaving:
                transport.abort()
            leaving = closing


class _OnlyProcess(_Server):
    """Says when it accepts connections, and ends at once at the second signal to stop."""

    def __init__(self, config: _Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _end_at_once(sig)
        super().handle_exit(sig, frame)


class _Worker(multiprocess.Process):
    """One process of several. It drains at the first SIGTERM, from whomever; its parent kills it to end it at once."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = _Server(self.config)
        return self._server

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        # A terminal's Ctrl+C goes to every process; a worker is stopped by its parent.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().target(sockets)


# There is no other way to tell `Multiprocess` what a worker runs.
multiprocess.Process = _Worker  # type: ignore[misc]


def _end_with_parent() -> None:
    """A worker does not outlive a parent that was killed, or it would keep the port."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Workers(multiprocess.Multiprocess):
    """Several processes on one listening socket; a worker that dies later is replaced."""

    def __init__(self, config: _Config, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._ready = ready
        self._stopping = False
        self.failed = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            for process in self.processes:
                process.kill()
            _end_at_once(number)
        self._stopping = True
        self.signal_queue.append(number)
        # Also in the middle of a rolling restart. In a thread, as the one that was interrupted may hold the event.
        threading.Thread(target=self.should_exit.set).start()

    def init_processes(self) -> None:
        super().init_processes()
        try:
            if all(process.wait_until_ready(_WORKERS_READY_TIMEOUT_S, self.should_exit) for process in self.processes):
                self._ready()
                return
            self.failed = not self._stopping
            self.should_exit.set()
        except BaseException:
            self.terminate_all()
            raise

    def terminate_all(self) -> None:
        for listener in self.sockets:  # else it takes connections that nobody serves
            listener.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        self.failed |= any(process.exitcode == STARTUP_FAILURE for process in self.processes)


def _end_at_once(number: int) -> NoReturn:
    """As after `kill -9`, at which nothing acknowledged is lost; the status is a shell's for that signal."""
    os._exit(128 + number)


def _run(config: _Config, listener: socket.socket, ready: Callable[[], None]) -> None:
    try:
        if config.workers > 1:
            workers = _Workers(config, [listener], ready)
            workers.run()
            failed = workers.failed
        else:
            _OnlyProcess(config, ready).run([listener])
            failed = False
    except KeyboardInterrupt:
        return
    except SystemExit as end:
        failed = end.code == STARTUP_FAILURE
    if failed:
        raise StartError("cannot start; the log above says why")
