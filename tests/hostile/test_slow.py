"""Who is slow, or never comes to an end, is cut in time, and costs nothing until then."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from rtm.web import http
from rtm.web.http import BoundedHttp
from rtm.web.http2 import EitherHttp
from tests.hostile.target import Target, frame, read_answer
from tests.hostile.test_handshakes import handshake
from tests.hostile.test_http import chunked, post
from tests.running import serving_demo

# What never ends

MOST_BYTES = 64 << 20
"""More than the kernel keeps of what nobody reads."""

PING = frame(9, b"?" * 125)
REQUEST = frame(1, b'{"action":"ping","request_id":"' + b"1" * 256 + b'"}')

ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "line breaks before a request": (b"", b"\r\n" * 500),
    "method": (b"P", b"P" * 1000),
    "path": (b"GET /", b"a" * 1000),
    "header name": (b"GET / HTTP/1.1\r\nX", b"x" * 1000),
    "header value": (b"GET / HTTP/1.1\r\nX: ", b"x" * 1000),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: x\r\n" * 100),
    "chunk extension": (chunked(b"2;"), b"x" * 1000),
    "trailer": (chunked(b"2\r\n{}\r\n0\r\nX: "), b"x" * 1000),
    "trailers": (chunked(b"2\r\n{}\r\n0\r\n"), b"X: x\r\n" * 100),
    "requests whose answers nobody reads": (b"", post() * 10),
    "handshake": (handshake()[:-2], b"X: x\r\n" * 100),
    "requests on a socket whose answers nobody reads": (handshake(), REQUEST * 100),
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_never_ends_is_cut(target: Target, start: bytes, more: bytes) -> None:
    with target.connect() as connection:
        connection.sendall(start)
        if start == handshake():
            read_answer(connection)
        with pytest.raises(ConnectionError):
            connection.sendall(more * (MOST_BYTES // len(more)))


@pytest.mark.usefixtures("unharmed")
def test_pings_whose_pongs_nobody_reads_are_left_with_their_sender(target: Target) -> None:
    with target.connect() as connection:
        connection.sendall(handshake())
        read_answer(connection)
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.sendall(PING * (MOST_BYTES // len(PING)))


# What never comes


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with short limits on time."""
    data_dir = tmp_path_factory.mktemp("impatient")
    log = data_dir / "log"
    limits = ("--request-timeout-s", "1", "--login-timeout-s", "0.5")
    with log.open("w") as output, serving_demo(data_dir, *map(Path, limits), log=output) as server:
        yield Target(server, log, stranger_token="")


@pytest.mark.parametrize("body", [b"", b'{"limit":'])
def test_a_body_that_does_not_come_is_not_waited_for(impatient: Target, body: bytes) -> None:
    token = impatient.server.token("owner@example.com").encode()
    answer = impatient.ask(post(body=body, Content_Length="100").replace(b"TOKEN", token))
    assert (answer.status, *answer.error()) == (504, "request_timeout", "Request took too long to arrive")
    impatient.assert_unharmed()


@pytest.mark.parametrize("sent", [b"", frame(1, b'{"action":"ping"}')[:-1], frame(1, b"{", fin=False), frame(9) * 100])
def test_a_log_in_that_does_not_come_is_not_waited_for(impatient: Target, sent: bytes) -> None:
    with impatient.open_socket() as client:
        client.send_bytes(sent)
        messages, code = client.until_closed()
    assert [message["payload"] for message in messages] == [{"reason": "connection_timeout"}]
    assert code == 1000
    impatient.assert_unharmed()


@pytest.fixture(params=[BoundedHttp, EitherHttp])
def kind(request: pytest.FixtureRequest) -> type[asyncio.Protocol]:
    """How HTTP/1.1 is served, without and with `--http2`."""
    kind: type[asyncio.Protocol] = request.param
    return kind


@pytest.fixture
async def address(kind: type[asyncio.Protocol], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, int]]:
    """A server of nothing, that waits for the head of a request for a moment only."""
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(_no_content, http=kind, loop="none", lifespan="off", log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    yield listener.getsockname()
    server.should_exit = True
    await serving


async def _no_content(scope: object, receive: object, send: uvicorn._types.ASGISendCallable) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"GE", 0),
        (b"GET / HTTP/1.1\r\nHost: rt", 0),
        (b"GET / HTTP/1.1\r\nHost: rtm.test\r\n\r\nGET / HT", 1),
    ],
    ids=["nothing", "half a method", "half a header", "a request and a half"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(address: tuple[str, int], sent: bytes, answers: int) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    answered = b""
    try:
        while data := await reader.read(1 << 16):
            answered += data
    except ConnectionResetError:
        pass
    assert answered.count(b"HTTP/1.1 204") == answers
    writer.close()


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    hung_up = asyncio.create_task(reader.read())
    for byte in handshake() * 100:
        writer.write(bytes([byte]))
        await asyncio.wait([hung_up], timeout=0.01)
        if hung_up.done():
            break
    assert hung_up.done()
    assert hung_up.exception() is not None or hung_up.result() == b""
    writer.close()


async def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REST_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(post(Content_Length="1000000"))
    assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"
    hung_up = asyncio.create_task(reader.read())
    for _ in range(500):
        writer.write(b"x")
        await asyncio.wait([hung_up], timeout=0.01)
        if hung_up.done():
            break
    assert hung_up.done()
    writer.close()


async def test_after_the_rest_of_a_body_a_request_may_follow_and_is_not_waited_for(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    for before in (b"", b"x"):
        writer.write(before + post(body=b"{}", Content_Length="3"))
        await reader.readuntil(b"\r\n\r\n")
    writer.write(b"x")
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


# Who never reads


class Generous:
    """A server of as many bytes as the path says; the kernel keeps hardly any of them."""

    def __init__(self, kind: type[asyncio.Protocol]) -> None:
        self._kind = kind

    async def __aenter__(self) -> "Generous":
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        config = uvicorn.Config(
            _content, http=self._kind, loop="none", lifespan="off", log_config=None, timeout_keep_alive=1
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        self._address = listener.getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving

    async def connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, self._address)
        return connection

    async def has_no_connection(self) -> None:
        async with asyncio.timeout(5):
            while self._server.server_state.connections:
                await asyncio.sleep(0.01)


async def _content(scope: Any, receive: object, send: uvicorn._types.ASGISendCallable) -> None:
    body = bytes(int(scope["path"][1:]))
    headers = [(b"Content-Length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@pytest.fixture
async def generous(kind: type[asyncio.Protocol], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Generous]:
    monkeypatch.setattr(http, "UNREAD_TIMEOUT_S", 0.4)
    async with Generous(kind) as server:
        yield server


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("size", [60_000, 1 << 20], ids=["less than a transport minds", "more"])
async def test_an_answer_that_is_not_read_is_not_kept(generous: Generous, size: int, connection: str) -> None:
    loop = asyncio.get_running_loop()
    with await generous.connect() as client:
        await loop.sock_sendall(client, f"GET /{size} HTTP/1.1\r\nConnection: {connection}\r\n\r\n".encode())
        await loop.sock_recv(client, 1)
        await generous.has_no_connection()


async def test_an_answer_that_is_read_in_time_is_the_last_of_its_timer(generous: Generous) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=await generous.connect())
    end = loop.time() + 3 * http.UNREAD_TIMEOUT_S
    while loop.time() < end:
        writer.write(b"GET /1000000 HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1_000_000)
    writer.close()
