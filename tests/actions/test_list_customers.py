"""All customers of a license, page by page, in the versions before 3.6."""

from typing import Any

import pytest
from sqlalchemy import insert

from rtm.store import tables
from tests.actions.conftest import Enter
from tests.world import SALES, SUPPORT, VISIT, Client, Refused, Web, World, visiting

WITH_FRANCE = {"statistics": {"visits_count": 3}, "visit": {**VISIT, "geolocation": {"country": "France"}}}


@pytest.fixture
async def listed(either_world: World) -> tuple[World, Client]:
    """Ada wrote and was answered in two chats, one of them in Support; Grace has a chat; Zoe has visits only."""
    world = either_world
    world.customers["zoe"] = "0b3c6f9e-5d0a-4d84-9c86-0a9e7a3f1c11"
    zoe = {"license_id": world.license_id, "id": world.id("zoe"), "name": None, "email": None}
    zoe |= {"created_at": "2026-02-01T00:00:00.000000Z", "state": WITH_FRANCE}
    async with world.server.database.engine.begin() as connection:
        await connection.execute(insert(tables.customers), zoe)
    olivia = await world.agent("olivia", version="3.5")
    await world.chat(olivia, users=["ada"], texts=["hello"])
    by_ada = {"type": "message", "text": "hello", "author_id": world.id("ada")}
    users = [{"id": world.id("ada"), "type": "customer"}]
    chat = {"access": {"group_ids": [SUPPORT]}, "users": users, "thread": {"events": [by_ada]}}
    await olivia.call("start_chat", chat=chat)
    await world.chat(olivia, users=["grace"])
    await olivia.forget()
    return world, olivia


def names(world: World, answer: dict[str, Any]) -> list[str]:
    by_id = {customer_id: name for name, customer_id in world.customers.items()}
    return [by_id[customer["id"]] for customer in answer["customers"]]


async def test_a_customer_is_shown_with_what_the_chats_tell(listed: tuple[World, Client]) -> None:
    world, olivia = listed
    answer = await olivia.call("list_customers", filters={"name": {"values": ["Ada"]}})
    assert answer.keys() == {"customers", "total_customers", "limited_customers"}
    assert (answer["total_customers"], answer["limited_customers"]) == (1, 0)
    [ada] = answer["customers"]
    alone = await olivia.call("get_customer", id=world.id("ada"))
    assert len(alone.pop("chat_ids")) == 2
    assert ada == alone
    assert ada["last_visit"] == VISIT
    assert ada["statistics"].items() >= {"chats_count": 2, "threads_count": 2}.items()
    assert ada["agent_last_event_created_at"] < ada["customer_last_event_created_at"]


FILTERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, {"ada", "grace", "zoe"}),
    "a country": ({"country": {"values": ["France", "Spain"]}}, {"zoe"}),
    "no such country": ({"country": {"exclude_values": ["France"]}}, {"ada", "grace"}),
    "an address": ({"email": {"values": ["grace@example.net"]}}, {"grace"}),
    "not a name": ({"name": {"exclude_values": ["Ada"]}}, {"grace", "zoe"}),
    "nobody": ({"name": {"values": []}}, set()),
    "an id": ({"customer_id": {"values": ["$ada", "%", "' OR 1=1"]}}, {"ada"}),
    "two chats": ({"chats_count": {"eq": 2}}, {"ada"}),
    "less than two threads": ({"threads_count": {"lt": 2}}, {"grace", "zoe"}),
    "one or two threads": ({"threads_count": {"gte": 1, "lte": 2}}, {"ada", "grace"}),
    "visits": ({"visits_count": {"gt": 2}}, {"zoe"}),
    "no visits": ({"visits_count": {"lte": 0}}, {"ada", "grace"}),
    "new": ({"created_at": {"gt": "2026-01-01T01:00:00+01:00"}}, {"zoe"}),
    "of that moment": ({"created_at": {"eq": "2026-01-01T01:00:00+01:00"}}, {"ada", "grace"}),
    "answered": ({"agent_last_event_created_at": {"gte": "2026-01-01T00:00:00Z"}}, {"ada"}),
    "wrote long ago": ({"customer_last_event_created_at": {"lt": "2026-01-01T00:00:00Z"}}, set()),
    "a group": ({"chat_group_ids": {"values": [SUPPORT, 77]}}, {"ada"}),
    "groups": ({"chat_group_ids": {"values": [SALES, SUPPORT]}}, {"ada", "grace"}),
    "not a group": ({"chat_group_ids": {"exclude_values": [SUPPORT]}}, {"grace", "zoe"}),
    "with chats": ({"include_customers_without_chats": False}, {"ada", "grace"}),
    "with or without": ({"include_customers_without_chats": True}, {"ada", "grace", "zoe"}),
    "two at once": ({"include_customers_without_chats": False, "chats_count": {"lt": 2}}, {"grace"}),
}


