"""Many clients that all want in at the same moment, in one epoll: no more load than their bytes are."""

import itertools
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from bench.agents import PATH, encode_request
from bench.clients import PATIENCE_S, text_frame

_UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: rtm.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()
_PING, _PONG = b"\x89\x80mask", b"\x8a\x00"
_HEAD_END = b"\r\n\r\n"


@dataclass
class Stampede:
    """Clients of one server, each with a token."""

    port: int
    tokens: Sequence[str]
    in_at_s: list[float] = field(default_factory=list)
    """When each was logged in, from the beginning of the run."""
    setbacks: Counter[str] = field(default_factory=Counter)
    """What made clients begin again."""
    sockets: dict[int, "_Client"] = field(default_factory=dict)
    """By file descriptor."""

    def run(self, patience_s: float) -> None:
        """Connect and log in with every token, all at once; who fails begins again. Raises TimeoutError."""
        self.in_at_s, self.setbacks = [], Counter()
        began = time.monotonic()
        epoll = select.epoll()
        for token in self.tokens:
            self._begin(epoll, token)
        while len(self.in_at_s) < len(self.tokens):
            if time.monotonic() > began + patience_s:
                raise TimeoutError(f"{len(self.in_at_s)} of {len(self.tokens)} logged in; {self.setbacks}")
            for fd, _ in epoll.poll(0.1):
                client = self.sockets[fd]
                try:
                    is_in = client.go_on()
                except OSError as error:
                    self.setbacks[str(error)] += 1
                    client.socket.close()
                    del self.sockets[fd]
                    self._begin(epoll, client.token)
                    continue
                if client.wants_to_read:
                    epoll.modify(fd, select.EPOLLIN)
                if is_in:
                    epoll.unregister(fd)
                    self.in_at_s.append(time.monotonic() - began)
        epoll.close()

    def _begin(self, epoll: select.epoll, token: str) -> None:
        client = _Client(self.port, token)
        self.sockets[client.socket.fileno()] = client
        epoll.register(client.socket, select.EPOLLOUT)

    def ping(self) -> int:
        """How many of the connections answer."""
        for client in self.sockets.values():
            client.socket.setblocking(True)
            client.socket.settimeout(PATIENCE_S)
            client.socket.sendall(_PING)
        return sum(client.socket.recv(65536)[-2:] == _PONG for client in self.sockets.values())

    def cut(self) -> None:
        """All connections, without a word."""
        for client in self.sockets.values():
            client.socket.close()
        self.sockets.clear()


class _Client:
    """One that connects, upgrades and logs in; each step is taken when the socket says that it can be."""

    __slots__ = ("_heard", "_steps", "socket", "token", "wants_to_read")

    def __init__(self, port: int, token: str) -> None:
        self.token = token
        self.wants_to_read = False
        self._heard = b""
        self._steps = itertools.count()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def go_on(self) -> bool:
        """Whether it is logged in. Raises OSError if it has to begin again."""
        if not self.wants_to_read:
            self.socket.sendall(_UPGRADE)
            self.wants_to_read = True
            return False
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("cut")
        before, self._heard = self._heard, self._heard + data
        if _HEAD_END not in before:
            if _HEAD_END in self._heard:
                assert self._heard.startswith(b"HTTP/1.1 101 "), self._heard
                payload = {"token": f"Bearer {self.token}", "pushes": {"3.6": ["incoming_event"]}}
                self.socket.sendall(text_frame(encode_request("login", payload)))
            return False
        answer = self._heard.partition(_HEAD_END)[2]
        length, start = answer[1], 2
        if length == 126:
            length, start = int.from_bytes(answer[2:4]), 4
        if len(answer) < start + length:
            return False
        response = orjson.loads(answer[start : start + length])
        if response["type"] == "push":
            raise ConnectionAbortedError(response["payload"]["reason"])
        if not response["success"]:
            raise ConnectionRefusedError(response["payload"]["error"]["type"])
        return True
