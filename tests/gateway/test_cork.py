"""What leaves in one write, and who shares it."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest

from rtm.gateway import cork
from rtm.gateway.cork import RUN_FROM, Cork, Flusher

Connect = Callable[[], "Connection"]


class Connection:
    """Writes to a socket that keeps apart what is written at once."""

    def __init__(self, flusher: Flusher, stack: ExitStack) -> None:
        self.flusher = flusher
        self.pending: Cork | None = None
        self.ours, self.theirs = map(stack.enter_context, socket.socketpair(type=socket.SOCK_SEQPACKET))
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.fileno: int | None = self.ours.fileno()
        self.noted: list[bytes] = []
        self.failures: list[Exception] = []
        self.when_failed: Callable[[], None] = lambda: None

    @property
    def written(self) -> list[bytes]:
        """What has been written since, a write each, and what else was told."""
        written: list[bytes] = []
        with suppress(BlockingIOError):
            while part := self.theirs.recv(1 << 20):
                written.append(part)
        noted, self.noted = self.noted, []
        return written + noted

    def fill(self) -> None:
        """There is no room for anything."""
        with suppress(BlockingIOError):
            while True:
                self.ours.send(b"full")

    def send(self, frame: bytes) -> None:
        self.pending = self.pending.then(frame) if self.pending else self.flusher.start(self, frame)

    def flush(self) -> None:
        assert self.pending is not None
        self.noted.append(b"looked at: " + self.pending.joined())
        self.pending = None

    def behind(self, rest: memoryview) -> None:
        self.noted.append(b"later: " + rest)

    def failed(self, error: Exception) -> None:
        self.failures.append(error)
        self.when_failed()


def no_ring() -> Any:
    raise OSError


@pytest.fixture(params=["ring", "no ring"])
def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Connections of one event loop."""
    if request.param == "no ring":
        monkeypatch.setattr(cork, "Ring", no_ring)
    flusher = Flusher()
    if request.param == "ring" and flusher._ring is None:
        pytest.skip("no io_uring here")
    with ExitStack() as stack:
        yield partial(Connection, flusher, stack)


@pytest.mark.parametrize("crowd", [0, 3 * RUN_FROM])
async def test_a_connection_that_fails_holds_nobody_up_and_one_that_must_look_is_asked(
    connect: Connect, crowd: int
) -> None:
    broken, looking, full, last = (connect() for _ in range(4))
    others = [connect() for _ in range(crowd)]
    broken.theirs.close()
    looking.fileno = None
    full.fill()
    last.flusher.send_all((*others[: crowd // 2], broken, looking, full, *others[crowd // 2 :], last), b"push")
    await turn()
    assert [type(error) for error in broken.failures] == [BrokenPipeError]
    assert looking.written == [b"looked at: push"]
    assert set(full.written) == {b"full", b"later: push"}
    assert [each.written for each in (*others, last)] == [[b"push"]] * (crowd + 1)
    assert looking.failures == full.failures == last.failures == []


async def turn() -> None:
    """Let this loop turn end."""
    await asyncio.sleep(0)


async def test_the_frames_of_one_turn_leave_in_one_write_and_in_order(connect: Connect) -> None:
    connection = connect()
    for frame in (b"a", b"b", b"c"):
        connection.send(frame)
    assert connection.written == []
    await turn()
    connection.send(b"d")
    await turn()
    assert connection.written == [b"abc", b"d"]


@pytest.mark.parametrize("crowd", [3, RUN_FROM - 1, RUN_FROM, 5 * RUN_FROM])
async def test_connections_with_the_same_frames_share_the_work(connect: Connect, crowd: int) -> None:
    connections = [connect() for _ in range(crowd)]
    for frame in (b"push 1", b"push 2"):
        for connection in connections:
            connection.send(frame)
    await turn()
    assert [connection.written for connection in connections] == [[b"push 1push 2"]] * crowd
    flusher = connections[0].flusher
    assert (flusher.writes, flusher.corked) == (crowd, 2)


async def test_what_is_large_for_many_leaves_time_for_others(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cork, "BYTES_IN_TURN", 2000)
    *connections, last, asking = (connect() for _ in range(3 * RUN_FROM + 1))
    flusher = asking.flusher
    flusher.send_all((*connections, last), bytes(100))
    await turn()
    assert flusher.writes == 20
    last.send(b" later")
    asking.send(b"answer")
    await turn()
    assert asking.written == [b"answer"]
    writes = [flusher.writes]
    while flusher.writes <= 3 * RUN_FROM:
        await turn()
        writes.append(flusher.writes)
    assert writes == [41, 61, 81, 3 * RUN_FROM + 1]
    assert [each.written for each in connections] == [[bytes(100)]] * len(connections)
    assert last.written == [bytes(100) + b" later"]


def test_a_single_frame_is_not_copied() -> None:
    frame = b"a push for everybody"
    assert Cork([], 0).then(frame).joined() is frame


async def test_a_connection_with_a_frame_of_its_own_changes_nothing_for_the_others(connect: Connect) -> None:
    first, second, third = (connect() for _ in range(3))
    for connection in (first, second, third):
        connection.send(b"1")
    second.send(b"own ")
    for connection in (first, second, third):
        connection.send(b"2")
    third.send(b"late")
    await turn()
    assert (first.written, second.written, third.written) == ([b"12"], [b"1own 2"], [b"12late"])


async def test_frames_may_be_handed_out_reader_by_reader(connect: Connect) -> None:
    connections = [connect() for _ in range(2 * RUN_FROM)]
    for connection in connections:
        for frame in (b"old ", b"new "):
            connection.send(frame)
            connection.send(frame)
    await turn()
    assert [connection.written for connection in connections] == [[b"old old new new "]] * (2 * RUN_FROM)


@pytest.mark.parametrize("crowd", [0, 2 * RUN_FROM])
async def test_what_is_sent_during_a_flush_leaves_in_the_next_turn(connect: Connect, crowd: int) -> None:
    failing, before, after, other = (connect() for _ in range(4))
    others = [connect() for _ in range(crowd)]
    failing.theirs.close()

    def answer() -> None:
        for connection in (before, other, *others):
            connection.send(b"again")

    failing.when_failed = answer
    failing.flusher.send_all((*others[:RUN_FROM], before, failing, after, *others[RUN_FROM:]), b"once")
    await turn()
    assert [each.written for each in (before, after, other, *others[:RUN_FROM])] == [
        [b"once"],
        [b"once"],
        [],
        *[[b"once"]] * len(others[:RUN_FROM]),
    ]
    await turn()
    assert [each.written for each in (before, other, *others[:RUN_FROM])] == [[b"again"]] * (2 + min(RUN_FROM, crowd))


async def test_frames_are_forgotten_when_they_are_written(connect: Connect) -> None:
    connections = [connect() for _ in range(2)]
    flusher = connections[0].flusher
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
