"""Corking: the frames that a connection is given within one turn of the event loop leave in one write.

Connections with the same pending frames also share the work. What is pending for a connection is its place in a tree
of frames; a push for a thousand connections makes one new place, to which each of them moves, and the bytes to write
are joined there once.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol


class Corked(Protocol):
    """A connection that writes when it is told to."""

    pending: "Cork | None"
    """What there is to write; None for nothing."""
    write: Callable[[bytes], int] | None
    """Takes as many of these bytes as there is room for, like `socket.send`; None while only `flush` may write."""

    def behind(self, rest: bytes) -> None:
        """`write` had no room for this."""

    def failed(self, error: Exception) -> None:
        """`write` has raised this."""

    def flush(self) -> None:
        """Write what is pending; must not raise, as others wait behind it."""


class Cork:
    """The frames pending for all connections at this place; never changes, `then` leads on to the next place.

    Only the way that was taken last is remembered. So frames are best handed out one after the other, each to all of
    its readers: two frames in turn, reader by reader, are still right, but are joined for each reader.
    """

    __slots__ = ("_frames", "_joined", "_next", "_next_frame", "length")

    def __init__(self, frames: list[bytes], length: int) -> None:
        self._frames = frames  # shared with the places that follow; ours are the first `length`
        self.length = length
        self._joined: bytes | None = None
        self._next_frame: bytes | None = None
        self._next: Cork  # unset like the frame that leads there

    def then(self, frame: bytes) -> "Cork":
        """The place after `frame`; the same one for everybody who comes here with the same object."""
        if frame is self._next_frame:
            return self._next
        frames = self._frames
        if len(frames) > self.length:  # somebody has gone on from here with another frame
            frames = frames[: self.length]
        frames.append(frame)
        self._next_frame = frame
        self._next = Cork(frames, self.length + 1)
        return self._next

    def frames(self) -> list[bytes]:
        """The frames on the way here, oldest first."""
        return self._frames[: self.length]

    def joined(self) -> bytes:
        """The same as one run of bytes."""
        if self._joined is None:
            self._joined = b"".join(self.frames())
        return self._joined


class _Nowhere(Cork):
    """Where a connection is that takes no frames, or no more."""

    __slots__ = ()

    def then(self, frame: bytes) -> "Cork":
        return self


NOWHERE: Cork = _Nowhere([], 0)


class Flusher:
    """Flushes, at the end of a loop turn, the connections that were given frames in it; one for an event loop."""

    __slots__ = ("_root", "_waiting", "corked", "sizes", "writes")

    def __init__(self) -> None:
        self.writes = 0
        self.corked = 0
        """Frames in all corks; connections that share a cork count once."""
        self.sizes = [0] * 32
        """How many corks had, at place n, fewer than 2**n frames, and no fewer than half of that."""
        self._root = Cork([], 0)
        self._waiting: list[Corked] = []

    def start(self, connection: Corked, frame: bytes) -> Cork:
        """The place after a connection's first frame of this turn, which will flush it."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(connection)
        return self._root.then(frame)

    def send_all(self, connections: Iterable[Corked], frame: bytes) -> None:
        """Give the frame to every connection: what `then` and `start` do, without a call for each of a thousand."""
        waiting = self._waiting
        first: Cork | None = None
        before: Cork | None = None
        after: Cork | None = None
        for connection in connections:
            pending = connection.pending
            if pending is None:
                if first is None:
                    first = self.start(connection, frame)
                else:
                    waiting.append(connection)
                connection.pending = first
            elif pending is before:
                connection.pending = after
            else:
                before = pending
                connection.pending = after = pending.then(frame)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.writes += len(waiting)
        self._root = Cork([], 0)  # this turn's tree goes with the last connection that is written
        last: Cork | None = None
        joined, size = b"", 0
        for connection in waiting:
            pending, write = connection.pending, connection.write
            if write is None or pending is None:
                connection.flush()
                continue
            connection.pending = None
            if pending is not last:
                last, joined = pending, pending.joined()
                size = len(joined)
                self.corked += pending.length
                self.sizes[pending.length.bit_length()] += 1
            try:
                written = write(joined)
            except BlockingIOError:
                written = 0
            except Exception as error:  # noqa: BLE001 - the connection's own affair, and others wait
                connection.failed(error)
                continue
            if written != size:
                connection.behind(joined[written:])