async def test_customers_are_filtered(listed: tuple[World, Client]) -> None:
    world, olivia = listed
    for what, (filters, expected) in FILTERS.items():
        if "customer_id" in filters:
            filters["customer_id"]["values"][0] = world.id("ada")
        answer = await olivia.call("list_customers", filters=filters)
        assert set(names(world, answer)) == expected, what
        assert answer["total_customers"] == len(expected), what


@pytest.mark.parametrize(
    ("sort_by", "first"),
    [("created_at", "zoe"), ("threads_count", "ada"), ("visits_count", "zoe"), ("customer_last_event", "ada")],
)
async def test_pages_in_either_order(listed: tuple[World, Client], sort_by: str, first: str) -> None:
    world, olivia = listed
    whole = await olivia.call("list_customers", sort_by=sort_by)
    assert names(world, whole)[0] == first
    reverse = await olivia.call("list_customers", sort_by=sort_by, sort_order="asc")
    assert names(world, reverse) == names(world, whole)[::-1]

    page = await olivia.call("list_customers", sort_by=sort_by, limit=1)
    seen = names(world, page)
    while "next_page_id" in page:
        page = await olivia.call("list_customers", page_id=page["next_page_id"])
        assert page["total_customers"] == 3
        seen += names(world, page)
    assert seen == names(world, whole)
    back = await olivia.call("list_customers", page_id=page["previous_page_id"])
    assert names(world, back) == names(world, whole)[1:2]


async def test_those_alike_come_by_their_creation(listed: tuple[World, Client]) -> None:
    world, olivia = listed
    joan = (await olivia.call("create_customer", name="Joan"))["customer_id"]
    ids = [each["id"] for each in (await olivia.call("list_customers", sort_by="agent_last_event"))["customers"]]
    assert ids[:3] == [world.id("ada"), joan, world.id("zoe")]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "order": ({"sort_order": "up"}, "`sort_order` must be one of: asc, desc"),
    "sorted by a secret": ({"sort_by": "email"}, "`sort_by` must be one of: created_at, threads_count, "),
    "too many": ({"limit": 101}, "`limit` must be an integer from 1 to 100"),
    "a page and an order": ({"page_id": "x", "sort_by": "visits_count"}, "`sort_by` can't be used together with"),
    "a page of nobody's making": ({"page_id": "x"}, "`page_id` is not valid or has expired"),
    "two sides of a text": (
        {"filters": {"name": {"values": [], "exclude_values": []}}},
        "`filters.name` must have exactly one of: values, exclude_values",
    ),
    "neither": ({"filters": {"email": {}}}, "`filters.email` must have exactly one of: values, exclude_values"),
    "a number for a text": ({"filters": {"country": {"values": [1]}}}, "`filters.country.values[0]` must be a string"),
    "a text for a number": ({"filters": {"chats_count": {"gt": "1"}}}, "`filters.chats_count.gt` must be an integer"),
    "no time": ({"filters": {"created_at": {"lt": "now"}}}, "`filters.created_at.lt` must be an RFC 3339 date-time"),
    "41 groups": (
        {"filters": {"chat_group_ids": {"values": [0] * 41}}},
        "`filters.chat_group_ids.values` must have at most 40 elements",
    ),
    "101 names": (
        {"filters": {"name": {"values": ["a"] * 101}}},
        "`filters.name.values` must have at most 100 elements",
    ),
    "a page of chats": ({}, "`page_id` belongs to another list"),
}


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_what_is_refused(world: World, enter: Enter, version: str) -> None:
    olivia: Client | Web = await enter("olivia", version=version)
    for _ in range(2):
        await world.chat(olivia)
    of_chats = (await olivia.call("list_chats", limit=1))["next_page_id"]
    for what, (payload, message) in WRONG.items():
        refusal = await olivia.refused("list_customers", **(payload or {"page_id": of_chats}))
        assert refusal.type == "validation", what
        assert refusal.message.startswith(message), (what, refusal)
    bob = await enter("bob", version=version, scopes=["chats--all:ro"])
    assert await bob.refused("list_customers") == Refused("authorization", "Token lacks the scope: customers:ro")
    newer = await enter("olivia")
    assert (await newer.refused("list_customers")).type == "not_found"
    async with visiting(world.server) as elsewhere:
        stranger = await elsewhere.web("olivia", version=version)
        answer = await stranger.call("list_customers", filters={"name": {"values": ["Ada"]}})
        assert [customer["id"] for customer in answer["customers"]] == [elsewhere.id("ada")]
