"""Tags of threads: what is tagged, who is told, and what is refused."""

import pytest

from rtm.model import chat as model
from tests.actions.conftest import Enter
from tests.world import SALES, SUPPORT, Refused, Web, World


async def test_a_thread_is_tagged_and_untagged_and_agents_told(either_world: World) -> None:
    world = either_world
    alice, bob, dave = await world.agents("alice", "bob", "dave")
    chat = await world.chat(alice, users=["ada", "bob"])
    thread = {"chat_id": chat.id, "thread_id": chat.thread_id}

    for tag in ("refund", "order", "refund"):
        assert await alice.call("tag_thread", **thread, tag=tag) == {}
    for client in (alice, bob):
        for tag in ("refund", "order"):
            assert await client.next_push("thread_tagged") == {**thread, "tag": tag}
    assert (await bob.call("get_chat", chat_id=chat.id))["thread"]["tags"] == ["refund", "order"]
    [summary] = (await bob.call("list_chats"))["chats_summary"]
    assert summary["last_thread_summary"]["tags"] == ["refund", "order"]

    for tag in ("refund", "refund", "order", "never"):
        assert await alice.call("untag_thread", **thread, tag=tag) == {}
    for tag in ("refund", "order"):
        assert await bob.next_push("thread_untagged") == {**thread, "tag": tag}
    assert "tags" not in (await bob.call("get_chat", chat_id=chat.id))["thread"]
    await bob.hears_nothing_more()
    await dave.hears_nothing_more()
    assert not any(push["audience"]["customers"] for push in await world.stored_pushes() if "tag" in push["name"])


async def test_an_earlier_thread_is_tagged(either_world: World) -> None:
    alice, bob = await either_world.agents("alice", "bob")
    chat = await either_world.chat(alice)
    await alice.call("deactivate_chat", id=chat.id)
    later = await alice.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SUPPORT]}})

    # Its groups are those of its time.
    await alice.call("tag_thread", chat_id=chat.id, thread_id=chat.thread_id, tag="order")
    await alice.call("tag_thread", chat_id=chat.id, **later, tag="bug")

    tags = {thread["id"]: thread["tags"] for thread in (await bob.call("list_threads", chat_id=chat.id))["threads"]}
    assert tags == {chat.thread_id: ["order"], later["thread_id"]: ["bug"]}


async def test_which_tags_a_thread_may_have(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice, group=SALES)
    thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
    unknown = Refused("not_found", "Tag not found")
    assert await alice.refused("tag_thread", **thread, tag="never") == unknown
    assert await alice.refused("tag_thread", **thread, tag="Order") == unknown
    refusal = await alice.refused("tag_thread", **thread, tag="bug")
    assert refusal == Refused("validation", "`tag` must have a group in common with the thread")


async def test_a_thread_has_so_many_tags_only(world: World, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MAX_TAGS", 1)
    alice = await enter("alice")
    chat = await world.chat(alice)
    thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
    await alice.call("tag_thread", **thread, tag="order")
    await alice.call("tag_thread", **thread, tag="order")
    refusal = await alice.refused("tag_thread", **thread, tag="refund")
    limit = "limit_reached" if isinstance(alice, Web) else "validation"  # which sockets have in its place
    assert refusal == Refused(limit, "A thread has at most 1 tags")


@pytest.mark.parametrize("action", ["tag_thread", "untag_thread"])
async def test_what_is_not_there_or_out_of_reach(world: World, enter: Enter, action: str) -> None:
    alice, carol = await enter("alice"), await enter("carol", scopes=["chats--access:rw"])
    chat, other = await world.chat(alice), await world.chat(alice)
    for chat_id, thread_id, missing in (
        ("nowhere", chat.thread_id, "Chat not found"),
        (chat.id, "nowhere", "Thread not found"),
        (chat.id, other.thread_id, "Thread not found"),
    ):
        refusal = await alice.refused(action, chat_id=chat_id, thread_id=thread_id, tag="order")
        assert refusal == Refused("not_found", missing)
    thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
    refusal = await carol.refused(action, **thread, tag="refund")
    assert refusal == Refused("missing_access", "Requester has no access to the thread")
    assert await alice.refused(action, **thread) == Refused("validation", "`tag` is required")
    reader = await enter("alice", scopes=["chats--all:ro"])
    assert (await reader.refused(action, **thread, tag="order")).type == "authorization"
