"""Chats without an agent are given one, or wait for one in order, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import insert, update

from rtm.routing import handover
from rtm.store import tables
from tests.actions.test_contract import pushes
from tests.world import SALES, SUPPORT, Chat, Client, World

EVERYBODY = 0


async def set_rules(world: World, **of_license: Any) -> None:
    """Properties of the namespace `chats`, before anybody has logged in."""
    await world.change_license(properties={"chats": of_license})


async def set_group(world: World, group_id: int, **of_group: Any) -> None:
    """Properties of the same namespace, of a group."""
    of = tables.groups.c.license_id == world.license_id, tables.groups.c.id == group_id
    async with world.server.database.engine.begin() as connection:
        await connection.execute(update(tables.groups).where(*of).values(properties={"chats": of_group}))


async def set_priority(world: World, name: str, group_id: int, priority: str) -> None:
    """Put the agent, or the bot, into the group with this priority."""
    row = {"license_id": world.license_id, "group_id": group_id, "agent_id": world.id(name), "priority": priority}
    async with world.server.database.engine.begin() as connection:
        await connection.execute(
            tables.group_agents.delete().where(
                *(tables.group_agents.c[key] == row[key] for key in ("license_id", "group_id", "agent_id"))
            )
        )
        await connection.execute(insert(tables.group_agents), row)


async def leave(client: Client, chat: Chat) -> None:
    """Take the client's agent out of its chat."""
    await client.call(
        "remove_user_from_chat", chat_id=chat.id, user_id=client.id, user_type="agent", ignore_requester_presence=True
    )


async def next_of(client: Client, name: str) -> Any:
    """The next push of this name, whatever comes before it."""
    while (frame := await client.next())["action"] != name:
        pass
    return frame["payload"]


async def queue_chats(world: World, client: Client, count: int, group: int = SALES) -> list[Chat]:
    """So many customers' chats that wait, in order; the client sees each of them come into the queue."""
    chats = []
    for _ in range(count):
        chat = await world.chat(client, users=["ada"], group=group)
        await leave(client, chat)
        told = await next_of(client, "chat_transferred")
        assert (told["chat_id"], told["reason"]) == (chat.id, "unassigned")
        chats.append(chat)
    return chats


async def test_a_chat_whose_last_agent_leaves_is_given_to_another(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], texts=["hello"])
    bob = await world.agent("bob")

    await leave(alice, chat)

    for client in (alice, bob):
        told = await next_of(client, "chat_transferred")
        assert told == {
            "chat_id": chat.id,
            "thread_id": chat.thread_id,
            "reason": "assigned",
            "transferred_to": {"group_ids": [SALES], "agent_ids": [bob.id]},
        }
        added = await client.next_push("user_added_to_chat")
        assert (added["user"]["id"], added["reason"], "requester_id" in added) == (bob.id, "assigned", False)
    await bob.next_push("thread_properties_updated")
    assert (await bob.next_push("incoming_event"))["event"]["system_message_type"] == "routing.assigned_other"
    for client in (alice, bob):
        await client.hears_nothing_more()


async def test_a_follower_who_is_given_a_chat_is_shown_it_where_it_was_not_heard(world: World) -> None:
    alice, bob = await world.agent("alice"), await world.agent("bob", away=True)
    [chat] = await queue_chats(world, alice, 1)
    await bob.call("follow_chat", id=chat.id)
    new_to_it = await world.agent("bob", scopes=["chats--my:ro"], away=True)
    await bob.forget()

    await bob.call("set_routing_status", status="accepting_chats")

    assert (await next_of(new_to_it, "incoming_chat"))["chat"]["id"] == chat.id
    told = [name for name, _ in await pushes(bob)]
    assert "user_added_to_chat" in told
    assert "incoming_chat" not in told


async def test_a_chat_that_nobody_can_take_waits_until_somebody_else_accepts_chats(either_world: World) -> None:
    world = either_world
    alice, olivia = await world.agents("alice", "olivia")
    chat = await world.chat(alice, users=["ada"])
    await olivia.call("follow_chat", id=chat.id)
    await olivia.forget()

    await leave(alice, chat)

    told = await next_of(olivia, "chat_transferred")
    assert (told["reason"], told["queue"]["position"]) == ("unassigned", 1)
    assert (await next_of(olivia, "incoming_event"))["event"]["system_message_type"] == "routing.unassigned_other"
    await olivia.hears_nothing_more()
    await alice.forget()
    for status in ("not_accepting_chats", "accepting_chats"):  # who has left it is not given it again
        await alice.call("set_routing_status", status=status)
    await alice.hears_nothing_more()

    bob = await world.agent("bob")

    assert (await next_of(alice, "chat_transferred"))["transferred_to"]["agent_ids"] == [bob.id]
    [summary] = (await bob.call("list_chats", filters={"active": True}))["chats_summary"]
    assert "queue" not in summary["last_thread_summary"]


