"""`rtm serve --workers 2`: two processes behind one port."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

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


async def test_one_scrape_tells_of_all_workers(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    token = "a-token-for-prometheus"
    options = ("--workers", "2", "--database-url", postgres_url, "--redis-url", redis_url)
    with serving_demo(tmp_path, *options, RTM_METRICS_TOKEN=token) as server:
        web = server.web(SMITH)

        async def scrape() -> dict[str, dict[str, float]]:
            """By name and worker."""
            answer = await web.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
            told: dict[str, dict[str, float]] = {}
            for family in text_string_to_metric_families(answer.text):
                for sample in family.samples:
                    of_worker = told.setdefault(sample.name, {})
                    of_worker[sample.labels["pid"]] = of_worker.get(sample.labels["pid"], 0) + sample.value
            return told

        async with AsyncExitStack() as stack:
            agents = 0
            while 0 in (told := await scrape())["rtm_sockets"].values():
                assert agents < 200, "one worker takes all connections"
                await stack.enter_async_context(server.agent(SMITH))
                agents += 1
            assert len(told["rtm_sockets"]) == len(told["process_cpu_seconds_total"]) == 2
            assert sum(told["rtm_sockets"].values()) == sum(told["rtm_logins_total"].values()) == agents

        killed = next(child for child in psutil.Process(server.process.pid).children() if child.net_connections("tcp"))
        killed.kill()
        await web.close()
        web = server.web(SMITH)
        while str(killed.pid) in (workers := (await scrape())["rtm_sockets"]) or len(workers) != 2:
            await asyncio.sleep(0.1)
        await web.close()
