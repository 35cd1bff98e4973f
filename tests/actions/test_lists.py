"""Reading chats and threads: what is shown, to whom, and page by page."""

import asyncio
from typing import Any

import orjson
import pytest
from sqlalchemy import update

from rtm import versions
from rtm.actions.agent import lists, structures
from rtm.model.chat import Thread
from rtm.store import queries, tables
from tests.actions.conftest import Enter
from tests.actions.shapes import ID, THREAD_PROPERTIES, TIME, archived_by, message, older_ada, summary_with_ada
from tests.world import SALES, SUPPORT, Client, Refused, Web, World


async def chats(world: World, by: Client | Web, count: int) -> list[str]:
    """Ids of new chats, the newest first."""
    return [(await world.chat(by)).id for _ in range(count)][::-1]


async def resumed(world: World, by: Client, count: int, group: int = SALES) -> tuple[str, list[str]]:
    """A chat's id and those of its threads, of one event each, the newest first."""
    chat = await world.chat(by, group=group, texts=["1"])
    thread_ids = [chat.thread_id]
    for number in range(2, count + 1):
        await by.call("deactivate_chat", id=chat.id)
        event = {"type": "message", "text": str(number)}
        answer = await by.call("resume_chat", chat={"id": chat.id, "thread": {"events": [event]}})
        thread_ids.append(answer["thread_id"])
    return chat.id, thread_ids[::-1]


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in found]


# list_chats


async def test_a_chat_in_brief(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], texts=["one", "two"])

    listed = await alice.call("list_chats")

    last = message("two", alice.id, id=chat.event_ids[1])
    assert listed == {"found_chats": 1, "chats_summary": [summary_with_ada(world, chat, last)]}


async def test_pages_of_chats_lead_on_and_back(either_world: World) -> None:
    olivia = await either_world.agent("olivia")
    made = await chats(either_world, olivia, 5)

    first = await olivia.call("list_chats", limit=2)
    second = await olivia.call("list_chats", page_id=first["next_page_id"])
    third = await olivia.call("list_chats", page_id=second["next_page_id"])

    assert [ids(page["chats_summary"]) for page in (first, second, third)] == [made[:2], made[2:4], made[4:]]
    assert {page["found_chats"] for page in (first, second, third)} == {5}
    assert "previous_page_id" not in first
    assert "next_page_id" not in third
    back = await olivia.call("list_chats", page_id=third["previous_page_id"])
    assert ids(back["chats_summary"]) == made[2:4]
    front = await olivia.call("list_chats", page_id=back["previous_page_id"])
    assert ids(front["chats_summary"]) == made[:2]
    assert "previous_page_id" not in front
    again = await olivia.call("list_chats", page_id=front["next_page_id"])
    assert ids(again["chats_summary"]) == made[2:4]


async def test_pages_stay_right_while_chats_are_added(world: World, enter: Enter) -> None:
    olivia = await enter("olivia")
    made = await chats(world, olivia, 4)
    first = await olivia.call("list_chats", limit=2)
    await chats(world, olivia, 1)

    second = await olivia.call("list_chats", page_id=first["next_page_id"])

    assert ids(second["chats_summary"]) == made[2:]


