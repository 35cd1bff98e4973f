"""Chats go to other agents, to other groups and into the queue, and those who may know are told."""

from typing import Any

import pytest

from rtm import versions
from tests.actions.test_contract import contract, differences, pushes
from tests.routing.test_router import next_of
from tests.world import SALES, SUPPORT, Client, Refused, World


def to_group(*ids: int) -> dict[str, Any]:
    return {"type": "group", "ids": list(ids)}


def to_agent(world: World, *names: str) -> dict[str, Any]:
    return {"type": "agent", "ids": [world.id(name) for name in names]}


async def test_a_chat_is_transferred_to_an_agent(either_world: World) -> None:
    world = either_world
    alice, bob, carol = await world.agents("alice", "bob", "carol")
    chat = await world.chat(alice, users=["ada"])
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "hello"})
    await alice.forget()

    assert await alice.call("transfer_chat", id=chat.id, target=to_agent(world, "bob")) == {}

    incoming = await bob.next_push("incoming_chat")  # of what was said he has heard nothing
    assert incoming["transferred_from"] == {"group_ids": [SALES], "agent_ids": [alice.id]}
    assert [event["text"] for event in incoming["chat"]["thread"]["events"]] == ["hello"]
    assert incoming["requester_id"] == alice.id
    for client in (alice, bob):
        assert await client.next_push("chat_transferred") == {
            "chat_id": chat.id,
            "thread_id": chat.thread_id,
            "requester_id": alice.id,
            "reason": "manual",
            "transferred_to": {"group_ids": [SALES], "agent_ids": [bob.id]},
        }
        removed = await client.next_push("user_removed_from_chat")
        assert (removed["user_id"], removed["reason"], removed["requester_id"]) == (alice.id, "manual", alice.id)
        added = await client.next_push("user_added_to_chat")
        assert (added["user"]["id"], added["user"]["present"], added["reason"]) == (bob.id, True, "manual")
    properties = (await bob.next_push("thread_properties_updated"))["properties"]
    assert properties["routing"].keys() == {"last_transfer_timestamp"}
    message = (await bob.next_push("incoming_event"))["event"]
    assert (message["type"], message["text"]) == ("system_message", "Alice transferred the chat to Bob")
    for client in (alice, bob, carol):
        await client.hears_nothing_more()
    shown = await bob.call("get_chat", chat_id=chat.id)
    assert {user["id"]: user["present"] for user in shown["users"]} == {
        alice.id: False,
        bob.id: True,
        world.id("ada"): True,
    }


async def test_a_chat_is_transferred_to_a_group_and_those_who_did_not_know_it_are_shown_it(either_world: World) -> None:
    world = either_world
    alice, bob, carol, erin = await world.agents("alice", "bob", "carol", "erin")
    chat = await world.chat(alice, users=["ada"], texts=["hello"])

    await alice.call("transfer_chat", id=chat.id, target=to_group(SUPPORT))

    for client in (alice, bob):
        told = await client.next_push("chat_transferred")
        assert told["transferred_to"] == {"group_ids": [SUPPORT], "agent_ids": [carol.id]}
        assert await client.next_push("chat_access_updated") == {"id": chat.id, "access": {"group_ids": [SUPPORT]}}
        await client.next_push("user_removed_from_chat")
        await client.next_push("user_added_to_chat")
    incoming = await carol.next_push("incoming_chat")
    assert incoming["requester_id"] == alice.id
    assert incoming["transferred_from"] == {"group_ids": [SALES], "agent_ids": [alice.id]}
    assert incoming["chat"]["access"] == incoming["chat"]["thread"]["access"] == {"group_ids": [SUPPORT]}
    assert [event["text"] for event in incoming["chat"]["thread"]["events"]] == ["hello"]
    assert {user["id"]: user["present"] for user in incoming["chat"]["users"]}[carol.id]
    updated = (await carol.next_push("thread_properties_updated"))["properties"]["routing"]
    assert updated.items() <= incoming["chat"]["thread"]["properties"]["routing"].items()
    assert (await carol.next_push("incoming_event"))["event"]["text"] == "Alice transferred the chat to Support"
    for client in (alice, bob, carol, erin):
        await client.hears_nothing_more()


