"""Hearing of customers: by the level of a log-in, by subscriptions, and through the agents' own chats."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rtm.access.directory import Directory
from rtm.gateway import tracking
from rtm.gateway.session import Session
from rtm.model.tracking import MAX_SUBSCRIPTIONS
from rtm.settings import Settings
from rtm.store.customers import CustomerQueries, Here
from rtm.store.queries import Queries, Snapshot
from tests.actions.shapes import TIME, ada, older_ada
from tests.actions.test_contract import contract, differences
from tests.world import SALES, SUPPORT, Client, Refused, Server, World, visiting

CUSTOMER_PUSHES = [
    "incoming_customer",
    "customer_updated",
    "customer_banned",
    "customer_left",
    "customer_transferred",
    "subscribed_customers_totals_updated",
]


async def logged_in(world: World, name: str, **login: Any) -> tuple[Client, Any]:
    """An agent, and what they are told of customers as they log in."""
    version = login.pop("version", "3.6")
    client = await world.socket(version)
    client.noise -= {"incoming_customers"}
    client.id = world.id(name)
    await client.call("login", token=await world.token(name, scopes=login.pop("scopes", None)), **login)
    return client, await client.next_push("incoming_customers")


def shown_ada(world: World, **more: Any) -> dict[str, Any]:
    shown = ada(world, **more)
    del shown["present"]
    return shown


def ids(world: World, customers: list[dict[str, Any]]) -> set[str]:
    by_id = {customer_id: name for name, customer_id in world.customers.items()}
    return {by_id[customer["id"]] for customer in customers}


async def listener(world: World, name: str, level: str | None = None, version: str = "3.6") -> Client:
    """An agent who hears of customers alone."""
    options = {} if level is None else {"customer_monitoring_level": level}
    client = await world.socket(version)
    client.id = world.id(name)
    await client.call("login", token=await world.token(name), pushes={version: CUSTOMER_PUSHES}, **options)
    return client


async def start(by: Client, *customers: str, group: int = SALES, **options: Any) -> str:
    """A chat with these customers; what is heard of it is kept."""
    users = [{"id": customer_id, "type": "customer"} for customer_id in customers]
    chat = {"access": {"group_ids": [group]}, "users": users}
    chat_id: str = (await by.call("start_chat", chat=chat, **options))["chat_id"]
    return chat_id


async def test_a_log_in_tells_of_the_customers_of_the_agents_own_chats(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"])
    closed = await world.chat(alice, users=["grace"])
    await alice.call("deactivate_chat", id=closed.id)

    _, told = await logged_in(world, "alice")

    assert told == {"customer_monitoring_level": "my", "customers": [shown_ada(world)]}
    for version in ("3.4", "3.5", "3.7"):
        _, told = await logged_in(world, "alice", version=version)
        assert list(differences(version, contract(version, "pushes")["incoming_customers"], told)) == []
    _, told = await logged_in(world, "bob")  # of the group, but not in the chat
    assert told == {"customer_monitoring_level": "my", "customers": []}
    await alice.call("deactivate_chat", id=chat.id)
    _, told = await logged_in(world, "alice")
    assert told["customers"] == []


async def test_the_levels_beyond_are_of_the_agents_groups(either_world: World) -> None:
    world = either_world
    olivia = await world.agent("olivia")
    await world.chat(olivia, users=["ada"])
    await world.chat(olivia, group=SUPPORT, users=["grace"])
    for level, name in (("chatting", "chatting"), ("invited", "invited"), ("highest_available", "online")):
        bob, told = await logged_in(world, "bob", customer_monitoring_level=level)
        assert told == {"customer_monitoring_level": name, "customers": [shown_ada(world)]}
        await bob.close()
    _, told = await logged_in(world, "bob", version="3.4", customer_monitoring_level="online")
    shown = older_ada(world)
    del shown["present"]
    assert told["customers"] == [shown]


async def test_nor_of_a_group_that_is_lost_during_the_log_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    olivia, regrouped = await world.agent("olivia"), asyncio.Event()
    await world.chat(olivia, users=["ada"])
    snapshot, directory_replaced = Queries.snapshot, Session.directory_replaced

    def replaced(session: Session, directory: Directory) -> None:
        directory_replaced(session, directory)
        if session.agent_id == world.id("bob"):
            asyncio.get_running_loop().call_soon(regrouped.set)

    async def late(queries: Queries, license_id: int, agent_id: str) -> Snapshot:
        if agent_id == world.id("bob"):
            await world.set_groups("bob")
            await regrouped.wait()
        return await snapshot(queries, license_id, agent_id)

    monkeypatch.setattr(Session, "directory_replaced", replaced)
    monkeypatch.setattr(Queries, "snapshot", late)
    bob, told = await logged_in(world, "bob", customer_monitoring_level="chatting")
    assert told["customers"] == []
    await world.chat(olivia, users=["grace"])
    await bob.hears_nothing_more()


async def test_a_second_session_keeps_the_level_of_the_first(world: World) -> None:
    first, told = await logged_in(world, "bob", customer_monitoring_level="chatting")
    assert told["customer_monitoring_level"] == "chatting"
    _, told = await logged_in(world, "bob")
    assert told["customer_monitoring_level"] == "chatting"
    _, told = await logged_in(world, "alice")
    assert told["customer_monitoring_level"] == "my"
    _, told = await logged_in(world, "bob", customer_monitoring_level="my")
    assert told["customer_monitoring_level"] == "my"
    await first.hears_nothing_more()


async def test_nothing_is_told_of_customers_without_the_scope_or_the_wish(world: World) -> None:
    for options in ({"scopes": ["chats--all:rw"]}, {"pushes": {"3.6": ["incoming_chat"]}}):
        client = await world.socket()
        scopes = options.pop("scopes", None)
        await client.call("login", token=await world.token("alice", scopes=scopes), **options)
        await client.hears_nothing_more()


async def test_customers_come_and_leave_with_their_chats(either_world: World) -> None:
    world = either_world
    alice, alice_too, bob = (
        await world.agent("alice"),
        await listener(world, "alice"),
        await listener(world, "bob", "chatting"),
    )
    ada_, grace = world.id("ada"), world.id("grace")

    chats = [await start(alice, ada_), await start(alice, ada_)]
    await start(alice, grace, active=False)  # which is nobody's chat yet
    for chat_id in chats:
        await alice.call("deactivate_chat", id=chat_id)
    await alice.call("resume_chat", chat={"id": chats[0], "access": {"group_ids": [SALES]}})
    joins = {"user_id": grace, "user_type": "customer", "visibility": "all"}
    await alice.call("add_user_to_chat", chat_id=await start(alice), **joins)

    names = ("incoming_customer", "customer_left", "incoming_customer")
    told = [await bob.next_push(name) for name in names]
    assert told == [shown_ada(world), {"id": ada_, "left_at": TIME}, shown_ada(world)]
    for push, name in zip(told, names, strict=True):
        assert list(differences("3.6", contract("3.6", "pushes")[name], push)) == []
    assert (await bob.next_push("incoming_customer"))["id"] == grace
    await bob.hears_nothing_more()
    await alice_too.hears_nothing_more()  # in her chats she sees who is there


async def test_a_customer_goes_to_another_group_with_the_chat(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agent("alice"), await listener(world, "bob", "chatting")
    carol, olivia = await listener(world, "carol", "chatting"), await listener(world, "olivia")
    await olivia.call("subscribe_customers")
    chat_id = await start(alice, world.id("ada"))
    for client in (bob, olivia):
        assert (await client.next_push("incoming_customer"))["id"] == world.id("ada")

    await alice.call(
        "transfer_chat", id=chat_id, target={"type": "group", "ids": [SUPPORT]}, ignore_agents_availability=True
    )

    gone = {"id": world.id("ada"), "transferred_to": {"group_ids": [SUPPORT]}, "followed": False}
    assert await bob.next_push("customer_transferred") == gone
    assert list(differences("3.6", contract("3.6", "pushes")["customer_transferred"], gone)) == []
    assert await carol.next_push("incoming_customer") == shown_ada(world)
    web = await world.web("alice")
    await web.call("update_customer", id=world.id("ada"), name="Ada L")
    for client in (carol, olivia):
        assert (await client.next_push("customer_updated"))["name"] == "Ada L"
    for client in (bob, carol, olivia):
        await client.hears_nothing_more()


async def test_who_hears_of_a_change(either_world: World) -> None:
    world = either_world
    olivia = await world.agent("olivia")
    member, bystander, outsider = [await listener(world, name) for name in ("olivia", "bob", "carol")]
    monitor, of_support = await listener(world, "bob", "chatting"), await listener(world, "carol", "online")
    asker = await listener(world, "alice")
    await start(olivia, world.id("ada"))
    everybody = (asker, member, monitor, bystander, outsider, of_support)
    assert (await monitor.next_push("incoming_customer"))["id"] == world.id("ada")

    await asker.call("update_customer", id=world.id("ada"), name="Ada L")

    for client in (asker, member, monitor):
        assert (await client.next_push("customer_updated"))["name"] == "Ada L"
    for client in everybody:
        await client.hears_nothing_more()

    await asker.call("update_customer", id=world.id("grace"), name="Grace H")  # who is in no chat
    for client in everybody:
        assert (await client.next_push("customer_updated"))["name"] == "Grace H"
        await client.hears_nothing_more()


async def test_a_change_in_the_same_batch_as_the_chat(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    carol = await listener(world, "carol")
    chat = {"access": {"group_ids": [SALES]}, "users": [{"id": world.id("ada"), "type": "customer"}]}
    requests = [
        await alice.send("start_chat", chat=chat),
        await alice.send("update_customer", id=world.id("ada"), name="Ada L"),
    ]
    for request_id in requests:
        assert (await alice.answer(request_id))["success"]
    await carol.hears_nothing_more()


# Subscriptions


async def test_a_subscription_tells_who_is_there_and_then_who_comes(either_world: World) -> None:
    world = either_world
    olivia, carol, grace = await world.agent("olivia"), await listener(world, "carol"), world.id("grace")
    of_ada = await start(olivia, world.id("ada"))

    subscribed = await carol.call("subscribe_customers", group_ids=[SALES])

    assert subscribed == {"subscription_id": subscribed["subscription_id"], "customers": [shown_ada(world)]}
    assert len(subscribed["subscription_id"]) == 32
    await start(olivia, grace, group=SUPPORT)
    await carol.hears_nothing_more()
    await start(olivia, grace)
    assert (await carol.next_push("incoming_customer"))["id"] == grace
    await olivia.call("update_customer", id=world.id("ada"), name="Ada L")
    assert (await carol.next_push("customer_updated"))["name"] == "Ada L"
    await olivia.call("deactivate_chat", id=of_ada)
    assert await carol.next_push("customer_left") == {"id": world.id("ada"), "left_at": TIME}
    await olivia.call("ban_customer", id=grace, ban={"days": 1})
    assert await carol.next_push("customer_banned") == {"customer_id": grace, "ban": {"days": 1}}
    await carol.forget()

    assert await carol.call("unsubscribe_customers", subscription_id=subscribed["subscription_id"]) == {}
    await start(olivia, world.id("ada"))
    await carol.hears_nothing_more()
    refusal = await carol.refused("unsubscribe_customers", subscription_id=subscribed["subscription_id"])
    assert refusal == Refused("not_found", "Subscription not found")


async def test_two_subscriptions_tell_a_thing_once(world: World) -> None:
    olivia, other = await world.agent("olivia"), await listener(world, "bob")
    bob = await listener(world, "bob", "chatting", version="3.7")
    for group_ids in ([SALES], [SALES, SUPPORT], []):
        await bob.call("subscribe_customers", group_ids=group_ids)
    await olivia.call("deactivate_chat", id=await start(olivia, world.id("ada")))
    assert (await bob.next_push("incoming_customer"))["id"] == world.id("ada")
    assert (await bob.next_push("customer_left"))["id"] == world.id("ada")
    await bob.hears_nothing_more()
    await other.hears_nothing_more()  # a subscription is of its connection


@pytest.fixture
async def world_of_recounts(either_database: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A server that counts all the time what others count every ten seconds."""
    monkeypatch.setattr(tracking, "RECOUNT_S", 0.02)
    async with Server(either_database) as server, visiting(server) as world:
        yield world


