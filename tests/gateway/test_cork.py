"""What leaves in one write, and who shares it."""

import asyncio
import gc
import sys
from collections.abc import Callable

from rtm.gateway.cork import Cork, Flusher


class Connection:
    """Takes frames and writes them down when it is flushed."""

    def __init__(self, flusher: Flusher) -> None:
        self.flusher = flusher
        self.pending: Cork | None = None
        self.written: list[bytes] = []
        self.write: Callable[[bytes], int] | None = self.take
        self.failures = 0

    def take(self, frames: bytes) -> int:
        self.written.append(frames)
        return len(frames)

    def send(self, frame: bytes) -> None:
        self.pending = self.pending.then(frame) if self.pending else self.flusher.start(self, frame)

    def flush(self) -> None:
        assert self.pending is not None
        self.written.append(b"looked at: " + self.pending.joined())
        self.pending = None

    def behind(self, rest: bytes) -> None:
        self.written.append(b"later: " + rest)

    def failed(self, error: Exception) -> None:
        self.failures += 1


async def test_a_connection_that_fails_holds_nobody_up_and_one_that_must_look_is_asked() -> None:
    flusher = Flusher()
    broken, looking, last = (Connection(flusher) for _ in range(3))

    def fail(frames: bytes) -> int:
        raise OSError("gone")

    broken.write = fail
    looking.write = None
    flusher.send_all((broken, looking, last), b"push")
    await turn()
    assert (broken.failures, broken.written) == (1, [])
    assert (looking.failures, looking.written) == (0, [b"looked at: push"])
    assert (last.failures, last.written) == (0, [b"push"])


async def test_what_there_is_no_room_for_is_left_to_the_connection() -> None:
    flusher = Flusher()
    full, nearly_full, empty = (Connection(flusher) for _ in range(3))

    def refuse(frames: bytes) -> int:
        raise BlockingIOError

    full.write = refuse
    nearly_full.write = lambda frames: 3
    flusher.send_all((full, nearly_full, empty), b"a push")
    await turn()
    assert (full.written, nearly_full.written, empty.written) == ([b"later: a push"], [b"later: ush"], [b"a push"])
    assert full.failures == 0


async def turn() -> None:
    """Let this loop turn end."""
    await asyncio.sleep(0)


async def test_the_frames_of_one_turn_leave_in_one_write_and_in_order() -> None:
    connection = Connection(Flusher())
    for frame in (b"a", b"b", b"c"):
        connection.send(frame)
    assert connection.written == []
    await turn()
    connection.send(b"d")
    await turn()
    assert connection.written == [b"abc", b"d"]


async def test_connections_with_the_same_frames_write_the_same_object() -> None:
    flusher = Flusher()
    connections = [Connection(flusher) for _ in range(3)]
    for frame in (b"push 1", b"push 2"):
        for connection in connections:
            connection.send(frame)
    await turn()
    written = [connection.written[0] for connection in connections]
    assert written[0] == b"push 1push 2"
    assert all(one is written[0] for one in written)


async def test_a_single_frame_is_not_copied() -> None:
    connection = Connection(Flusher())
    frame = b"a push for everybody"
    connection.send(frame)
    await turn()
    assert connection.written[0] is frame


async def test_a_connection_with_a_frame_of_its_own_changes_nothing_for_the_others() -> None:
    flusher = Flusher()
    first, second, third = (Connection(flusher) for _ in range(3))
    for connection in (first, second, third):
        connection.send(b"1")
    second.send(b"own ")
    for connection in (first, second, third):
        connection.send(b"2")
    third.send(b"late")
    await turn()
    assert (first.written, second.written, third.written) == ([b"12"], [b"1own 2"], [b"12late"])


async def test_frames_may_be_handed_out_reader_by_reader() -> None:
    flusher = Flusher()
    connections = [Connection(flusher) for _ in range(3)]
    for connection in connections:
        for frame in (b"old ", b"new "):
            connection.send(frame)
            connection.send(frame)
    await turn()
    assert [connection.written for connection in connections] == [[b"old old new new "]] * 3


async def test_what_is_sent_during_a_flush_leaves_in_the_next_turn() -> None:
    flusher = Flusher()
    answering, other = Connection(flusher), Connection(flusher)

    def write_and_send(frames: bytes) -> int:
        answering.write = answering.take
        answering.send(b"again")
        other.send(b"too")
        return answering.take(frames)

    answering.write = write_and_send
    answering.send(b"once")
    await turn()
    assert (answering.written, other.written) == ([b"once"], [])
    await turn()
    assert (answering.written, other.written) == ([b"once", b"again"], [b"too"])


async def test_frames_are_forgotten_when_they_are_written() -> None:
    flusher = Flusher()
    connections = [Connection(flusher) for _ in range(2)]
    shared, own = b"shared %d" % id(flusher), b"own %d" % id(flusher)
    before = sys.getrefcount(shared), sys.getrefcount(own)
    gc.disable()  # they must go without its help
    try:
        for connection in connections:
            connection.send(shared)
            connection.send(shared)
        connections[0].send(own)
        await turn()
    finally:
        gc.enable()
    assert (sys.getrefcount(shared), sys.getrefcount(own)) == before
