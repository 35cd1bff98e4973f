"""One websocket connection: whole text messages in, whole text messages out, and an end that is always clean.

uvicorn reads the handshake and hands the connection over (`Config(ws=Wires(...).accept)`); from then on nothing is
between the socket and the session: no task, queue or dict for a frame. `websockets` parses the frames and knows the
rules of RFC 6455; what is here is when to write, when to stop, and what a peer may cost.

    CONNECTING ── 101 ──> OPEN ── close, violation or end of stream ──> CLOSING ── the socket is gone ──> CLOSED
         └─────────────── refused, with an error as over HTTP ─────────────┘

A session is told of what happens while its wire is OPEN, and of nothing after that.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import orjson
import structlog
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState
from websockets import protocol as websocket
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import BINARY, CONT, PING, TEXT, CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.protocol import CLOSED, CLOSING, CONNECTING, OPEN, SEND_EOF, State
from websockets.server import ServerProtocol

from rtm.gateway.cork import NOWHERE, Cork, Flusher
from rtm.protocol.errors import ApiError, InternalError
from rtm.settings import Limits

log = structlog.get_logger(__name__)

# For `websockets`, which logs each frame at DEBUG, which takes longer than the frame, and each connection at INFO.
_frames_log = logging.getLogger(f"{__name__}.frames")
_frames_log.setLevel(logging.WARNING)

CLOSE_TIMEOUT_S = 5
"""How long a peer may take to read our last words and to hang up."""

_TLS_HIGH_WATER_BYTES = 1 << 16
"""Unsent bytes from which a peer counts as slow over TLS; elsewhere whatever the kernel has no room for."""

_CREDIT = 256
"""Frames that may come at once, before they are spread over time (`limits.messages_per_second`)."""

_CREDIT_BYTES = 64
"""Input that is handled in one loop turn, for each frame of credit. At most 16 KiB: in small frames 10 ms of work."""

_BYTES_FOR_CREDIT = 4096
"""A megabyte costs what 256 small frames do: to decode, check and store it takes as long."""

_LEAST_CREDIT = 16
"""Who has spent all is read again with this much earned: some ten requests, a millisecond of work with its answers."""

_ANY = 1e9  # frames in a second

_STRANGER_MESSAGE_BYTES = 1 << 16
"""Largest message of a peer that is not trusted yet: some log in, and any number may come who never do."""

_MAX_REASON_BYTES = 123  # RFC 6455, 5.5: 125 in a control frame, two of which are the code

_TEXT_HEAD = 0x80 | TEXT  # the first byte of a text message in one frame
_HEAD_16 = struct.Struct("!BBH")
_HEAD_64 = struct.Struct("!BBQ")


class WireSession(Protocol):
    """What a connection is for. Nothing here may block; an exception closes the connection with 1011."""

    @property
    def handshake_headers(self) -> Mapping[str, str]:
        """Headers for the answer to the handshake, besides the protocol's own."""

    def opened(self, wire: "Wire", path: str, query: str, address: str | None) -> None:
        """The handshake is done; `path` and `query` are as sent, `address` is the client's IP address, if known."""

    def received(self, message: bytes) -> None:
        """A whole text message: valid UTF-8, and within the limit on its size."""

    def pinged(self) -> None:
        """A ping frame; it is answered already."""

    def closed(self) -> None:
        """Nothing is delivered or sent any more, whoever ended it. Called once; during `Wire.close`, if that did."""

    def shutdown(self) -> None:
        """The server stops: say goodbye and close."""


Route = Callable[[str, str], WireSession]
"""A new session for a path and query. Raises ApiError, which then answers the handshake."""