async def test_past_the_limit_there_are_totals(world_of_recounts: World) -> None:
    world = world_of_recounts
    olivia, carol = await world.agent("olivia"), await listener(world, "carol")
    _, of_grace = [await start(olivia, world.id(name)) for name in ("ada", "grace")]

    subscribed = await carol.call("subscribe_customers", limit=1)

    id_ = subscribed["subscription_id"]
    assert ids(world, subscribed["customers"]) == {"grace"}  # who came last
    assert await carol.next_push("subscribed_customers_totals_updated") == {id_: 2}
    await olivia.call("update_customer", id=world.id("ada"), name="Ada L")
    await carol.hears_nothing_more()
    await olivia.call("deactivate_chat", id=of_grace)
    assert (await carol.next_push("customer_left"))["id"] == world.id("grace")
    assert (await carol.next_push("incoming_customer"))["name"] == "Ada L"  # there is a place now
    assert await carol.next_push("subscribed_customers_totals_updated") == {id_: 1}
    await start(olivia, world.id("grace"))
    assert await carol.next_push("subscribed_customers_totals_updated") == {id_: 2}


async def test_who_is_transferred_from_everybodys_group_comes_too(world_of_recounts: World) -> None:
    world = world_of_recounts
    alice, carol = await world.agent("alice"), await listener(world, "carol")
    await carol.call("subscribe_customers", group_ids=[SUPPORT])
    chat_id = await start(alice, world.id("ada"), group=0)
    await carol.hears_nothing_more()

    await alice.call(
        "transfer_chat", id=chat_id, target={"type": "group", "ids": [SUPPORT]}, ignore_agents_availability=True
    )

    assert await carol.next_push("incoming_customer") == shown_ada(world)
    await carol.hears_nothing_more()