async def test_a_page_of_large_chats_ends_early(either_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    olivia = await either_world.agent("olivia")
    made = await chats(either_world, olivia, 3)
    monkeypatch.setattr(queries, "MAX_PAGE_BYTES", 1)

    first = await olivia.call("list_chats")
    second = await olivia.call("list_chats", page_id=first["next_page_id"])
    third = await olivia.call("list_chats", page_id=second["next_page_id"])
    back = await olivia.call("list_chats", page_id=third["previous_page_id"])

    assert [ids(page["chats_summary"]) for page in (first, second, third)] == [[each] for each in made]
    assert "next_page_id" not in third
    assert back == second


async def test_the_oldest_come_first_when_asked_for(world: World, enter: Enter) -> None:
    olivia = await enter("olivia")
    made = await chats(world, olivia, 3)
    first = await olivia.call("list_chats", sort_order="asc", limit=2)
    second = await olivia.call("list_chats", page_id=first["next_page_id"])
    assert ids(first["chats_summary"] + second["chats_summary"]) == made[::-1]


async def test_ten_chats_unless_asked_otherwise(world: World, enter: Enter) -> None:
    olivia = await enter("olivia")
    await chats(world, olivia, 11)
    assert len((await olivia.call("list_chats"))["chats_summary"]) == 10


async def test_a_page_remembers_its_filters(world: World, enter: Enter) -> None:
    olivia = await enter("olivia")
    open_, closed = await chats(world, olivia, 2), await chats(world, olivia, 2)
    for chat_id in closed:
        await olivia.call("deactivate_chat", id=chat_id)
    first = await olivia.call("list_chats", filters={"active": True}, limit=1)
    second = await olivia.call("list_chats", page_id=first["next_page_id"])
    assert ids(first["chats_summary"] + second["chats_summary"]) == open_
    assert "next_page_id" not in second


async def test_page_ids_that_are_not_ours(world: World, enter: Enter) -> None:
    olivia = await enter("olivia")
    await chats(world, olivia, 2)
    page_id = (await olivia.call("list_chats", limit=1))["next_page_id"]
    chat_id, _ = await resumed(world, await world.agent("olivia"), 2)
    of_threads = (await olivia.call("list_threads", chat_id=chat_id, limit=1))["next_page_id"]

    invalid = Refused("validation", "`page_id` is not valid or has expired")
    asked, _, signature = page_id.rpartition(".")
    for forged in ("x", asked, f"{asked}.", f"{asked}.{signature[::-1]}", f"A{page_id}", f"{of_threads}.{signature}"):
        assert await olivia.refused("list_chats", page_id=forged) == invalid
    other = Refused("validation", "`page_id` belongs to another list")
    assert await olivia.refused("list_chats", page_id=of_threads) == other
    assert await olivia.refused("list_threads", chat_id=chat_id, page_id=page_id) == other
    of_another_chat, _ = await resumed(world, await world.agent("olivia"), 2)
    assert await olivia.refused("list_threads", chat_id=of_another_chat, page_id=of_threads) == other
    assert (await olivia.call("list_threads", chat_id=chat_id, page_id=of_threads))["threads"]
    for name, value in (("limit", 2), ("sort_order", "asc"), ("filters", {})):
        refusal = await olivia.refused("list_chats", page_id=page_id, **{name: value})
        assert refusal == Refused("validation", f"`{name}` can't be used together with `page_id`")


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "none": ({}, ["plain", "closed", "tagged", "support"]),
    "active": ({"active": True}, ["plain", "tagged", "support"]),
    "inactive": ({"active": False}, ["closed"]),
    "group": ({"group_ids": [SUPPORT]}, ["support"]),
    "groups": ({"group_ids": [SUPPORT, SALES]}, ["plain", "closed", "tagged", "support"]),
    "no group": ({"group_ids": [77]}, []),
    "a property exists": ({"properties": {"ns": {"kind": {"exists": True}}}}, ["tagged", "support"]),
    "a property does not": ({"properties": {"ns": {"kind": {"exists": False}}}}, ["plain", "closed"]),
    "one of values": ({"properties": {"ns": {"kind": {"values": ["é\"'", "other"]}}}}, ["tagged"]),
    "a number": ({"properties": {"ns": {"kind": {"values": [7]}}}}, ["support"]),
    "a number is no string": ({"properties": {"ns": {"kind": {"values": ["7"]}}}}, []),
    "none of values": ({"properties": {"ns": {"kind": {"exclude_values": [7]}}}}, ["plain", "closed", "tagged"]),
    "two at once": ({"active": True, "properties": {"ns": {"yes": {"values": [True]}}}}, ["tagged"]),
    "a namespace like a path": ({"properties": {"$.ns": {"kind": {"exists": True}}}}, []),
    "a namespace like no path": ({"properties": {"$[": {'a"b': {"exists": True}}}}, []),
    "a name with a quote": ({"properties": {"other": {'k"': {"values": [0]}}}}, ["closed"]),
    "a name like an index": ({"properties": {"ns": {"0": {"exists": True}}}}, []),
}


