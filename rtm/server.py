"""Serves the app: what must be right before, and the socket that the processes listen on."""

import asyncio
import signal
import socket
from contextlib import ExitStack
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import FrameType
from typing import NoReturn

from redis.exceptions import RedisClusterException, RedisError

from rtm import logs
from rtm.banner import show
from rtm.demo.credentials import Credentials
from rtm.demo.license import ensure
from rtm.private import write_private
from rtm.processes import run
from rtm.redis_client import RedisUrl
from rtm.settings import Settings
from rtm.store.database import make_ready
from rtm.store.lock import serving
from rtm.tls import certificate

_BACKLOG = 2048
_REDIS_TIMEOUT_S = 5


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
    if settings.credentials is not None:
        _check_place(settings.credentials)
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

        if not run(settings, shown, siblings, listener, ready):
            raise StartError("cannot start; the log above says why")


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise StartError(f"cannot write to {path}: it is a directory")
    try:
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise StartError(f"cannot write to {path}: {error.strerror}") from error


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
