"""The load side: plain sockets that cost as little as they can, so that the server is what is measured.

A client converses while it is set up, one blocking step at a time. Under load its socket stands in an epoll with the
others, and what arrives is only cut into messages, or only counted.
"""

import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CONNECTING
from websockets.uri import parse_uri

# How long a server may stay silent while an answer is due.
PATIENCE_S = 20
# The protocol wants a ping every 30 s of each session.
PING_INTERVAL_S = 8
# How many connections are set up together: fewer than any listen backlog.
BATCH = 100

_PING = Frame(Opcode.PING, b"").serialize(mask=True)
_PONG, _CLOSE = 0x80 | Opcode.PONG, 0x80 | Opcode.CLOSE


class LoadError(Exception):
    """The server under load did not do what the load waits for."""


class Client:
    """One connection. No call waits longer than PATIENCE_S; all raise LoadError or OSError.

    For a `narrow` one the kernels of both sides keep little, so that a server soon knows that it does not read: its
    receive buffer is small, and its segments are those of an Ethernet, as send buffers grow with the segment's size.
    """

    __slots__ = ("_rest", "socket")

    def __init__(self, address: tuple[str, int], narrow: bool = False) -> None:
        self._rest = b""
        self.socket = socket.socket()
        if narrow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A limit kept by the kernel costs no call of its own, as `settimeout` would.
        patience = struct.pack("ll", PATIENCE_S, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def send(self, frames: bytes) -> None:
        self.socket.sendall(frames)

    def receive(self) -> bytes:
        """What has arrived: at least one byte."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            raise LoadError(f"no answer within {PATIENCE_S} s") from None
        if not data:
            raise LoadError("connection closed by the server")
        return data

    def cut(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, pongs left out. A server's frames here are unmasked and whole."""
        if self._rest:
            data = self._rest + data
        messages = []
        start, available = 0, len(data)
        while available - start >= 2:
            body, length = start + 2, data[start + 1]
            if length == 126:
                body, length = start + 4, int.from_bytes(data[start + 2 : start + 4])
            elif length == 127:
                body, length = start + 10, int.from_bytes(data[start + 2 : start + 10])
            end = body + length
            if end > available:
                break
            if data[start] == _CLOSE:
                raise LoadError(f"closed by the server: {Close.parse(data[body:end])}")
            if data[start] != _PONG:
                messages.append(data[body:end])
            start = end
        self._rest = data[start:]
        return messages

    def read(self) -> list[bytes]:
        """The messages that what has arrived completes: perhaps none."""
        return self.cut(self.receive())

    def next_messages(self) -> list[bytes]:
        """Wait for at least one message."""
        while not (messages := self.read()):
            pass
        return messages


class Audience:
    """Clients that are all sent the same frames: one of them reads, the others count bytes."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.clients = clients
        self._witness = clients[0]
        self._sockets = {client.socket.fileno(): client.socket for client in clients}
        self._received = dict.fromkeys(self._sockets, 0)
        self._epoll = epoll_of(clients)
        self._buffer = bytearray(65536)

    def receive(self, messages: int) -> None:
        """Wait until every client has had `messages` more. Raises LoadError if the server falls silent before."""
        sockets, received, buffer = self._sockets, self._received, self._buffer
        witness = self._witness.socket.fileno()
        heard, total, due = 0, 0, -1
        before = received[witness]
        while due < 0 or total < due:
            ready = poll_busily(self._epoll)
            if not ready:
                raise LoadError(f"{total} of {due} bytes were delivered, then none within {PATIENCE_S} s")
            for fd, _ in ready:
                size = sockets[fd].recv_into(buffer)
                if not size:
                    raise LoadError("connection closed by the server")
                received[fd] += size
                total += size
                if fd == witness:
                    heard += len(self._witness.cut(bytes(buffer[:size])))
                    if heard >= messages:
                        due = (received[witness] - before) * len(sockets)

    def check(self) -> None:
        """Raises LoadError unless every client has had the same number of bytes."""
        if len(set(self._received.values())) != 1:
            raise LoadError("some subscribers were sent more than others")

    def close(self) -> None:
        self._epoll.close()


def text_frame(payload: bytes) -> bytes:
    """A client's text frame. Made once and sent often: the mask's price is not paid again."""
    return Frame(Opcode.TEXT, payload).serialize(mask=True)


def unmasked_text_frame(payload: bytes) -> bytes:
    """The frame that a server sends for `payload`."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


@contextmanager
def connected(
    address: tuple[str, int], count: int, path: str | None = "/", narrow: bool = False
) -> Iterator[list[Client]]:
    """`count` connections: websockets opened at `path`, or bare sockets where it is None."""
    clients: list[Client] = []
    try:
        for first in range(0, count, BATCH):
            batch = [Client(address, narrow) for _ in range(min(BATCH, count - first))]
            clients += batch
            if path is not None:
                _shake_hands(batch, f"ws://{address[0]}:{address[1]}{path}")
        yield clients
    finally:
        for client in clients:
            client.socket.close()


def ping(clients: Sequence[Client]) -> None:
    """A ping and its pong on every connection, at a quiet moment: servers end a silent session."""
    for client in clients:
        client.send(_PING)
    for client in clients:
        client.read()


def epoll_of(clients: Sequence[Client]) -> select.epoll:
    """An epoll that reports the clients that have something to read."""
    epoll = select.epoll()
    for client in clients:
        epoll.register(client.socket, select.EPOLLIN)
    return epoll


def poll_busily(epoll: select.epoll) -> list[tuple[int, int]]:
    """What is ready, without sleeping until something is; nothing after PATIENCE_S.

    On one machine the server's `send` has to wake a load that sleeps, which costs as much again as the send itself in a
    virtual machine, and the slower the server the oftener. Real clients are elsewhere.
    """
    if ready := epoll.poll(0):
        return ready
    until = time.perf_counter() + PATIENCE_S
    while not (ready := epoll.poll(0)) and time.perf_counter() < until:
        pass
    return ready


def _shake_hands(batch: Sequence[Client], url: str) -> None:
    uri = parse_uri(url)
    opening = [(client, ClientProtocol(uri)) for client in batch]
    for client, protocol in opening:
        protocol.send_request(protocol.connect())
        client.send(b"".join(protocol.data_to_send()))
    for client, protocol in opening:
        while protocol.state is CONNECTING:
            protocol.receive_data(client.receive())
            if protocol.handshake_exc is not None:
                raise LoadError(f"handshake refused: {protocol.handshake_exc}")
