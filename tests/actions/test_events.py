"""What is said, typed, thought and seen: answers, pushes, and who gets them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.actions.conftest import Enter
from tests.actions.shapes import EVENT_ID, TIME, message
from tests.world import SALES, SUPPORT, Refused, World

HELLO = {"type": "message", "text": "hello"}


async def test_a_colleague_hears_the_event_once_and_another_group_never(world: World) -> None:
    alice, bob, carol = await world.agents("alice", "bob", "carol")
    chat = await world.chat(alice, users=["bob"])

    sent = await alice.call("send_event", chat_id=chat.id, event=HELLO)

    push = await bob.next_push("incoming_event")
    assert push["event"]["id"] == sent["event_id"]
    await bob.hears_nothing_more()
    await carol.hears_nothing_more()


async def test_an_event_is_answered_with_its_id_and_pushed_whole(world: World, enter: Enter) -> None:
    alice, bob = await enter("alice"), await world.agent("bob")
    chat = await world.chat(alice, users=["bob", "ada"])

    answer = await alice.call("send_event", chat_id=chat.id, event=HELLO)

    assert answer == {"event_id": f"{chat.thread_id}_1"}
    assert await bob.next_push("incoming_event") == {
        "chat_id": chat.id,
        "thread_id": chat.thread_id,
        "event": message("hello", world.id("alice"), id=answer["event_id"]),
    }
    await bob.hears_nothing_more()


EVENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "message with everything": (
        {
            "type": "message",
            "text": "hi",
            "custom_id": "c1",
            "properties": {"ns": {"a": "b", "n": 1, "yes": True}},
            "postback": {"id": "yes", "thread_id": "T", "event_id": "T_1", "type": "message", "value": "yes"},
        },
        {},
    ),
    "file": (
        {"type": "file", "url": "https://example.com/a/lamp.png", "alternative_text": "a lamp"},
        {"name": "lamp.png", "content_type": "image/png"},
    ),
    "rich message": (
        {
            "type": "rich_message",
            "template_id": "quick_replies",
            "elements": [
                {
                    "title": "Well?",
                    "buttons": [{"type": "message", "text": "yes", "postback_id": "y", "user_ids": [], "value": "yes"}],
                }
            ],
        },
        {},
    ),
    "custom": ({"type": "custom", "content": {"any": [1, None, {"deep": "é"}]}}, {}),
    "form": (
        {"type": "form", "form_id": "f", "fields": [{"type": "name", "id": "1", "label": "Who?", "required": True}]},
        {},
    ),
}


@pytest.mark.parametrize(("event", "more"), EVENTS.values(), ids=EVENTS)
async def test_events_of_every_type_arrive_as_they_are_kept(
    either_world: World, event: dict[str, Any], more: dict[str, Any]
) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice)

    await alice.call("send_event", chat_id=chat.id, event=event)

    expected = {
        "id": EVENT_ID,
        "created_at": TIME,
        "visibility": "all",
        "author_id": alice.id,
        **event,
        **more,
    }
    assert (await alice.next_push("incoming_event"))["event"] == expected
    read = await alice.call("get_chat", chat_id=chat.id)
    assert read["thread"]["events"] == [expected]


async def test_an_event_that_comes_again_is_the_event_that_is_there(either_world: World) -> None:
    alice, bob = await either_world.agents("alice", "bob")
    chat = await either_world.chat(alice, users=["bob"])
    stored = await either_world.stored_pushes()
    event = {**HELLO, "custom_id": "c1"}

    # Together, so that they share a batch, and later, when it is read from the database.
    together = [await alice.send("send_event", chat_id=chat.id, event=event) for _ in range(5)]
    answers = [(await alice.answer(request_id))["payload"] for request_id in together]
    later = await alice.call("send_event", chat_id=chat.id, event={**event, "text": "hello again"})

    assert [*answers, later] == [{"event_id": f"{chat.thread_id}_1"}] * 6
    assert (await bob.next_push("incoming_event"))["event"]["text"] == "hello"
    await bob.hears_nothing_more()
    assert len(await either_world.stored_pushes()) == len(stored) + 1
    assert len((await alice.call("get_chat", chat_id=chat.id))["thread"]["events"]) == 1


async def test_a_custom_id_is_its_authors_and_its_threads_own(either_world: World) -> None:
    alice, bob = await either_world.agents("alice", "bob")
    chat = await either_world.chat(alice, users=["bob"])
    event = {**HELLO, "custom_id": "c1"}
    for agent in (alice, bob):
        await agent.call("send_event", chat_id=chat.id, event=event)
    await alice.call("send_event", chat_id=chat.id, event={**event, "custom_id": "C1"})
    await alice.call("deactivate_chat", id=chat.id)

    again = await alice.call("send_event", chat_id=chat.id, event=event)
    refused = await alice.refused("send_event", chat_id=chat.id, event={**event, "custom_id": "c2"})
    thread_id = (await alice.call("resume_chat", chat={"id": chat.id}))["thread_id"]
    anew = await alice.call("send_event", chat_id=chat.id, event=event)

    assert again == {"event_id": f"{chat.thread_id}_1"}  # whoever repeats it may not know that the thread is closed
    assert refused.type == "chat_inactive"
    assert anew == {"event_id": f"{thread_id}_1"}
    threads = (await alice.call("list_threads", chat_id=chat.id))["threads"]
    assert [[event["type"] for event in thread["events"]] for thread in threads] == [
        ["message"],
        ["message", "message", "message", "system_message"],
    ]


async def test_an_initial_event_that_comes_again_is_the_event_that_is_there(either_world: World) -> None:
    alice = await either_world.agent("alice")
    note = {"type": "system_message", "system_message_type": "note", "text": "Moved", "custom_id": "c1"}
    first, second = ({**HELLO, "custom_id": custom_id} for custom_id in ("c1", "c2"))

    started = await alice.call("start_chat", chat={"thread": {"events": [first, second, first]}})
    chat_id, thread_id = started["chat_id"], started["thread_id"]
    sent = [await alice.call("send_event", chat_id=chat_id, event=event) for event in (second, note)]

    assert started["event_ids"] == [f"{thread_id}_1", f"{thread_id}_2", f"{thread_id}_1"]
    assert [each["event_id"] for each in sent] == [f"{thread_id}_2", f"{thread_id}_1"]
    assert len((await alice.call("get_chat", chat_id=chat_id))["thread"]["events"]) == 2


async def test_a_system_message_has_no_author(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    event = {"type": "system_message", "system_message_type": "note", "text": "Moved", "text_vars": {"to": "Sales"}}

    await alice.call("send_event", chat_id=chat.id, event=event)

    pushed = (await alice.next_push("incoming_event"))["event"]
    assert pushed == {"id": EVENT_ID, "created_at": TIME, "visibility": "all", **event}


async def test_the_author_has_seen_the_chat_up_to_the_event(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice, users=["bob"])
    await alice.call("send_event", chat_id=chat.id, event=HELLO)

    read = await alice.call("get_chat", chat_id=chat.id)

    seen = {user["id"]: user.get("events_seen_up_to") for user in read["users"]}
    assert seen == {world.id("alice"): read["thread"]["events"][0]["created_at"], world.id("bob"): None}


async def test_what_agents_say_among_themselves_is_for_no_customer(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob", "ada"])

    await alice.call("send_event", chat_id=chat.id, event=HELLO | {"visibility": "agents"})
    await alice.call("send_event", chat_id=chat.id, event=HELLO)

    assert (await bob.next_push("incoming_event"))["event"]["visibility"] == "agents"
    among_agents, to_all = [push["audience"] for push in await world.stored_pushes()][-2:]
    assert among_agents["customers"] == []
    assert to_all["customers"] == [world.id("ada")]


async def test_events_are_numbered_within_their_thread(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, texts=["one"])

    answers = [await alice.call("send_event", chat_id=chat.id, event=HELLO) for _ in range(2)]

    assert [answer["event_id"] for answer in answers] == [f"{chat.thread_id}_2", f"{chat.thread_id}_3"]


# Who may write

WRITING: dict[str, dict[str, Any]] = {
    "send_event": {"event": HELLO},
    "send_event_preview": {"event": HELLO},
    "send_typing_indicator": {"is_typing": True},
    "send_thinking_indicator": {"title": "Thinking"},
}
writing = pytest.mark.parametrize(("action", "payload"), WRITING.items(), ids=WRITING)


@writing
async def test_an_unknown_chat_is_not_found(world: World, enter: Enter, action: str, payload: dict[str, Any]) -> None:
    alice = await enter("alice")
    assert await alice.refused(action, chat_id="AAAAAAAAAA", **payload) == Refused("not_found", "Chat not found")


@writing
async def test_a_chat_of_another_license_is_not_found(world: World, action: str, payload: dict[str, Any]) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    stranger = await (await world.server.world()).agent("alice")

    assert await stranger.refused(action, chat_id=chat.id, **payload) == Refused("not_found", "Chat not found")
    await stranger.close()


@writing
async def test_a_closed_chat_is_inactive(world: World, enter: Enter, action: str, payload: dict[str, Any]) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice)
    await alice.call("deactivate_chat", id=chat.id)
    assert await alice.refused(action, chat_id=chat.id, **payload) == Refused("chat_inactive", "Chat is inactive")


@writing
async def test_who_is_not_in_the_chat_cannot_write(
    world: World, enter: Enter, action: str, payload: dict[str, Any]
) -> None:
    alice, bob = await world.agent("alice"), await enter("bob")
    chat = await world.chat(alice)
    refusal = await bob.refused(action, chat_id=chat.id, **payload)
    assert refusal == Refused("authorization", "Requester is not a user of the chat")


@writing
async def test_who_is_seen_by_agents_only_cannot_write_to_all(
    world: World, action: str, payload: dict[str, Any]
) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice)
    await alice.call("add_user_to_chat", chat_id=chat.id, user_id=bob.id, user_type="agent", visibility="agents")

    refusal = await bob.refused(action, chat_id=chat.id, **payload)

    assert refusal == Refused("authorization", "Users with visibility `agents` cannot write to all")
    if action == "send_event":
        await bob.call(action, chat_id=chat.id, event=HELLO | {"visibility": "agents"})


@writing
@pytest.mark.parametrize(
    ("scope", "group", "reached"),
    [
        ("chats--all:rw", SUPPORT, True),
        ("chats.conversation--all:rw", SUPPORT, True),
        ("chats--access:rw", SALES, True),
        ("chats.conversation--access:rw", SALES, True),
        ("chats--my:rw", SUPPORT, True),
        ("chats.conversation--my:rw", SUPPORT, True),
        ("chats--all:ro", SALES, False),
        ("multicast:rw", SALES, False),
    ],
)
async def test_the_scopes_that_let_a_user_of_the_chat_write(
    world: World, action: str, payload: dict[str, Any], scope: str, group: int, reached: bool
) -> None:
    chat = await world.chat(await world.web("alice"), group=group)
    alice = await world.agent("alice", scopes=[scope])
    if reached:
        await alice.call(action, chat_id=chat.id, **payload)
    else:
        assert (await alice.refused(action, chat_id=chat.id, **payload)).type == "authorization"


async def test_access_is_asked_of_who_is_not_in_the_chat(world: World) -> None:
    chat = await world.chat(await world.web("carol"), group=SUPPORT)
    for scope in ("chats--access:rw", "chats--my:rw"):
        alice = await world.agent("alice", scopes=[scope])
        refusal = await alice.refused("send_event", chat_id=chat.id, event=HELLO)
        assert refusal == Refused("missing_access", "Requester has no access to the chat")


# Typing, thinking, previews


async def test_typing_is_pushed_and_not_stored(world: World, enter: Enter) -> None:
    alice, bob = await enter("alice"), await world.agent("bob")
    chat = await world.chat(alice, users=["bob"])
    stored = await world.stored_pushes()

    assert await alice.call("send_typing_indicator", chat_id=chat.id, is_typing=True, visibility="agents") == {}

    push = await bob.next_push("incoming_typing_indicator")
    assert isinstance(push["typing_indicator"].pop("timestamp"), int)
    assert push == {
        "chat_id": chat.id,
        "thread_id": chat.thread_id,
        "typing_indicator": {"author_id": alice.id, "visibility": "agents", "is_typing": True},
    }
    await bob.hears_nothing_more()
    assert await world.stored_pushes() == stored


async def test_thinking_is_pushed_and_not_stored(world: World, enter: Enter) -> None:
    alice, bob = await enter("alice"), await world.agent("bob")
    chat = await world.chat(alice, users=["bob"])
    stored = await world.stored_pushes()
    told = {"title": "Thinking", "description": "Looking it up", "custom_id": "c1"}

    assert await alice.call("send_thinking_indicator", chat_id=chat.id, **told) == {}

    assert await bob.next_push("incoming_thinking_indicator") == {
        "chat_id": chat.id,
        "thread_id": chat.thread_id,
        "author_id": alice.id,
        "sent_at": TIME,
        **told,
    }
    assert await world.stored_pushes() == stored


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_thinking_and_previews_are_unknown_to_older_versions(world: World, version: str) -> None:
    alice, bob = await world.agent("alice"), await world.agent("bob", version=version)
    chat = await world.chat(alice, users=["bob"])

    refusal = await bob.refused("send_thinking_indicator", chat_id=chat.id)
    assert refusal == Refused("not_found", f"`action` is unknown to version {version}: send_thinking_indicator")
    assert (await bob.refused("send_event_preview", chat_id=chat.id, event=HELLO)).type == "not_found"
    await alice.call("send_thinking_indicator", chat_id=chat.id)
    await bob.hears_nothing_more()


async def test_a_preview_is_kept_from_agents(world: World, enter: Enter) -> None:
    alice, bob = await enter("alice"), await world.agent("bob")
    chat = await world.chat(alice, users=["bob", "ada"])

    assert await alice.call("send_event_preview", chat_id=chat.id, event=HELLO) == {}

    await bob.hears_nothing_more()
    assert (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"] == []


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (HELLO | {"visibility": "agents"}, "`event.visibility` must be one of: all"),
        ({"type": "file", "url": "https://example.com/a"}, "`event.type` must be one of: message"),
    ],
)
async def test_a_preview_is_a_message_to_all(world: World, event: dict[str, Any], message: str) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    refusal = await alice.refused("send_event_preview", chat_id=chat.id, event=event)
    assert refusal == Refused("validation", message)


# Seen

LATER, EARLIER = "2999-01-01T00:00:00.000000Z", "2020-01-01T00:00:00.000000Z"


async def test_who_has_read_further_tells_the_others(world: World, enter: Enter) -> None:
    alice, bob = await world.agent("alice"), await enter("bob")
    chat = await world.chat(alice, users=["bob"], texts=["hello"])
    said_at = (await bob.call("get_chat", chat_id=chat.id))["thread"]["events"][-1]["created_at"]

    there = datetime.fromisoformat(said_at).astimezone(timezone(timedelta(hours=1)))
    assert await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=there.isoformat()) == {}

    seen = {"user_id": world.id("bob"), "chat_id": chat.id, "seen_up_to": said_at}
    assert await alice.next_push("events_marked_as_seen") == seen
    read = await bob.call("get_chat", chat_id=chat.id)
    assert {user["id"]: user["events_seen_up_to"] for user in read["users"]}[world.id("bob")] == said_at


async def test_nobody_has_read_what_is_still_to_be_said(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])

    await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=LATER)
    assert (await alice.next_push("events_marked_as_seen"))["seen_up_to"] <= datetime.now(UTC).isoformat()

    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "hello"})
    said_at = (await alice.next_push("incoming_event"))["event"]["created_at"]
    await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=said_at)
    assert (await alice.next_push("events_marked_as_seen"))["seen_up_to"] == said_at


async def test_reading_what_was_read_tells_nobody(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"], texts=["hello"])
    said_at = (await bob.call("get_chat", chat_id=chat.id))["thread"]["events"][-1]["created_at"]

    for up_to in (said_at, said_at, EARLIER):
        await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=up_to)

    await alice.next_push("events_marked_as_seen")
    await alice.hears_nothing_more()


async def test_reading_a_chat_of_others_tells_nobody(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice)
    assert await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=LATER) == {}
    await alice.hears_nothing_more()


async def test_who_has_left_is_told_of_their_own_reading(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])
    await alice.call("remove_user_from_chat", chat_id=chat.id, user_id=bob.id, user_type="agent")
    second = await world.agent("bob")
    await bob.forget()

    await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=LATER)

    await bob.next_push("events_marked_as_seen")
    await second.next_push("events_marked_as_seen")


async def test_what_cannot_be_read_cannot_be_marked(world: World, enter: Enter) -> None:
    chat = await world.chat(await world.web("carol"), group=SUPPORT)
    alice = await enter("alice", scopes=["chats--access:ro"])

    refusal = await alice.refused("mark_events_as_seen", chat_id=chat.id, seen_up_to=LATER)
    assert refusal == Refused("missing_access", "Requester has no access to the chat")
    refusal = await alice.refused("mark_events_as_seen", chat_id="AAAAAAAAAA", seen_up_to=LATER)
    assert refusal == Refused("not_found", "Chat not found")
