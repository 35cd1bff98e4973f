"""Buttons of rich messages that agents press: who has them pressed, who is told, and what is refused."""

from typing import Any

import pytest

from rtm.model import rich_messages
from tests.actions.conftest import Enter
from tests.world import Chat, Client, Refused, Web, World

CARDS = {
    "type": "rich_message",
    "template_id": "cards",
    "elements": [
        {"title": "Well?", "buttons": [{"text": "Yes", "postback_id": "yes"}, {"text": "No", "postback_id": "no"}]},
        {"title": "Nothing to press"},
        {"buttons": [{"text": "Yes!", "postback_id": "yes", "user_ids": ["somebody"]}]},
    ],
}
PRESSED = {
    "id": "yes",
    "toggled": True,
    "button_type": "url",
    "button_value": "https://www.example.com",
    "ecommerce": {"product_id": "12345", "option_id": "red-xl", "quantity": 1},
}


async def with_cards(world: World, by: Client | Web, *users: str) -> tuple[Chat, dict[str, str]]:
    """A chat with a rich message, and what names that."""
    chat = await world.chat(by, users=users)
    sent = await by.call("send_event", chat_id=chat.id, event=CARDS)
    return chat, {"chat_id": chat.id, "thread_id": chat.thread_id, **sent}


async def pressed(by: Client | Web, event: dict[str, str]) -> list[list[str]]:
    """Who has each of the buttons pressed."""
    read = await by.call("get_chat", chat_id=event["chat_id"], thread_id=event["thread_id"])
    elements = read["thread"]["events"][0]["elements"]
    return [button["user_ids"] for element in elements for button in element.get("buttons", ())]


async def test_a_button_is_pressed_and_released(either_world: World) -> None:
    world = either_world
    alice, bob, dave = await world.agents("alice", "bob", "dave")
    _, event = await with_cards(world, alice, "ada", "bob")
    await bob.next_push("incoming_event")
    await alice.forget()

    for postback, users in (
        (PRESSED, [[alice.id], [], ["somebody", alice.id]]),
        (PRESSED, [[alice.id], [], ["somebody", alice.id]]),
        ({"id": "yes", "toggled": False}, [[], [], ["somebody"]]),
        ({"id": "no", "toggled": False}, [[], [], ["somebody"]]),
    ):
        assert await alice.call("send_rich_message_postback", **event, postback=postback) == {}
        assert await pressed(bob, event) == users
        for client in (alice, bob):
            push = await client.next_push("incoming_rich_message_postback")
            assert push == {"user_id": alice.id, **event, "postback": postback}
    [summary] = (await bob.call("list_chats"))["chats_summary"]
    read = await bob.call("get_chat", chat_id=event["chat_id"])
    assert summary["last_event_per_type"]["rich_message"]["event"] == read["thread"]["events"][0]
    await bob.hears_nothing_more()
    await dave.hears_nothing_more()


async def test_in_a_closed_thread_it_is_kept_and_not_told(either_world: World) -> None:
    alice = await either_world.agent("alice")
    chat, event = await with_cards(either_world, alice)
    await alice.call("deactivate_chat", id=chat.id)
    await alice.forget()
    await alice.call("send_rich_message_postback", **event, postback={"id": "no", "toggled": True})
    assert await pressed(alice, event) == [[], [alice.id], ["somebody"]]
    await alice.hears_nothing_more()


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_older_versions_know_less_of_a_postback(world: World, version: str) -> None:
    alice, bob = await world.agent("alice", version=version), await world.agent("bob")
    _, event = await with_cards(world, alice, "bob")
    await bob.forget()
    await alice.forget()
    less = {"user_id": alice.id, **event, "postback": {"id": "yes", "toggled": True}}

    await alice.call("send_rich_message_postback", **event, postback=PRESSED | {"button_type": 5})
    assert await bob.next_push("incoming_rich_message_postback") == less
    assert await alice.next_push("incoming_rich_message_postback") == less

    await bob.call("send_rich_message_postback", **event, postback=PRESSED)
    assert await bob.next_push("incoming_rich_message_postback") == {**less, "user_id": bob.id, "postback": PRESSED}
    assert await alice.next_push("incoming_rich_message_postback") == {**less, "user_id": bob.id}


async def test_what_cannot_be_pressed(world: World, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, carol = await enter("alice"), await enter("carol", scopes=["chats--access:rw"])
    _, event = await with_cards(world, alice)
    said = await alice.call("send_event", chat_id=event["chat_id"], event={"type": "message", "text": "hello"})

    async def refused(by: Client | Web = alice, **instead: Any) -> Refused:
        return await by.refused("send_rich_message_postback", **{**event, "postback": PRESSED, **instead})

    assert await refused(**said) == Refused("validation", "`event_id` must be the id of a rich message")
    assert await refused(postback={"id": "maybe", "toggled": True}) == Refused(
        "validation", "`postback.id` must be the `postback_id` of a button of the event"
    )
    assert await refused(event_id="a0c22fdd-fb71-40b5-bfc6-a8a0bc3117f7") == Refused("not_found", "Event not found")
    assert await refused(thread_id="nowhere") == Refused("not_found", "Thread not found")
    assert await refused(chat_id="nowhere") == Refused("not_found", "Chat not found")
    assert await refused(carol) == Refused("missing_access", "Requester has no access to the chat")
    monkeypatch.setattr(rich_messages, "MAX_BUTTON_USERS", 1)
    limit = "limit_reached" if isinstance(alice, Web) else "validation"  # which sockets have in its place
    assert await refused() == Refused(limit, "A button has at most 1 users")
    assert await pressed(alice, event) == [[], [], ["somebody"]]
