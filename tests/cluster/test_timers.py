"""What is due is done once by two processes, and by the one that is left when the other is killed."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from tests.cluster.conftest import cluster_of_two
from tests.cluster.test_presence import execute
from tests.running import PATIENCE_S, ServerProcess, serving_demo
from tests.world import Client

SMITH, JONES = "smith@example.com", "jones@example.com"
CHATS = 10
ARCHIVED = orjson.dumps({"chats": {"archive_chat_after_min": 0.03}}).decode()
NEW_RULES = f"UPDATE licenses SET properties = '{ARCHIVED}'"
"""For servers started afterwards: one that runs may look at a chat before it knows, and then not for minutes."""


async def start_chat(agent: Client, server: ServerProcess, **options: Any) -> str:
    """A chat with a customer."""
    customer = server.credentials["customers"][0]["id"]
    users = [{"id": customer, "type": "customer"}]
    started = await agent.call("start_chat", chat={"users": users}, **options)
    return str(started["chat_id"])


async def test_each_chat_is_archived_once_by_two_processes(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    with serving_demo(tmp_path, "--database-url", postgres_url, "--redis-url", redis_url):
        await execute(postgres_url, NEW_RULES)
    with cluster_of_two(tmp_path, postgres_url, redis_url) as cluster:
        async with cluster.here.agent(SMITH) as smith, cluster.there.agent(JONES) as jones:
            chat_ids = [await start_chat(smith, cluster.here) for _ in range(CHATS)]
            heard = {agent.id: [await pushed(agent, "chat_deactivated") for _ in chat_ids] for agent in (smith, jones)}
            for agent in (smith, jones):
                assert sorted(each["chat_id"] for each in heard[agent.id]) == sorted(chat_ids)
                await agent.hears_nothing_more()
            for chat_id in chat_ids:
                assert await said(smith, chat_id) == ["routing.archived_inactive"]


async def test_the_chats_of_a_killed_process_go_to_an_agent_of_the_other_one(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    options = ("--heartbeat-limit-s", "3", "--disconnect-grace-s", "1")
    with cluster_of_two(tmp_path, postgres_url, redis_url, *options) as cluster:
        token = cluster.here.token(JONES)
        async with cluster.there.agent(JONES, token=token) as jones:
            async with cluster.here.agent(SMITH) as smith:
                chat_ids = [await start_chat(smith, cluster.here) for _ in range(3)]
                for _ in chat_ids:
                    await pushed(jones, "incoming_chat")
                await until_attended(on_postgresql(postgres_url), chat_ids)
                cluster.here.kill()
            given = [await pushed(jones, "chat_transferred") for _ in chat_ids]
            assert sorted(each["chat_id"] for each in given) == sorted(chat_ids)
            assert {each["reason"] for each in given} == {"assigned"}
            for chat_id in chat_ids:
                assert await said(jones, chat_id) == ["routing.assigned_disconnected"]


async def test_what_was_due_while_the_server_was_down_is_done_when_it_is_up(tmp_path: Path) -> None:
    with serving_demo(tmp_path), sqlite3.connect(tmp_path / "rtm.sqlite3") as connection:
        connection.execute(NEW_RULES)
    with serving_demo(tmp_path) as server:
        async with server.agent(SMITH) as smith:
            chat_id = await start_chat(smith, server)
            server.kill()
    with serving_demo(tmp_path) as server:
        async with server.agent(SMITH) as smith:
            while (await smith.call("get_chat", chat_id=chat_id))["thread"]["active"]:
                await asyncio.sleep(0.1)
            assert await said(smith, chat_id) == ["routing.archived_inactive"]


async def test_who_is_back_after_a_restart_keeps_the_chats_and_is_given_those_of_who_is_not(tmp_path: Path) -> None:
    with serving_demo(tmp_path) as server:
        async with server.agent(SMITH) as smith, server.agent(JONES) as jones:
            own, other = [await start_chat(agent, server) for agent in (smith, jones)]
            await until_attended(on_sqlite(tmp_path), [own, other])
            server.kill()
    with serving_demo(tmp_path, "--disconnect-grace-s", "3") as server:
        async with server.agent(SMITH) as smith:
            given = await pushed(smith, "chat_transferred")
            assert (given["chat_id"], given["reason"]) == (other, "assigned")
            await smith.forget()
            assert await said(smith, other) == ["routing.assigned_disconnected"]
            assert await said(smith, own) == []
            await smith.call("send_event", chat_id=own, event={"type": "message", "text": "Here I am"})


async def pushed(agent: Client, name: str) -> Any:
    """The payload of the next push of this name."""
    while True:
        frame = await agent.next()
        if frame["action"] == name:
            return frame["payload"]


async def said(agent: Client, chat_id: str) -> list[str]:
    """The system messages in the chat."""
    events = (await agent.call("get_chat", chat_id=chat_id))["thread"]["events"]
    return [each["system_message_type"] for each in events]


async def until_attended(count: Callable[[list[str]], Awaitable[int]], chat_ids: list[str]) -> None:
    """Until the router has seen that the chats' agents are connected."""
    async with asyncio.timeout(PATIENCE_S):
        while await count(chat_ids) < len(chat_ids):
            await asyncio.sleep(0.1)


def on_postgresql(url: str) -> Callable[[list[str]], Awaitable[int]]:
    """Counts those of the chats that are attended."""

    async def count(chat_ids: list[str]) -> int:
        connection = await asyncpg.connect(url)
        try:
            attended = "id = ANY($1::text[]) AND (state->'thread'->'attended')::text <> '[]'"
            return int(await connection.fetchval(f"SELECT count(*) FROM chats WHERE {attended}", chat_ids))
        finally:
            await connection.close()

    return count


def on_sqlite(data_dir: Path) -> Callable[[list[str]], Awaitable[int]]:
    """The same."""

    async def count(chat_ids: list[str]) -> int:
        with sqlite3.connect(data_dir / "rtm.sqlite3") as connection:
            attended = "SELECT id FROM chats WHERE json_array_length(state, '$.thread.attended')"
            return len({chat_id for (chat_id,) in connection.execute(attended)}.intersection(chat_ids))

    return count
