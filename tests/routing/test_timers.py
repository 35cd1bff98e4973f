"""What the router does by itself, on a running server; minutes are fractions of a second here."""

from typing import Any

import pytest

from tests.world import Client, World

HELLO = {"type": "message", "text": "hello"}
SOON = 0.01
"""Minutes."""
NEVER = 0


async def with_rules(world: World, **rules: Any) -> None:
    """Before anybody logs in; what is not named never happens."""
    never = {"chat_inactive_after_min": NEVER, "archive_chat_after_min": NEVER, "archive_offline_chat_after_min": NEVER}
    await world.change_license(properties={"chats": never | rules})


async def next_system_message(agent: Client) -> tuple[str, str, dict[str, str] | None]:
    """Type, text and variables of the next push, which must be of a system message."""
    event = (await agent.next_push("incoming_event"))["event"]
    assert event["type"] == "system_message", event
    assert "author_id" not in event
    return event["system_message_type"], event["text"], event.get("text_vars")


async def test_a_chat_in_which_nobody_writes_is_idle_until_somebody_does(either_world: World) -> None:
    await with_rules(either_world, chat_inactive_after_min=SOON)
    alice, bob = await either_world.agents("alice", "bob")
    chat = await either_world.chat(alice, users=["ada"])

    async def told(idle: bool) -> None:
        assert await alice.next_push("thread_properties_updated") == {
            "chat_id": chat.id,
            "thread_id": chat.thread_id,
            "properties": {"routing": {"idle": idle}},
        }

    await told(True)
    assert await next_system_message(alice) == (
        "routing.idle",
        "Chat is idle due to 0.01 minutes of inactivity",
        {"duration": "0.01"},
    )
    await alice.call("send_event", chat_id=chat.id, event=HELLO)
    await alice.next_push("incoming_event")
    await told(False)
    await told(True)
    await next_system_message(alice)
    shown = (await alice.call("get_chat", chat_id=chat.id))["thread"]
    assert shown["active"]
    assert shown["properties"]["routing"]["idle"] is True
    await bob.hears_nothing_more()


@pytest.mark.parametrize(
    ("rule", "continuous"), [("archive_chat_after_min", False), ("archive_offline_chat_after_min", True)]
)
async def test_a_chat_in_which_nobody_writes_for_longer_is_archived(
    either_world: World, rule: str, continuous: bool
) -> None:
    await with_rules(either_world, **{rule: SOON})
    alice, bob, carol = await either_world.agents("alice", "bob", "carol")
    chat = await either_world.chat(alice, users=["ada"], continuous=continuous)
    assert await next_system_message(alice) == (
        "routing.archived_inactive",
        "Chat archived due to 0.01 minutes of inactivity",
        {"duration": "0.01"},
    )
    for agent in (alice, bob):
        assert await agent.next_push("chat_deactivated") == {"chat_id": chat.id, "thread_id": chat.thread_id}
    await carol.hears_nothing_more()
    assert (await alice.refused("send_event", chat_id=chat.id, event=HELLO)).type == "chat_inactive"
    resumed = await alice.call("resume_chat", chat={"id": chat.id})
    assert (await alice.next_push("incoming_chat"))["chat"]["thread"]["id"] == resumed["thread_id"]
    await next_system_message(alice)
    assert (await bob.next_push("incoming_chat"))["chat"]["id"] == chat.id
    assert (await bob.next_push("chat_deactivated"))["thread_id"] == resumed["thread_id"]