async def test_an_agent_of_other_groups_tracks_their_customers(world_of_recounts: World) -> None:
    world = world_of_recounts
    olivia, bob = await world.agent("olivia"), await listener(world, "bob", "chatting")
    await start(olivia, world.id("ada"))
    assert (await bob.next_push("incoming_customer"))["id"] == world.id("ada")
    await start(olivia, world.id("grace"), group=SUPPORT)

    await world.set_groups("bob", SUPPORT)

    assert (await bob.next_push("incoming_customer"))["id"] == world.id("grace")
    web = await world.web("olivia")
    await web.call("update_customer", id=world.id("ada"), name="Ada L")
    await web.call("update_customer", id=world.id("grace"), name="Grace H")
    assert (await bob.next_push("customer_updated"))["name"] == "Grace H"


async def test_who_leaves_while_the_customers_are_read_is_not_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, carol = await world.agent("alice"), await listener(world, "carol")
    chat_id = await start(alice, world.id("ada"))
    here = CustomerQueries.here

    async def late(*args: Any) -> Here:
        found = await here(*args)
        await alice.call("deactivate_chat", id=chat_id)
        await alice.next_push("incoming_chat")
        await alice.next_push("incoming_event")
        await alice.next_push("chat_deactivated")  # by which it has been delivered
        return found

    monkeypatch.setattr(CustomerQueries, "here", late)
    assert (await carol.call("subscribe_customers"))["customers"] == []
    await carol.hears_nothing_more()


