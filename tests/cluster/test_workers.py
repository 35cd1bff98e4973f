"""`rtm serve --workers 2`: two processes behind one port."""

from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from tests.running import ServerProcess, serving_demo
from tests.world import Client

SMITH = "smith@example.com"


def connections_by_worker(server: ServerProcess) -> list[int]:
    """How many connections each process that listens on the port has accepted."""
    counts = []
    for child in psutil.Process(server.process.pid).children():
        on_port = [each.status for each in child.net_connections("tcp") if each.laddr.port == server.port]
        if psutil.CONN_LISTEN in on_port:
            counts.append(on_port.count(psutil.CONN_ESTABLISHED))
    return counts


async def test_both_workers_hear_what_one_is_told(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    options = ("--workers", "2", "--database-url", postgres_url, "--redis-url", redis_url)
    with serving_demo(tmp_path, *options) as server:
        async with AsyncExitStack() as stack:
            agents: list[Client] = []
            while len(agents) < 2 or 0 in connections_by_worker(server):
                assert len(agents) < 200, "one worker takes all connections"
                agents.append(await stack.enter_async_context(server.agent(SMITH)))
            assert len(connections_by_worker(server)) == 2

            chat_id = agents[0].greeting["chats_summary"][0]["id"]
            sent = await agents[0].call("send_event", chat_id=chat_id, event={"type": "message", "text": "Hello"})
            for agent in agents:
                assert (await agent.next_push("incoming_event"))["event"]["id"] == sent["event_id"]
