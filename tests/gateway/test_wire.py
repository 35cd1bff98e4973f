"""One connection: the rules in memory first, then over real sockets with a real client."""

import asyncio
import gc
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
import trustme
import uvicorn
from structlog.testing import capture_logs
from structlog.typing import EventDict
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from rtm.gateway import wire
from rtm.gateway.wire import Wire, Wires, encode_text_frame
from rtm.protocol.errors import NotFound, TooManyRequests
from rtm.settings import Limits
from tests.gateway.peer import Notes, Peer, more, text


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """What is logged during a test."""
    with capture_logs() as lines:
        yield lines


# The handshake


async def test_a_session_is_told_where_its_connection_came_from() -> None:
    peer = Peer()
    assert peer.response.status_code == 101
    assert peer.session.place == ("/v3.6/agent/rtm/ws", "a=b", "192.0.2.1")


@pytest.mark.parametrize(
    ("trusted", "address"), [("192.0.2.1", "198.51.100.7"), ("192.0.2.2", "192.0.2.1"), ("", "192.0.2.1")]
)
async def test_a_trusted_proxy_names_the_address_and_nobody_else_does(trusted: str, address: str) -> None:
    peer = Peer(trusted_proxies=trusted, headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.7"})
    assert peer.session.place is not None
    assert peer.session.place[2] == address


async def test_a_refused_path_is_answered_as_over_http() -> None:
    def route(path: str, query: str) -> Notes:
        raise NotFound(f"no such path: {path}")

    peer = Peer(route=route)
    assert peer.response.status_code == 404
    assert peer.response.headers["Content-Type"] == "application/json"
    error = {"type": "not_found", "message": "no such path: /v3.6/agent/rtm/ws"}
    assert orjson.loads(peer.response.body) == {"error": error}
    assert peer.transport.eof


async def test_what_follows_a_refusal_is_discarded(logged: list[EventDict]) -> None:
    def route(path: str, query: str) -> Notes:
        raise NotFound("no such path")

    peer = Peer(route=route)
    peer.give(text("Hello?"), b"GET / HTTP/1.1\r\n\r\n")
    assert await peer.heard() == []
    assert logged == []


async def test_a_refusal_keeps_its_headers() -> None:
    def route(path: str, query: str) -> Notes:
        raise TooManyRequests("requests", "10 in 60 s", retry_after_s=7)

    peer = Peer(route=route)
    assert (peer.response.status_code, peer.response.headers["Retry-After"]) == (429, "7")


async def test_a_bug_in_a_route_is_a_bland_500(logged: list[EventDict]) -> None:
    def route(path: str, query: str) -> Notes:
        raise RuntimeError("a secret")

    peer = Peer(route=route)
    assert peer.response.status_code == 500
    assert b"secret" not in peer.response.body
    assert [(line["event"], line["path"]) for line in logged] == [("route_failed", "/v3.6/agent/rtm/ws")]


async def test_a_handshake_may_be_larger_than_what_is_read_in_a_turn() -> None:
    peer = Peer(headers={f"Cookie-{number}": "c" * 8000 for number in range(10)})
    assert peer.response.status_code == 101


async def test_a_header_without_end_is_refused() -> None:
    peer = Peer(headers={"Cookie": "c" * 9000})
    assert peer.response.status_code == 431
    assert peer.transport.eof


@pytest.mark.parametrize(("header", "value"), [("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "short")])
async def test_a_malformed_handshake_is_refused(header: str, value: str) -> None:
    peer = Peer(headers={header: value})
    assert peer.response.status_code == 400
    assert peer.session.place is None
    assert peer.transport.eof


# What is received


async def test_messages_arrive_whole_and_in_order_however_the_bytes_are_cut() -> None:
    peer = Peer()
    peer.wire.trust()
    stream = b"".join(text(message).serialize(mask=True) for message in ("one", "zwölf", "x" * 70_000))
    for start in range(0, len(stream), 999):
        peer.give(stream[start : start + 999])
    assert peer.session.messages == [b"one", "zwölf".encode(), b"x" * 70_000]


async def test_fragments_make_one_message_and_a_ping_may_come_between_them() -> None:
    peer = Peer()
    start, end = "grüße".encode()[:3], "grüße".encode()[3:]  # cut within a character
    peer.give(text(start, fin=False), Frame(Opcode.PING, b"still there?"), more(b"", fin=False), more(end))
    assert peer.session.messages == ["grüße".encode()]
    assert peer.session.pings == 1
    [pong] = await peer.heard()
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"still there?")


async def test_a_pong_is_welcome_and_means_nothing() -> None:
    peer = Peer()
    peer.give(Frame(Opcode.PONG, b"unasked"), text("next"))
    assert peer.session.messages == [b"next"]
    assert await peer.heard() == []


async def test_a_flood_is_read_by_turns_and_reading_waits_for_it() -> None:
    peer = Peer(limits=Limits(messages_per_second=0))
    peer.give(*[text("x")] * 10_000)
    at_once = len(peer.session.messages)
    assert 0 < at_once < 5_000
    assert not peer.transport.reading
    async with asyncio.timeout(10):
        while not peer.transport.reading:
            before = len(peer.session.messages)
            await asyncio.sleep(0)
            assert len(peer.session.messages) - before <= at_once + 1
    assert len(peer.session.messages) == 10_000


async def test_a_client_that_sends_faster_than_its_rate_is_read_at_that_rate() -> None:
    peer = Peer(limits=Limits(messages_per_second=1000))
    started = time.monotonic()
    for _ in range(10):
        peer.give(*[text("x" * 100)] * 200)
        async with asyncio.timeout(10):
            while not peer.transport.reading:
                await asyncio.sleep(0.001)
    assert len(peer.session.messages) == 2000
    assert time.monotonic() - started > 1.2  # the first may come at once, and what is read last is paid for later


async def test_a_client_that_sends_less_never_waits() -> None:
    peer = Peer(limits=Limits(messages_per_second=100_000))
    for number in range(2000):
        peer.give(text("x" * 100))
        assert len(peer.session.messages) == number + 1
        if not peer.transport.reading:
            await asyncio.sleep(0.01)
            assert peer.transport.reading


async def test_a_large_message_is_not_held_up() -> None:
    peer = Peer(limits=Limits(messages_per_second=1))
    peer.wire.trust()
    peer.give(text("x" * 1_000_000))
    async with asyncio.timeout(10):
        while not peer.session.messages:
            await asyncio.sleep(0)
    assert peer.transport.reading


async def test_large_messages_are_read_at_the_rate_of_the_small_ones_that_take_as_long() -> None:
    peer = Peer(limits=Limits(messages_per_second=2000))
    peer.wire.trust()
    started = time.monotonic()
    for number in range(10):
        peer.give(text("x" * 1_000_000))
        async with asyncio.timeout(10):
            while len(peer.session.messages) <= number or not peer.transport.reading:
                await asyncio.sleep(0.001)
    assert time.monotonic() - started > 0.9


async def test_a_client_that_leaves_while_it_waits_to_be_read_is_forgotten() -> None:
    peer = Peer(limits=Limits(messages_per_second=1000))
    peer.give(*[text("x")] * 1000)
    heard = len(peer.session.messages)
    peer.wire.connection_lost(None)
    await asyncio.sleep(0.05)
    assert len(peer.session.messages) == heard
    assert peer.session.closings == 1


VIOLATIONS: dict[str, tuple[bytes | Frame | list[Frame], int]] = {
    "unmasked": (b"\x81\x02hi", 1002),
    "first reserved bit": (b"\xc1\x80mask", 1002),
    "second reserved bit": (b"\xa1\x80mask", 1002),
    "third reserved bit": (b"\x91\x80mask", 1002),
    "reserved data opcode": (b"\x83\x80mask", 1002),
    "reserved control opcode": (b"\x8b\x80mask", 1002),
    "ping of 126 bytes": (b"\x89\xfe\x00\x7emask" + bytes(126), 1002),
    "ping in fragments": (b"\x09\x80mask", 1002),
    "close in fragments": (b"\x08\x80mask", 1002),
    "continuation of nothing": (more("x"), 1002),
    "message within a message": ([text("x", fin=False), text("y")], 1002),
    "close within a message": ([text("x", fin=False), Frame(Opcode.CLOSE, b"\x03\xe8")], 1002),
    "close code of one byte": (Frame(Opcode.CLOSE, b"\x03"), 1002),
    "close code below 1000": (Frame(Opcode.CLOSE, (999).to_bytes(2)), 1002),
    "close code 1004": (Frame(Opcode.CLOSE, (1004).to_bytes(2)), 1002),
    "close code 1005": (Frame(Opcode.CLOSE, (1005).to_bytes(2)), 1002),
    "close code 1006": (Frame(Opcode.CLOSE, (1006).to_bytes(2)), 1002),
    "close code 1015": (Frame(Opcode.CLOSE, (1015).to_bytes(2)), 1002),
    "close code 2999": (Frame(Opcode.CLOSE, (2999).to_bytes(2)), 1002),
    "close code 5000": (Frame(Opcode.CLOSE, (5000).to_bytes(2)), 1002),
    "close reason not UTF-8": (Frame(Opcode.CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
    "binary": (Frame(Opcode.BINARY, b"\x00"), 1003),
    "binary in fragments": (Frame(Opcode.BINARY, b"\x00", fin=False), 1003),
    "text not UTF-8": (text(b"\xff"), 1007),
    "text ends within a character": (text("ö".encode()[:1]), 1007),
    "text with a surrogate": (text(b"\xed\xa0\x80"), 1007),
    "text with an overlong character": (text(b"\xc0\xaf"), 1007),
    "fragments not UTF-8 together": ([text("ö".encode()[:1], fin=False), more("x")], 1007),
    "message over the limit": (text("x" * 1001), 1009),
    "message over the limit, of which only the head came": (b"\x81\xff" + (1 << 62).to_bytes(8), 1009),
    "fragments over the limit": ([text("x" * 600, fin=False), more("x" * 401)], 1009),
}


@pytest.mark.parametrize(("sent", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
async def test_a_violation_has_its_close_code_and_is_the_end(sent: bytes | Frame | list[Frame], code: int) -> None:
    peer = Peer(limits=Limits(message_size_bytes=1000))
    peer.give(text("before"), *(sent if isinstance(sent, list) else [sent]))
    assert peer.session.messages == [b"before"]
    assert peer.session.closings == 1
    assert (await peer.closing()).code == code
    assert peer.transport.eof
    peer.give(text("after"))
    assert peer.session.messages == [b"before"]
    assert await peer.heard() == []


async def test_a_limit_of_zero_is_none() -> None:
    peer = Peer(limits=Limits(message_size_bytes=0))
    peer.wire.trust()
    peer.give(text("x" * (2 << 20)))
    while not peer.transport.reading:
        await asyncio.sleep(0)
    assert [len(message) for message in peer.session.messages] == [2 << 20]


@pytest.mark.parametrize("message_size_bytes", [0, 1 << 20])
async def test_who_is_not_trusted_yet_may_send_small_messages_only(message_size_bytes: int) -> None:
    peer = Peer(limits=Limits(message_size_bytes=message_size_bytes))
    peer.give(text("x" * (1 << 16)))
    while not peer.transport.reading:
        await asyncio.sleep(0)
    assert [len(message) for message in peer.session.messages] == [1 << 16]
    peer.give(b"\x81\xff" + ((1 << 16) + 1).to_bytes(8))
    assert (await peer.closing()).code == 1009


# What is sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_an_encoded_frame_is_what_websockets_would_send(size: int) -> None:
    payload = b"x" * size
    assert encode_text_frame(payload) == text(payload).serialize(mask=False)


async def test_messages_leave_in_order_and_in_one_write_for_a_turn() -> None:
    peer = Peer()
    for number in range(100):
        peer.wire.send(b"%d" % number)
    assert peer.transport.written == []
    await asyncio.sleep(0)
    assert len(peer.transport.written) == 1
    assert await peer.heard_text() == [b"%d" % number for number in range(100)]


async def test_one_frame_serves_connections_with_and_without_compression() -> None:
    plain = Peer()
    compressed = Peer(extensions=[ClientPerMessageDeflateFactory()])
    push = b'{"action":"incoming_event"}' * 100
    for _ in range(2):
        frame = encode_text_frame(push)
        for peer in (plain, compressed):
            peer.wire.send_encoded(frame)
        compressed.give(Frame(Opcode.PING, b"?"))
        await asyncio.sleep(0)
        assert sum(map(len, compressed.transport.written)) < len(frame) / 10
        assert await plain.heard_text() == [push]
        assert [(frame.opcode, frame.data) for frame in await compressed.heard()] == [
            (Opcode.TEXT, push),
            (Opcode.PONG, b"?"),
        ]


async def test_what_is_compressed_is_limited_by_its_real_size() -> None:
    peer = Peer(limits=Limits(message_size_bytes=1000), extensions=[ClientPerMessageDeflateFactory()])
    peer.give(text("x" * 1000))
    assert peer.session.messages == [b"x" * 1000]
    peer.give(text("x" * 1001))
    assert (await peer.closing()).code == 1009


async def test_a_connection_that_cannot_be_written_to_ends_alone(logged: list[EventDict]) -> None:
    wires = Wires(lambda path, query: Notes(), Limits())
    broken, whole = Peer(wires=wires), Peer(wires=wires)
    session = notes_of(broken)

    def write(data: object) -> None:
        raise MemoryError

    broken.transport.write = write  # type: ignore[method-assign]
    for peer in (broken, whole):
        peer.wire.send(b"push")
    assert await whole.heard_text() == [b"push"]
    assert broken.transport.aborted.is_set()
    assert session.closings == 1
    assert [line["event"] for line in logged] == ["write_failed"]


def notes_of(peer: Peer) -> Notes:
    session = peer.wire._session
    assert isinstance(session, Notes)
    return session


# Slow readers


def lag(peer: Peer, unread: int) -> None:
    """The peer has so much left to read that the transport calls it slow."""
    peer.transport.unread = unread
    peer.wire.pause_writing()


async def test_a_slow_reader_is_cut_at_the_limit_and_named(logged: list[EventDict]) -> None:
    peer = Peer(limits=Limits(send_buffer_bytes=1000))
    lag(peer, 70_000)
    peer.transport.unread = 71_000
    peer.wire.send(b"the last that fits")
    assert await peer.heard_text() == [b"the last that fits"]
    peer.transport.unread = 71_001
    peer.wire.send(b"one too many")
    assert await peer.heard_text() == []
    assert peer.transport.aborted.is_set()
    assert peer.session.closings == 1
    assert peer.wires.slow_readers_cut == 1
    line = {"event": "slow_reader_cut", "log_level": "warning"}
    assert logged == [{**line, "address": "192.0.2.1", "unread_bytes": 71_001, "limit_bytes": 1000}]


async def test_one_answer_of_any_size_cuts_nobody_and_may_be_followed_by_pushes() -> None:
    peer = Peer(limits=Limits(send_buffer_bytes=1000))
    peer.wire.send(b"x" * 1_000_000)
    assert len(await peer.heard_text()) == 1
    lag(peer, 1_000_000)
    for number in range(5):
        peer.wire.send(b"%d" % number)
        assert len(await peer.heard_text()) == 1
        peer.transport.unread += 200
    assert not peer.transport.aborted.is_set()


async def test_a_reader_that_has_caught_up_starts_anew() -> None:
    peer = Peer(limits=Limits(send_buffer_bytes=1000))
    lag(peer, 70_000)
    peer.transport.unread = 0
    peer.wire.resume_writing()
    peer.transport.unread = 1_000_000
    peer.wire.send(b"an answer came before this")
    assert len(await peer.heard_text()) == 1


async def test_without_a_limit_nobody_is_cut() -> None:
    peer = Peer(limits=Limits(send_buffer_bytes=0))
    lag(peer, 70_000)
    peer.transport.unread = 1 << 30
    peer.wire.send(b"patience")
    assert await peer.heard_text() == [b"patience"]


# The end


async def test_what_is_pending_is_sent_before_the_close_frame() -> None:
    peer = Peer()
    peer.wire.send(b"goodbye")
    peer.wire.close(4001, "logged in elsewhere")
    message, close = await peer.heard()
    assert message.data == b"goodbye"
    assert Close.parse(close.data) == Close(4001, "logged in elsewhere")
    assert peer.session.closings == 1


async def test_after_a_close_nothing_is_sent_or_delivered_but_the_peers_close_is_awaited() -> None:
    peer = Peer()
    peer.wire.close(1000)
    assert len(await peer.heard()) == 1
    peer.wire.send(b"too late")
    peer.wire.close(1001)
    peer.give(text("crossed on the way"), Frame(Opcode.PING, b""))
    assert await peer.heard() == []
    assert (peer.session.messages, peer.session.pings) == ([], 0)
    assert not peer.transport.eof
    peer.give(Frame(Opcode.CLOSE, b"\x03\xe8"))
    assert peer.transport.eof
    assert peer.session.closings == 1


async def test_a_reason_that_is_too_long_is_cut_at_a_character() -> None:
    peer = Peer()
    peer.wire.close(1008, "ö" * 100)
    assert await peer.closing() == Close(1008, "ö" * 61)


async def test_a_peers_close_is_answered_after_what_was_pending() -> None:
    peer = Peer()
    peer.wire.send(b"pending")
    peer.give(Frame(Opcode.CLOSE, (4000).to_bytes(2) + b"bye"))
    message, close = await peer.heard()
    assert message.data == b"pending"
    assert Close.parse(close.data) == Close(4000, "bye")
    assert peer.transport.eof
    assert peer.session.closings == 1


async def test_a_session_may_close_while_the_peers_close_is_already_there() -> None:
    class Strict(Notes):
        def received(self, message: bytes) -> None:
            super().received(message)
            self.wire.close(1008, "not like that")

    peer = Peer(Strict())
    peer.give(text("bad"), text("never seen"), Frame(Opcode.CLOSE, b"\x03\xe8"))
    assert peer.session.messages == [b"bad"]
    assert (await peer.closing()).code == 1000
    assert peer.session.closings == 1


async def test_a_session_cannot_send_from_within_its_end() -> None:
    class Talkative(Notes):
        def closed(self) -> None:
            super().closed()
            self.wire.send(b"and another thing")

    peer = Peer(Talkative())
    peer.wire.close(1000)
    assert [frame.opcode for frame in await peer.heard()] == [Opcode.CLOSE]


@pytest.mark.parametrize("tls", [False, True])
async def test_the_socket_is_half_closed_where_it_can_be(tls: bool) -> None:
    peer = Peer(tls=tls)
    peer.give(Frame(Opcode.CLOSE, b"\x03\xe8"))
    assert (peer.transport.eof, peer.transport.closed) == (not tls, tls)


async def test_a_peer_that_does_not_hang_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CLOSE_TIMEOUT_S", 0.01)
    peer = Peer()
    peer.wire.close(1000)
    assert not peer.transport.aborted.is_set()
    async with asyncio.timeout(5):
        await peer.transport.aborted.wait()


async def test_a_lost_connection_ends_the_session_once_and_leaves_the_server() -> None:
    peer = Peer()
    assert peer.connections == {peer.wire}
    peer.wire.send(b"never written")
    peer.wire.eof_received()
    assert peer.session.closings == 1
    peer.wire.connection_lost(None)
    assert peer.session.closings == 1
    assert peer.connections == set()


async def test_a_lost_connection_is_freed_without_the_garbage_collector() -> None:
    peer = Peer()
    protocol = weakref.ref(peer.wire._protocol)
    gc.disable()
    try:
        peer.wire.connection_lost(None)
        del peer.wire, peer.session
        assert protocol() is None
    finally:
        gc.enable()


async def test_a_reset_connection_is_not_written_to() -> None:
    peer = Peer()
    peer.wire.send(b"push")
    peer.wire.connection_lost(ConnectionResetError())
    peer.wire.send(b"push")
    assert await peer.heard() == []
    assert peer.session.closings == 1


async def test_a_flood_that_is_still_being_read_ends_with_its_connection() -> None:
    peer = Peer()
    peer.give(*[text("x")] * 10_000)
    peer.wire.connection_lost(None)
    at_once = len(peer.session.messages)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(peer.session.messages) == at_once


@pytest.mark.parametrize("call", ["opened", "received", "pinged", "shutdown"])
async def test_a_bug_in_a_session_costs_its_connection_alone(call: str, logged: list[EventDict]) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a bug")

    session = Notes()
    setattr(session, call, fail)
    peer = Peer(session)
    if call != "opened":
        peer.give(text("1"), text("2"), Frame(Opcode.PING, b""))
        peer.wire.shutdown()
    assert (await peer.closing()).code == 1011
    assert session.closings == 1
    assert [line["event"] for line in logged] == ["session_failed"]


async def test_a_bug_in_the_end_of_a_session_does_not_spread(logged: list[EventDict]) -> None:
    class Careless(Notes):
        def closed(self) -> None:
            raise RuntimeError("a bug")

    peer = Peer(Careless())
    peer.wire.close(1000)
    assert (await peer.closing()).code == 1000
    assert [line["event"] for line in logged] == ["session_failed_to_close"]


# Over sockets


class Echo(Notes):
    """Answers each message with itself, `big <n>` with n bytes, `flood` with more than anybody takes."""

    def opened(self, wire: Wire, path: str, query: str, address: str | None) -> None:
        super().opened(wire, path, query, address)
        wire.trust()

    def received(self, message: bytes) -> None:
        command, _, size = message.partition(b" ")
        if command == b"flood":
            self._flood()
        else:
            self.wire.send(b"x" * int(size) if command == b"big" else message)

    def _flood(self) -> None:
        if not self.closings:
            self.wire.send(b"x" * 60_000)
            asyncio.get_running_loop().call_soon(self._flood)

    def shutdown(self) -> None:
        self.wire.send(b"goodbye")
        self.wire.close(1012, "restarting")


class Site:
    """A real server on a real port."""

    def __init__(self, certificate: Path | None = None) -> None:
        limits = Limits(message_size_bytes=100_000, send_buffer_bytes=200_000)
        self.wires = Wires(self._route, limits, permessage_deflate=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(
            uvicorn.Config(
                _not_found,
                ws=self.wires.accept,  # type: ignore[arg-type]
                loop="none",
                lifespan="off",
                log_config=None,
                ssl_certfile=certificate,
            )
        )
        scheme = "wss" if certificate else "ws"
        self.url = f"{scheme}://localhost:{self.listener.getsockname()[1]}"

    def _route(self, path: str, query: str) -> Echo:
        if path != "/echo":
            raise NotFound
        return Echo()


async def _not_found(scope: object, receive: object, send: object) -> None:
    raise AssertionError("no HTTP here")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=["plain", "tls"])
async def site(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    certificate = None
    if request.param == "tls":
        certificate = tmp_path_factory.mktemp("tls") / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    async with serving(Site(certificate)) as site:
        yield site


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Site]:
    """Connections may be made at once: the socket listens already."""
    task = asyncio.create_task(site.server.serve([site.listener]))
    try:
        yield site
    finally:
        site.server.should_exit = True
        await task


@pytest.fixture
def client(site: Site, authority: trustme.CA) -> Callable[..., connect]:
    """`async with client() as socket`: a connection to the site."""
    context = None
    if site.url.startswith("wss"):
        context = ssl.create_default_context()
        authority.configure_trust(context)
    return lambda path="/echo", **options: connect(site.url + path, ssl=context, proxy=None, **options)


async def test_messages_cross_a_real_socket(client: Callable[..., connect]) -> None:
    async with client(compression=None) as socket:
        for message in ("1", "zwölf", "x" * 90_000):
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    assert socket.close_code == 1000


async def test_compression_is_negotiated_and_used(client: Callable[..., connect]) -> None:
    async with client() as socket:
        [extension] = socket.protocol.extensions
        assert isinstance(extension, PerMessageDeflate)
        assert (extension.remote_max_window_bits, extension.local_max_window_bits) == (12, 12)
        for message in ("again and again " * 1000, "once"):
            await socket.send(message)
            assert await socket.recv() == message


async def test_a_path_that_is_not_there_is_404(client: Callable[..., connect]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await client("/nowhere")
    response = refused.value.response
    assert response.status_code == 404
    assert orjson.loads(response.body) == {"error": {"type": "not_found", "message": "Not found"}}


async def test_the_close_code_arrives_before_the_end_of_what_broke_the_limit(client: Callable[..., connect]) -> None:
    async with client(compression=None) as socket:
        with pytest.raises(ConnectionClosedError) as closed:
            await asyncio.gather(socket.send("x" * 5_000_000), socket.recv())
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_slow_reader_is_cut_while_another_is_served(site: Site, client: Callable[..., connect]) -> None:
    cut_before = site.wires.slow_readers_cut
    async with client(compression=None) as reading, client(compression=None, max_queue=1) as not_reading:
        await not_reading.send("flood")
        for number in range(1000):
            await reading.send(str(number))
            assert await reading.recv() == str(number)
            if site.wires.slow_readers_cut > cut_before:
                break
        assert site.wires.slow_readers_cut == cut_before + 1
        await reading.send("still here")
        assert await reading.recv() == "still here"
        not_reading.transport.abort()


async def test_an_answer_larger_than_the_send_buffer_arrives(client: Callable[..., connect]) -> None:
    async with client(compression=None, max_size=None) as socket:
        await socket.send("big 20000000")
        await socket.send("and a push behind it")
        assert len(await socket.recv()) == 20_000_000
        assert await socket.recv() == "and a push behind it"


async def test_a_server_that_stops_says_goodbye() -> None:
    async with serving(Site()) as site, connect(site.url + "/echo", proxy=None) as socket:
        site.server.should_exit = True
        assert await socket.recv() == "goodbye"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd == Close(1012, "restarting")
