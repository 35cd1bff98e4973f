"""Summaries of threads, as the server makes them by itself: asked for, kept, told and shown."""

import asyncio
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from rtm.store.queries import Queries
from rtm.summaries import summaries
from tests.actions.conftest import Enter
from tests.actions.shapes import EVENT_ID, TIME
from tests.actions.test_contract import contract, differences
from tests.world import SALES, SUPPORT, Chat, Client, Refused, World

TEXT = "• Customer: Where is my order?  \n• Agent: It leaves today  \n• Customer: Thank you!"


async def conversation(world: World, agent: Client) -> Chat:
    """A chat of the agent and Ada, with a note that Ada does not see."""
    said = [("ada", "Where is my order?"), ("alice", "It leaves today"), ("ada", "Thank you!")]
    events = [{"type": "message", "text": text, "author_id": world.id(name)} for name, text in said]
    users = [{"id": world.id("ada"), "type": "customer"}]
    chat = {"access": {"group_ids": [SALES]}, "users": users, "thread": {"events": events}}
    started = await agent.call("start_chat", chat=chat)
    note = {"type": "message", "text": "a secret", "visibility": "agents"}
    await agent.call("send_event", chat_id=started["chat_id"], event=note)
    await agent.forget()
    return Chat(started["chat_id"], started["thread_id"])


async def shown(agent: Client, chat: Chat) -> dict[str, Any]:
    thread: dict[str, Any] = (await agent.call("get_chat", chat_id=chat.id))["thread"]
    return thread


async def test_an_open_thread_is_summarized_whenever_asked_for(either_world: World) -> None:
    world = either_world
    alice, bob, carol = await world.agents("alice", "bob", "carol")
    older = await world.agent("alice", version="3.5")
    chat = await conversation(world, alice)
    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    for client in (bob, carol, older):
        await client.forget()

    request_id = await alice.send("request_thread_summary", **place)

    assert (await alice.answer(request_id))["payload"] == {}
    push = await alice.next_frame("thread_summary_set")
    summary = {"status": "ok", "text": TEXT, "updated_at": TIME}
    assert (push["payload"], push["request_id"]) == (place | {"summary": summary}, request_id)
    assert list(differences("3.6", contract("3.6", "pushes")["thread_summary_set"], push["payload"])) == []
    told = await alice.next_push("incoming_event")
    details = {"summary": {"text": TEXT, "status": "ok"}, "requested_by": alice.id}
    assert orjson.loads(told["event"].pop("details")) == details
    assert told == place | {
        "event": {
            "id": EVENT_ID,
            "created_at": TIME,
            "type": "system",
            "visibility": "agents",
            "source": "messaging",
            "subtype": "summary",
            "version": 1,
        }
    }
    assert await bob.next_push("thread_summary_set") == push["payload"]  # a colleague; the event is for members
    await bob.hears_nothing_more()
    await carol.hears_nothing_more()
    assert (await older.next_push("incoming_event"))["event"] == {
        "id": EVENT_ID,
        "created_at": TIME,
        "type": "system_message",
        "visibility": "agents",
        "system_message_type": "summary",
        "text": TEXT,
    }
    await older.hears_nothing_more()

    assert (await shown(alice, chat))["summary"] == summary
    assert "summary" not in await shown(older, chat)
    [listed] = (await alice.call("list_threads", chat_id=chat.id))["threads"]
    assert listed["summary"] == summary
    found = await alice.call("list_archives", filters={"event_types": {"values": ["system"]}})
    assert [each["thread"]["id"] for each in found["chats"]] == [chat.thread_id]
    last_events = (await older.call("list_chats"))["chats_summary"][0]["last_event_per_type"]
    assert last_events.keys() == {"message"}

    await alice.call("request_thread_summary", **place)
    again = await alice.next_push("thread_summary_set")
    assert again["summary"]["updated_at"] > push["payload"]["summary"]["updated_at"]