async def test_within_its_group_a_chat_goes_to_another_agent(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["ada"])
    await bob.call("set_routing_status", status="not_accepting_chats")
    assert await alice.refused("transfer_chat", id=chat.id) == Refused("agent_offline", "No other agent is available")
    await alice.call("add_user_to_chat", chat_id=chat.id, user_id=bob.id, user_type="agent", visibility="all")

    dave = await world.agent("dave")
    await alice.call("transfer_chat", id=chat.id)

    assert (await dave.next_push("incoming_chat"))["transferred_from"]["agent_ids"] == [alice.id, bob.id]
    told = await dave.next_push("chat_transferred")
    assert told["transferred_to"] == {"group_ids": [SALES], "agent_ids": [dave.id]}
    assert {(await dave.next_push("user_removed_from_chat"))["user_id"] for _ in range(2)} == {alice.id, bob.id}


async def test_who_has_given_a_chat_away_may_be_given_it_back(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["ada"])

    await alice.call("transfer_chat", id=chat.id, target=to_group(SALES))
    await bob.call("transfer_chat", id=chat.id, target=to_group(SALES))
    await alice.call("transfer_chat", id=chat.id)

    assert [(await next_of(bob, "chat_transferred"))["transferred_to"]["agent_ids"] for _ in range(3)] == [
        [bob.id],
        [alice.id],
        [bob.id],
    ]
    await bob.call("logout")
    for _ in range(3):
        assert (await next_of(alice, "chat_transferred"))["reason"] == "manual"
    told = await next_of(alice, "chat_transferred")
    assert (told["reason"], told["transferred_to"]["agent_ids"]) == ("assigned", [alice.id])


async def test_without_anybody_else_those_who_have_the_chat_with_its_giver_keep_it(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["ada", "bob"])
    await bob.call("set_routing_status", status="not_accepting_chats")

    await alice.call("transfer_chat", id=chat.id)

    for client in (alice, bob):
        assert (await client.next_push("chat_transferred"))["transferred_to"]["agent_ids"] == [bob.id]
        assert (await client.next_push("user_removed_from_chat"))["user_id"] == alice.id
    users = (await bob.call("get_chat", chat_id=chat.id))["users"]
    assert {user["id"]: user["present"] for user in users} == {alice.id: False, bob.id: True, world.id("ada"): True}
    await alice.call("set_routing_status", status="not_accepting_chats")
    theirs: dict[str, Any] = {"id": chat.id, "ignore_requester_presence": True}
    refused = await alice.refused("transfer_chat", **theirs)  # it is to go to somebody else
    assert refused == Refused("agent_offline", "No other agent is available")
    refused = await alice.refused("transfer_chat", **theirs, target=to_group(SUPPORT))
    assert refused == Refused("agent_offline", "No agent of `target` is available")


async def test_who_only_looks_on_may_be_given_the_chat_and_else_goes_on(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["ada"])
    joining: dict[str, Any] = {"chat_id": chat.id, "user_type": "agent", "visibility": "agents"}
    await alice.call("add_user_to_chat", **joining, user_id=bob.id)

    await alice.call("transfer_chat", id=chat.id)

    assert (await next_of(alice, "chat_transferred"))["transferred_to"]["agent_ids"] == [bob.id]
    added = await next_of(alice, "user_added_to_chat")
    assert (added["user"]["id"], added["user"]["visibility"]) == (bob.id, "all")
    await bob.call("add_user_to_chat", **joining, user_id=alice.id)
    dave = await world.agent("dave")

    await bob.call("transfer_chat", id=chat.id, target=to_agent(world, "dave"))

    assert (await dave.next_push("incoming_chat"))["transferred_from"]["agent_ids"] == [bob.id]
    users = (await dave.call("get_chat", chat_id=chat.id))["users"]
    present = {user["id"]: user.get("visibility") for user in users if user["present"]}
    assert present == {alice.id: "agents", dave.id: "all", world.id("ada"): None}


