"""Sessions of all versions in one chat: each is shown what happens in its own form."""

from typing import Any

import pytest

from rtm import versions
from tests.actions.shapes import ada, archived_by, message, older_ada, summary_with_ada
from tests.world import SALES, Client, World


async def of_each_version(world: World, name: str) -> dict[str, Client]:
    """A socket of every version."""
    return {version: await world.agent(name, version=version) for version in versions.SERVED}


async def test_each_session_sees_its_own_form_of_the_same_push(world: World) -> None:
    alice, bobs = await world.web("alice"), await of_each_version(world, "bob")
    shown = dict.fromkeys(("3.4", "3.5"), older_ada(world)) | dict.fromkeys(("3.6", "3.7"), ada(world))

    users = [{"id": world.id("bob"), "type": "agent"}, {"id": world.id("ada"), "type": "customer"}]
    started = await alice.call("start_chat", chat={"access": {"group_ids": [SALES]}, "users": users})
    await alice.call("send_thinking_indicator", chat_id=started["chat_id"])
    await alice.call("deactivate_chat", id=started["chat_id"])

    for version, bob in bobs.items():
        begun = await bob.next_frame("incoming_chat")
        assert begun["version"] == version
        assert begun["payload"]["chat"]["users"][-1] == shown[version]
        if version in ("3.6", "3.7"):
            assert (await bob.next_frame("incoming_thinking_indicator"))["version"] == version
        assert (await bob.next_frame("incoming_event"))["payload"]["event"] == archived_by("Alice")
        assert (await bob.next_frame("chat_deactivated"))["version"] == version
        await bob.hears_nothing_more()


async def test_what_each_version_sends_is_heard_by_all(world: World) -> None:
    bobs = await of_each_version(world, "bob")
    chat = await world.chat(bobs["3.6"])
    for version, bob in bobs.items():
        await bob.call("send_event", chat_id=chat.id, event={"type": "message", "text": version})
    for bob in bobs.values():
        texts = [(await bob.next_push("incoming_event"))["event"]["text"] for _ in bobs]
        assert texts == list(versions.SERVED)


async def preview(world: World, door: str) -> dict[str, Any]:
    """The chat that Alice is shown first, by `login` or by `list_chats` of the developer preview."""
    alice: Any = await (world.web if door == "list_chats" else world.agent)("alice", version="3.7")
    answer = alice.greeting if door == "login" else await alice.call("list_chats")
    assert "chats_summary" not in answer
    info: dict[str, Any] = answer["chats_info"][0]
    return info


@pytest.mark.parametrize("door", ["login", "list_chats"])
async def test_chats_are_listed_as_the_developer_preview_has_them(world: World, door: str) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], texts=["hello"])
    hello = message("hello", alice.id)
    expected = summary_with_ada(world, chat, hello)
    del expected["last_event_per_type"]
    thread = expected.pop("last_thread_summary")
    expected["last_thread_info"] = thread | {"last_event_per_type": {"message": {"event": hello}}}
    assert await preview(world, door) == expected

    await alice.call("deactivate_chat", id=chat.id)
    resumed = await alice.call("resume_chat", chat={"id": chat.id})
    info = await preview(world, door)
    assert info["last_thread_info"]["id"] == resumed["thread_id"]
    assert info["last_thread_info"]["last_event_per_type"] == {}
