"""The same bytes to many sockets in one call of the kernel, through io_uring(7).

A `send` for each costs a third more: a thousand times into the kernel and out of it again, each time giving up the
interpreter's lock. What a ring is asked is done within the call that asks: MSG_DONTWAIT makes the kernel answer at once
where there is no room. So when the call returns every result is there, and nobody reads the bytes any more.

Names, numbers and layouts are those of `linux/io_uring.h`. No library offers them without a compiler.
"""

import ctypes
import mmap
import os
import socket
import sys
import weakref
from array import array
from collections.abc import Callable, Sequence
from errno import EIO, ENOSYS
from typing import Any

_SETUP, _ENTER = 425, 426
"""System calls, the same on every architecture."""
_OFF_SQES = 0x10000000
_FEAT_SINGLE_MMAP = 1
_OP_SEND = 26
_ENTRIES = 1024
_WORD = 1 << 32

# Where the fields of an entry are: of a submission in words of 32 bits, and the address in words of 64; of a completion
# in words of 32.
_SQE, _OPCODE, _FD, _LEN, _MSG_FLAGS, _USER_DATA = 16, 0, 1, 6, 7, 8
_SQE_64, _ADDR_64 = 8, 2
_CQE, _CQE_USER_DATA, _RES = 4, 0, 2


class _SubmissionOffsets(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("head", "tail", "mask", "entries", "flags", "dropped", "array")),
        ("reserved", ctypes.c_uint32 * 3),
    ]


class _CompletionOffsets(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("head", "tail", "mask", "entries", "overflow", "cqes", "flags")),
        ("reserved", ctypes.c_uint32 * 3),
    ]


class _Params(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("sq_entries", "cq_entries", "flags", "cpu", "idle", "features", "fd")),
        ("reserved", ctypes.c_uint32 * 3),
        ("sq", _SubmissionOffsets),
        ("cq", _CompletionOffsets),
    ]


class Ring:
    """For one thread at a time. Raises OSError where the kernel has none or, as for many containers, allows none."""

    def __init__(self) -> None:
        if sys.platform != "linux" or sys.byteorder != "little":
            raise OSError(ENOSYS, os.strerror(ENOSYS))
        self._call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
        params = _Params()
        self._fd = self._checked(_SETUP, _ENTRIES, ctypes.byref(params))
        weakref.finalize(self, os.close, self._fd)
        if not params.features & _FEAT_SINGLE_MMAP:
            raise OSError(ENOSYS, os.strerror(ENOSYS))
        size = max(params.sq.array + 4 * _ENTRIES, params.cq.cqes + 4 * _CQE * params.cq_entries)
        self._rings = memoryview(mmap.mmap(self._fd, size)).cast("I")
        entries = memoryview(mmap.mmap(self._fd, 4 * _SQE * _ENTRIES, offset=_OFF_SQES))
        self._sqes, self._sqes_64 = entries.cast("I"), entries.cast("Q")
        self._sq_head, self._sq_tail = params.sq.head // 4, params.sq.tail // 4
        self._cq_head, self._cq_tail = params.cq.head // 4, params.cq.tail // 4
        self._cqes, self._cq_entries = params.cq.cqes // 4, params.cq_entries
        order = array("I", range(_ENTRIES))
        self._rings[params.sq.array // 4 : params.sq.array // 4 + _ENTRIES] = order
        self._sqes[_OPCODE::_SQE] = array("I", [_OP_SEND]) * _ENTRIES
        self._sqes[_MSG_FLAGS::_SQE] = array("I", [socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL]) * _ENTRIES
        self._sqes[_USER_DATA::_SQE] = order

    def send(self, filenos: Sequence[int], data: bytes) -> list[int]:
        """Send this on each of the sockets; by socket how many bytes there was room for, or less than 0: an `errno`."""
        results: list[int] = []
        for start in range(0, len(filenos), _ENTRIES):
            results += self._send(filenos[start : start + _ENTRIES], data)
        return results

    def _send(self, filenos: Sequence[int], data: bytes) -> list[int]:
        count, tail = len(filenos), self._rings[self._sq_tail]
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
        self._fill(self._sqes, _FD, _SQE, tail, array("I", filenos))
        self._fill(self._sqes, _LEN, _SQE, tail, array("I", [len(data)]) * count)
        self._fill(self._sqes_64, _ADDR_64, _SQE_64, tail, array("Q", [address or 0]) * count)
        self._rings[self._sq_tail] = (tail + count) % _WORD
        submitted = max(0, self._call(_ENTER, self._fd, count, 0, 0, None, 0))
        if submitted < count:
            self._rings[self._sq_tail] = self._rings[self._sq_head]
        places, results = self._completions()
        if len(results) == count and min(results) == len(data):
            return results
        by_place = dict(zip(places, results, strict=True))
        # What the kernel did not take it has not sent; what it took and says nothing of, nobody can tell.
        unknown = [-EIO] * submitted + [0] * (count - submitted)
        return [by_place.get((tail + each) % _ENTRIES, unknown[each]) for each in range(count)]

    def _fill(self, entries: memoryview, field: int, size: int, tail: int, values: "array[int]") -> None:
        """Give the next entries their values in a field; the entries are a ring, so there may be two parts."""
        first = tail % _ENTRIES
        here = min(len(values), _ENTRIES - first)
        entries[field + first * size : (first + here) * size : size] = values[:here]
        if here < len(values):
            entries[field : (len(values) - here) * size : size] = values[here:]

    def _completions(self) -> tuple[list[int], list[int]]:
        """Places of submissions, and their results."""
        head, tail = self._rings[self._cq_head], self._rings[self._cq_tail]
        first, count = head % self._cq_entries, (tail - head) % _WORD
        here = min(count, self._cq_entries - first)
        places: list[int] = []
        results: list[int] = []
        for start, end in ((first, first + here), (0, count - here)):
            part = self._rings[self._cqes + start * _CQE : self._cqes + end * _CQE]
            places += part[_CQE_USER_DATA::_CQE].tolist()
            results += memoryview(part[_RES::_CQE].tobytes()).cast("i").tolist()
        self._rings[self._cq_head] = tail
        return places, results

    def _checked(self, *arguments: Any) -> int:
        result = self._call(*arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