@pytest.mark.parametrize(("filters", "expected"), FILTERS.values(), ids=FILTERS)
async def test_chats_are_filtered(either_world: World, filters: dict[str, Any], expected: list[str]) -> None:
    olivia = await either_world.agent("olivia")
    names: dict[str, str] = {}

    async def make(name: str, group: int, properties: dict[str, Any]) -> str:
        chat = {"access": {"group_ids": [group]}, "properties": properties}
        chat_id: str = (await olivia.call("start_chat", chat=chat))["chat_id"]
        names[chat_id] = name
        return chat_id

    await make("plain", SALES, {})
    closed = await make("closed", SALES, {"other": {"kind": 7, 'k"': 0}})
    await olivia.call("deactivate_chat", id=closed)
    await make("tagged", SALES, {"ns": {"kind": "é\"'", "yes": True}})
    await make("support", SUPPORT, {"ns": {"kind": 7, "yes": False}})

    listed = await olivia.call("list_chats", filters=filters)

    assert [names[chat["id"]] for chat in listed["chats_summary"]] == expected[::-1]
    assert listed["found_chats"] == len(expected)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"properties": {"ns": {"n": {}}}}, "`filters.properties.ns.n` must have exactly one of"),
        ({"properties": {"ns": {"n": {"exists": True, "values": [1]}}}}, "`filters.properties.ns.n` must have exactly"),
        ({"group_ids": ["1"]}, "`filters.group_ids[0]` must be an integer"),
        ({"group_ids": [1] * 201}, "`filters.group_ids` must have at most 200 elements"),
        ({"active": "yes"}, "`filters.active` must be a boolean"),
    ],
)
async def test_filters_that_are_none(world: World, filters: dict[str, Any], message: str) -> None:
    olivia = await world.agent("olivia")
    refusal = await olivia.refused("list_chats", filters=filters)
    assert refusal.type == "validation"
    assert refusal.message.startswith(message)


@pytest.mark.parametrize("limit", [0, 101, -1])
async def test_limits_of_a_page(world: World, enter: Enter, limit: int) -> None:
    olivia = await enter("olivia")
    refusal = await olivia.refused("list_chats", limit=limit)
    assert refusal == Refused("validation", "`limit` must be an integer from 1 to 100")


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (["chats--all:ro"], {"general", "sales", "support", "with alice"}),
        (["chats--access:ro"], {"general", "sales", "with alice"}),
        (["chats.conversation--access:rw"], {"general", "sales", "with alice"}),
        (["chats--my:ro"], {"with alice"}),
        (["chats--my:rw"], {"with alice"}),
    ],
)
async def test_a_list_ends_where_the_token_reaches(either_world: World, scopes: list[str], seen: set[str]) -> None:
    world = either_world
    olivia = await world.agent("olivia")
    names = {
        (await world.chat(olivia, group=0)).id: "general",
        (await world.chat(olivia, group=SALES)).id: "sales",
        (await world.chat(olivia, group=SUPPORT)).id: "support",
    }
    mine = await world.chat(await world.agent("alice"), group=SUPPORT)
    names[mine.id] = "with alice"
    alice = await world.agent("alice", scopes=scopes)

    listed = await alice.call("list_chats")

    assert {names[chat["id"]] for chat in listed["chats_summary"]} == seen
    for chat_id, name in names.items():
        if name in seen:
            await alice.call("get_chat", chat_id=chat_id)
        else:
            for action, what in (("get_chat", "thread"), ("list_threads", "chat")):
                no_access = Refused("missing_access", f"Requester has no access to the {what}")
                assert await alice.refused(action, chat_id=chat_id) == no_access


@pytest.mark.parametrize("action", ["list_chats", "list_threads", "get_chat"])
async def test_reading_takes_a_scope(world: World, enter: Enter, action: str) -> None:
    alice = await enter("alice", scopes=["agents--all:rw", "multicast:rw"])
    refusal = await alice.refused(action, chat_id="AAAAAAAAAA")
    lacks = "Token lacks the scope: chats--access:ro or chats--all:ro or chats--my:ro"
    assert refusal == Refused("authorization", lacks)