async def test_a_closed_thread_is_summarized_once(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await conversation(world, alice)
    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    await alice.call("request_thread_summary", **place)  # while it is open, which does not count
    await alice.next_push("thread_summary_set")
    await alice.call("deactivate_chat", id=chat.id)
    await alice.call("resume_chat", chat={"id": chat.id})
    for client in (alice, bob):
        await client.forget()

    requests = [await alice.send("request_thread_summary", **place) for _ in range(2)]

    for request_id in requests:
        assert (await alice.answer(request_id))["success"]
    push = await alice.next_push("thread_summary_set")
    assert push["summary"]["text"] == TEXT
    assert await bob.next_push("thread_summary_set") == push
    refusal = Refused("validation", "`thread_id` is of a closed thread that has its summary")
    assert await bob.refused("request_thread_summary", **place) == refusal
    for client in (alice, bob):
        await client.hears_nothing_more()
    thread = (await alice.call("get_chat", **place))["thread"]
    assert thread["summary"] == push["summary"]
    assert thread["events"][-1]["type"] == "system_message"  # of the end, which no summary follows
    assert [event["type"] for event in thread["events"]].count("system") == 1


async def test_over_http_the_agents_of_the_group_are_told(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await conversation(world, alice)
    await alice.call("deactivate_chat", id=chat.id)
    for client in (alice, bob):
        await client.forget()
    web = await world.web("alice", version="3.7")
    assert await web.call("request_thread_summary", chat_id=chat.id, thread_id=chat.thread_id) == {}
    for client in (alice, bob):
        assert (await client.next_push("thread_summary_set"))["summary"]["text"] == TEXT


async def test_a_thread_in_which_nobody_has_written(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    await alice.call("request_thread_summary", chat_id=chat.id, thread_id=chat.thread_id)
    assert (await alice.next_push("thread_summary_set"))["summary"]["text"] == "• No messages were sent."


async def test_every_chat_that_ends_if_the_license_wants_it(either_world: World) -> None:
    world = either_world
    await world.change_license(properties={"chats": {"auto_summary_enabled": True}})
    alice, bob = await world.agents("alice", "bob")
    empty = await world.chat(alice)
    chat = await conversation(world, alice)
    for client in (alice, bob):
        await client.forget()

    alice.noise.add("incoming_event")  # of the end
    await alice.call("deactivate_chat", id=empty.id)
    await alice.call("deactivate_chat", id=chat.id)

    for client in (alice, bob):
        for ended in (empty, chat):
            assert (await client.next_push("chat_deactivated"))["chat_id"] == ended.id
        push = await client.next_push("thread_summary_set")
        assert (push["chat_id"], push["summary"]["text"]) == (chat.id, TEXT)
        await client.hears_nothing_more()
    thread = await shown(alice, chat)
    assert thread["summary"]["text"] == TEXT
    assert {event["type"] for event in thread["events"]} == {"message", "system_message"}


async def test_no_chat_unless_it_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MAX_OF_LICENSE", 0)
    alice = await world.agent("alice")
    chat = await conversation(world, alice)
    with capture_logs() as logs:
        await alice.call("deactivate_chat", id=chat.id)
        await alice.next_push("incoming_event")
        await alice.next_push("chat_deactivated")
        await asyncio.sleep(0.1)
        await alice.hears_nothing_more()
    assert "summary_failed" not in {line["event"] for line in logs}
    assert "summary" not in await shown(alice, chat)


async def test_who_asked_is_told_that_there_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await conversation(world, alice)
    await bob.forget()

    async def fail(*_: object) -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(Queries, "thread", fail)
    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    request_id = await alice.send("request_thread_summary", **place)

    assert (await alice.answer(request_id))["payload"] == {}
    push = await alice.next_frame("incoming_error")
    assert (push["payload"], push["request_id"]) == ({"action": "set_thread_summary", **place}, request_id)
    assert list(differences("3.6", contract("3.6", "pushes")["incoming_error"], push["payload"])) == []
    await bob.hears_nothing_more()
    monkeypatch.undo()
    await alice.call("request_thread_summary", **place)
    await alice.next_push("thread_summary_set")


async def test_what_is_refused(world: World, enter: Enter) -> None:
    alice, other = await world.agent("alice"), await world.agent("olivia")
    chat = await conversation(world, alice)
    elsewhere = await world.chat(other, group=SUPPORT)
    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    asker = await enter("alice", scopes=["chats--access:rw"])
    for missing in place:
        given = {name: value for name, value in place.items() if name != missing}
        refusal = await asker.refused("request_thread_summary", **given)
        assert refusal == Refused("validation", f"`{missing}` is required")
    of_support = {"chat_id": elsewhere.id, "thread_id": elsewhere.thread_id}
    for wrong, refusal in (
        (place | {"chat_id": "X"}, Refused("not_found", "Chat not found")),
        (place | {"thread_id": elsewhere.thread_id}, Refused("not_found", "Thread not found")),
        (of_support, Refused("missing_access", "Requester has no access to the thread")),
    ):
        assert await asker.refused("request_thread_summary", **wrong) == refusal
    mine = await enter("alice", scopes=["chats--my:rw"])
    assert (await mine.refused("request_thread_summary", **place)).type == "authorization"
    older = await enter("alice", version="3.5")
    assert (await older.refused("request_thread_summary", **place)).type == "not_found"
    await alice.hears_nothing_more()
