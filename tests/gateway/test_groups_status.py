"""Who hears that a group has another status: `groups_status_updated`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import pytest
import redis.asyncio

from rtm.protocol.errors import ServiceUnavailable
from rtm.routing.presence import Agent, MemoryPresence
from tests.world import SALES, SUPPORT, Client, World


def listening(client: Client) -> Client:
    """From here on the statuses of groups are heard."""
    client.noise -= {"groups_status_updated"}
    return client


def told(status: str, *group_ids: int) -> dict[str, Any]:
    return {"groups": [{"id": group_id, "status": status} for group_id in group_ids]}


async def test_those_who_are_in_the_group_hear_when_it_opens_and_closes(world: World) -> None:
    dave, carol = listening(await world.agent("dave")), listening(await world.agent("carol"))
    await dave.call("set_routing_status", status="not_accepting_chats")
    assert await dave.next_push("groups_status_updated") == told("not_accepting_chats", SALES)

    alice = await world.agent("alice")
    assert await dave.next_push("groups_status_updated") == told("accepting_chats", SALES)
    bob = await world.agent("bob")
    await alice.call("logout")
    await dave.hears_nothing_more()  # bob still takes chats
    await bob.call("logout")
    assert await dave.next_push("groups_status_updated") == told("not_accepting_chats", SALES)

    await carol.hears_nothing_more()


async def test_who_changes_the_status_gets_the_push_by_request_id_after_the_answer(
    world_with: Callable[..., Awaitable[World]], redis_url: str
) -> None:
    world = await world_with(redis_url=redis_url)
    alice = await world.agent("alice")
    await alice.forget()
    alice.noise = set()
    for status in ("not_accepting_chats", "accepting_chats"):
        request_id = await alice.send("set_routing_status", status=status)
        frames = [await alice.next() for _ in range(3)]
        assert [(frame["action"], frame["request_id"]) for frame in frames] == [
            ("set_routing_status", request_id),
            ("routing_status_set", request_id),
            ("groups_status_updated", request_id),
        ]
        assert frames[2]["payload"] == told(status, SALES)


async def test_a_group_has_another_status_when_agents_come_into_it(world: World) -> None:
    carol = listening(await world.agent("carol"))
    await world.agent("dave")
    await world.set_groups("dave", SUPPORT)
    await world.set_groups("carol")
    await carol.call("set_routing_status", status="not_accepting_chats")
    await world.set_groups("carol", SUPPORT)
    await world.set_groups("dave", SALES)
    assert await carol.next_push("groups_status_updated") == told("not_accepting_chats", SUPPORT)


async def test_only_versions_that_know_the_push_are_told(world: World) -> None:
    older, newer = [listening(await world.agent("dave", version=version)) for version in ("3.4", "3.7")]
    await newer.call("set_routing_status", status="not_accepting_chats")
    assert await newer.next_push("groups_status_updated") == told("not_accepting_chats", SALES)
    await older.hears_nothing_more()


async def test_a_group_is_told_of_though_statuses_could_not_be_read_at_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = MemoryPresence.statuses

    async def fail_once(presence: MemoryPresence, license_id: int, agents: Mapping[str, Agent]) -> dict[str, str]:
        if license_id != world.license_id:
            return await statuses(presence, license_id, agents)
        monkeypatch.setattr(MemoryPresence, "statuses", statuses)
        raise ServiceUnavailable("Presence is not available")

    monkeypatch.setattr(MemoryPresence, "statuses", fail_once)
    carol = listening(await world.socket())
    await carol.call("login", token=await world.token("carol"))
    assert await carol.next_push("groups_status_updated") == told("accepting_chats", 0, SUPPORT)


async def test_what_the_bus_has_lost_is_made_good(world_with: Callable[..., Awaitable[World]], redis_url: str) -> None:
    world = await world_with(redis_url=redis_url, heartbeat_limit_s=1)
    carol = listening(await world.agent("carol"))
    states = f"rtm:presence:{{{world.license_id}}}:states"
    async with redis.asyncio.Redis.from_url(redis_url) as elsewhere:
        state = orjson.loads(await elsewhere.hget(states, carol.id) or b"")
        await elsewhere.hset(states, carol.id, orjson.dumps(state | {"chosen": "not_accepting_chats"}))
        await elsewhere.client_kill_filter(_type="pubsub")
    assert await carol.next_push("groups_status_updated") == told("not_accepting_chats", SUPPORT)