async def test_who_has_left_a_chat_that_waits_is_given_it_again_where_nobody_else_comes(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = either_world
    alice, olivia = await world.agents("alice", "olivia")
    [chat] = await queue_chats(world, alice, 1)
    await alice.call("set_routing_status", status="not_accepting_chats")
    await alice.call("set_routing_status", status="accepting_chats")
    await alice.forget()
    [summary] = (await olivia.call("list_chats", filters={"active": True}))["chats_summary"]
    assert summary["last_thread_summary"]["queue"]["position"] == 1

    monkeypatch.setattr(handover, "AGAIN_AFTER_S", 0)
    await alice.call("set_routing_status", status="accepting_chats")

    told = await next_of(alice, "chat_transferred")
    assert (told["chat_id"], told["transferred_to"]["agent_ids"]) == (chat.id, [alice.id])


async def look_on(client: Client, chat: Chat) -> None:
    """Let the client's agent into the chat, unseen by the customer."""
    await client.call(
        "add_user_to_chat",
        chat_id=chat.id,
        user_id=client.id,
        user_type="agent",
        visibility="agents",
        ignore_requester_presence=True,
    )


async def test_who_only_looks_on_takes_no_chat_out_of_the_queue(either_world: World) -> None:
    world = either_world
    alice, olivia = await world.agents("alice", "olivia")
    chat, other = await queue_chats(world, alice, 2)

    await look_on(olivia, chat)

    shown = await olivia.call("get_chat", chat_id=chat.id)
    assert shown["thread"]["queue"]["position"] == 1
    assert shown["properties"]["routing"]["unassigned"] is True
    bob = await world.agent("bob")
    for each in (chat, other):
        told = await next_of(bob, "chat_transferred")
        assert (told["chat_id"], told["transferred_to"]["agent_ids"]) == (each.id, [bob.id])
    users = (await bob.call("get_chat", chat_id=chat.id))["users"]
    assert {user["id"] for user in users if user["present"]} == {bob.id, olivia.id, world.id("ada")}


async def test_a_chat_at_which_somebody_only_looks_on_wants_an_agent(either_world: World) -> None:
    world = either_world
    alice, olivia = await world.agents("alice", "olivia")
    chat, other = [await world.chat(alice, users=["ada"]) for _ in range(2)]
    await look_on(olivia, chat)
    await look_on(olivia, other)

    await leave(alice, chat)

    told = await next_of(olivia, "chat_transferred")
    assert (told["chat_id"], told["reason"], told["queue"]["position"]) == (chat.id, "unassigned", 1)
    bob = await world.agent("bob")
    assert (await next_of(olivia, "chat_transferred"))["transferred_to"]["agent_ids"] == [bob.id]
    await alice.call("logout")
    told = await next_of(olivia, "chat_transferred")
    assert (told["chat_id"], told["transferred_to"]["agent_ids"]) == (other.id, [bob.id])


async def test_those_who_wait_are_told_their_places_and_come_in_order(either_world: World) -> None:
    world = either_world
    await world.change_agent("bob", max_chats_count=2)
    alice = await world.agent("alice")
    chats = await queue_chats(world, alice, 4)
    await alice.forget()

    bob = await world.agent("bob")

    assert [(await next_of(alice, "chat_transferred"))["chat_id"] for _ in range(2)] == [chats[0].id, chats[1].id]
    assert await next_of(alice, "queue_positions_updated") == [
        {"chat_id": chat.id, "thread_id": chat.thread_id, "queue": {"position": place, "wait_time": place * 60}}
        for place, chat in enumerate(chats[2:], start=1)
    ]
    await alice.hears_nothing_more()

    await bob.call("deactivate_chat", id=chats[0].id)

    assert (await next_of(alice, "chat_transferred"))["chat_id"] == chats[2].id
    [moved] = await next_of(alice, "queue_positions_updated")
    assert (moved["chat_id"], moved["queue"]["position"]) == (chats[3].id, 1)

    await alice.call(
        "add_user_to_chat",
        chat_id=chats[3].id,
        user_id=alice.id,
        user_type="agent",
        visibility="all",
        ignore_requester_presence=True,
    )
    assert "queue" not in (await alice.call("get_chat", chat_id=chats[3].id))["thread"]
    await bob.call("deactivate_chat", id=chats[1].id)
    assert (await bob.call("list_agents_for_transfer", chat_id=chats[3].id))[0]["active_chats"] == 1


async def test_an_agent_who_may_have_more_is_given_more(either_world: World) -> None:
    world = either_world
    await world.change_agent("bob", max_chats_count=1)
    alice = await world.agent("alice")
    chats = await queue_chats(world, alice, 2)
    await world.agent("bob")
    assert (await next_of(alice, "chat_transferred"))["chat_id"] == chats[0].id

    await world.change_agent("bob", max_chats_count=2)

    assert (await next_of(alice, "chat_transferred"))["chat_id"] == chats[1].id


async def test_positions_count_those_before_in_the_same_groups(either_world: World) -> None:
    world = either_world
    alice, carol = await world.agents("alice", "carol")
    await queue_chats(world, alice, 2)
    await queue_chats(world, carol, 1, SUPPORT)

    [theirs] = (await carol.call("list_chats", filters={"group_ids": [SUPPORT]}))["chats_summary"]
    ours = (await alice.call("list_chats", sort_order="asc", filters={"group_ids": [SALES]}))["chats_summary"]

    assert theirs["last_thread_summary"]["queue"]["position"] == 1
    assert [each["last_thread_summary"]["queue"]["position"] for each in ours] == [1, 2]


async def test_the_group_of_the_higher_priority_is_served_first(either_world: World) -> None:
    world = either_world
    await set_group(world, SUPPORT, **{"queue.routing_priority": 5})
    await world.set_groups("dave", SALES, SUPPORT)
    await world.change_agent("dave", max_chats_count=1)
    alice, carol = await world.agents("alice", "carol")
    [ours] = await queue_chats(world, alice, 1)
    [theirs] = await queue_chats(world, carol, 1, SUPPORT)

    dave = await world.agent("dave")

    assert (await next_of(carol, "chat_transferred"))["chat_id"] == theirs.id
    await dave.call("deactivate_chat", id=theirs.id)
    assert (await next_of(alice, "chat_transferred"))["chat_id"] == ours.id


async def test_supervisors_are_given_nothing_and_the_first_before_the_last(either_world: World) -> None:
    world = either_world
    await set_priority(world, "bob", SALES, "supervisor")
    await set_priority(world, "dave", SALES, "last")
    await set_priority(world, "robin", SALES, "first")
    alice = await world.agent("alice")
    await world.agents("bob", "dave")
    chats = [await world.chat(alice, users=["ada"]) for _ in range(8)]
    given_to = []
    for chat in chats:
        await leave(alice, chat)
        given_to.append((await next_of(alice, "chat_transferred"))["transferred_to"]["agent_ids"])

    assert given_to == [[world.id("robin")]] * 6 + [[world.id("dave")]] * 2


async def test_equals_are_given_chats_in_turn(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    others = await world.agents("bob", "dave")
    given_to = []
    for _ in range(4):
        chat = await world.chat(alice, users=["ada"])
        await leave(alice, chat)
        [agent_id] = (await next_of(alice, "chat_transferred"))["transferred_to"]["agent_ids"]
        given_to.append(agent_id)
        agent = next(each for each in others if each.id == agent_id)
        await agent.call("deactivate_chat", id=chat.id)

    assert given_to in ([others[0].id, others[1].id] * 2, [others[1].id, others[0].id] * 2)


async def test_who_chatted_last_with_the_customer_is_preferred(either_world: World) -> None:
    world = either_world
    alice, bob, dave = await world.agents("alice", "bob", "dave")
    texts = [{"type": "message", "text": "Hello", "author_id": world.id(name)} for name in ("dave", "ada")]
    users = [{"id": world.id("ada"), "type": "customer"}]
    started = await dave.call("start_chat", chat={"users": users, "thread": {"events": texts}})
    chat = Chat(started["chat_id"], started["thread_id"])
    await dave.call("deactivate_chat", id=chat.id)
    await alice.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SALES]}})

    await leave(alice, chat)

    assert (await next_of(bob, "chat_transferred"))["transferred_to"]["agent_ids"] == [dave.id]


