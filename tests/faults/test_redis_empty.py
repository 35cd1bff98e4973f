"""Redis comes back empty under two processes: whoever asks who is here is told by neither that nobody is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Cluster, cluster_of_two
from tests.servers import RedisServer
from tests.world import Refused, Web

OWNER, SMITH, JONES = "owner@example.com", "smith@example.com", "jones@example.com"
HERE = {OWNER: "not_accepting_chats", SMITH: "accepting_chats", JONES: "accepting_chats"}
PATIENCE_S = 30


@pytest.fixture
async def cluster(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> AsyncIterator[Cluster]:
    """Smith and the owner are here, Jones there."""
    with cluster_of_two(tmp_path, postgres_url, redis_server.url, "--heartbeat-limit-s", "5") as cluster:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(cluster.here.agent(SMITH))
            await stack.enter_async_context(cluster.there.agent(JONES))
            owner = await stack.enter_async_context(cluster.here.agent(OWNER))
            await owner.call("set_routing_status", status=HERE[OWNER])
            yield cluster


async def test_nobody_is_offline_for_a_redis_that_is_empty(cluster: Cluster, redis_server: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        webs = [server.web(SMITH) for server in (cluster.here, cluster.there)]
        for web in webs:
            stack.push_async_callback(web.close)
        chat = {"users": [{"id": SMITH, "type": "agent"}]}
        chat_id = (await webs[0].call("start_chat", chat=chat))["chat_id"]

        await asyncio.to_thread(redis_server.kill)
        await asyncio.to_thread(redis_server.start)
        for listed in await asyncio.gather(*(answered(web, "list_routing_statuses") for web in webs)):
            statuses = {each["agent_id"]: each["status"] for each in listed}
            assert {agent_id: statuses[agent_id] for agent_id in HERE} == HERE

        await asyncio.to_thread(redis_server.ask, "FLUSHALL")
        for offered in await asyncio.gather(
            *(answered(web, "list_agents_for_transfer", chat_id=chat_id) for web in webs)
        ):
            assert {each["agent_id"] for each in offered} >= HERE.keys()

        await asyncio.to_thread(redis_server.ask, "FLUSHALL")
        await answered(webs[0], "transfer_chat", id=chat_id, target={"type": "agent", "ids": [JONES]})


async def answered(web: Web, action: str, **payload: Any) -> Any:
    """What the request is answered, once Redis is there to be asked."""
    async with asyncio.timeout(PATIENCE_S):
        while (response := await web.post(action, payload)).status_code != 200:
            assert Refused.read(response.json()).type == "service_unavailable", response.text
            await asyncio.sleep(0.05)
    return response.json()
