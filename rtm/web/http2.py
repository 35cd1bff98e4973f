"""HTTP/2 as uvicorn speaks it, with the bounds on waiting that it lacks; HTTP/1.1 beside it is that of `http.py`."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol
from zttp import Request

from rtm.web import http

_LEAST_TAKEN_BYTES = 1 << 16
"""What a client that asks for nothing more must take of its last answers in the time to read them."""


class BoundedHttp2(http.Deadlines, ZttpH2Protocol):
    """Cuts a connection whose first request is too long in coming, or that does not take what it is answered.

    uvicorn by itself waits for the first frame for ever, and ends a connection on which nobody asks for anything a few
    seconds after the last frame, whatever that was. A client may leave an answer unread in two ways, and is given its
    time in both: it reads nothing, or it reads and lets nothing be sent (flow control).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._taken_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            self._expect_reader()

    def handle_request(self, event: Request) -> None:
        self._stop_expecting()
        super().handle_request(event)

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