async def test_without_a_queue_a_chat_that_nobody_can_take_is_closed(either_world: World) -> None:
    world = either_world
    await set_rules(world, **{"queue.enabled": False})
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"])

    await leave(alice, chat)

    assert await next_of(alice, "chat_deactivated") == {"chat_id": chat.id, "thread_id": chat.thread_id}
    events = (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"]
    assert events[-1]["system_message_type"] == "routing.archived_other"


async def test_a_full_queue_takes_no_more(either_world: World) -> None:
    world = either_world
    await set_rules(world, **{"queue.limit": 2})
    alice = await world.agent("alice")
    await queue_chats(world, alice, 2)
    third = await world.chat(alice, users=["ada"])

    refused = await alice.refused("transfer_chat", id=third.id, ignore_agents_availability=True)
    assert refused.type == "agent_offline"
    await leave(alice, third)

    assert (await next_of(alice, "chat_deactivated"))["chat_id"] == third.id


async def test_a_queue_that_was_full_takes_chats_again_when_enough_have_left_it(either_world: World) -> None:
    world = either_world
    await set_rules(world, **{"queue.limit": 3, "queue.reopen_threshold": 1})
    alice = await world.agent("alice")
    waiting = await queue_chats(world, alice, 3)

    async def is_taken() -> bool:
        chat = await world.chat(alice, users=["ada"])
        await leave(alice, chat)
        while (frame := await alice.next())["action"] not in {"chat_transferred", "chat_deactivated"}:
            pass
        return bool(frame["action"] == "chat_transferred")

    taken = [await is_taken()]
    for chat in waiting[:2]:
        await alice.call("deactivate_chat", id=chat.id, ignore_requester_presence=True)
        await next_of(alice, "queue_positions_updated")
        taken.append(await is_taken())

    assert taken == [False, False, True]


async def test_a_thread_tells_how_long_it_was_in_the_queue(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    [chat] = await queue_chats(world, alice, 1)
    thread = (await alice.call("get_chat", chat_id=chat.id))["thread"]
    assert "queues_duration" not in thread
    await asyncio.sleep(1)  # it is told in seconds

    await world.agent("bob")

    await next_of(alice, "chat_transferred")
    thread = (await alice.call("get_chat", chat_id=chat.id))["thread"]
    assert (thread["queues_duration"] >= 1, "queue" in thread) == (True, False)


async def test_a_continuous_chat_is_unassigned_and_in_no_queue(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], continuous=True)

    await leave(alice, chat)

    told = await next_of(alice, "chat_transferred")
    assert (told["reason"], "queue" in told) == ("unassigned", False)
    thread = (await alice.call("get_chat", chat_id=chat.id))["thread"]
    assert thread["properties"]["routing"]["unassigned"] is True
    assert (thread["active"], "queue" in thread) == (True, False)


async def test_manual_routing_leaves_chats_in_the_queue(either_world: World) -> None:
    world = either_world
    await set_group(world, SALES, **{"manual_routing.override": 1})
    alice = await world.agent("alice")
    chats = await queue_chats(world, alice, 1)
    bob = await world.agent("bob")
    await bob.call("set_routing_status", status="not_accepting_chats")
    await bob.call("set_routing_status", status="accepting_chats")
    await bob.call(
        "add_user_to_chat",
        chat_id=chats[0].id,
        user_id=bob.id,
        user_type="agent",
        visibility="all",
        ignore_requester_presence=True,
    )
    assert (await next_of(alice, "user_added_to_chat"))["reason"] == "manual"


async def test_a_chat_without_a_customer_is_nobody_elses(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice)
    await leave(alice, chat)
    with_customer = await world.chat(alice, users=["ada"])
    await leave(alice, with_customer)

    assert (await next_of(bob, "chat_transferred"))["chat_id"] == with_customer.id


async def present(client: Client, chats: Iterable[Chat]) -> dict[str, int]:
    """How many of the chats each agent is present in."""
    found: dict[str, int] = {}
    for chat in chats:
        for user in (await client.call("get_chat", chat_id=chat.id))["users"]:
            if user["type"] == "agent" and user["present"]:
                found[user["id"]] = found.get(user["id"], 0) + 1
    return found


async def test_nobody_is_given_more_than_their_limit_however_many_wait(either_world: World) -> None:
    world = either_world
    await world.change_agent("bob", max_chats_count=3)
    await world.change_agent("dave", max_chats_count=4)
    alice = await world.agent("alice")
    chats = await queue_chats(world, alice, 9)

    await world.agents("bob", "dave")
    for _ in range(7):
        await next_of(alice, "chat_transferred")

    assert await present(alice, chats) == {world.id("bob"): 3, world.id("dave"): 4}