async def test_a_list_ends_with_the_license(world: World) -> None:
    await world.chat(await world.web("alice"))
    stranger = await (await world.server.world()).agent("olivia")
    assert await stranger.call("list_chats") == {"chats_summary": [], "found_chats": 0}
    await stranger.close()


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_older_versions_ask_for_active_chats_in_their_own_way(world: World, enter: Enter, version: str) -> None:
    alice = await enter("alice", version=version)
    open_, closed = await world.chat(alice, users=["ada"]), await world.chat(alice)
    await alice.call("deactivate_chat", id=closed.id)

    async def listed(**filters: Any) -> list[str]:
        return ids((await alice.call("list_chats", filters=filters))["chats_summary"])

    assert await listed(include_active=False) == [closed.id]
    assert await listed(include_active=True) == [closed.id, open_.id]
    assert await listed() == [closed.id, open_.id]
    assert await listed(active=True) == [closed.id, open_.id]  # a filter of 3.6
    refusal = await alice.refused("list_chats", filters={"include_active": 1})
    assert refusal == Refused("validation", "`filters.include_active` must be a boolean")
    shown = (await alice.call("list_chats"))["chats_summary"][1]
    assert shown["users"][1] == older_ada(world)
    assert (await alice.call("get_chat", chat_id=open_.id))["users"][1] == older_ada(world)


# list_threads


async def test_threads_with_their_events(either_world: World) -> None:
    alice = await either_world.agent("alice")
    chat_id, thread_ids = await resumed(either_world, alice, 4)

    first = await alice.call("list_threads", chat_id=chat_id)
    second = await alice.call("list_threads", chat_id=chat_id, page_id=first["next_page_id"])

    assert first["found_threads"] == 4
    assert ids(first["threads"]) == thread_ids[:3]  # three unless asked otherwise
    assert ids(second["threads"]) == thread_ids[3:]
    back = await alice.call("list_threads", chat_id=chat_id, page_id=second["previous_page_id"])
    assert ids(back["threads"]) == thread_ids[:3]
    assert second["threads"] == [
        {
            "id": thread_ids[3],
            "created_at": TIME,
            "active": False,
            "user_ids": [alice.id],
            "events": [message("1", alice.id, id=f"{thread_ids[3]}_1"), archived_by("Alice")],
            "properties": THREAD_PROPERTIES,
            "access": {"group_ids": [SALES]},
            "next_thread_id": thread_ids[2],
        }
    ]
    assert first["threads"][0]["previous_thread_id"] == thread_ids[1]


