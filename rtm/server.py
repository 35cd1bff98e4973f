"""Serves the app: what must be right before, the socket it listens on, one process or several, and a clean end."""

import asyncio
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
from types import FrameType
from typing import NoReturn

import uvicorn
from redis.exceptions import RedisError
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from rtm import logs
from rtm.banner import show
from rtm.demo.credentials import Credentials
from rtm.demo.license import ensure
from rtm.private import write_private
from rtm.redis_client import RedisUrl
from rtm.settings import Settings
from rtm.store.database import make_ready
from rtm.store.lock import serving
from rtm.tls import Certificate, certificate
from rtm.web.http import BoundedHttp

_BACKLOG = 2048
_REDIS_TIMEOUT_S = 5
# Clients are told to go at once; who has not gone by then is cut.
_STOP_TIMEOUT_S = 10
_WORKERS_READY_TIMEOUT_S = 60


class StartError(Exception):
    """The server cannot start; the message is one line for the operator."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl+C. Raises StartError, DatabaseError or CertificateError if it cannot start."""
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
        credentials = asyncio.run(_prepare(settings))
        base_url = _base_url(settings, listener)

        def ready() -> None:
            _write_credentials(settings.credentials, credentials, base_url)
            show(base_url, credentials, shown)

        _run(_Config(settings, shown), listener, ready)


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
    except (RedisError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StartError(f"Redis does not answer: {reason}") from error


class _Config(uvicorn.Config):
    """Builds the app in the process that serves it: a worker is given the settings, not the app."""

    def __init__(self, settings: Settings, shown: Certificate | None) -> None:
        self.settings = settings
        super().__init__(
            "rtm.app:build",
            workers=settings.workers,
            loop="uvloop",
            http="zttp" if settings.http2 else BoundedHttp,
            http2=settings.http2,
            lifespan="on",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_TIMEOUT_S,
            ssl_certfile=shown.chain if shown else None,
            ssl_keyfile=shown.key if shown else None,
        )

    def configure_logging(self) -> None:
        logs.configure(self.settings.log_level)

    def load(self) -> None:
        from rtm.app import build

        _end_with_parent()
        app = build(self.settings)
        self.app = app.asgi
        self.ws = app.accept  # type: ignore[assignment]  # called like the class it is declared as
        super().load()


def _end_with_parent() -> None:
    """A worker does not outlive a parent that was killed, or it would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


class _Server(uvicorn.Server):
    """One process that says when it accepts connections."""

    def __init__(self, config: _Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


class _Workers(Multiprocess):
    """Several processes on one listening socket; a worker that dies later is replaced."""

    def __init__(self, config: _Config, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._ready = ready
        self.failed = False

    def init_processes(self) -> None:
        super().init_processes()
        try:
            if all(process.wait_until_ready(_WORKERS_READY_TIMEOUT_S) for process in self.processes):
                self._ready()
                return
            self.failed = not self.signal_queue  # otherwise somebody has stopped it
            self.should_exit.set()
        except BaseException:
            self.terminate_all()
            raise

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        self.failed |= any(process.exitcode == STARTUP_FAILURE for process in self.processes)


def _run(config: _Config, listener: socket.socket, ready: Callable[[], None]) -> None:
    try:
        if config.workers > 1:
            workers = _Workers(config, [listener], ready)
            workers.run()
            failed = workers.failed
        else:
            _Server(config, ready).run([listener])
            failed = False
    except KeyboardInterrupt:
        return
    except SystemExit as end:
        failed = end.code == STARTUP_FAILURE
    if failed:
        raise StartError("cannot start; the log above says why")
