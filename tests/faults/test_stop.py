"""SIGTERM: what is in hand is finished, and the clients are let go one after the other."""

import asyncio
import contextlib
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import orjson
import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from tests.running import PATIENCE_S, ServerProcess, serving, serving_demo
from tests.world import Client

SMITH, JONES = "smith@example.com", "jones@example.com"
GOING_AWAY = ({"reason": "internal_error"}, 1001)
"""Of the contract's reasons, one at which clients are to come back."""
LIVE = "/health/live"
MESSAGE = {"type": "message", "text": "Hello"}
SOON_S = 10
"""Well below the time that a stop gives to requests in hand."""


@contextlib.asynccontextmanager
async def agents(server: ServerProcess, count: int) -> AsyncIterator[list[Client]]:
    """So many of Smith's sockets."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(server.agent(SMITH, pushes={"3.6": []})) for _ in range(count)]


async def ended(client: Client) -> float:
    """When the socket was told to go, as it must be."""
    assert await client.ended() == GOING_AWAY
    return time.monotonic()


async def status_of(server: ServerProcess) -> int:
    """Its exit status, soon."""
    return await asyncio.to_thread(server.process.wait, PATIENCE_S)


def stop(server: ServerProcess, number: int = signal.SIGTERM) -> float:
    """Tell it to; when that was."""
    server.process.send_signal(number)
    return time.monotonic()


# Sockets


async def test_sockets_are_told_one_after_the_other_and_served_until_then(tmp_path: Path) -> None:
    drain_s = 1.5
    with serving_demo(tmp_path, "--drain-s", str(drain_s)) as server:
        async with agents(server, 20) as idle, agents(server, 5) as busy:
            chat_id = (await busy[0].call("start_chat", continuous=True))["chat_id"]
            acknowledged: list[str] = []
            talking = [asyncio.create_task(talk(client, chat_id, acknowledged)) for client in busy]
            nobody = await Client.open(server.port)
            stopped_at = stop(server)
            ends = await asyncio.gather(*map(ended, [*idle, nobody]), *talking)
        assert await status_of(server) == 0

    told_s = sorted(end - stopped_at for end in ends)
    for part in (0.25, 0.5, 0.75):  # however late some come: so many were not told before it was their turn
        assert told_s[int(part * len(told_s))] > part * drain_s / 2
    with serving(tmp_path) as server:  # the tokens are as they were
        async with server.agent(SMITH) as smith:
            events = (await smith.call("list_threads", chat_id=chat_id))["threads"][0]["events"]
    assert {event["id"] for event in events} >= set(acknowledged)


async def talk(client: Client, chat_id: str, acknowledged: list[str]) -> float:
    """Send event after event until told to go; when that was."""
    while True:
        with contextlib.suppress(ConnectionClosed):  # what we were told is still to be read
            await client.send("send_event", chat_id=chat_id, event=MESSAGE)
        frame = await client.next()
        if frame["action"] == "agent_disconnected":
            assert frame["payload"] == GOING_AWAY[0]
            return time.monotonic()
        assert frame["success"], frame
        acknowledged.append(frame["payload"]["event_id"])


async def test_who_logs_in_during_a_drain_is_told_as_well(tmp_path: Path) -> None:
    with serving_demo(tmp_path, "--drain-s", "4") as server:
        sockets = [await Client.open(server.port) for _ in range(10)]
        stop(server)
        await refusing_connections(server)
        token = f"Bearer {server.token(SMITH)}"
        logins = await asyncio.gather(*(each.call("login", token=token) for each in sockets), return_exceptions=True)
        late = [client for client, login in zip(sockets, logins, strict=True) if isinstance(login, dict)]
        assert late
        await asyncio.gather(*map(ended, late))
        assert await status_of(server) == 0


async def test_what_is_in_hand_is_answered_first(tmp_path: Path) -> None:
    with serving_demo(tmp_path, "--drain-s", "0") as server:
        async with server.agent(SMITH) as smith:
            chat_id = (await smith.call("start_chat", chat={"users": [{"id": JONES, "type": "agent"}]}))["chat_id"]
            with writing_held_up(tmp_path):
                asked = await smith.send("send_event", chat_id=chat_id, event=MESSAGE)
                await smith.call("ping")
                post = await Post.begin(server, "send_event", {"chat_id": chat_id, "event": MESSAGE})
                stop(server)
                await refusing_connections(server)
                assert (await smith.refused("get_chat", chat_id=chat_id)).type == "service_unavailable"
                post.finish()
            assert (await smith.answer(asked))["success"]
            assert (await post.answer()).startswith(b"HTTP/1.1 200")
            assert await smith.ended() == GOING_AWAY
        assert await status_of(server) == 0


class Post:
    """A request over HTTP whose body waits until the server has asked for it: it is in hand then."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader, self._writer, self._body = reader, writer, body

    @classmethod
    async def begin(cls, server: ServerProcess, action: str, payload: dict[str, Any]) -> Self:
        body = orjson.dumps(payload)
        head = [
            f"POST /v3.6/agent/action/{action} HTTP/1.1",
            f"Host: {server.address}",
            f"Authorization: Bearer {server.token(JONES)}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Expect: 100-continue",
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write("\r\n".join([*head, "", ""]).encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        return cls(reader, writer, body)

    def finish(self) -> None:
        """Send the body."""
        self._writer.write(self._body)

    async def answer(self) -> bytes:
        """All that comes until the server hangs up."""
        async with asyncio.timeout(PATIENCE_S):
            answer = await self._reader.read()
        self._writer.close()
        return answer


@contextlib.contextmanager
def writing_held_up(data_dir: Path) -> Iterator[None]:
    """Nothing is written to the database meanwhile."""
    with contextlib.closing(sqlite3.connect(data_dir / "rtm.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def refusing_connections(server: ServerProcess) -> None:
    """Return when the port is closed."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                with socket.create_connection(("127.0.0.1", server.port)):
                    await asyncio.sleep(0.02)
            except OSError:
                return


# HTTP


async def test_a_connection_that_is_kept_is_served_once_more_and_not_ready(tmp_path: Path) -> None:
    with serving_demo(tmp_path, "--drain-s", "3600") as server:
        async with agents(server, 2), httpx2.AsyncClient(base_url=server.base_url) as web:
            assert "connection" not in (await web.get(LIVE)).headers
            stop(server)
            await refusing_connections(server)
            ready = await web.get("/health/ready")
            assert (ready.status_code, ready.json(), ready.headers["connection"]) == (
                503,
                {"status": "draining"},
                "close",
            )
            with pytest.raises(httpx2.ConnectError):
                await web.get(LIVE)
        server.kill()


@pytest.mark.parametrize("options", [(), ("--http2",)], ids=["http/1.1", "http/2"])
async def test_an_idle_client_over_tls_does_not_hold_up_a_stop(tmp_path: Path, options: tuple[str, ...]) -> None:
    with serving(tmp_path, "--tls-self-signed", *options) as server:
        trust = ssl.create_default_context(cafile=tmp_path / "tls" / "authority.pem")
        async with httpx2.AsyncClient(base_url=server.base_url, verify=trust, http2=bool(options)) as web:
            answer = await web.get(LIVE)
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if options else "HTTP/1.1")
            stopped_at = stop(server)
            assert await status_of(server) == 0
    assert time.monotonic() - stopped_at < SOON_S


# Impatience, and several processes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with serving_demo(tmp_path, "--drain-s", "3600") as server:
        async with agents(server, 3):
            stop(server, number)
            await refusing_connections(server)
            stop(server, number)
            assert await status_of(server) == 128 + number


@contextlib.contextmanager
def two_workers(tmp_path: Path, *options: str) -> Iterator[tuple[ServerProcess, list[psutil.Process]]]:
    """A server and its workers."""
    with serving_demo(tmp_path, "--workers", "2", *options) as server:
        yield server, workers_of(server)


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    """Those that run now."""
    return [each for each in psutil.Process(server.process.pid).children() if is_worker(each)]


def is_worker(process: psutil.Process) -> bool:
    """One that has not ended; `multiprocessing` has a process of its own beside them."""
    with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile, or is a zombie
        return any("spawn_main" in word for word in process.cmdline())
    return False


async def test_workers_drain_together(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_url, "--drain-s", "2")
    with two_workers(tmp_path, *options) as (server, workers):
        async with agents(server, 20) as clients:
            # As a terminal does at Ctrl+C, and some managers of services at a stop: everybody is told.
            for process in [*workers, server.process]:
                process.send_signal(signal.SIGINT)
            stopped_at = time.monotonic()
            told_s = sorted([end - stopped_at for end in await asyncio.gather(*map(ended, clients))])
        assert await status_of(server) == 0
        assert told_s[10] > 0.5
        assert not psutil.wait_procs(workers, SOON_S)[1]


async def test_the_second_signal_ends_all_workers_at_once(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_url, "--drain-s", "3600")
    with two_workers(tmp_path, *options) as (server, workers):
        async with agents(server, 8):
            stop(server)
            await refusing_connections(server)
            stop(server)
            assert await status_of(server) == 128 + signal.SIGTERM
        assert not psutil.wait_procs(workers, SOON_S)[1]


@pytest.mark.timeout(300)
async def test_workers_restart_one_by_one(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_url, "--drain-s", "0.5", "--ping-timeout-s", "300")
    with two_workers(tmp_path, *options) as (server, workers):
        async with agents(server, 8) as clients, httpx2.AsyncClient(base_url=server.base_url) as web:
            stop(server, signal.SIGHUP)
            async with asyncio.timeout(2 * PATIENCE_S):
                while len(now := workers_of(server)) != 2 or set(now) & set(workers):
                    with contextlib.suppress(httpx2.RemoteProtocolError):  # when it crosses the good-bye
                        assert (await web.get(LIVE)).status_code == 200
            await asyncio.gather(*map(ended, clients))
            assert (await web.get(LIVE)).status_code == 200
            stop(server, signal.SIGHUP)
            async with asyncio.timeout(PATIENCE_S):
                while len(workers_of(server)) == 2:
                    await asyncio.sleep(0.1)
    assert server.process.returncode == 0  # it was stopped amid the second restart