async def test_long_threads_are_read_in_parts(either_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await either_world.web("alice")
    expected = []
    chat_id = ""
    for count in (1, 8, 12):
        texts = [str(number) for number in range(count)]
        thread = {"events": [{"type": "message", "text": text} for text in texts]}
        if chat_id:
            await alice.call("deactivate_chat", id=chat_id)
            await alice.call("resume_chat", chat={"id": chat_id, "thread": thread})
        else:
            chat_id = (await alice.call("start_chat", chat={"thread": thread}))["chat_id"]
        expected.append(texts)
    monkeypatch.setattr(queries, "EVENTS_AT_ONCE", 12)

    threads = (await alice.call("list_threads", chat_id=chat_id, sort_order="asc"))["threads"]

    told = [[event["text"] for event in each["events"] if event["type"] == "message"] for each in threads]
    assert told == expected


async def test_a_page_of_long_threads_ends_early(either_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await either_world.agent("alice")
    chat_id, thread_ids = await resumed(either_world, alice, 4)
    monkeypatch.setattr(queries, "MAX_PAGE_EVENTS", 4)  # two in a thread that is closed, one in the last

    first = await alice.call("list_threads", chat_id=chat_id, limit=100)
    second = await alice.call("list_threads", chat_id=chat_id, page_id=first["next_page_id"])
    back = await alice.call("list_threads", chat_id=chat_id, page_id=second["previous_page_id"])
    farther = await alice.call("list_threads", chat_id=chat_id, page_id=back["previous_page_id"])

    assert ids(first["threads"]) == thread_ids[:3]
    assert ids(second["threads"]) == thread_ids[3:]
    assert "next_page_id" not in second
    assert ids(back["threads"]) == thread_ids[1:3]
    assert ids(farther["threads"]) == thread_ids[:1]
    assert "previous_page_id" not in farther


async def test_others_have_their_turn_while_a_long_thread_is_shown_to_an_older_version() -> None:
    products = {"type": "rich_message", "template_id": "ecommerce", "elements": [{"ecommerce": {}}] * 10}
    thread = Thread(id="T", created_at="", active=True, group_ids=[], user_ids=[])
    found = queries.ThreadWithEvents(thread, [orjson.dumps(products).decode()] * 20_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    events = await structures.stored_events(found, "3.5")
    task.cancel()

    assert len(events) == 20_000
    assert turns > 10


async def test_threads_of_a_span_of_time(world: World) -> None:
    alice = await world.agent("alice")
    chat_id, thread_ids = await resumed(world, alice, 3)
    everything = await alice.call("list_threads", chat_id=chat_id, sort_order="asc")
    assert ids(everything["threads"]) == thread_ids[::-1]
    middle = everything["threads"][1]["created_at"]

    async def listed(**filters: str) -> list[str]:
        return ids((await alice.call("list_threads", chat_id=chat_id, filters=filters))["threads"])

    assert await listed(**{"from": middle}) == thread_ids[:2]
    assert await listed(to=middle) == thread_ids[1:]
    assert await listed(**{"from": middle, "to": middle}) == thread_ids[1:2]
    assert await listed(to="2020-01-01T00:00:00+02:00") == []
    paged = await alice.call("list_threads", chat_id=chat_id, filters={"from": middle}, limit=1)
    rest = await alice.call("list_threads", chat_id=chat_id, page_id=paged["next_page_id"])
    assert ids(paged["threads"] + rest["threads"]) == thread_ids[:2]
    assert "next_page_id" not in rest


async def test_as_many_threads_as_it_takes_for_so_many_events(world: World, enter: Enter) -> None:
    chat_id, thread_ids = await resumed(world, await world.agent("alice"), 3)
    alice = await enter("alice")
    for count, expected in ((1, 1), (2, 2), (3, 2), (4, 3), (100, 3)):  # two in each of those that are closed
        found = await alice.call("list_threads", chat_id=chat_id, min_events_count=count)
        assert ids(found["threads"]) == thread_ids[:expected]
        assert found["found_threads"] == 3
    for name, value in (("limit", 1), ("filters", {})):
        refusal = await alice.refused("list_threads", chat_id=chat_id, min_events_count=1, **{name: value})
        assert refusal == Refused("validation", f"`{name}` can't be used together with `min_events_count`")


async def test_pages_of_so_many_events(world: World, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    chat_id, thread_ids = await resumed(world, await world.agent("alice"), 6)
    alice = await enter("alice")
    first = await alice.call("list_threads", chat_id=chat_id, min_events_count=3)
    second = await alice.call("list_threads", chat_id=chat_id, page_id=first["next_page_id"])
    third = await alice.call("list_threads", chat_id=chat_id, page_id=second["next_page_id"], min_events_count=1)
    assert [ids(page["threads"]) for page in (first, second, third)] == [
        thread_ids[:2],
        thread_ids[2:4],
        thread_ids[4:5],
    ]
    last = await alice.call("list_threads", chat_id=chat_id, page_id=third["next_page_id"])
    assert ids(last["threads"]) == thread_ids[5:]
    assert "next_page_id" not in last
    monkeypatch.setattr(lists, "MAX_THREADS", 4)
    few = await alice.call("list_threads", chat_id=chat_id, min_events_count=100)
    assert ids(few["threads"]) == thread_ids[:4]
    rest = await alice.call("list_threads", chat_id=chat_id, page_id=few["next_page_id"])
    assert ids(rest["threads"]) == thread_ids[4:]


async def test_events_that_are_not_shown_do_not_count(world: World, enter: Enter) -> None:
    carol = await world.agent("carol")
    chat = await world.chat(carol, group=SALES, texts=["1"])
    thread_ids = [chat.thread_id]
    for group, text in ((SUPPORT, "2"), (SALES, "3")):
        await carol.call("deactivate_chat", id=chat.id)
        thread = {"events": [{"type": "message", "text": text}]}
        moved = {"id": chat.id, "access": {"group_ids": [group]}, "thread": thread}
        thread_ids.append((await carol.call("resume_chat", chat=moved))["thread_id"])
    bob = await enter("bob", scopes=["chats--access:ro"])

    found = await bob.call("list_threads", chat_id=chat.id, min_events_count=2)

    assert ids(found["threads"]) == [thread_ids[2], thread_ids[0]]


async def test_pages_of_threads_hold_those_with_access_only(either_world: World) -> None:
    world = either_world
    carol = await world.agent("carol")
    chat = await world.chat(carol, group=SALES)
    thread_ids = [chat.thread_id]
    for group in (SUPPORT, SUPPORT, SALES):
        await carol.call("deactivate_chat", id=chat.id)
        resumed = await carol.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SUPPORT, group]}})
        thread_ids.append(resumed["thread_id"])
    bob = await world.web("bob", scopes=["chats--access:ro"])

    first = await bob.call("list_threads", chat_id=chat.id, limit=1)
    last = await bob.call("list_threads", chat_id=chat.id, page_id=first["next_page_id"])

    assert [ids(page["threads"]) for page in (first, last)] == [[thread_ids[3]], [thread_ids[0]]]
    assert [page["found_threads"] for page in (first, last)] == [2, 2]
    assert "next_page_id" not in last
    assert (await carol.call("list_threads", chat_id=chat.id))["found_threads"] == 4


