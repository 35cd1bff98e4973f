"""What connections cost in memory, and that they leave nothing behind."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from tests.running import ServerProcess, serving_demo

CONNECTIONS = 500
BYTES_PER_CONNECTION = 10_000


async def test_an_idle_session_costs_at_most_10_kb_and_leaves_nothing(tmp_path: Path) -> None:
    with serving_demo(tmp_path, "--log-level", "warning") as server:
        memory = psutil.Process(server.process.pid).memory_info
        await come_and_go(server)  # what is loaded and allocated once is not a connection's
        before = memory().rss
        async with AsyncExitStack() as stack:
            await log_in(server, stack)
            print(memory().rss - before)
            assert memory().rss - before < CONNECTIONS * BYTES_PER_CONNECTION
        for _ in range(2):
            await come_and_go(server)
        print(before, memory().rss)


async def come_and_go(server: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        await log_in(server, stack)


async def log_in(server: ServerProcess, stack: AsyncExitStack) -> None:
    """CONNECTIONS sessions, which hear nothing."""
    for _ in range(CONNECTIONS // 50):
        agents = [server.agent("smith@example.com", pushes={"3.6": []}) for _ in range(50)]
        await asyncio.gather(*(stack.enter_async_context(agent) for agent in agents))
