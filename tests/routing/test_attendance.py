"""Chats whose agents are gone, or do not answer, on a running server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rtm.routing import timers
from tests.routing.test_router import next_of
from tests.routing.test_timers import SOON, with_rules
from tests.world import SALES, Chat, Client, World

HELLO = {"type": "message", "text": "hello"}
WorldWith = Callable[..., Awaitable[World]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Of an empty database; None for the SQLite file."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


async def heard(agent: Client, last: str) -> dict[str, Any]:
    """The payloads of the next pushes by name, up to the last one, each of which comes once."""
    pushes: dict[str, Any] = {}
    while last not in pushes:
        frame = await agent.next()
        assert frame["action"] not in pushes, frame
        pushes[frame["action"]] = frame["payload"]
    return pushes


async def log_out(agent: Client) -> None:
    await agent.call("logout")


async def lose_connection(agent: Client) -> None:
    agent.connection.transport.abort()


async def goes_to_bob(world: World, chat: Chat, bob: Client, because: str, text: str) -> None:
    """Bob is told that the chat is his."""
    told = await heard(bob, "incoming_event")
    assert list(told) == [
        "incoming_chat",
        "chat_transferred",
        "user_removed_from_chat",
        "user_added_to_chat",
        "thread_properties_updated",
        "incoming_event",
    ]
    assert told["incoming_chat"]["transferred_from"] == {"group_ids": [SALES], "agent_ids": [world.id("alice")]}
    assert told["incoming_chat"]["chat"]["thread"]["events"] == []
    assert told["chat_transferred"] == {
        "chat_id": chat.id,
        "thread_id": chat.thread_id,
        "reason": "assigned",
        "transferred_to": {"group_ids": [SALES], "agent_ids": [world.id("bob")]},
    }
    assert told["user_removed_from_chat"]["user_id"] == world.id("alice")
    assert told["user_added_to_chat"]["user"]["id"] == world.id("bob")
    message = told["incoming_event"]["event"]
    assert (message["system_message_type"], message["text"]) == (f"routing.assigned_{because}", text)
    await bob.call("send_event", chat_id=chat.id, event=HELLO)
    await bob.next_push("incoming_event")
    await bob.hears_nothing_more()


async def test_who_logs_out_leaves_the_chats_to_another_agent(either_world: World) -> None:
    alice, bob = await either_world.agents("alice", "bob")
    chat = await either_world.chat(alice, users=["ada"])
    await log_out(alice)
    await goes_to_bob(either_world, chat, bob, "signed_out", "Chat assigned to Bob because Alice had signed out")


async def test_who_has_another_connection_keeps_the_chats(either_world: World) -> None:
    alice, bob = await either_world.agents("alice", "bob")
    again = await either_world.agent("alice")
    chat = await either_world.chat(alice, users=["ada"])
    await log_out(alice)
    await asyncio.sleep(1.5)
    await again.call("send_event", chat_id=chat.id, event=HELLO)
    await bob.hears_nothing_more()


async def test_who_is_suspended_has_no_chats(either_world: World) -> None:
    alice, bob = await either_world.agents("alice", "bob")
    chat = await either_world.chat(alice, users=["ada"])
    await either_world.change_agent("alice", suspended=True)
    text = "Chat assigned to Bob because Alice had been remotely signed out"
    await goes_to_bob(either_world, chat, bob, "remotely_signed_out", text)


async def test_who_is_deleted_has_no_chats(either_world: World) -> None:
    web = await either_world.web("alice")
    bob = await either_world.agent("bob")
    chat = await either_world.chat(web, users=["ada"])
    await either_world.delete_agent("alice")
    text = "Chat assigned to Bob because alice@example.com account had been deleted"
    await goes_to_bob(either_world, chat, bob, "deleted", text)


async def test_without_another_agent_the_chat_waits_for_the_next_one(either_world: World) -> None:
    alice, bob, carol = await either_world.agents("alice", "bob", "carol")
    await bob.call("set_away_status", away=True)
    chat = await either_world.chat(alice, users=["ada"])
    await log_out(alice)
    told = await heard(bob, "user_removed_from_chat")
    assert told["chat_transferred"]["reason"] == "unassigned"
    assert told["chat_transferred"]["queue"]["position"] == 1
    assert told["chat_transferred"]["transferred_to"] == {"group_ids": [SALES]}
    await carol.hears_nothing_more()

    await bob.call("set_away_status", away=False)
    told = await heard(bob, "user_added_to_chat")
    assert told["chat_transferred"]["transferred_to"] == {"group_ids": [SALES], "agent_ids": [bob.id]}
    events = (await bob.call("get_chat", chat_id=chat.id))["thread"]["events"]
    assert [each["system_message_type"] for each in events] == ["routing.unassigned_signed_out"]


async def test_those_whose_agent_is_gone_wait_in_the_order_in_which_they_came(either_world: World) -> None:
    alice, carol = await either_world.agents("alice", "carol")
    bob = await either_world.agent("bob", away=True)
    chats = [await either_world.chat(alice, users=["ada"]) for _ in range(6)]
    await log_out(alice)
    waiting = [(await next_of(bob, "chat_transferred"))["chat_id"] for _ in chats]
    assert waiting == [chat.id for chat in chats]
    await bob.call("set_away_status", away=False)
    given = [(await next_of(bob, "chat_transferred"))["chat_id"] for _ in chats]
    assert given == waiting
    await carol.hears_nothing_more()


async def test_where_nobody_may_wait_the_chat_is_closed(either_world: World) -> None:
    await with_rules(either_world, **{"queue.enabled": False})
    alice = await either_world.agent("alice")
    bob = await either_world.agent("bob", away=True)
    chat = await either_world.chat(alice, users=["ada"])
    await log_out(alice)
    assert await bob.next_push("chat_deactivated") == {"chat_id": chat.id, "thread_id": chat.thread_id}
    events = (await bob.call("get_chat", chat_id=chat.id))["thread"]["events"]
    assert [each["text"] for each in events] == ["The chat was closed because Alice had signed out"]


async def test_a_chat_that_waits_in_vain_is_closed_when_nobody_is_there(either_world: World) -> None:
    await with_rules(either_world, archive_chat_after_min=0.05)
    alice, carol = await either_world.agents("alice", "carol")
    chat = await either_world.chat(alice, users=["ada"])
    await log_out(alice)
    dave = await either_world.agent("dave", away=True)
    await log_out(dave)
    web = await either_world.web("alice")
    async with asyncio.timeout(30):
        while (shown := (await web.call("get_chat", chat_id=chat.id))["thread"])["active"]:
            await asyncio.sleep(0.1)
    assert [each["system_message_type"] for each in shown["events"]] == [
        "routing.unassigned_signed_out",
        "routing.archived_offline",
    ]
    await carol.hears_nothing_more()


async def test_bots_that_are_given_no_chats_are_nobody_to_wait_for(world: World) -> None:
    await with_rules(world, archive_chat_after_min=SOON)
    alice, web = await world.agent("alice"), await world.web("alice")
    chat = await world.chat(alice, group=0, users=["ada"])
    await log_out(alice)
    async with asyncio.timeout(30):
        while (await web.call("get_chat", chat_id=chat.id))["thread"]["active"]:
            await asyncio.sleep(0.1)


async def test_who_only_comes_over_http_is_not_missed(world_with: WorldWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "SWEEP_INTERVAL_S", 0.1)
    world = await world_with(disconnect_grace_s=0)
    bob, web = await world.agent("bob"), await world.web("alice")
    chat = await world.chat(web, users=["ada"])
    await asyncio.sleep(1.5)
    await web.call("send_event", chat_id=chat.id, event=HELLO)
    await bob.hears_nothing_more()


async def test_nor_is_who_is_given_the_chat_of_somebody_connected(
    world_with: WorldWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "SWEEP_INTERVAL_S", 0.1)
    world = await world_with(disconnect_grace_s=0)
    alice, dave, web = await world.agent("alice"), await world.agent("dave", away=True), await world.web("bob")
    chat = await world.chat(alice, users=["ada"])
    await asyncio.sleep(1.5)  # alice has been seen
    who = {"chat_id": chat.id, "user_type": "agent", "ignore_requester_presence": True}
    await web.call("add_user_to_chat", user_id=web.id, visibility="all", **who)
    await web.call("remove_user_from_chat", user_id=alice.id, **who)
    await log_out(alice)
    await dave.forget()
    await dave.call("set_away_status", away=False)
    await asyncio.sleep(1.5)
    await web.call("send_event", chat_id=chat.id, event=HELLO)
    await dave.hears_nothing_more()


async def test_a_lost_connection_costs_the_chats_when_the_time_to_come_back_is_over(
    world_with: WorldWith, database_url: str | None
) -> None:
    world = await world_with(disconnect_grace_s=2, database_url=database_url)
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["ada"])
    await lose_connection(alice)
    alice = await world.agent("alice")
    await asyncio.sleep(3)
    await bob.hears_nothing_more()

    await lose_connection(alice)
    text = "Chat assigned to Bob because Alice had lost internet connection"
    await goes_to_bob(world, chat, bob, "disconnected", text)


async def test_who_leaves_the_customer_without_an_answer_loses_the_chat(either_world: World) -> None:
    await with_rules(either_world, transfer_chat_after_min=SOON)
    alice, bob = await either_world.agents("alice", "bob")
    ada = either_world.id("ada")
    started = await alice.call(
        "start_chat",
        chat={
            "access": {"group_ids": [SALES]},
            "users": [{"id": ada, "type": "customer"}],
            "thread": {"events": [{"type": "message", "text": "Anybody there?", "author_id": ada}]},
        },
    )
    await bob.next_push("incoming_chat")
    told = await heard(bob, "incoming_event")
    assert told["chat_transferred"]["reason"] == "inactive"
    assert told["chat_transferred"]["chat_id"] == started["chat_id"]
    message = told["incoming_event"]["event"]
    assert message["text"] == "Chat assigned to Bob because Alice hasn't replied in 0.01 minutes"
    assert message["system_message_type"] == "routing.assigned_inactive"
    assert told["incoming_chat"]["chat"]["id"] == started["chat_id"]
    await bob.call("send_event", chat_id=started["chat_id"], event=HELLO)
    await bob.next_push("incoming_event")
    await asyncio.sleep(2)
    await bob.hears_nothing_more()


async def test_who_was_silent_is_not_given_the_chat_again_before_somebody_answers(either_world: World) -> None:
    await with_rules(either_world, transfer_chat_after_min=SOON)
    alice, bob = await either_world.agents("alice", "bob")
    ada = either_world.id("ada")
    question = {"type": "message", "text": "Anybody there?", "author_id": ada}
    chat = {"access": {"group_ids": [SALES]}, "users": [{"id": ada, "type": "customer"}]}
    await alice.call("start_chat", chat=chat | {"thread": {"events": [question]}})
    assert (await next_of(bob, "chat_transferred"))["transferred_to"]["agent_ids"] == [bob.id]
    await next_of(bob, "incoming_event")
    await asyncio.sleep(2)
    await bob.hears_nothing_more()

    dave = await either_world.agent("dave")

    assert (await next_of(bob, "chat_transferred"))["transferred_to"]["agent_ids"] == [dave.id]
    await dave.call("logout")
    told = await next_of(bob, "chat_transferred")
    assert (told["reason"], len(told["transferred_to"]["agent_ids"])) == ("assigned", 1)