async def test_an_earlier_thread_keeps_its_groups(world: World, enter: Enter) -> None:
    carol = await world.agent("carol")
    chat = await world.chat(carol, group=SUPPORT, texts=["among us"])
    await carol.call("deactivate_chat", id=chat.id)
    resumed = await carol.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SALES]}})
    bob = await enter("bob", scopes=["chats--access:ro"])
    olivia = await enter("olivia")

    assert ids((await bob.call("list_threads", chat_id=chat.id))["threads"]) == [resumed["thread_id"]]
    assert (await bob.call("get_chat", chat_id=chat.id))["thread"]["id"] == resumed["thread_id"]
    refusal = await bob.refused("get_chat", chat_id=chat.id, thread_id=chat.thread_id)
    assert refusal == Refused("missing_access", "Requester has no access to the thread")
    for reader in (olivia, carol):  # by `all`, and as a user of the chat
        read = await reader.call("get_chat", chat_id=chat.id, thread_id=chat.thread_id)
        assert read["thread"]["access"] == {"group_ids": [SUPPORT]}


@pytest.mark.parametrize("version", versions.SERVED)
async def test_an_earlier_thread_is_read_by_its_own_groups(either_world: World, version: str) -> None:
    world = either_world
    carol = await world.agent("carol")
    chat = await world.chat(carol, group=SALES, texts=["among us"])
    await carol.call("deactivate_chat", id=chat.id)
    resumed = await carol.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SUPPORT]}})
    no_access = Refused("missing_access", "Requester has no access to the thread")

    for enter in (world.agent, world.web):
        bob: Any = await enter("bob", version=version, scopes=["chats--access:ro"])
        read = await bob.call("get_chat", chat_id=chat.id, thread_id=chat.thread_id)
        assert read["thread"]["access"] == {"group_ids": [SALES]}
        for wanted in ({}, {"thread_id": resumed["thread_id"]}):
            assert await bob.refused("get_chat", chat_id=chat.id, **wanted) == no_access
        for wanted in ({}, {"min_events_count": 9}):
            listed = await bob.call("list_threads", chat_id=chat.id, **wanted)
            assert (ids(listed["threads"]), listed["found_threads"]) == ([chat.thread_id], 1)
        none = await bob.call("list_threads", chat_id=chat.id, filters={"to": "2020-01-01T00:00:00+02:00"})
        assert none["threads"] == []
        mine: Any = await enter("bob", version=version, scopes=["chats--my:ro"])
        assert (await mine.refused("get_chat", chat_id=chat.id, thread_id=chat.thread_id)) == no_access
        assert (await mine.refused("list_threads", chat_id=chat.id)).type == "missing_access"


