"""A real server under fire, a client for bytes as they are, and the question that every case ends with: is it unharmed?

The client takes no part in any event loop: blocking sockets with a limit on time.
"""

import json
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.running import ServerProcess

PATIENCE_S = 30
SOCKET_PATH = "/v3.6/agent/rtm/ws"

CONTRACT_ERRORS = frozenset(
    """
    agent_offline already_exists authentication authorization chat_anonymized chat_inactive customer_banned
    entity_too_large greeting_not_found group_not_found group_offline group_unavailable groups_offline internal
    license_expired license_not_found limit_reached misdirected_request missing_access not_allowed not_found
    ownership_transfer pending_requests_limit_reached request_timeout requester_already_offline
    requester_awaiting_approval requester_suspended seats_limit_exceeded service_unavailable too_many_requests
    transfer_ownership unsupported_version users_limit_reached validation wrong_product_version
    """.split()
)
"""Every error type of the contract, for the server to keep to."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; its status is 0 where the connection was cut without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> tuple[str, str]:
        """Type and message of the error in the body."""
        return error_of(json.loads(self.body))


def error_of(payload: dict[str, Any]) -> tuple[str, str]:
    """Type and message; the type is one of the contract's."""
    error = payload["error"]
    assert set(error) <= {"type", "message", "data"}
    assert error["type"] in CONTRACT_ERRORS
    return error["type"], error["message"]


class Target:
    """A server, and what its log has said so far."""

    def __init__(self, server: ServerProcess, log: Path, stranger_token: str) -> None:
        self.server = server
        self.stranger_token = stranger_token
        """The token of the owner of another license."""
        self._log = log
        self._log_read = 0
        host, _, port = server.address.rpartition(":")
        self.address = (host, int(port))

    def connect(self) -> socket.socket:
        """A connection on which nothing has been said."""
        return socket.create_connection(self.address, PATIENCE_S)

    def ask(self, request: bytes) -> Answer:
        """Send these bytes and read one HTTP answer, which may come before all of them are sent."""
        with self.connect() as connection:
            send_all(connection, request)
            return read_answer(connection)

    def call(self, action: str, payload: Any) -> Answer:
        """The answer of the Web API."""
        body = json.dumps(payload).encode()
        head = (
            f"POST /v3.6/agent/action/{action} HTTP/1.1\r\nHost: rtm.test\r\nConnection: close\r\n"
            f"Authorization: {self.token()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return self.ask(head.encode() + body)

    @contextmanager
    def open_socket(self, path: str = SOCKET_PATH, *, compressed: bool = False) -> Iterator["Socket"]:
        """A connection after its handshake."""
        with self.connect() as connection:
            yield Socket(connection, path, compressed)

    @contextmanager
    def logged_in(self, token: str, version: str = "3.6") -> Iterator["Socket"]:
        """A connection after its log-in."""
        with self.open_socket(f"/v{version}/agent/rtm/ws") as client:
            assert client.call("login", {"token": token})["success"]
            yield client

    def token(self, agent_id: str = "owner@example.com") -> str:
        """A token with every scope of the agent's role."""
        return f"Bearer {self.server.token(agent_id)}"

    def assert_unharmed(self) -> None:
        """The same process serves a client that means well, and its log tells of no error of its own."""
        assert self.server.process.poll() is None
        assert self.ask(b"GET /health/live HTTP/1.1\r\nHost: rtm\r\nConnection: close\r\n\r\n").status == 200
        with self.logged_in(self.token("jones@example.com")) as client:
            assert client.call("ping", {})["success"]
        for line in self._new_log_lines():
            assert "Traceback" not in line
            assert json.loads(line)["level"] in {"debug", "info", "warning"}, line

    def _new_log_lines(self) -> list[str]:
        with self._log.open(encoding="utf-8") as log:
            log.seek(self._log_read)
            lines = log.readlines()
            self._log_read = log.tell()
        return lines


class Socket:
    """A client after its handshake; what it sends is as right or wrong as it is told."""

    def __init__(self, connection: socket.socket, path: str, compressed: bool) -> None:
        self._connection = connection
        self._requests = 0
        self._events: deque[object] = deque()
        extensions = [ClientPerMessageDeflateFactory()] if compressed else None
        self._protocol = ClientProtocol(parse_uri(f"ws://rtm.test{path}"), extensions=extensions, max_size=None)
        self.send_bytes(self._protocol.connect().serialize())
        response = self._next_event()
        assert isinstance(response, Response)
        assert response.status_code == 101, response
        assert bool(self._protocol.extensions) == compressed

    def send_bytes(self, data: bytes) -> None:
        """Send bytes; those that the server no longer takes are lost."""
        send_all(self._connection, data)

    def send(self, message: bytes) -> None:
        """Send a text message."""
        self.send_bytes(frame(Opcode.TEXT, message))

    def call(self, action: str, payload: Any) -> dict[str, Any]:
        """The response to a request, whatever pushes come before it."""
        self._requests += 1
        request_id = f"hostile {self._requests}"
        self.send(json.dumps({"action": action, "payload": payload, "request_id": request_id}).encode())
        answer = self.next_response()
        assert answer["request_id"] == request_id
        return answer

    def next_response(self) -> dict[str, Any]:
        """The next response, whatever pushes come before it."""
        while (message := self.next_message())["type"] != "response":
            assert message["type"] == "push"
        return message

    def next_message(self) -> dict[str, Any]:
        """The next text message, which is JSON."""
        while True:
            event = self._next_event()
            assert isinstance(event, Frame), "the connection has ended"
            assert event.opcode is not Opcode.CLOSE, Close.parse(event.data)
            if event.opcode is Opcode.TEXT:
                message: dict[str, Any] = json.loads(bytes(event.data))
                return message

    def hang_up(self) -> None:
        """Send nothing more."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def until_closed(self) -> tuple[list[dict[str, Any]], int | None]:
        """All messages to the end, and the close code, if there was one before the end of the stream."""
        messages: list[dict[str, Any]] = []
        code = None
        while (event := self._next_event()) is not None:
            assert isinstance(event, Frame)
            if event.opcode is Opcode.TEXT:
                messages.append(json.loads(bytes(event.data)))
            elif event.opcode is Opcode.CLOSE:
                code = Close.parse(event.data).code
                # The server has said its last word; it waits for the end of our stream.
                self.hang_up()
        return messages, code

    def _next_event(self) -> object:
        """What has come next, None at the end of the stream."""
        while not self._events:
            try:
                data = self._connection.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._protocol.receive_data(data)
            self._events += self._protocol.events_received()
        return self._events.popleft()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True, size: int = -1
) -> bytes:
    """A client's frame, right or wrong; its mask is zero, which leaves the payload readable. `size` tells a lie."""
    length = len(payload) if size < 0 else size
    head = bytes([fin << 7 | reserved << 4 | opcode])
    flag = masked << 7
    if length < 126:
        head += bytes([flag | length])
    elif length < 1 << 16:
        head += bytes([flag | 126]) + length.to_bytes(2)
    else:
        head += bytes([flag | 127]) + length.to_bytes(8)
    return head + (bytes(4) if masked else b"") + payload


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send what the server takes before it ends the connection."""
    with suppress(ConnectionError):
        connection.sendall(data)


def read_answer(connection: socket.socket) -> Answer:
    """The next HTTP answer."""
    with closing(HTTPResponse(connection)) as response:
        try:
            response.begin()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except ConnectionError:
            return Answer(0, {}, b"")
