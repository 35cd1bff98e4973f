"""HTTP/1.1 as uvicorn speaks it, with what it lacks: bounds on a request's head, in bytes and time, and on waiting."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 1 << 16
HEAD_TIMEOUT_S = 10
MAX_PIPELINED = 16
"""Requests sent before the answer to the first; each is 5 KB to uvicorn, which takes as many as come."""
REST_TIMEOUT_S = 30
"""For the rest of a request that has been answered before its end."""
UNREAD_TIMEOUT_S = 30
"""For a client to read an answer that is larger than the buffers, and the last one before the end."""


class Deadlines(asyncio.Protocol):
    """When a connection is cut, to be mixed into uvicorn's protocol: while it waits for a request, and for a reader."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._reading_deadline: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # else all of it must be read
            self._stop_expecting_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_expecting()
        self._stop_expecting_reader()

    def _cut(self) -> None:
        self.transport.abort()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._cut)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reader(self) -> None:
        if self._reading_deadline is None:
            self._reading_deadline = self.loop.call_later(UNREAD_TIMEOUT_S, self._cut)

    def _stop_expecting_reader(self) -> None:
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
            self._reading_deadline = None


class BoundedHttp(Deadlines, HttpToolsProtocol):
    """Cuts a connection whose request line and headers are too long, or too long in coming, or that reads no answer.

    uvicorn by itself keeps any number of headers (100 MB of them cost it 96 MB) and waits for the first request for
    ever; `timeout_keep_alive` is about later ones. It keeps trailers as well: so what is counted is all of a request
    that is not its body. For answers to be read it waits for ever as well, even after it has closed a connection, and
    for the rest of a body that nobody wants any more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._unanswered: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._cut()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = max(0, self._head_bytes - len(body))
        super().on_body(body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        if self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._stop_expecting()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        if len(self._unanswered) > MAX_PIPELINED:
            raise ValueError("too many requests at once")  # which makes the parser stop, and uvicorn answer 400
        super().on_headers_complete()
        if self.cycle is not None:  # a handshake has none
            self._unanswered.append(self.cycle)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._deadline is not None:  # it was answered before
            self._stop_expecting()
            self._expect_head()  # what came after the answer has ended uvicorn's own wait for the next request

    def handle_websocket_upgrade(self) -> None:
        self._stop_expecting_reader()
        super().handle_websocket_upgrade()
        del self.parser  # the two refer to each other, and would wait for the garbage collector

    def send_400_response(self, msg: str) -> None:
        self._answer_nobody()
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reader()
        elif self.cycle.response_complete and self.cycle.more_body:
            self._deadline = self.loop.call_later(REST_TIMEOUT_S, self._cut)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer_nobody()
        super().connection_lost(exc)

    def _cut(self) -> None:
        self._answer_nobody()
        super()._cut()

    def _answer_nobody(self) -> None:
        """The connection is gone. Of several requests uvicorn tells the last; the others would write to it and fail."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
