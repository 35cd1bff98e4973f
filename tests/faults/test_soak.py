"""Half an hour of mixed load on two processes, RTM_SOAK_S for another length: they hold no more at its end.

Mixed: a steady stream of events, listeners and visitors, as in the other drills; chats that begin, are talked in and
closed; the Web API; requests that are refused; clients that vanish without a word or talk nonsense.

    RTM_SOAK_S=60 pytest tests/faults/test_soak.py -m soak -o log_cli=true --log-cli-level=info
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import pytest

from tests.faults.conftest import Plotted
from tests.faults.drill import Cast, Drill, Pair
from tests.faults.load import Socket
from tests.faults.vitals import Vitals, Watched
from tests.running import PATIENCE_S, ServerProcess
from tests.servers import RedisServer

logger = logging.getLogger(__name__)

SOAK_S = float(os.environ.get("RTM_SOAK_S", "1800"))
WARM_UP_S = 3
SAMPLES = 60
EVENTS_PER_S = 100
FLAT = 1.05
SPARE_DESCRIPTORS = 10
"""Of the connections to the database, which are opened when they are needed and kept."""
OWNER, SMITH, JONES = "owner@example.com", "smith@example.com", "jones@example.com"
NONSENSE = [b"", b"[]", b"{", b'{"action": 5}', b'{"action": "no_such_action"}', b'{"action": "login", "payload": 1}']


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S * 1.2 + 300)
async def test_a_soak(tmp_path: Path, postgres_url: str, redis_server: RedisServer, plotted: Plotted) -> None:
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    watched = Watched(tmp_path / "watched")
    options = ("--database-url", postgres_url, "--redis-url", redis_server.url, "--log-level", "warning")
    async with Pair(tmp_path, *options, **watched.environment).running() as pair:
        async with mixed_load(pair) as drill:
            await asyncio.sleep(WARM_UP_S)
        await asyncio.sleep(1)  # those who have left are being counted out
        quiet = {name: await watched.vitals(server.process.pid) for name, server in pair.servers.items()}

        samples: dict[str, list[Vitals]] = {name: [] for name in pair.servers}
        async with mixed_load(pair) as drill:
            plotted(drill.log, f"mixed load on two processes for {SOAK_S:g} s, {EVENTS_PER_S} events/s")
            for _ in range(SAMPLES):
                await asyncio.sleep(SOAK_S / SAMPLES)
                for name, server in pair.servers.items():
                    samples[name].append(await watched.vitals(server.process.pid))
                    logger.info("%s: %s after %d s", name, samples[name][-1], time.monotonic() - drill.log.started)

        for name, server in pair.servers.items():
            logger.info("%s: %s when quiet", name, quiet[name])
            at_last = await settled(watched, server.process.pid, quiet[name])
            logger.info("%s: %s when quiet again", name, at_last)
            assert at_last.tasks <= quiet[name].tasks
            assert at_last.descriptors <= quiet[name].descriptors + SPARE_DESCRIPTORS
            assert memory(samples[name], 4) <= memory(samples[name], 2) * FLAT


def memory(samples: list[Vitals], quarter: int) -> float:
    """Median of that quarter of the run."""
    size = len(samples) // 4
    return median(each.rss_bytes for each in samples[(quarter - 1) * size : quarter * size])


async def settled(watched: Watched, pid: int, before: Vitals) -> Vitals:
    """What it holds when it has let go of what it can, or after some patience."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        vitals = await watched.vitals(pid)
        if (vitals.tasks <= before.tasks and vitals.descriptors <= before.descriptors) or time.monotonic() > deadline:
            return vitals
        await asyncio.sleep(0.5)


@asynccontextmanager
async def mixed_load(pair: Pair) -> AsyncIterator[Drill]:
    """All of it, judged at the end."""
    async with Drill.prepared(pair.doors, Cast.of_demo(pair.credentials), per_second=EVENTS_PER_S) as drill:
        async with asyncio.TaskGroup() as group, drill.load():
            tasks = [group.create_task(again_and_again(work, pair)) for work in WORKS]
            yield drill
            for task in tasks:
                task.cancel()
        await drill.judge()
        assert not drill.log.ended_by_server()


async def again_and_again(work: Callable[[ServerProcess], Awaitable[None]], pair: Pair) -> None:
    """Some ten times a second, at either process."""
    while True:
        await work(random.choice(list(pair.servers.values())))
        await asyncio.sleep(random.uniform(0.02, 0.2))


async def a_chat_comes_and_goes(server: ServerProcess) -> None:
    async with server.agent(SMITH) as smith:
        chat = {"users": [{"id": JONES, "type": "agent"}], "properties": {}}
        chat_id = (await smith.call("start_chat", chat=chat))["chat_id"]
        for text in ("One", "Two", "Three"):
            await smith.call("send_typing_indicator", chat_id=chat_id, is_typing=True)
            await smith.call("send_event", chat_id=chat_id, event={"type": "message", "text": text})
        await smith.call("get_chat", chat_id=chat_id)
        await smith.call("deactivate_chat", id=chat_id)
        await smith.refused("send_event", chat_id=chat_id, event={"type": "message", "text": "Too late"})
        await smith.call("multicast", recipients={"agents": {"all": True}}, content="Done")


async def the_web_api(server: ServerProcess) -> None:
    web = server.web(OWNER)
    try:
        await web.call("list_chats", limit=10)
        await web.call("set_routing_status", status=random.choice(["accepting_chats", "not_accepting_chats"]))
        await web.refused("get_chat", chat_id="none")
        await web.refused("no_such_action")
    finally:
        await web.close()


async def one_vanishes(server: ServerProcess) -> None:
    async with server.agent(JONES) as jones:
        await jones.send("list_chats")
        jones.connection.transport.abort()


async def nonsense(server: ServerProcess) -> None:
    ended = asyncio.Event()
    socket = await Socket.open(server.port, lambda _: None, lambda _: ended.set())
    for message in NONSENSE:
        socket.send(message)
    socket.close()
    await ended.wait()


WORKS = (a_chat_comes_and_goes, the_web_api, one_vanishes, nonsense)