async def test_the_last_events_of_threads_without_access_are_not_shown(either_world: World) -> None:
    world = either_world
    carol, bob = await world.agents("carol", "bob")
    chat = await world.chat(carol, group=SUPPORT, texts=["among us"])
    await carol.call("deactivate_chat", id=chat.id)
    thread = {"events": [{"type": "custom"}]}
    await carol.call(
        "resume_chat", chat={"id": chat.id, "access": {"group_ids": [SALES]}, "users": [], "thread": thread}
    )
    await carol.call("remove_user_from_chat", chat_id=chat.id, user_id=carol.id, user_type="agent")
    await bob.call("follow_chat", id=chat.id)

    async def last_events(name: str, version: str, scopes: list[str]) -> dict[str, Any]:
        web = await world.web(name, version=version, scopes=scopes)
        [summary] = (await web.call("list_chats"))["chats_summary"]
        return {kind: last["event"] for kind, last in summary["last_event_per_type"].items()}

    restricted = {"restricted_access": "Requester has no access to the thread"}
    for version in ("3.5", "3.6"):
        seen = await last_events("bob", version, ["chats--access:ro"])
        assert seen["message"] == restricted
        assert seen["custom"]["type"] == "custom"
        assert seen["system_message"]["system_message_type"] == "agent_left"
        assert (await last_events("bob", version, ["chats--all:ro"]))["message"]["text"] == "among us"
    limited = await world.agent("bob", scopes=["chats--access:ro"])
    [summary] = limited.greeting["chats_summary"]
    assert summary["last_event_per_type"]["message"] == {
        "thread_id": chat.thread_id,
        "thread_created_at": TIME,
        "event": restricted,
    }


async def test_a_thread_tells_where_its_customer_came_from(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    older = await world.web("alice", version="3.5")
    place = {"country": "Poland"}
    async with world.server.database.engine.begin() as connection:
        statement = update(tables.customers).where(tables.customers.c.id == world.id("ada"))
        visit = {"ip": "192.0.2.9", "user_agent": "Lynx", "geolocation": place, "referrer": "https://example.com"}
        await connection.execute(statement.values(state={"visit": visit}))
    came_from = {"ip": "192.0.2.9", "user_agent": "Lynx", "geolocation": place}

    begun = await alice.call("start_chat", chat={"users": [{"id": world.id("ada"), "type": "customer"}]})
    told = await alice.next_push("incoming_chat")
    unknown = await alice.call("start_chat", chat={"users": [{"id": world.id("grace"), "type": "customer"}]})
    joined = await alice.call("start_chat")
    ada = {"user_id": world.id("ada"), "user_type": "customer", "visibility": "all"}
    await alice.call("add_user_to_chat", chat_id=joined["chat_id"], **ada)
    await alice.call("deactivate_chat", id=begun["chat_id"])
    await alice.call("resume_chat", chat={"id": begun["chat_id"]})

    assert told["chat"]["thread"]["customer_visit"] == came_from
    threads = (await alice.call("list_threads", chat_id=begun["chat_id"]))["threads"]
    threads.append((await alice.call("get_chat", chat_id=joined["chat_id"]))["thread"])
    assert [thread["customer_visit"] for thread in threads] == [came_from] * 3
    assert "customer_visit" not in (await alice.call("get_chat", chat_id=unknown["chat_id"]))["thread"]
    assert "customer_visit" not in (await older.call("get_chat", chat_id=begun["chat_id"]))["thread"]


# get_chat


async def test_a_chat_with_its_latest_thread_or_the_one_named(world: World, enter: Enter) -> None:
    chat_id, thread_ids = await resumed(world, await world.agent("alice"), 2)
    alice = await enter("alice")
    latest = await alice.call("get_chat", chat_id=chat_id)
    assert set(latest) == {"id", "thread", "users", "properties", "access", "is_followed"}
    assert latest["thread"]["id"] == thread_ids[0]
    first = await alice.call("get_chat", chat_id=chat_id, thread_id=thread_ids[1])
    assert first["thread"]["events"] == [
        message("1", world.id("alice"), id=f"{thread_ids[1]}_1"),
        archived_by("Alice"),
    ]


async def test_chats_and_threads_that_are_not_there(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat, other = await world.chat(alice), await world.chat(alice)
    not_found = Refused("not_found", "Thread not found")
    assert await alice.refused("get_chat", chat_id=chat.id, thread_id="AAAAAAAAAA") == not_found
    assert await alice.refused("get_chat", chat_id=chat.id, thread_id=other.thread_id) == not_found
    for action in ("get_chat", "list_threads"):
        assert await alice.refused(action, chat_id="AAAAAAAAAA") == Refused("not_found", "Chat not found")
        assert await alice.refused(action) == Refused("validation", "`chat_id` is required")
    stranger = await (await world.server.world()).agent("olivia")
    assert await stranger.refused("get_chat", chat_id=chat.id) == Refused("not_found", "Chat not found")
    await stranger.close()
    assert chat.id == ID
