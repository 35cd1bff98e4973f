"""Messages apart from chats."""

from typing import Any

import pytest

from tests.actions.conftest import Enter
from tests.world import SALES, SUPPORT, Refused, World


@pytest.mark.parametrize(
    ("agents", "heard_by"),
    [
        ({"all": True}, {"alice", "bob", "carol", "erin"}),
        ({"ids": ["bob@example.com", "erin@example.com", "nobody@example.com"]}, {"bob", "erin"}),
        ({"groups": [SUPPORT]}, {"carol"}),
        ({"groups": [str(SALES)]}, {"alice", "bob"}),
        ({"groups": [0]}, {"alice", "bob", "carol", "erin"}),
        ({"ids": ["bob@example.com"], "groups": [SALES, SUPPORT]}, {"alice", "bob", "carol"}),
        ({"all": False, "groups": [77]}, set()),
    ],
)
async def test_who_hears_it(world: World, enter: Enter, agents: dict[str, Any], heard_by: set[str]) -> None:
    names = ["alice", "bob", "carol", "erin"]
    clients = dict(zip(names, await world.agents(*names), strict=True))
    stranger = await (await world.server.world()).agent("bob")
    sender = await enter("dave", scopes=["multicast:rw"])
    content = {"any": ["json", None, 1.5, {"é": True}]}

    assert await sender.call("multicast", recipients={"agents": agents}, content=content, type="news") == {}

    for name, client in clients.items():
        if name in heard_by:
            push = await client.next_push("incoming_multicast")
            assert push == {"author_id": world.id("dave"), "content": content, "type": "news"}
        await client.hears_nothing_more()
    await stranger.hears_nothing_more()
    await stranger.close()
    assert await world.stored_pushes() == []


async def test_a_type_need_not_be_given(world: World) -> None:
    alice = await world.agent("alice")
    await alice.call("multicast", recipients={"agents": {"ids": [alice.id]}}, content="text")
    assert await alice.next_push("incoming_multicast") == {"author_id": alice.id, "content": "text"}


async def test_it_is_heard_with_the_scope_only(world: World) -> None:
    alice, bob = await world.agent("alice"), await world.agent("bob", scopes=["chats--all:rw"])
    await alice.call("multicast", recipients={"agents": {"all": True}}, content=1)
    await alice.next_push("incoming_multicast")
    await bob.hears_nothing_more()


async def test_what_is_refused(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    refusal = await alice.refused("multicast", recipients={"agents": {}}, content=1)
    assert refusal == Refused("validation", "`recipients.agents` must have at least one of: all, ids, groups")
    refusal = await alice.refused("multicast", recipients={"agents": {"all": True}})
    assert refusal == Refused("validation", "`content` is required")
    refusal = await alice.refused("multicast", recipients={"customers": {"ids": ["x"]}}, content=1)
    assert refusal == Refused("validation", "`recipients.agents` is required")
    bob = await enter("bob", scopes=["chats--all:rw"])
    refusal = await bob.refused("multicast", recipients={"agents": {"all": True}}, content=1)
    assert refusal == Refused("authorization", "Token lacks the scope: multicast:rw")
