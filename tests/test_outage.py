"""Work that is done again and again: what fails is made up for, and spoken of twice."""

import asyncio

import structlog
from structlog.testing import capture_logs

from rtm.outage import Outage, again_and_again

log = structlog.get_logger(__name__)


async def test_what_fails_or_hangs_is_done_again_and_told_of_when_it_begins_and_when_it_is_over() -> None:
    outcomes = iter([asyncio.sleep(60), asyncio.sleep(60), asyncio.sleep(0)])

    async def work() -> None:
        await next(outcomes, failed)

    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.set_exception(ZeroDivisionError("of ours"))
    with capture_logs() as logs:
        working = asyncio.create_task(again_and_again(work, Outage(log, "failing"), every_s=0.01, timeout_s=0.2))
        async with asyncio.timeout(10):
            while len(logs) < 3:
                await asyncio.sleep(0)
        working.cancel()
    assert [line["event"] for line in logs] == ["failing", "failing_over", "failing"]
    assert [line.get("reason") for line in logs] == ["no answer in time", None, "of ours"]


async def test_who_is_woken_works_earlier() -> None:
    woken, times = asyncio.Event(), asyncio.Queue[None]()

    async def work() -> None:
        times.put_nowait(None)

    working = asyncio.create_task(again_and_again(work, Outage(log, "failing"), every_s=60, woken=woken))
    async with asyncio.timeout(10):
        for _ in range(3):
            await times.get()
            woken.set()
    working.cancel()