async def test_a_connection_has_some_subscriptions(world: World) -> None:
    alice = await world.agent("alice", customer_monitoring_level="online")
    subscribed = [await alice.call("subscribe_customers") for _ in range(MAX_SUBSCRIPTIONS)]
    refusal = await alice.refused("subscribe_customers")
    assert refusal == Refused("validation", "A connection has at most 10 subscriptions")
    await alice.call("unsubscribe_customers", subscription_id=subscribed[0]["subscription_id"])
    await alice.call("subscribe_customers")
    other = await world.agent("alice")
    await other.call("subscribe_customers")
    refusal = await other.refused("unsubscribe_customers", subscription_id=subscribed[1]["subscription_id"])
    assert refusal.type == "not_found"


async def test_a_subscription_may_name_groups_that_are_not_there(world: World) -> None:
    alice = await world.agent("alice")
    assert (await alice.call("subscribe_customers", group_ids=[SALES, 42]))["customers"] == []


WRONG: dict[str, tuple[str, dict[str, Any], Refused]] = {
    "a group by name": (
        "subscribe_customers",
        {"group_ids": ["Sales"]},
        Refused("validation", "`group_ids[0]` must be an integer from 0 to 2147483647"),
    ),
    "none": ("subscribe_customers", {"limit": 0}, Refused("validation", "`limit` must be an integer from 1 to 500")),
    "many": ("subscribe_customers", {"limit": 501}, Refused("validation", "`limit` must be an integer from 1 to 500")),
    "nothing": ("unsubscribe_customers", {}, Refused("validation", "`subscription_id` is required")),
    "nobody's": (
        "unsubscribe_customers",
        {"subscription_id": "b7eff798f8df43648059649c35c9ed0c"},
        Refused("not_found", "Subscription not found"),
    ),
    "the level's": (
        "unsubscribe_customers",
        {"subscription_id": ""},
        Refused("validation", "`subscription_id` must not be empty"),
    ),
}


async def test_what_is_refused(world: World) -> None:
    alice = await world.agent("alice", customer_monitoring_level="online")
    for what, (action, payload, refusal) in WRONG.items():
        assert await alice.refused(action, **payload) == refusal, what
    bob = await world.agent("bob", scopes=["chats--all:rw"])
    older, web = await world.agent("bob", version="3.5"), await world.web("bob")
    for action in ("subscribe_customers", "unsubscribe_customers"):
        assert await bob.refused(action) == Refused("authorization", "Token lacks the scope: customers:ro")
        assert (await older.refused(action)).type == "not_found"
        assert (await web.refused(action)).type == "not_found"
