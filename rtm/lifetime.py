"""What runs for as long as its process, and the interpreter it runs in."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any

import anyio
import structlog

log = structlog.get_logger(__name__)

LONG_COLLECTION_S = 0.01
"""No other turn of the loop has to take longer."""

Loop = Callable[[], Coroutine[Any, Any, None]]

Step = AbstractAsyncContextManager[Any]
Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def lifespan(*steps: Step) -> Lifespan:
    """What takes these steps in order when an application begins, and takes them back when it ends, the last first."""

    @asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for each in steps:
                await stack.enter_async_context(each)
            _tune_the_interpreter()
            yield

    return life


@asynccontextmanager
async def step(
    start: Callable[[], Awaitable[None]] | None = None, stop: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[None]:
    """Of a part that is started before others need it, or stopped after them."""
    if start is not None:
        await start()
    try:
        yield
    finally:
        if stop is not None:
            await stop()


@asynccontextmanager
async def running(*loops: Loop) -> AsyncIterator[None]:
    """Run these beside everything else until the end of the block."""
    async with anyio.create_task_group() as tasks:
        for loop in loops:
            tasks.start_soon(_run_for_good, loop)
        yield
        tasks.cancel_scope.cancel()


async def _run_for_good(loop: Loop) -> None:
    """Run the loop; if it ends by itself, so does the process: without it the port would promise what nobody keeps.

    At once, as after `kill -9`: what was acknowledged is stored, and clients come back to a process that works.
    """
    try:
        await loop()
    except Exception:
        log.exception("loop_failed", loop=loop.__qualname__)
    else:
        log.error("loop_ended", loop=loop.__qualname__)
    os._exit(1)


def _tune_the_interpreter() -> None:
    """Keep the cyclic garbage collector off what lives long, and the threads of the database from waiting for the loop.

    By default the collector looks at everything young after 700 allocations, which a batch in flight makes many times
    over, and promotes what is only waiting for its commit: a fifth of the CPU of a durable event (bench requests, 119
    against 93 us). References free nearly all that we make; what is left can wait.

    A collection looks at all that it has not been told to leave alone: with 20,000 chats in memory a third of a second.
    So what has outlived one that took long is left alone from then on. References still free it.

    A thread needs the interpreter some ten times in a commit, for which a busy loop lets it wait 5 ms each by default.
    With a tenth of that an event's p99 was 12 ms in place of 20 beside a flood of `list_chats`, and its CPU the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 10)
    if _collections not in gc.callbacks:
        gc.callbacks.append(_collections)
    sys.setswitchinterval(0.0005)


class _Collections:
    """Told of each collection when it begins and when it is over."""

    def __init__(self) -> None:
        self._began = 0.0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        elif perf_counter() - self._began > LONG_COLLECTION_S:
            gc.freeze()


_collections = _Collections()
