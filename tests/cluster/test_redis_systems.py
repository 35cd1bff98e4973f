"""Two processes on a Redis that is several servers."""

import asyncio
from pathlib import Path

from tests.cluster.conftest import cluster_of_two
from tests.cluster.test_two_processes import JONES, SMITH, next_status, start_chat
from tests.servers import RedisWithSentinel
from tests.world import Client


async def _arrives(smith: Client, jones: Client, chat_id: str, text: str) -> None:
    sent = await smith.call("send_event", chat_id=chat_id, event={"type": "message", "text": text})
    push = await jones.next_push("incoming_event")
    assert (push["event"]["id"], push["event"]["text"]) == (sent["event_id"], text)


async def test_pushes_and_statuses_reach_the_other_process_on_a_cluster(
    redis_cluster_url: str, tmp_path: Path, postgres_url: str
) -> None:
    with cluster_of_two(tmp_path, postgres_url, redis_cluster_url) as cluster:
        async with cluster.here.agent(SMITH) as smith, cluster.there.agent(JONES) as jones:
            chat_id = await start_chat(smith)
            await jones.next_push("incoming_chat")
            await _arrives(smith, jones, chat_id, "stored")
            await smith.call("send_typing_indicator", chat_id=chat_id, is_typing=True)
            await jones.next_push("incoming_typing_indicator")
            jones.noise -= {"routing_status_set"}
            await smith.call("set_routing_status", status="not_accepting_chats")
            assert await next_status(jones, SMITH) == "not_accepting_chats"


async def test_stored_pushes_reach_the_other_process_while_the_master_is_replaced(
    redis_with_sentinel: RedisWithSentinel, tmp_path: Path, postgres_url: str
) -> None:
    with cluster_of_two(tmp_path, postgres_url, redis_with_sentinel.url) as cluster:
        async with cluster.here.agent(SMITH) as smith, cluster.there.agent(JONES) as jones:
            chat_id = await start_chat(smith)
            await jones.next_push("incoming_chat")
            redis_with_sentinel.master.kill()
            for number in range(20):
                await _arrives(smith, jones, chat_id, f"{number}")
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:  # until what is not stored arrives again
                shouting = group.create_task(_shout(smith))
                await jones.next_push("incoming_multicast")
                shouting.cancel()


async def _shout(agent: Client) -> None:
    while True:
        await agent.call("multicast", recipients={"agents": {"ids": [JONES]}}, content="Anybody there?")
        await asyncio.sleep(0.2)
