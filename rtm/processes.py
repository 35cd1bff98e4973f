"""The processes that serve: one, or several on one socket; how they begin, drain and end.

The first SIGTERM or SIGINT drains. The second ends everything at once, as after `kill -9`, at which nothing that was
acknowledged is lost; the exit status is then a shell's for the signal.
"""

import asyncio
import math
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from rtm import logs
from rtm.gateway.drain import drain
from rtm.settings import Settings
from rtm.tls import Certificate
from rtm.web.http import BoundedHttp

_GOODBYE_TIMEOUT_S = 5
"""For clients to go when the last of them has been told to and has its answers; who has not gone by then is cut."""
_HANG_UP_S = 0.5
"""For an HTTP client with nothing to say any more to hang up as well, once or twice."""
_WORKERS_READY_TIMEOUT_S = 60
_WORKER_SILENT_S = 20
"""After which a worker that answers its parent nothing is replaced, and one that takes as long to start is given up."""


def run(
    settings: Settings,
    shown: Certificate | None,
    siblings: Path | None,
    listener: socket.socket,
    ready: Callable[[], None],
) -> bool:
    """Serve until the end, and call `ready` when connections are accepted. False if that could not begin.

    `siblings` is a directory in which workers find each other, for the metrics of all of them. Raises what `ready`
    raises.
    """
    config = _Config(settings, shown, siblings)
    try:
        if settings.workers > 1:
            workers = _Workers(config, [listener], ready)
            workers.run()
            return not workers.failed
        server = _OnlyProcess(config, ready)
        server.run([listener])
        if server.failure is not None:
            raise server.failure
    except KeyboardInterrupt:
        return True
    except SystemExit as end:
        if end.code not in (0, STARTUP_FAILURE):
            raise
        return end.code == 0
    return True


class _Config(uvicorn.Config):
    """Builds the app in the process that serves it: a worker is given the settings, not the app."""

    def __init__(self, settings: Settings, shown: Certificate | None, siblings: Path | None) -> None:
        self.settings = settings
        self._siblings = siblings
        super().__init__(
            "rtm.app:build",
            workers=settings.workers,
            loop="uvloop",
            http=_http(settings),
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


def _http(settings: Settings) -> type[asyncio.Protocol]:
    if not settings.http2:
        return BoundedHttp
    from rtm.web.http2 import EitherHttp  # of a package that is there only for those who want it

    return EitherHttp


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
        self.failure: Exception | None = None
        """What `ready` has raised; all that was started is then stopped as at any other end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        try:
            self._ready()
        except Exception as error:  # noqa: BLE001 - raised again when nothing runs any more
            self.failure = error
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)
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
            for process in multiprocessing.active_children():  # also one that is about to replace another
                process.kill()
            raise SystemExit(128 + number)
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
