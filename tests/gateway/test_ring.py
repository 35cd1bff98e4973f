"""One call of the kernel for many sockets says of each how much it took."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from errno import EAGAIN, EBADF, EIO, EPIPE
from typing import Any

import pytest

from rtm.gateway.ring import Ring


@pytest.fixture
def ring() -> Ring:
    try:
        return Ring()
    except OSError as error:
        pytest.skip(f"no io_uring here: {error}")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """A socket to send on, and one to hear."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return stack.enter_context(ours), stack.enter_context(theirs)


def filled(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """A socket that has no room."""
    ours, theirs = pair(stack)
    with suppress(BlockingIOError):
        while True:
            ours.send(bytes(1 << 16))
    return ours, theirs


def read(heard: socket.socket) -> bytes:
    """All that has arrived."""
    parts = []
    with suppress(BlockingIOError):
        while part := heard.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def test_everybody_gets_it_however_often_the_ring_goes_round(ring: Ring, stack: ExitStack) -> None:
    pairs = [pair(stack) for _ in range(450)]
    filenos = [ours.fileno() for ours, _ in pairs]
    expected = b""
    for number in range(20):
        data = b"%d " % number
        expected += data
        assert ring.send(filenos, data) == [len(data)] * len(pairs)
    assert {read(theirs) for _, theirs in pairs} == {expected}


def test_more_sockets_than_the_ring_has_places(ring: Ring, stack: ExitStack) -> None:
    pairs = [pair(stack) for _ in range(100)]
    assert ring.send([ours.fileno() for ours, _ in pairs] * 25, b"a") == [1] * 2500
    assert {read(theirs) for _, theirs in pairs} == {b"a" * 25}


def test_each_is_told_how_much_there_was_room_for(ring: Ring, stack: ExitStack) -> None:
    whole, full, gone, last = pair(stack), filled(stack), pair(stack), pair(stack)
    gone[1].close()
    closed = os.dup(whole[0].fileno())
    os.close(closed)
    sockets = [whole[0].fileno(), full[0].fileno(), gone[0].fileno(), closed, last[0].fileno()]
    assert ring.send(sockets, b"push") == [4, -EAGAIN, -EPIPE, -EBADF, 4]
    assert (read(whole[1]), read(last[1])) == (b"push", b"push")

    data = os.urandom(1 << 24)
    [there_was_room, *others] = ring.send([whole[0].fileno(), last[0].fileno()], data)
    assert 0 < there_was_room < len(data)
    assert read(whole[1]) == data[:there_was_room]
    assert [read(last[1])] == [data[:room] for room in others]


@pytest.mark.parametrize("taken", [0, 3])
def test_what_the_kernel_does_not_take_is_not_sent_later(ring: Ring, stack: ExitStack, taken: int) -> None:
    pairs = [pair(stack) for _ in range(5)]
    filenos = [ours.fileno() for ours, _ in pairs]
    call = ring._call

    def take_less(number: int, fd: int, count: int, *rest: Any) -> int:
        return call(number, fd, taken, *rest) if taken else -1

    ring._call = take_less
    assert ring.send(filenos, b"lost") == [4] * taken + [0] * (5 - taken)
    ring._call = call
    assert ring.send(filenos, b"next") == [4] * 5
    assert [read(theirs) for _, theirs in pairs] == [b"lostnext"] * taken + [b"next"] * (5 - taken)


def test_what_the_kernel_took_and_says_nothing_of_has_failed(ring: Ring, stack: ExitStack) -> None:
    ours, _ = pair(stack)
    ring._call = lambda number, fd, count, *rest: count
    assert ring.send([ours.fileno()], b"?") == [-EIO]