async def test_without_anybody_free_a_chat_is_refused_or_queued(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    carol = await world.agent("carol")
    await carol.call("set_routing_status", status="not_accepting_chats")
    chat = await world.chat(alice, users=["ada"])

    refused = await alice.refused("transfer_chat", id=chat.id, target=to_group(SUPPORT))
    assert refused == Refused("agent_offline", "No agent of `target` is available")
    await alice.hears_nothing_more()

    await alice.call("transfer_chat", id=chat.id, target=to_group(SUPPORT), ignore_agents_availability=True)
    told = await bob.next_push("chat_transferred")
    assert told["transferred_to"] == {"group_ids": [SUPPORT]}
    queued_at = told["queue"]["queued_at"]
    assert told["queue"] == {"position": 1, "wait_time": 60, "queued_at": queued_at}
    incoming = await carol.next_push("incoming_chat")
    assert incoming["chat"]["thread"]["queue"] == told["queue"]
    shown = await carol.call("get_chat", chat_id=chat.id)
    assert shown["thread"]["queue"] == told["queue"]
    [summary] = (await carol.call("list_chats", filters={"group_ids": [SUPPORT]}))["chats_summary"]
    assert summary["last_thread_summary"]["queue"] == told["queue"]

    await carol.call("set_routing_status", status="accepting_chats")
    incoming = await carol.next_push("incoming_chat")
    assert incoming["transferred_from"] == {"group_ids": [SUPPORT], "agent_ids": []}
    assert "requester_id" not in incoming
    assert incoming["chat"]["thread"]["properties"]["routing"]["unassigned"] is False
    told = await carol.next_push("chat_transferred")
    assert told == {
        "chat_id": chat.id,
        "thread_id": chat.thread_id,
        "reason": "assigned",
        "transferred_to": {"group_ids": [SUPPORT], "agent_ids": [carol.id]},
    }
    added = await carol.next_push("user_added_to_chat")
    assert (added["user"]["id"], added["reason"], "requester_id" in added) == (carol.id, "assigned", False)
    await carol.next_push("thread_properties_updated")
    await carol.next_push("chat_properties_updated")
    assert "queue" not in (await carol.call("get_chat", chat_id=chat.id))["thread"]


async def test_who_may_transfer_what_to_whom(world: World) -> None:
    alice, bob, carol, dave = await world.agents("alice", "bob", "carol", "dave")
    chat = await world.chat(alice, users=["ada"])

    async def refusal(client: Client, **payload: Any) -> tuple[str, str]:
        refused = await client.refused("transfer_chat", **payload)
        return refused.type, refused.message

    theirs = {"id": chat.id, "target": to_agent(world, "bob")}
    assert await refusal(bob, **theirs) == ("authorization", "Requester is not a user of the chat")
    erin = await world.agent("erin")
    assert (await refusal(erin, **theirs, ignore_requester_presence=True))[0] == "missing_access"
    assert await refusal(alice, id="nowhere") == ("not_found", "Chat not found")
    assert await refusal(alice, id=chat.id, target=to_group(77)) == ("not_found", "Group not found: 77")
    assert (await refusal(alice, id=chat.id, target=to_agent(world, "nobody")))[0] == "not_found"
    assert (await refusal(alice, id=chat.id, target=to_agent(world, "sam")))[0] == "not_found"
    assert (await refusal(alice, id=chat.id, target=to_agent(world, "bob", "carol")))[0] == "missing_access"
    await dave.call("logout")
    await alice.hears_nothing_more()
    assert (await refusal(alice, id=chat.id, target=to_agent(world, "dave")))[0] == "agent_offline"
    for target, message in (
        ({"type": "group"}, "`target.ids` is required"),
        ({"ids": [1]}, "`target.type` is required"),
        ({"type": "team", "ids": [1]}, "`target.type` must be one of: group, agent"),
        ({"type": "group", "ids": []}, "`target.ids` must not be empty"),
        ({"type": "group", "ids": ["1"]}, "`target.ids` must have the id of each group as an integer"),
        ({"type": "agent", "ids": [1]}, "`target.ids` must have the id of each agent as a string"),
        ({"type": "agent", "ids": [None]}, "`target.ids[0]` must be the id of a group or an agent"),
    ):
        assert await refusal(alice, id=chat.id, target=target) == ("validation", message)
    await alice.call("deactivate_chat", id=chat.id)
    assert (await refusal(alice, id=chat.id, target=to_agent(world, "bob")))[0] == "chat_inactive"
    await carol.hears_nothing_more()


async def test_an_agent_who_accepts_no_chats_may_be_given_one_by_name(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    await bob.call("set_routing_status", status="not_accepting_chats")
    chat = await world.chat(alice, users=["ada"])

    await alice.call("transfer_chat", id=chat.id, target=to_agent(world, "dave", "bob"))

    assert (await bob.next_push("incoming_chat"))["chat"]["id"] == chat.id
    assert (await bob.next_push("chat_transferred"))["transferred_to"]["agent_ids"] == [bob.id]


async def test_who_follows_a_chat_is_not_shown_it_again_when_it_is_theirs(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat, other = [await world.chat(alice, users=["ada"]) for _ in range(2)]
    for each in (chat, other):
        await bob.call("follow_chat", id=each.id)
    await bob.forget()
    new_to_it = await world.agent("bob", scopes=["chats--my:ro"])

    await alice.call("transfer_chat", id=chat.id, target=to_agent(world, "bob"))
    joining = {"user_id": bob.id, "user_type": "agent", "visibility": "all"}
    await alice.call("add_user_to_chat", chat_id=other.id, **joining)

    told = [name for name, _ in await pushes(bob)]
    assert {"chat_transferred", "user_added_to_chat"} < set(told)
    assert "incoming_chat" not in told
    shown = [payload["chat"]["id"] for name, payload in await pushes(new_to_it) if name == "incoming_chat"]
    assert shown == [chat.id, other.id]


async def test_a_follower_who_loses_access_hears_no_more(either_world: World) -> None:
    world = either_world
    alice, carol, dave = await world.agents("alice", "carol", "dave")
    chat = await world.chat(alice, users=["ada"])
    await dave.call("follow_chat", id=chat.id)
    await dave.forget()

    await alice.call("transfer_chat", id=chat.id, target=to_group(SUPPORT))

    await dave.next_push("chat_transferred")
    while (frame := await dave.next())["action"] != "chat_unfollowed":
        assert frame["action"] != "incoming_event"
    await carol.call("send_event", chat_id=chat.id, event={"type": "message", "text": "inside"})
    await dave.hears_nothing_more()


async def test_agents_for_a_transfer_are_those_who_are_here_the_least_busy_first(either_world: World) -> None:
    world = either_world
    alice, bob, carol = await world.agents("alice", "bob", "carol")
    await bob.call("set_routing_status", status="not_accepting_chats")
    chat = await world.chat(alice, users=["ada"])
    await world.chat(bob, users=["grace", "alice"])
    await world.chat(bob)  # without a customer

    assert await alice.call("list_agents_for_transfer", chat_id=chat.id) == [
        {"agent_id": bob.id, "active_chats": 1},
        {"agent_id": alice.id, "active_chats": 2},
    ]
    web = await world.web("alice")
    assert await web.call("list_agents_for_transfer", chat_id=chat.id) == [
        {"agent_id": bob.id, "total_active_chats": 1},
        {"agent_id": alice.id, "total_active_chats": 2},
    ]
    assert (await carol.refused("list_agents_for_transfer", chat_id="nowhere")).type == "not_found"


@pytest.mark.parametrize("version", versions.SERVED)
async def test_agents_for_a_transfer_are_told_without_any_scope(world: World, version: str) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"])
    await world.chat(await world.agent("carol"), group=SUPPORT, users=["grace"])
    for enter in (world.agent, world.web):
        for scopes in (["agents--my:ro"], ["chats--my:ro"]):
            bob: Any = await enter("bob", version=version, scopes=scopes)  # of the chat's group
            assert [each["agent_id"] for each in await bob.call("list_agents_for_transfer", chat_id=chat.id)]
            for name in ("erin", "carol"):
                stranger: Any = await enter(name, version=version, scopes=scopes)
                refusal = await stranger.refused("list_agents_for_transfer", chat_id=chat.id)
                assert refusal == Refused("missing_access", "Requester has no access to the chat")
    adding = {"chat_id": chat.id, "user_type": "agent", "visibility": "all", "ignore_requester_presence": True}
    await (await world.web("olivia")).call("add_user_to_chat", **adding, user_id=world.id("olivia"))
    olivia = await world.agent("olivia", version=version, scopes=["agents--my:ro"])
    assert await olivia.call("list_agents_for_transfer", chat_id=chat.id)


@pytest.mark.parametrize("version", versions.SERVED)
async def test_all_that_is_told_has_the_fields_of_the_reference(world: World, version: str) -> None:
    await world.change_agent("carol", max_chats_count=1)
    alice, carol = [await world.agent(name, version=version) for name in ("alice", "carol")]
    await carol.call("set_routing_status", status="not_accepting_chats")
    chats = [await world.chat(alice, users=["ada"], texts=["hello"]) for _ in range(2)]
    for chat in chats:
        await alice.call("transfer_chat", id=chat.id, target=to_group(SUPPORT), ignore_agents_availability=True)
    await carol.call("set_routing_status", status="accepting_chats")

    told: list[tuple[str, Any]] = []
    while not told or told[-1][0] != "queue_positions_updated":  # what the router does comes last
        frame = await carol.next()
        told.append((frame["action"], frame["payload"]))
    told += await pushes(alice)

    assert {name for name, _ in told} >= {
        "incoming_chat",
        "chat_transferred",
        "chat_access_updated",
        "user_added_to_chat",
        "user_removed_from_chat",
        "queue_positions_updated",
        "thread_properties_updated",
        "chat_properties_updated",
    }
    for name, payload in told:
        assert list(differences(version, contract(version, "pushes")[name], payload)) == [], name
    shown = await carol.call("get_chat", chat_id=chats[1].id)
    assert list(differences(version, contract(version, "responses")["get_chat"], shown)) == []
    assert shown["thread"]["queue"]["position"] == 1


async def test_who_reaches_their_own_chats_only_hears_of_the_one_they_are_given(world: World) -> None:
    alice, erin = await world.agent("alice"), await world.agent("erin", scopes=["chats--my:rw"])
    chat = await world.chat(alice, group=0)

    await alice.call("transfer_chat", id=chat.id, target={"type": "agent", "ids": [erin.id]})

    assert (await erin.next_push("incoming_chat"))["chat"]["id"] == chat.id
    assert (await erin.next_push("chat_transferred"))["transferred_to"]["agent_ids"] == [erin.id]
    assert (await erin.next_push("user_added_to_chat"))["user"]["id"] == erin.id


async def test_so_does_who_had_access_before_it_came_into_another_group(world: World) -> None:
    await world.set_groups("erin", SUPPORT)
    alice, erin = await world.agent("alice"), await world.agent("erin", scopes=["chats--my:rw"])
    chat = await world.chat(alice, group=0)

    await alice.call("transfer_chat", id=chat.id, target=to_group(SUPPORT))

    assert (await erin.next_push("incoming_chat"))["chat"]["access"] == {"group_ids": [SUPPORT]}
    assert (await erin.next_push("chat_transferred"))["transferred_to"]["agent_ids"] == [erin.id]
    assert (await erin.next_push("chat_access_updated"))["access"]["group_ids"] == [SUPPORT]
    assert (await erin.next_push("user_added_to_chat"))["user"]["id"] == erin.id


async def test_nor_are_they_shown_what_comes_into_their_group_for_others(world: World) -> None:
    await world.set_groups("erin", SUPPORT)
    alice, carol = await world.agents("alice", "carol")
    erin = await world.agent("erin", scopes=["chats--my:rw"], away=True)
    chats = [await world.chat(alice, group=SALES) for _ in range(2)]

    await alice.call("transfer_chat", id=chats[0].id, target=to_group(SUPPORT))

    assert (await carol.next_push("incoming_chat"))["chat"]["id"] == chats[0].id
    await erin.hears_nothing_more()
    await world.change_agent("carol", suspended=True)
    await carol.ended()
    erin = await world.agent("erin", scopes=["chats--my:rw"])

    await alice.call("transfer_chat", id=chats[1].id, target=to_group(SUPPORT))

    assert (await erin.next_push("incoming_chat"))["chat"]["id"] == chats[1].id


async def test_a_bot_that_may_see_all_chats_follows_still(world: World) -> None:
    carol, robin = await world.agents("carol", "robin")
    chat = await world.chat(await world.web("alice"), group=SUPPORT, users=["carol"])
    await robin.call("follow_chat", id=chat.id)

    await carol.call("transfer_chat", id=chat.id, target=to_agent(world, "carol"))

    assert (await robin.call("get_chat", chat_id=chat.id))["is_followed"] is True
