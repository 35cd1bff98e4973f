"""Who is slow over HTTP/2, or never comes to an end, is cut in time as well."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from rtm.web import http
from rtm.web.http2 import EitherHttp

PATIENCE_S = 30
PIECE_BYTES = 1 << 16
MOST = (1 << 31) - 1
"""The largest window."""


class Server:
    """Answers with as many bytes as the path says, in so many pieces; the kernel keeps hardly any of them."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        options: dict[str, Any] = {"loop": "none", "lifespan": "off", "log_config": None, "timeout_keep_alive": 1}
        self.made = 0
        """Pieces of answers."""
        application = Starlette(routes=[Route("/{size:int}/{pieces:int}", self._answer)])
        self.server = uvicorn.Server(uvicorn.Config(application, http=EitherHttp, ssl_certfile=certificate, **options))

    async def __aenter__(self) -> "Server":
        self._serving = asyncio.create_task(self.server.serve([self.listener]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.should_exit = True
        await self._serving

    async def has_no_connection(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.server.server_state.connections:
                await asyncio.sleep(0.01)

    async def _answer(self, http: Request) -> Response:
        return StreamingResponse(self._pieces(**http.path_params))

    async def _pieces(self, size: int, pieces: int) -> AsyncIterator[bytes]:
        for _ in range(pieces):
            await asyncio.sleep(0)  # as to read from a database takes
            yield bytes(size // pieces)
            self.made += 1


class Client:
    """Says what it is told to; the rest is as the protocol wants it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader, self._writer = reader, writer
        self.speaks = H2Connection(H2Configuration())
        self.speaks.local_settings = Settings(initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.speaks.initiate_connection()
        if window == MOST:
            self.speaks.increment_flow_control_window(MOST - 65_535)

    def send(self) -> None:
        self._writer.write(self.speaks.data_to_send())

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def ask(self, size: int, pieces: int = 1) -> int:
        names = {":method": "GET", ":scheme": "http", ":authority": "rtm.test", ":path": f"/{size}/{pieces}"}
        stream_id = self.speaks.get_next_available_stream_id()
        self.speaks.send_headers(stream_id, names.items(), end_stream=True)
        self.send()
        return stream_id

    async def read(self) -> list[Any] | None:
        """What comes next; None at the end."""
        with suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                data = await self._reader.read(1 << 16)
            return self.speaks.receive_data(data) if data else None
        return None

    async def pings_until_it_is_cut(self) -> None:
        """While it has nothing else to say."""
        cut = asyncio.create_task(self._reads_on())
        while not cut.done():
            self.speaks.ping(b"01234567")
            self.send()
            await asyncio.wait([cut], timeout=0.02)
        await cut

    async def _reads_on(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.read() is not None:
                pass

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http, "UNREAD_TIMEOUT_S", 0.5)
    async with Server() as server:
        yield server


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Callable[..., Any]]:
    clients: list[Client] = []

    async def connect(window: int = 65_535) -> Client:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, server.listener.getsockname())
        clients.append(Client(*await asyncio.open_connection(sock=connection, limit=4096), window))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


async def test_a_request_that_does_not_come_is_not_waited_for(server: Server, connect: Callable[..., Any]) -> None:
    client = await connect()
    client.send()
    assert await client.read() is not None
    await server.has_no_connection()


async def test_neither_is_one_that_is_promised_with_pings(connect: Callable[..., Any]) -> None:
    client = await connect()
    await client.pings_until_it_is_cut()


async def test_neither_is_the_rest_of_its_headers(server: Server, connect: Callable[..., Any]) -> None:
    client = await connect()
    client.send()
    client.send_bytes(bytes.fromhex("000005 01 01 00000001 82"))
    assert await client.read() is not None
    await server.has_no_connection()


async def test_who_asks_for_nothing_more_is_not_kept_for_its_pings(connect: Callable[..., Any]) -> None:
    client = await connect()
    client.ask(10)
    await client.pings_until_it_is_cut()


async def test_an_answer_that_may_not_be_sent_is_not_kept(connect: Callable[..., Any]) -> None:
    client = await connect(window=0)
    client.ask(1_000_000)
    await client.pings_until_it_is_cut()


async def test_an_answer_that_is_not_read_is_not_kept(server: Server, connect: Callable[..., Any]) -> None:
    client = await connect(window=MOST)
    client.ask(10_000_000)
    assert await client.read() is not None
    await server.has_no_connection()


async def test_an_answer_in_pieces_is_made_no_faster_than_it_may_be_sent(
    server: Server, connect: Callable[..., Any]
) -> None:
    client = await connect(window=0)
    asked = {client.ask(100 * PIECE_BYTES, pieces=100) for _ in range(5)}
    while asked and (events := await client.read()) is not None:
        asked -= {event.stream_id for event in events if isinstance(event, StreamReset)}
        client.send()
    assert not asked, "it was cut before its answers were"
    assert server.made <= 50


async def test_one_that_may_not_be_sent_holds_no_other_of_its_connection_back(connect: Callable[..., Any]) -> None:
    client = await connect(window=0)
    client.ask(100 * PIECE_BYTES, pieces=100)
    wanted = client.ask(4 * PIECE_BYTES, pieces=4)
    client.speaks.increment_flow_control_window(4 * PIECE_BYTES)
    client.speaks.increment_flow_control_window(4 * PIECE_BYTES, wanted)
    client.send()
    while (events := await client.read()) is not None:
        if any(isinstance(event, StreamEnded) and event.stream_id == wanted for event in events):
            return
        client.send()
    pytest.fail("it did not come")


@pytest.mark.parametrize("pieces", [1, 16])
async def test_an_answer_that_is_read_slowly_arrives(connect: Callable[..., Any], pieces: int) -> None:
    client = await connect()
    client.ask(1_000_000, pieces)
    loop = asyncio.get_running_loop()
    began, taken = loop.time(), 0
    while (events := await client.read()) is not None:
        for event in events:
            if isinstance(event, DataReceived):
                taken += event.flow_controlled_length
                await asyncio.sleep(max(0, began + taken / 1_000_000 - loop.time()))
                client.speaks.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, StreamEnded):
                assert taken == 1_000_000
                return
        client.send()
    pytest.fail("it was cut")


@pytest.mark.parametrize("protocols", [["h2"], ["http/1.1"], []])
async def test_over_tls_a_request_that_does_not_come_is_not_waited_for(
    protocols: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.3)
    authority, certificate = trustme.CA(), tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(protocols)
    async with Server(certificate) as server:
        port = server.listener.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        with suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
        writer.transport.abort()
