"""Chats are routed by two processes at once: each is given once, to somebody with room, and none is forgotten."""

import asyncio
import random
from collections import Counter
from typing import Any

from tests.cluster.conftest import Cluster
from tests.world import Client

OWNER, SMITH, JONES = "owner@example.com", "smith@example.com", "jones@example.com"
LIMIT = 6
"""Chats of an agent, by default."""


async def start_chat(owner: Client, customer_id: str) -> str:
    """A customer's chat with the owner."""
    users = [{"id": customer_id, "type": "customer"}]
    chat_id: str = (await owner.call("start_chat", chat={"users": users}))["chat_id"]
    return chat_id


async def leave(agent: Client, *chat_ids: str) -> None:
    """The agent leaves the chats, all at once."""
    who = {"user_id": agent.id, "user_type": "agent"}
    requests = [await agent.send("remove_user_from_chat", chat_id=chat_id, **who) for chat_id in chat_ids]
    for request_id in requests:
        assert (await agent.answer(request_id))["success"]


async def transferred(client: Client, reason: str) -> Any:
    """The next transfer for this reason that the client is told of."""
    while True:
        frame = await client.next()
        if frame["action"] == "chat_transferred" and frame["payload"]["reason"] == reason:
            return frame["payload"]


async def summaries(owner: Client, chat_ids: list[str]) -> list[dict[str, Any]]:
    """Those of these chats that are open."""
    page = await owner.call("list_chats", filters={"active": True}, limit=100)
    return [each for each in page["chats_summary"] if each["id"] in chat_ids]


def agents_of(summary: dict[str, Any]) -> list[str]:
    """The agents who are present."""
    return [user["id"] for user in summary["users"] if user["type"] == "agent" and user["present"]]


async def close_all(owner: Client) -> None:
    """Leave no chat for the next test."""
    for each in (await owner.call("list_chats", filters={"active": True}, limit=100))["chats_summary"]:
        await owner.call("deactivate_chat", id=each["id"], ignore_requester_presence=True)


async def test_those_who_wait_are_given_once_to_agents_who_come_on_both_processes(cluster: Cluster) -> None:
    customer_id = cluster.here.credentials["customers"][0]["id"]
    async with cluster.here.agent(OWNER) as owner, cluster.there.agent(OWNER, token=cluster.here.token(OWNER)) as same:
        await close_all(owner)
        chat_ids = [await start_chat(owner, customer_id) for _ in range(LIMIT * 2 + 3)]
        for chat_id in chat_ids:
            await leave(owner, chat_id)
            assert (await transferred(same, "unassigned"))["chat_id"] == chat_id

        async with (
            cluster.here.agent(SMITH),
            cluster.there.agent(JONES, token=cluster.here.token(JONES)) as jones,
        ):
            given = [await transferred(same, "assigned") for _ in range(LIMIT * 2)]

            assert sorted(each["chat_id"] for each in given) == sorted(chat_ids[: LIMIT * 2])
            told = Counter(each["transferred_to"]["agent_ids"][0] for each in given)
            assert told == {SMITH: LIMIT, JONES: LIMIT}
            shown = await summaries(owner, chat_ids)
            assert Counter(name for each in shown for name in agents_of(each)) == told
            waiting = {each["id"]: each["last_thread_summary"].get("queue") for each in shown if not agents_of(each)}
            assert [waiting[chat_id]["position"] for chat_id in chat_ids[LIMIT * 2 :]] == [1, 2, 3]

            theirs = next(each["chat_id"] for each in given if each["transferred_to"]["agent_ids"] == [JONES])
            await jones.call("deactivate_chat", id=theirs)
            assert (await transferred(same, "assigned"))["chat_id"] == chat_ids[LIMIT * 2]
            await close_all(owner)


async def test_amid_everything_nobody_is_given_too_many_and_no_chat_is_forgotten(cluster: Cluster) -> None:
    customer_id = cluster.here.credentials["customers"][0]["id"]
    tokens = {name: cluster.here.token(name) for name in (OWNER, SMITH, JONES)}
    async with (
        cluster.here.agent(OWNER, token=tokens[OWNER]) as owner,
        cluster.here.agent(SMITH, token=tokens[SMITH]) as smith,
        cluster.there.agent(JONES, token=tokens[JONES]) as jones,
        cluster.there.agent(OWNER, token=tokens[OWNER]) as elsewhere,
    ):
        await close_all(owner)
        await owner.call("set_routing_status", status="not_accepting_chats")
        chat_ids = [await start_chat(owner, customer_id) for _ in range(LIMIT * 2 + 4)]
        await asyncio.gather(
            *(leave(client, *chat_ids[place::2]) for place, client in enumerate((owner, elsewhere))),
            *(change_mind(client) for client in (smith, jones)),
        )
        for client in (smith, jones):
            await client.call("set_routing_status", status="not_accepting_chats")
            await client.call("set_routing_status", status="accepting_chats")

        async with asyncio.timeout(20):
            while True:
                shown = await summaries(owner, chat_ids)
                loads = Counter(name for each in shown for name in agents_of(each))
                waiting = [each for each in shown if "queue" in each["last_thread_summary"]]
                if sum(loads.values()) < LIMIT * 2:
                    await transferred(elsewhere, "assigned")
                elif len(waiting) < len(chat_ids) - LIMIT * 2:
                    await asyncio.sleep(0.05)  # some have just been left, and are told to wait
                else:
                    break

        assert loads == {SMITH: LIMIT, JONES: LIMIT}
        assert all(len(agents_of(each)) == (each not in waiting) for each in shown)
        assert len(shown) == len(chat_ids)
        await close_all(owner)


async def change_mind(agent: Client) -> None:
    """Accept chats, and then not, and so on."""
    for _ in range(10):
        await agent.call("set_routing_status", status=random.choice(["accepting_chats", "not_accepting_chats"]))
