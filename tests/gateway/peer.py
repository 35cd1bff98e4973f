"""A wire with nothing real at its other end: a transport in memory, a session that notes, a client that reads along."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.extensions import ClientExtensionFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Protocol, Side
from websockets.uri import parse_uri

from rtm.gateway.wire import Route, Wire, Wires
from rtm.settings import Limits


class Transport(asyncio.Transport):
    """Takes everything at once; `unread` is what it then says is still on its way.

    It claims to be encrypted, so that nobody looks for a socket under it.
    """

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__({"peername": ("192.0.2.1", 50000), "sslcontext": True})
        self.written: list[bytes] = []
        self.unread = 0
        self.reading = True
        self.eof = False
        self.closed = False
        self.aborted = asyncio.Event()
        self._tls = tls

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        assert not self.eof
        assert not self.closed
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return not self._tls

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted.set()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass
class Notes:
    """A session that does nothing but note what it is told."""

    messages: list[bytes] = field(default_factory=list)
    pings: int = 0
    closings: int = 0
    shutdowns: int = 0
    place: tuple[str, str, str | None] | None = None
    wire: Wire = field(init=False)
    handshake_headers: Mapping[str, str] = field(default_factory=dict)

    def opened(self, wire: Wire, path: str, query: str, address: str | None) -> None:
        self.wire = wire
        self.place = (path, query, address)

    def received(self, message: bytes) -> None:
        self.messages.append(message)

    def pinged(self) -> None:
        self.pings += 1

    def closed(self) -> None:
        self.closings += 1

    def shutdown(self) -> None:
        self.shutdowns += 1


class Peer:
    """A client of a wire: gives it bytes, and reads what it has written as a client would."""

    def __init__(
        self,
        session: Notes | None = None,
        *,
        wires: Wires | None = None,
        route: Route | None = None,
        limits: Limits | None = None,
        extensions: list[ClientExtensionFactory] | None = None,
        headers: dict[str, str] | None = None,
        trusted_proxies: str = "127.0.0.1",
        tls: bool = False,
    ) -> None:
        self.session = session or Notes()
        self.wires = wires or Wires(
            route or (lambda path, query: self.session), limits or Limits(), permessage_deflate=extensions is not None
        )
        server = ServerState()
        self.connections: set[Any] = server.connections
        self.transport = Transport(tls=tls)
        config = uvicorn.Config(_no_app, log_config=None, forwarded_allow_ips=trusted_proxies)
        config.load()
        self.wire = self.wires.accept(config, server, {})
        self.wire.connection_made(self.transport)
        client = ClientProtocol(parse_uri("ws://example.test/v3.6/agent/rtm/ws?a=b"), extensions=extensions)
        request = client.connect()
        request.headers.update(headers or {})
        self.wire.data_received(request.serialize())
        self.response = self._read_response(client)
        # From here on a client that accepts frames of any size and writes what it is told to, right or wrong.
        self._reader = Protocol(Side.CLIENT, max_size=None)
        self._reader.extensions = client.extensions

    def _read_response(self, client: ClientProtocol) -> Response:
        client.receive_data(self.transport.written.pop(0))
        if self.transport.eof:
            client.receive_eof()
        [response] = client.events_received()
        return cast(Response, response)

    def give(self, *frames: Frame | bytes) -> None:
        """Let the wire read all this at once: frames, or bytes as they are."""
        encoded = (
            frame if isinstance(frame, bytes) else frame.serialize(mask=True, extensions=self._reader.extensions)
            for frame in frames
        )
        self.wire.data_received(b"".join(encoded))

    async def heard(self) -> list[Frame]:
        """The frames written since the last call, those included that are due at the end of this loop turn."""
        await asyncio.sleep(0)
        for data in self.transport.written:
            self._reader.receive_data(data)
        self.transport.written.clear()
        return cast(list[Frame], self._reader.events_received())

    async def heard_text(self) -> list[bytes]:
        """The same, when nothing but text messages is expected."""
        frames = await self.heard()
        assert {frame.opcode for frame in frames} <= {Opcode.TEXT}
        return [bytes(frame.data) for frame in frames]

    async def closing(self) -> Close:
        """The code and reason of the close frame, which must be the last thing written."""
        *_, last = await self.heard()
        assert last.opcode is Opcode.CLOSE
        return Close.parse(last.data)


def text(message: str | bytes, *, fin: bool = True) -> Frame:
    """A text frame, or the first part of one."""
    return Frame(Opcode.TEXT, message.encode() if isinstance(message, str) else message, fin)


def more(message: str | bytes, *, fin: bool = True) -> Frame:
    """The next part."""
    return Frame(Opcode.CONT, message.encode() if isinstance(message, str) else message, fin)


async def _no_app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("no HTTP here")
