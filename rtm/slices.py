"""Long work on the event loop, a little at a time: others have their turn in between."""

import asyncio
from collections.abc import Iterable
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

SLICE_S = 0.002
"""By so much a turn of the loop is longer for it. A thread would take the interpreter from the loop for longer."""


async def in_slices(items: Iterable[T]) -> list[T]:
    """The items, each of which takes a while to be made."""
    made: list[T] = []
    pause_at = perf_counter() + SLICE_S
    for item in items:
        made.append(item)
        if perf_counter() > pause_at:
            await asyncio.sleep(0)
            pause_at = perf_counter() + SLICE_S
    return made
