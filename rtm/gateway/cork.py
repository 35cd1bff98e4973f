"""Corking: the frames that a connection is given within one turn of the event loop leave in one write.

Connections with the same pending frames also share the work. What is pending for a connection is its place in a tree
of frames; a push for a thousand connections makes one new place, to which each of them moves, and the bytes to write
are joined there once, and written to all of them in one call of the kernel where it has rings.
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from errno import EAGAIN
from itertools import takewhile
from typing import Protocol

from rtm.gateway.ring import Ring

RUN_FROM = 32
"""Connections in a row that are given the same bytes; to ask a ring costs what it saves on a dozen."""

BYTES_IN_TURN = 1 << 24
"""Some 2.5 ms of copying into sockets, after which others have their turn."""


class Corked(Protocol):
    """A connection that writes when it is told to."""

    pending: "Cork | None"
    """What there is to write; None for nothing."""
    fileno: int | None
    """Of the socket that takes it as it is, without blocking; None while only `flush` may write."""

    def behind(self, rest: memoryview) -> None:
        """The socket had no room for this."""

    def failed(self, error: Exception) -> None:
        """To write to the socket was not possible; must not raise."""

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
            self._joined = self._frames[0] if self.length == 1 else b"".join(self.frames())
        return self._joined


class _Nowhere(Cork):
    """Where a connection is that takes no frames, or no more."""

    __slots__ = ()

    def then(self, frame: bytes) -> "Cork":
        return self


NOWHERE: Cork = _Nowhere([], 0)


class Flusher:
    """Flushes, at the end of a loop turn, the connections that were given frames in it; one for an event loop."""

    __slots__ = ("_put_off", "_ring", "_root", "_waiting", "corked", "sizes", "writes")

    def __init__(self) -> None:
        self.writes = 0
        self.corked = 0
        """Frames in all corks; connections that share a cork count once."""
        self.sizes = [0] * 32
        """How many corks had, at place n, fewer than 2**n frames, and no fewer than half of that."""
        self._root = Cork([], 0)
        self._waiting: list[Corked] = []
        self._put_off: list[Corked] = []
        self._ring: Ring | None = None  # containers, for one, often have none
        with suppress(OSError):
            self._ring = Ring()

    def start(self, connection: Corked, frame: bytes) -> Cork:
        """The place after a connection's first frame of this turn, which will flush it."""
        if not self._waiting and not self._put_off:
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
        waiting = self._waiting + self._put_off if self._put_off else self._waiting
        self._waiting, self._put_off = [], []
        self.writes += len(waiting)
        self._root = Cork([], 0)  # this turn's tree goes with the last connection that is written
        last: Cork | None = None
        joined, size = b"", 0
        last_start = len(waiting) - RUN_FROM if self._ring is not None else -1
        run_end = 0
        room = BYTES_IN_TURN
        for place, connection in enumerate(waiting):
            if place < run_end:
                continue
            if room <= 0:
                self._continue_with(waiting[place:])
                return
            pending, fileno = connection.pending, connection.fileno
            if fileno is None or pending is None:
                connection.flush()
                continue
            if pending is not last:
                last, joined = pending, pending.joined()
                size = len(joined)
                self.corked += pending.length
                self.sizes[pending.length.bit_length()] += 1
                if place <= last_start and waiting[place + RUN_FROM - 1].pending is pending:
                    run_end = place + self._write_run(waiting[place : place + max(1, room // size)], joined)
                    room -= (run_end - place) * size
                    continue
            room -= size
            connection.pending = None
            try:
                written = os.write(fileno, joined)
            except BlockingIOError:
                written = 0
            except OSError as error:
                connection.failed(error)
                continue
            if written != size:
                connection.behind(memoryview(joined)[written:])

    def _continue_with(self, rest: list[Corked]) -> None:
        """Flush these in the next turn, after those that are given something in it, such as a small answer."""
        self.writes -= len(rest)
        self._put_off = rest
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)

    def _write_run(self, waiting: Sequence[Corked], joined: bytes) -> int:
        """Write this to the first ones, for which it is pending; how many they are."""
        assert self._ring is not None
        pending = waiting[0].pending
        run = list(takewhile(lambda each: each.pending is pending, waiting))
        ready = [each for each in run if each.fileno is not None]
        looking = [each for each in run if each.fileno is None]
        results = self._ring.send([each.fileno for each in ready if each.fileno is not None], joined)
        for connection in ready:
            connection.pending = None
        failed: list[tuple[Corked, int]] = []
        if min(results) < len(joined):
            for connection, result in zip(ready, results, strict=True):
                if result < 0 and result != -EAGAIN:
                    failed.append((connection, -result))
                elif result < len(joined):
                    connection.behind(memoryview(joined)[max(0, result) :])
        # Last, as the end of one may be the end of others, which must not write past what they are behind by.
        for connection, error in failed:
            connection.failed(OSError(error, os.strerror(error)))
        for connection in looking:
            connection.flush()
        return len(run)