class Wires:
    """What the wires of one server share."""

    def __init__(
        self,
        route: Route,
        limits: Limits,
        *,
        permessage_deflate: bool = False,
        flusher: Flusher | None = None,
    ) -> None:
        self.route = route
        self.max_message_bytes = limits.message_size_bytes or None
        self.max_lag_bytes = limits.send_buffer_bytes or None
        self.frames_per_second = limits.messages_per_second or _ANY
        self.extensions = [_deflate()] if permessage_deflate else []
        self.flusher = flusher or Flusher()
        self.slow_readers_cut = 0
        """How many connections were cut since the start for not reading; for the metrics."""

    def accept(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> "Wire":
        """What uvicorn takes as `Config(ws=...)`."""
        return Wire(self, config, server_state)


class _Corked:
    """What the flusher uses, in a class of its own: the slots of a base lie beside the object's head.

    So a push for a thousand connections looks at one place in memory for each.
    """

    __slots__ = ("fileno", "pending")

    def __init__(self) -> None:
        self.fileno: int | None = None
        self.pending: Cork | None = NOWHERE
        """What the flusher will have written; None while there is nothing."""


class Wire(_Corked, asyncio.Protocol):
    """One connection, for its session to send on and to close; the public rest is for uvicorn and the transport."""

    __slots__ = (
        "_address",
        "_config",
        "_connections",
        "_credit",
        "_earned_at",
        "_fragments",
        "_lag_allowed",
        "_plain_fileno",
        "_protocol",
        "_session",
        "_state",
        "_timer",
        "_transport",
        "_wires",
    )

    _transport: asyncio.Transport
    _protocol: websocket.Protocol
    _session: WireSession

    def __init__(self, wires: Wires, config: Config, server_state: ServerState) -> None:
        super().__init__()
        self._wires = wires
        self._config = config
        self._connections: set[Any] = server_state.connections
        self._state: State = CONNECTING
        self._address: str | None = None
        self._plain_fileno: int | None = None
        self._credit: float = _CREDIT
        self._earned_at = 0.0
        self._fragments: bytearray | None = None
        self._lag_allowed: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    # For the session

    def send(self, message: bytes) -> None:
        """Send a text message, which is UTF-8; a connection that is no longer open drops it."""
        self.send_encoded(encode_text_frame(message))

    def send_encoded(self, frame: bytes) -> None:
        """Send what `encode_text_frame` made; the same object may go to any number of wires."""
        if self.pending is None:
            self.pending = self._wires.flusher.start(self, frame)
        else:
            self.pending = self.pending.then(frame)

    def trust(self) -> None:
        """The peer has said who it is: from now on its messages may be as large as the limit allows."""
        self._protocol.max_message_size = self._wires.max_message_bytes

    def close(self, code: int, reason: str = "") -> None:
        """Send what is pending and a close frame, with as much of the reason as fits; then hear nothing more."""
        if self._state is not OPEN:
            return
        if self._protocol.state is OPEN:  # else its own last words, to a close or a violation, are waiting
            self._protocol.send_close(code, reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
        self._send_output()

    def abort(self) -> None:
        """Close without a word, and drop what is pending."""
        self._transport.abort()
        self.pending = NOWHERE
        self.fileno = None
        self._leave()

    # The handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is uvicorn's, which has read the handshake from it."""
        self._transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("sslcontext") is None:
            self._transport.set_write_buffer_limits(high=0)
            self._plain_fileno = transport.get_extra_info("socket").fileno()
        else:
            self._transport.set_write_buffer_limits(high=_TLS_HIGH_WATER_BYTES)
        self._connections.add(self)

    def _handshake(self, data: bytes) -> None:
        handshake = ServerProtocol(extensions=self._wires.extensions, logger=_frames_log)
        self._protocol = handshake  # if it is refused, for good: it discards what still comes
        handshake.receive_data(data)
        request = next(iter(handshake.events_received()), None)
        if isinstance(request, Request):  # else `websockets` has refused it already
            self._address = self._client_address(request.headers)
            handshake.send_response(self._answer(handshake, request))
        self._transport.write(b"".join(handshake.data_to_send()))
        if isinstance(request, Request) and handshake.state is OPEN:
            self._open(request, handshake)
        else:
            self._leave()
            self._end_stream()

    def _answer(self, handshake: ServerProtocol, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        try:
            self._session = self._wires.route(path, query)
            response = handshake.accept(request)
            response.headers.update(self._session.handshake_headers)
        except ApiError as error:
            return _refusal(handshake, error)
        except Exception:
            log.exception("route_failed", address=self._address, path=path)
            return _refusal(handshake, InternalError())
        return response

    def _open(self, request: Request, handshake: ServerProtocol) -> None:
        # The protocol of the handshake would keep all its headers for as long as the connection lasts.
        max_size = min(_STRANGER_MESSAGE_BYTES, self._wires.max_message_bytes or _STRANGER_MESSAGE_BYTES)
        self._protocol = websocket.Protocol(websocket.Side.SERVER, max_size=max_size, logger=_frames_log)
        self._protocol.extensions = handshake.extensions
        self._state = OPEN
        self.pending = None
        self._write_at_once()
        path, _, query = request.path.partition("?")
        self._session.opened(self, path, query, self._address)

    def _client_address(self, headers: Headers) -> str | None:
        """The peer's, or the one that a proxy names which uvicorn was told to trust (`forwarded_allow_ips`)."""
        peer = self._transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else None
        proxies = self._config.loaded_app
        if isinstance(proxies, ProxyHeadersMiddleware) and address in proxies.trusted_hosts:
            forwarded = ", ".join(headers.get_all("X-Forwarded-For"))
            return proxies.trusted_hosts.get_trusted_client_address(forwarded)[0] or address
        return address

    # Frames in

    def data_received(self, data: bytes) -> None:
        """The handshake from uvicorn, in one piece; then what the transport reads."""
        if len(data) <= self._credit * _CREDIT_BYTES or self._state is CONNECTING:
            self._read(data)
        else:
            self._transport.pause_reading()
            self._read_by_turns(data, 0)

    def _read_by_turns(self, data: bytes, start: int) -> None:
        """Read as much as there is credit for, so that one connection leaves time for the others; then go on.

        What is not read stays with the client: TCP holds it back.
        """
        if self._state is CLOSED:
            return
        self._earn()
        end = start + int(max(self._credit, _LEAST_CREDIT)) * _CREDIT_BYTES
        self._read(data[start:end])
        pause_s = 0 if self._credit > 0 else (_LEAST_CREDIT - self._credit) / self._wires.frames_per_second
        loop = asyncio.get_running_loop()
        if end < len(data):
            loop.call_later(pause_s, self._read_by_turns, data, end)
        elif pause_s:
            loop.call_later(pause_s, self._transport.resume_reading)
        else:
            self._transport.resume_reading()

    def _earn(self) -> None:
        """Credit for the time that has passed. Only here the clock is asked: few reads are larger than their credit."""
        now = asyncio.get_running_loop().time()
        self._credit = min(_CREDIT, self._credit + (now - self._earned_at) * self._wires.frames_per_second)
        self._earned_at = now

    def _read(self, data: bytes) -> None:
        try:
            if self._state is CONNECTING:
                self._handshake(data)
                return
            self._protocol.receive_data(data)
            frames = self._protocol.events_received()
            self._credit -= len(frames) + len(data) / _BYTES_FOR_CREDIT
            for frame in frames:
                if self._state is OPEN:
                    self._receive(cast(Frame, frame))
            self._send_output()
        except Exception:
            log.exception("session_failed", address=self._address)
            self._give_up()

    def _receive(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is TEXT or opcode is CONT:
            if frame.fin and self._fragments is None:
                self._deliver(bytes(frame.data))  # no copy: what was masked is bytes already
            else:
                self._receive_fragment(frame)
        elif opcode is PING:
            self._session.pinged()
        elif opcode is BINARY:
            self._fail(CloseCode.UNSUPPORTED_DATA, "expected text")

    def _receive_fragment(self, frame: Frame) -> None:
        # One buffer, as a list would grow with fragments that are empty, which no limit on a message's size sees.
        if self._fragments is None:
            self._fragments = bytearray()
        self._fragments += frame.data
        if frame.fin:
            message, self._fragments = bytes(self._fragments), None
            self._deliver(message)

    def _deliver(self, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError as error:
            self._fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}")
        else:
            self._session.received(message)

    # Frames out

    def flush(self) -> None:
        """Write what is pending to a peer that is slow or wants it compressed. Raises nothing."""
        pending = self.pending
        if pending is None or pending is NOWHERE:
            return
        self.pending = None
        if self._lag_allowed is not None and self._transport.get_write_buffer_size() > self._lag_allowed:
            self._cut()
            return
        try:
            self._transport.write(self._compressed(pending) if self._protocol.extensions else pending.joined())
        except Exception as error:  # noqa: BLE001 - `failed` logs it
            self.failed(error)

    def behind(self, rest: memoryview) -> None:
        """The peer's kernel and ours are full: the transport keeps the rest, and says so (`pause_writing`)."""
        self._transport.write(rest)

    def failed(self, error: Exception) -> None:
        """A write has raised; end the connection. That the peer has gone is its right, all else is our fault."""
        if not isinstance(error, OSError):
            log.error("write_failed", address=self._address, exc_info=error)
        self.abort()

    def _write_at_once(self) -> None:
        """Let the flusher write past us and the transport, which saves a tenth of a push's price.

        For a peer that keeps up and takes frames as they are, without TLS, and while the transport has nothing to send.
        """
        if not self._protocol.extensions and not self._transport.get_write_buffer_size():
            self.fileno = self._plain_fileno

    def _compressed(self, pending: Cork) -> bytes:
        """The same frames in this connection's compression, whose state makes them nobody else's."""
        extensions = self._protocol.extensions
        return b"".join(
            Frame(TEXT, _payload(frame)).serialize(mask=False, extensions=extensions)
            if frame[0] == _TEXT_HEAD
            else frame
            for frame in pending.frames()
        )

    def _send_output(self) -> None:
        """Send what the protocol says by itself: pongs, and at the end a close frame and the end of the stream."""
        output = self._protocol.data_to_send()
        if output:
            for frame in output:
                if frame != SEND_EOF:
                    self.send_encoded(frame)
            if self._protocol.close_expected():
                self._leave()
            if output[-1] == SEND_EOF:
                self._end_stream()

    # Slow peers

    def pause_writing(self) -> None:
        """The peer does not keep up; the transport says so during the write that shows it.

        That write may have been of any size, for instance one large answer: the limit is on what comes on top of it.
        Reading goes on, else the pings of a peer on a slow line would not be seen. A peer that sends requests and does
        not read the answers lags too, and is cut for it.
        """
        self.fileno = None
        if self._wires.max_lag_bytes is not None:
            self._lag_allowed = self._transport.get_write_buffer_size() + self._wires.max_lag_bytes

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._lag_allowed = None
        if self._state is OPEN:
            self._write_at_once()

    def _cut(self) -> None:
        log.warning(
            "slow_reader_cut",
            address=self._address,
            unread_bytes=self._transport.get_write_buffer_size(),
            limit_bytes=self._wires.max_lag_bytes,
        )
        self._wires.slow_readers_cut += 1
        self.abort()

    # The end

    def shutdown(self) -> None:
        """The server stops; from uvicorn."""
        if self._state is OPEN:
            try:
                self._session.shutdown()
            except Exception:
                log.exception("session_failed", address=self._address)
                self._give_up()

    def eof_received(self) -> None:
        """The peer has left without a close frame; the transport closes itself after what it has to write."""
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self.pending = NOWHERE
        self.fileno = None
        self._leave()
        self._state = CLOSED
        if self._timer is not None:
            self._timer.cancel()
        self._connections.discard(self)
        # Its frame holds the protocol that holds it: left to the garbage collector, the dead outnumber the living.
        self._protocol.parser.close()

    def _fail(self, code: CloseCode, reason: str) -> None:
        """The peer broke a rule that is not the protocol's to see."""
        self._protocol.fail(code, reason)
        self._send_output()

    def _give_up(self) -> None:
        if self._state is CONNECTING:
            self.abort()
        else:
            self.close(CloseCode.INTERNAL_ERROR)

    def _leave(self) -> None:
        """Write what is pending, and hear and send nothing more; the peer has a bounded time to hang up."""
        state = self._state
        if state is CLOSING or state is CLOSED:
            return
        self._state = CLOSING
        self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        self.flush()
        self.pending = NOWHERE
        self.fileno = None
        if state is OPEN:
            session = self._session
            del self._session  # as it holds this wire
            try:
                session.closed()
            except Exception:
                log.exception("session_failed_to_close", address=self._address)

    def _end_stream(self) -> None:
        # Close half, where TLS allows: a whole close answers unread input with a reset, which can cost the peer our
        # close frame. What still comes is read and discarded.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()


def encode_text_frame(payload: bytes) -> bytes:
    """A server's frame with a whole text message (RFC 6455, 5.2); `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT_HEAD, size)) + payload
    if size < 1 << 16:
        return _HEAD_16.pack(_TEXT_HEAD, 126, size) + payload
    return _HEAD_64.pack(_TEXT_HEAD, 127, size) + payload


def _payload(frame: bytes) -> bytes:
    """What `encode_text_frame` was given."""
    size = frame[1]
    return frame[2:] if size < 126 else frame[4:] if size == 126 else frame[10:]


def _refusal(handshake: ServerProtocol, error: ApiError) -> Response:
    """The same answer to a handshake as to an HTTP request."""
    response = handshake.reject(error.status, orjson.dumps({"error": error.as_dict()}).decode())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    response.headers.update(error.headers)
    return response


def _deflate() -> ServerPerMessageDeflateFactory:
    # The usual window and memory level take 316 KiB a connection (Kludex/uvicorn#2540).
    return ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
