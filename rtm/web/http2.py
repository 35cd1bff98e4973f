"""HTTP/2 as uvicorn speaks it, with the bounds on waiting that it lacks; HTTP/1.1 beside it is that of `http.py`."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
from uvicorn.protocols.http.zttp_h2_impl import RequestResponseCycle, ZttpH2Protocol
from zttp import Request

from rtm.web import http

_LEAST_TAKEN_BYTES = 1 << 16
"""What a client that asks for nothing more must take of its last answers in the time to read them."""
_MOST_WAITING_BYTES = 1 << 16
"""Of one answer, that the client does not let be sent yet, when the next piece of it may come."""


class StreamFlow:
    """Has an answer's next piece wait for the one before it; in the place of uvicorn's `FlowControl`.

    uvicorn waits for the connection alone, which is never full of what the client does not let be sent: zttp keeps it.
    """

    def __init__(self, protocol: "BoundedHttp2", cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle

    @property
    def write_paused(self) -> bool:
        return self._protocol.flow.write_paused or self._waiting_bytes() >= _MOST_WAITING_BYTES

    def _waiting_bytes(self) -> int:
        return 0 if self._cycle.disconnected else self._cycle.stream.pending_bytes or 0

    async def drain(self) -> None:
        """Wait until there is room. An answer of which the client takes too little in its time is ended."""
        try:
            while (before := self._waiting_bytes()) >= _MOST_WAITING_BYTES:
                async with asyncio.timeout(http.UNREAD_TIMEOUT_S):
                    while self._waiting_bytes() > before - _LEAST_TAKEN_BYTES:
                        await self._protocol.heard.wait()
        except TimeoutError:
            self._cycle.abort_stream()
            self._cycle.message_event.set()
        await self._protocol.flow.drain()


class BoundedHttp2(http.Deadlines, ZttpH2Protocol):
    """Cuts a connection whose first request is too long in coming, or that does not take what it is answered.

    uvicorn by itself waits for the first frame for ever, and ends a connection on which nobody asks for anything a few
    seconds after the last frame, whatever that was. A client may leave an answer unread in two ways, and is given its
    time in both: it reads nothing, or it reads and lets nothing be sent (flow control).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._taken_bytes = 0
        self.heard = asyncio.Event()
        """Wakes who waits for it whenever the client has said something, or is gone; never stays set."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            self._expect_reader()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wake()

    def _wake(self) -> None:
        self.heard.set()
        self.heard.clear()

    def handle_request(self, event: Request) -> None:
        self._stop_expecting()
        super().handle_request(event)
        cycle = self.cycles[event.stream_id]
        cycle.flow = StreamFlow(self, cycle)  # type: ignore[assignment]

    def on_stream_closed(self) -> None:
        super().on_stream_closed()
        if not self.cycles:
            self._stop_expecting()
            self._expect_request()

    def flush(self) -> None:
        written = self.conn.data_to_send()
        self._taken_bytes += len(written)
        if written:
            self.transport.write(written)

    def _close_connection(self) -> None:
        super()._close_connection()
        self._expect_reader()

    def _expect_request(self) -> None:
        self._taken_bytes = 0
        self._deadline = self.loop.call_later(http.UNREAD_TIMEOUT_S, self._look)

    def _look(self) -> None:
        if self.conn.has_pending_send() and self._taken_bytes >= _LEAST_TAKEN_BYTES:
            self._expect_request()
        else:
            self._close_connection()


class EitherHttp(AutoZttpProtocol):
    """HTTP/2 for who asks for it, by ALPN or by its first bytes; HTTP/1.1 for all others."""

    def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
        kind = BoundedHttp2 if http2 else http.BoundedHttp
        protocol = kind(self.config, self.server_state, self.app_state, self.loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if initial_data:
            protocol.data_received(initial_data)
