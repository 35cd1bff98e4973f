"""Who hears that a customer has another number of chats or threads: `customer_statistics_updated`."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import pytest

from rtm.store.customers import Counted, CustomerQueries
from tests.world import SALES, SUPPORT, VISIT, Client, World

PUSH = "customer_statistics_updated"
OF_OTHERS = dict.fromkeys(
    (
        "visits_count",
        "page_views_count",
        "greetings_accepted_count",
        "greetings_converted_count",
        "tickets_count",
        "tickets_inbox_count",
        "tickets_archive_count",
        "tickets_spam_count",
        "tickets_trash_count",
        "orders_count",
    ),
    0,
)


def of_grace(world: World, chats: int, threads: int) -> dict[str, Any]:
    counts = {"chats_count": chats, "threads_count": threads}
    return {"customer_id": world.id("grace"), "statistics": OF_OTHERS | counts}


async def hearing(world: World, name: str, **login: Any) -> Client:
    """An agent who hears of statistics alone."""
    version = login.pop("version", "3.6")
    client = await world.agent(name, version=version, **{"pushes": {version: [PUSH]}, **login})
    client.noise = set()
    return client


async def start(by: Any, customer_id: str, group: int = SALES, **options: Any) -> str:
    chat = {"access": {"group_ids": [group]}, "users": [{"id": customer_id, "type": "customer"}]}
    chat_id: str = (await by.call("start_chat", chat=chat, **options))["chat_id"]
    return chat_id


@pytest.fixture
async def readings(monkeypatch: pytest.MonkeyPatch) -> list[Collection[str]]:
    """The customers that a server counts from now on, at each reading."""
    asked: list[Collection[str]] = []
    counted = CustomerQueries.counted

    async def count(queries: CustomerQueries, license_id: int, customer_ids: Collection[str]) -> Sequence[Counted]:
        asked.append(list(customer_ids))
        return await counted(queries, license_id, customer_ids)

    monkeypatch.setattr(CustomerQueries, "counted", count)
    return asked


@pytest.fixture
async def world_of_readings(readings: list[Collection[str]], world_with: Callable[..., Awaitable[World]]) -> World:
    """A server whose readings are known."""
    return await world_with()


async def test_who_tracks_the_customer_or_is_in_the_chat_hears_of_each_thread(either_world: World) -> None:
    world = either_world
    alice, grace = await world.web("alice"), world.id("grace")
    member, monitor = await hearing(world, "alice"), await hearing(world, "bob", customer_monitoring_level="chatting")
    subscriber = await hearing(world, "olivia")
    await subscriber.call("subscribe_customers")
    bystander, of_support = (
        await hearing(world, "dave"),
        await hearing(world, "carol", customer_monitoring_level="online"),
    )

    async def is_told(chats: int, threads: int) -> None:
        for client in (member, monitor, subscriber):
            assert await client.next_push(PUSH) == of_grace(world, chats, threads)
            await client.hears_nothing_more()
        for client in (bystander, of_support):
            await client.hears_nothing_more()

    chat_id = await start(alice, grace)
    await is_told(1, 1)
    await alice.call("deactivate_chat", id=chat_id)
    await alice.call("resume_chat", chat={"id": chat_id, "access": {"group_ids": [SALES]}})
    await is_told(1, 2)
    empty = (await alice.call("start_chat", chat={"access": {"group_ids": [SALES]}}))["chat_id"]
    await alice.call("add_user_to_chat", chat_id=empty, user_id=grace, user_type="customer", visibility="all")
    await is_told(2, 3)
    known = (await alice.call("get_customer", id=grace))["statistics"]
    assert (known["chats_count"], known["threads_count"]) == (2, 3)

    await start(alice, grace, group=SUPPORT, active=False)  # nobody is in it, but she is here by other chats
    for client in (monitor, subscriber):
        assert await client.next_push(PUSH) == of_grace(world, 3, 4)
    for client in (member, bystander, of_support):
        await client.hears_nothing_more()


async def test_what_others_have_counted_is_told_as_well(world: World) -> None:
    alice = await hearing(world, "alice")
    await start(alice, world.id("ada"))
    counts = OF_OTHERS | {"chats_count": 1, "threads_count": 1, "tickets_count": 2}
    told = counts | {"last_visit_started_at": VISIT["started_at"]}
    assert await alice.next_push(PUSH) == {"customer_id": world.id("ada"), "statistics": told}


async def test_what_adds_no_thread_tells_nothing(world_of_readings: World, readings: list[Collection[str]]) -> None:
    world = world_of_readings
    alice, grace = await world.web("alice"), world.id("grace")
    bob = await hearing(world, "bob", customer_monitoring_level="chatting")
    chat_id = await start(alice, grace)
    await bob.next_push(PUSH)

    joins = {"user_id": world.id("dave"), "user_type": "agent", "visibility": "all"}
    await alice.call("add_user_to_chat", chat_id=chat_id, **joins)
    await alice.call("send_event", chat_id=chat_id, event={"type": "message", "text": "hello"})
    olivia = await world.agent("olivia")
    await olivia.call("follow_chat", id=chat_id)
    await bob.call(
        "transfer_chat", id=chat_id, target={"type": "agent", "ids": [bob.id]}, ignore_requester_presence=True
    )
    await alice.call("deactivate_chat", id=chat_id, ignore_requester_presence=True)
    await bob.hears_nothing_more()

    assert readings == [[grace]]


async def test_nobody_is_counted_for_those_who_are_not_to_hear(
    world_of_readings: World, readings: list[Collection[str]]
) -> None:
    world = world_of_readings
    web = await world.web("alice")
    for options in ({"scopes": ["chats--all:rw"]}, {"pushes": {"3.6": ["incoming_chat"]}}, {"version": "3.5"}):
        version = options.get("version", "3.6")
        await hearing(world, "alice", **{"pushes": {version: ["all"]}, **options})
    await hearing(world, "dave")  # who is neither in the chat nor tracks anybody
    deaf = await world.agent("bob", customer_monitoring_level="chatting", pushes={"3.6": ["incoming_customer"]})

    await start(web, world.id("grace"))

    assert (await deaf.next_push("incoming_customer"))["id"] == world.id("grace")
    await deaf.hears_nothing_more()
    assert readings == []
