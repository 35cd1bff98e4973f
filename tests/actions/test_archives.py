"""The list of archives: what is found by which filter, how it is shown, to whom, and page by page."""

from itertools import product
from typing import Any

import pytest
from sqlalchemy import text

from rtm.model import labels
from rtm.store import archive, archive_gin, tables
from tests.actions.conftest import Enter
from tests.actions.shapes import CHAT_PROPERTIES, THREAD_PROPERTIES, TIME, ada, agent, message
from tests.actions.test_contract import fill
from tests.world import SALES, SUPPORT, VISIT, Chat, Client, Refused, Web, World, visiting


async def found(by: Client | Web, **filters: Any) -> list[str]:
    """Ids of the threads that are found, the oldest first."""
    answer = await by.call("list_archives", filters=filters, sort_order="asc", limit=100)
    ids = thread_ids(answer)
    assert answer["found_chats"] == len(ids)
    return ids


def thread_ids(answer: dict[str, Any]) -> list[str]:
    return [chat["thread"]["id"] for chat in answer["chats"]]


async def test_a_thread_with_its_chat(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], texts=["hello"])

    listed = await alice.call("list_archives")

    assert listed == {
        "found_chats": 1,
        "chats": [
            {
                "id": chat.id,
                "users": [agent(world, "alice", events_seen_up_to=TIME), ada(world)],
                "thread": {
                    "id": chat.thread_id,
                    "created_at": TIME,
                    "active": True,
                    "user_ids": [world.id("alice"), world.id("ada")],
                    "events": [message("hello", alice.id, id=chat.event_ids[0])],
                    "properties": THREAD_PROPERTIES,
                    "access": {"group_ids": [SALES]},
                    "customer_visit": {"ip": VISIT["ip"]},
                },
                "properties": CHAT_PROPERTIES,
                "access": {"group_ids": [SALES]},
                "is_followed": True,
            }
        ],
    }


async def scene(world: World) -> dict[str, Chat]:
    """Threads by what they are there for, in the order of their creation; all but the last are closed."""
    olivia, alice, carol, robin = [await world.web(name) for name in ("olivia", "alice", "carol", "robin")]
    visit = {"visit": {"geolocation": {"country_code": "PL"}}}
    async with world.server.database.engine.begin() as connection:
        of_grace = tables.customers.c.id == world.id("grace")
        await connection.execute(tables.customers.update().where(of_grace).values(state=visit))
    form = {
        "type": "filled_form",
        "form_id": "F",
        "properties": {"lc2": {"form_type": "prechat"}},
        "fields": [
            {"type": "radio", "id": "1", "label": "Delivery?", "answer": {"id": "a1", "label": "Courier"}},
            {"type": "checkbox", "id": "2", "label": "Gifts", "answers": [{"id": "b1", "label": "Chocolate"}]},
        ],
    }
    file = {"type": "file", "url": "https://example.com/invoice.pdf"}
    note = {"type": "message", "text": "Only among us", "visibility": "agents"}

    async def begin(by: Web, group: int = SALES, *events: Any, users: tuple[str, ...] = (), **thread: Any) -> Chat:
        named = [{"id": world.id(name), "type": "customer" if name in world.customers else "agent"} for name in users]
        content = {"events": [{"type": "message", "text": each} if isinstance(each, str) else each for each in events]}
        chat = {"access": {"group_ids": [group]}, "users": named, "thread": content | thread}
        started = await by.call("start_chat", chat=chat)
        return Chat(started["chat_id"], started["thread_id"])

    chats = {
        "plain": await begin(alice, SALES, "Hello, WORLD", users=("ada",)),
        "tagged": await begin(carol, SUPPORT, "hello again"),
        "bot": await begin(robin, SALES, "Crème brûlée", users=("alice", "grace")),
        "form": await begin(carol, SUPPORT, form),
        "greeting": await begin(olivia, 0, "こんにちは世界", properties={"lc2": {"greeting_id": 7}}),
        "property": await begin(olivia, 0, file, properties={"rating": {"score": 1, "comment": "good"}}),
        "silent": await begin(alice, SALES),
        "open": await begin(alice, SALES, "Still open", users=("ada",)),
    }
    await carol.call("send_event", chat_id=chats["tagged"].id, event=note)
    for tag in ("refund", "bug"):
        await carol.call("tag_thread", chat_id=chats["tagged"].id, thread_id=chats["tagged"].thread_id, tag=tag)
    await carol.call("tag_thread", chat_id=chats["form"].id, thread_id=chats["form"].thread_id, tag="bug")
    await olivia.call("update_chat_properties", id=chats["plain"].id, properties={"rating": {"score": 0}})
    for name, chat in chats.items():
        if name != "open":
            await olivia.call("deactivate_chat", id=chat.id, ignore_requester_presence=True)
    return chats


EVENT_TYPES = "message, file, rich_message, custom, form, filled_form, system_message, system"
EVERY = ["plain", "tagged", "bot", "form", "greeting", "property", "silent", "open"]
LONG_AGO, FAR_OFF = "2001-01-01T00:00:00+02:00", "2999-01-01T00:00:00Z"


MANY = [f"value {number}" for number in range(99)]


def but(*names: str) -> list[str]:
    return [name for name in EVERY if name not in names]


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, EVERY),
    ({"query": "hello"}, ["plain", "tagged"]),
    ({"query": "world, HELLO!"}, ["plain"]),
    ({"query": "hell"}, []),
    ({"query": "creme BRULEE"}, ["bot"]),
    ({"query": "界"}, ["greeting"]),
    ({"query": "世界"}, ["greeting"]),
    ({"query": "界世"}, []),
    ({"query": "chocolate"}, ["form"]),
    ({"query": "gifts courier delivery"}, ["form"]),
    ({"query": "invoice pdf"}, ["property"]),
    ({"query": "among us"}, ["tagged"]),
    ({"query": "hello nowhere"}, []),
    ({"query": "?!"}, []),
    ({"query": ""}, EVERY),
    ({"query": "hello' OR \"1\" AND (x) | & ! NOT *"}, []),
    ({"from": LONG_AGO}, EVERY),
    ({"to": LONG_AGO}, []),
    ({"from": FAR_OFF}, []),
    ({"from": LONG_AGO, "to": FAR_OFF}, EVERY),
    ({"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}, EVERY),
    ({"chat_ids": ["$plain", "$form", "AAAAAAAAAA"]}, ["plain", "form"]),
    ({"chat_ids": []}, []),
    ({"thread_ids": ["$plain.thread", "$open.thread", "AAAAAAAAAA"]}, ["plain", "open"]),
    ({"thread_ids": []}, []),
    ({"group_ids": [SUPPORT]}, ["tagged", "form"]),
    ({"group_ids": [0, SUPPORT]}, ["tagged", "form", "greeting", "property"]),
    ({"group_ids": [77]}, []),
    ({"properties": {"rating": {"score": {"exists": True}}}}, ["plain", "property"]),
    ({"properties": {"rating": {"score": {"exists": False}}}}, but("plain", "property")),
    ({"properties": {"rating": {"score": {"values": [1]}}}}, ["property"]),
    ({"properties": {"rating": {"score": {"values": ["1", True]}}}}, []),
    ({"properties": {"rating": {"score": {"exclude_values": [0]}}}}, but("plain")),
    ({"properties": {"rating": {"score": {"values": [0, 1]}, "comment": {"values": ["good"]}}}}, ["property"]),
    ({"agents": {"exists": True}}, EVERY),
    ({"agents": {"exists": False}}, []),
    ({"agents": {"values": ["$robin", "$carol"]}}, ["tagged", "bot", "form"]),
    ({"agents": {"values": ["$robin", "$alice"], "require_every_value": True}}, ["bot"]),
    ({"agents": {"exclude_values": ["$alice"]}}, ["tagged", "form", "greeting", "property"]),
    ({"agents": {"exclude_values": ["$robin", "$alice"], "require_every_value": True}}, but("bot")),
    ({"tags": {"exists": True}}, ["tagged", "form"]),
    ({"tags": {"exists": False}}, but("tagged", "form")),
    ({"tags": {"values": ["bug"]}}, ["tagged", "form"]),
    ({"tags": {"values": ["bug", "refund"], "require_every_value": True}}, ["tagged"]),
    ({"tags": {"exclude_values": ["refund", "other"]}}, but("tagged")),
    ({"sales": {"exists": True}}, []),
    ({"sales": {"exclude_values": [1, "two"]}}, EVERY),
    ({"goals": {"exists": False}}, EVERY),
    ({"goals": {"values": [3]}}, []),
    ({"forms": {"type": "pre_chat"}}, ["form"]),
    ({"forms": [{"type": "post_chat"}]}, []),
    ({"forms": [{"type": "pre_chat", "answer_id": "a1"}, {"answer_id": "b1"}]}, ["form"]),
    ({"forms": {"values": ["b1", "b2"]}}, ["form"]),
    ({"forms": {"exclude_values": ["b1"], "exists": True}}, []),
    ({"forms": {"exists": False}}, but("form")),
    ({"forms": {"from": LONG_AGO, "to": FAR_OFF, "groups": {"values": [SUPPORT]}}}, ["form"]),
    ({"forms": {"groups": {"exclude_values": [SUPPORT]}}}, but("form")),
    ({"forms": {"to": LONG_AGO}}, []),
    ({"event_types": {"values": ["file", "filled_form"]}}, ["form", "property"]),
    ({"event_types": {"values": ["message", "file"], "require_every_value": True}}, []),
    ({"event_types": {"exclude_values": ["message", "message"]}}, ["form", "property", "silent"]),
    ({"greetings": {"exists": True}}, ["greeting"]),
    ({"greetings": {"values": [7, 8]}}, ["greeting"]),
    ({"greetings": {"exclude_values": [7]}}, but("greeting")),
    ({"greetings": {"from": LONG_AGO, "groups": {"values": [0]}}}, ["greeting"]),
    ({"greetings": {"from": FAR_OFF}}, []),
    ({"agent_response": {"exists": True}}, ["plain", "tagged", "bot", "greeting", "property", "open"]),
    ({"agent_response": {"exists": False}}, ["form", "silent"]),
    ({"agent_response": {"agents": {"values": ["$carol", "$robin"]}}}, ["tagged", "bot"]),
    ({"agent_response": {"first": True, "agents": {"values": ["$carol"]}}}, ["tagged"]),
    ({"agent_response": {"groups": {"values": [SALES]}, "agents": {"exclude_values": ["$alice"]}}}, ["bot"]),
    ({"agent_response": {"first": True, "groups": {"exclude_values": [SALES, SUPPORT]}, "exists": True}},
     ["greeting", "property"]),
    ({"agent_types": {"any_values": ["chatbot", "ai_agent"]}}, ["bot"]),
    ({"agent_types": {"all_values": ["chatbot", "human"]}}, ["bot"]),
    ({"agent_types": {"exclude_values": ["human"]}}, []),
    ({"customer_countries": {"values": ["pl", "DE"]}}, ["bot"]),
    ({"customer_countries": {"exists": False}}, but("bot")),
    ({"customer_id": "$ada"}, ["plain", "open"]),
    ({"customer_email": "Ada@Example.net"}, ["plain", "open"]),
    ({"customer_email": "nobody@example.net"}, []),
    ({"tags": {"values": [*MANY, "bug"]}}, ["tagged", "form"]),
    ({"tags": {"values": MANY}}, []),
    ({"tags": {"exclude_values": [*MANY, "bug"]}}, but("tagged", "form")),
    ({"tags": {"exclude_values": [*MANY, "bug"]}, "agents": {"exclude_values": [*MANY, "$robin"]}},
     but("tagged", "form", "bot")),
    ({"tags": {"exclude_values": ["bug", "refund"], "require_every_value": True}}, but("tagged")),
    ({"tags": {"values": [*MANY, "bug"]}, "group_ids": [*range(100, 199), SUPPORT], "query": "hello"}, ["tagged"]),
    ({"tags": {"values": [*MANY, "bug"]}, "agents": {"values": [*MANY, "$carol"]}, "from": LONG_AGO, "to": FAR_OFF},
     ["tagged", "form"]),
    ({"tags": {"values": ["bug"]}, "group_ids": [*range(100, 199), SUPPORT], "to": LONG_AGO}, []),
    ({"group_ids": [*range(100, 199), SUPPORT], "event_types": {"exclude_values": ["message"]}}, ["form"]),
    ({"forms": {"values": [*MANY, "a1"], "from": LONG_AGO, "groups": {"values": [*range(100, 199), SUPPORT]}}},
     ["form"]),
    ({"forms": {"exclude_values": [*MANY, "a1"], "exists": False}}, but("form")),
    ({"tags": {"exclude_values": [*MANY, "refund"]},
      "agent_response": {"agents": {"exclude_values": [*MANY, "$robin"]}}}, but("tagged", "bot")),
    ({"tags": {"values": [*MANY, "bug"]}, "agents": {"values": [*MANY, "$carol"]},
      "group_ids": [*range(100, 299), SUPPORT],
      "agent_types": {"any_values": ["human", "chatbot"]}, "event_types": {"values": ["message", "filled_form"]}},
     ["tagged", "form"]),
    ({"forms": [{"from": LONG_AGO}, {"to": FAR_OFF}], "tags": {"exclude_values": [*MANY, "refund"]}}, ["form"]),
    ({"forms": [{"from": LONG_AGO}, {"to": LONG_AGO}]}, []),
    ({"forms": {"from": LONG_AGO}, "greetings": {"from": LONG_AGO}}, []),
    ({"thread_ids": ["$plain.thread", "$form.thread"]}, ["plain", "form"]),
    ({"chat_ids": ["$plain", "$form"], "tags": {"exists": True}}, ["form"]),
    ({"customer_id": "$ada", "query": "open", "agents": {"values": ["$alice"]}, "tags": {"exists": False}}, ["open"]),
]  # fmt: skip


WAYS: tuple[dict[str, int], ...] = (
    {},
    {"MANY": 0},
    {"MANY": 0, "SAMPLE": 1},
)
"""How PostgreSQL may look for threads: with few or many values that are not wanted."""


async def test_threads_are_filtered(either_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = either_world
    chats = await scene(world)
    olivia = await world.agent("olivia")
    names = {f"${name}": chat.id for name, chat in chats.items()}
    names |= {f"${name}.thread": chat.thread_id for name, chat in chats.items()}
    names |= {f"${name}": world.id(name) for name in ("alice", "carol", "robin", "ada")}
    by_thread = {chat.thread_id: name for name, chat in chats.items()}

    for way, (filters, expected) in product(WAYS, FILTERS):
        for name, value in way.items():
            monkeypatch.setattr(archive_gin, name, value)
        wanted = fill(filters, names)
        paging = {} if "thread_ids" in filters else {"limit": 100}
        answer = await olivia.call("list_archives", filters=wanted, sort_order="asc", **paging)
        assert [by_thread[each] for each in thread_ids(answer)] == expected, (filters, way)
        assert answer["found_chats"] == len(expected), (filters, way)


async def test_pages_of_threads_lead_on_and_back_while_threads_are_added(either_world: World) -> None:
    world = either_world
    olivia = await world.agent("olivia")
    made = [(await world.chat(olivia, texts=["to find"])).thread_id for _ in range(5)][::-1]

    first = await olivia.call("list_archives", filters={"query": "find"}, limit=2)
    added = await world.chat(olivia, texts=["find me, too"])
    second = await olivia.call("list_archives", page_id=first["next_page_id"])
    third = await olivia.call("list_archives", page_id=second["next_page_id"])

    assert [thread_ids(page) for page in (first, second, third)] == [made[:2], made[2:4], made[4:]]
    assert [page["found_chats"] for page in (first, second, third)] == [5, 6, 6]
    assert "previous_page_id" not in first
    assert "next_page_id" not in third
    back = await olivia.call("list_archives", page_id=third["previous_page_id"])
    assert thread_ids(back) == made[2:4]
    front = await olivia.call("list_archives", page_id=back["previous_page_id"])
    assert thread_ids(front) == made[:2]
    before = await olivia.call("list_archives", page_id=front["previous_page_id"])
    assert thread_ids(before) == [added.thread_id]
    assert "previous_page_id" not in before
    oldest = await olivia.call("list_archives", sort_order="asc", limit=2)
    rest = await olivia.call("list_archives", page_id=oldest["next_page_id"])
    assert thread_ids(oldest) + thread_ids(rest) == made[::-1][:4]


async def test_many_threads_are_counted_about(either_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_gin, "EXACT", 2)
    olivia = await either_world.agent("olivia")
    for _ in range(4):
        await either_world.chat(olivia, texts=["many"])
    assert (await olivia.call("list_archives", filters={"query": "many"}))["found_chats"] >= 3
    assert (await olivia.call("list_archives"))["found_chats"] == 4


@pytest.mark.parametrize("wanted", ["old", "new", "every"])
async def test_pages_of_many_threads_are_found_wherever_in_the_list_they_are(
    either_world: World, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    for name, value in {"NEAR": 1, "SAMPLE": 2, "MANY": 1}.items():
        monkeypatch.setattr(archive_gin, name, value)
    olivia = await either_world.web("olivia")
    made = [
        (await either_world.chat(olivia, group=group, texts=[f"{age} every"])).thread_id
        for age, group in (("old", SALES), ("new", SUPPORT))
        for _ in range(5)
    ]
    expected = {"old": made[:5], "new": made[5:], "every": made}[wanted]
    groups = {"old": [SALES], "new": [SUPPORT], "every": [SALES, SUPPORT]}[wanted]
    others = [group for group in (SALES, SUPPORT, 77, 78) if group not in groups]
    by_words = {"query": wanted}
    by_many_labels = {"group_ids": [*groups, 77, 78], "agents": {"exists": True}}
    but_many = {"agent_response": {"groups": {"exclude_values": others}}}

    for filters, order, counted in product((by_words, by_many_labels, but_many), ("asc", "desc"), (0, 20)):
        monkeypatch.setattr(archive_gin, "EXACT", counted)
        pages = [await olivia.call("list_archives", filters=filters, sort_order=order, limit=2)]
        while "next_page_id" in pages[-1]:
            pages.append(await olivia.call("list_archives", page_id=pages[-1]["next_page_id"]))
        in_order = expected if order == "asc" else expected[::-1]
        assert [each for page in pages for each in thread_ids(page)] == in_order, (filters, order)
        assert counted == 0 or {page["found_chats"] for page in pages} == {len(expected)}, (filters, order)

        back = [pages[-1]]
        while "previous_page_id" in back[0]:
            back.insert(0, await olivia.call("list_archives", page_id=back[0]["previous_page_id"]))
        assert [thread_ids(page) for page in back] == [thread_ids(page) for page in pages], (filters, order)


async def test_a_page_of_long_threads_ends_early(either_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    olivia = await either_world.web("olivia")
    made = [(await either_world.chat(olivia, texts=["one", "two"])).thread_id for _ in range(3)]
    monkeypatch.setattr(archive, "MAX_PAGE_EVENTS", 3)

    first = await olivia.call("list_archives", sort_order="asc")
    second = await olivia.call("list_archives", page_id=first["next_page_id"])
    back = await olivia.call("list_archives", page_id=second["previous_page_id"])

    assert [thread_ids(page) for page in (first, second)] == [made[:2], made[2:]]
    assert "next_page_id" not in second
    assert back["chats"] == first["chats"]


async def test_matches_are_highlighted(either_world: World) -> None:
    alice = await either_world.agent("alice")
    file = {"type": "file", "url": "https://example.com/order.pdf"}
    chat = {"thread": {"events": [{"type": "message", "text": "Order, re-order; 注文する <b> ORDERED"}, file]}}
    await alice.call("start_chat", chat=chat)

    async def texts(**highlights: str) -> list[str]:
        filters = {"query": "order 注文"}
        answer = await alice.call("list_archives", filters=filters, highlights=highlights)
        [message, file] = answer["chats"][0]["thread"]["events"]
        assert file["url"] == "https://example.com/order.pdf"
        return [message["text"], file["name"]]

    assert await texts() == [
        "<em>Order</em>, re-<em>order</em>; <em>注文</em>する <b> ORDERED",
        "<em>order</em>.pdf",
    ]
    assert (await texts(pre_tag="[", post_tag="]"))[1] == "[order].pdf"
    plain = await alice.call("list_archives", filters={"query": "order"})
    assert plain["chats"][0]["thread"]["events"][0]["text"].startswith("Order, re-order")
    paged = await alice.call("list_archives", filters={"query": "order"}, highlights={}, limit=1)
    assert paged["chats"][0]["thread"]["events"][1]["name"] == "<em>order</em>.pdf"


async def test_threads_are_found_as_they_are_now(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], texts=["first"])
    assert await found(alice, query="later") == []
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "later"})
    assert await found(alice, query="first later") == [chat.thread_id]
    await alice.call("tag_thread", chat_id=chat.id, thread_id=chat.thread_id, tag="order")
    assert await found(alice, tags={"values": ["order"]}, query="later") == [chat.thread_id]
    await alice.call("untag_thread", chat_id=chat.id, thread_id=chat.thread_id, tag="order")
    assert await found(alice, tags={"values": ["order"]}) == []
    await alice.call("deactivate_chat", id=chat.id)
    event = {"type": "message", "text": "again"}
    resumed = await alice.call("resume_chat", chat={"id": chat.id, "thread": {"events": [event]}})
    assert await found(alice) == [chat.thread_id, resumed["thread_id"]]
    assert await found(alice, query="again") == [resumed["thread_id"]]
    assert await found(alice, chat_ids=[chat.id], query="first") == [chat.thread_id]
    assert await found(alice, customer_id=world.id("ada")) == [chat.thread_id, resumed["thread_id"]]
    await alice.call("update_chat_properties", id=chat.id, properties={"rating": {"score": 0}})
    with_score = {"rating": {"score": {"values": [0]}}}
    assert await found(alice, properties=with_score) == [chat.thread_id, resumed["thread_id"]]
    await alice.call("delete_chat_properties", id=chat.id, properties={"rating": ["score"]})
    assert await found(alice, properties=with_score) == []


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (["chats--all:ro"], {"general", "sales", "support", "with alice"}),
        (["chats--access:ro"], {"general", "sales", "with alice"}),
        (["chats--my:ro"], {"with alice"}),
    ],
)
async def test_the_list_ends_where_the_token_reaches(either_world: World, scopes: list[str], seen: set[str]) -> None:
    world = either_world
    olivia = await world.agent("olivia")
    names = {
        (await world.chat(olivia, group=group, texts=["hello"])).thread_id: name
        for name, group in (("general", 0), ("sales", SALES), ("support", SUPPORT))
    }
    names[(await world.chat(await world.agent("alice"), group=SUPPORT, texts=["hello"])).thread_id] = "with alice"
    alice = await world.agent("alice", scopes=scopes)
    for filters in ({}, {"query": "hello"}, {"thread_ids": list(names)}):
        answer = await alice.call("list_archives", filters=filters)
        assert {names[each] for each in thread_ids(answer)} == seen
        assert answer["found_chats"] == len(seen)
    stranger = await (await world.server.world()).agent("olivia")
    assert await stranger.call("list_archives", filters={"query": "hello"}) == {"chats": [], "found_chats": 0}
    await stranger.close()


async def test_neighbours_that_the_requester_may_see(either_world: World) -> None:
    carol = await either_world.agent("carol")
    chat = await either_world.chat(carol, group=SALES)
    threads = [chat.thread_id]
    for group in (SUPPORT, SALES):
        await carol.call("deactivate_chat", id=chat.id)
        moved = await carol.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [group]}})
        threads.append(moved["thread_id"])

    async def shown(by: Client) -> list[tuple[Any, ...]]:
        answer = await by.call("list_archives", sort_order="asc")
        fields = ("id", "previous_accessible_thread_id", "next_accessible_thread_id", "previous_thread_id")
        return [tuple(chat["thread"].get(name) for name in fields) for chat in answer["chats"]]

    one, two, three = threads
    assert await shown(await either_world.agent("olivia")) == [
        (one, None, two, None),
        (two, one, three, one),
        (three, two, None, two),
    ]
    bob = await either_world.agent("bob", scopes=["chats--access:ro"])
    assert await shown(bob) == [(one, None, three, None), (three, one, None, two)]


async def test_page_ids_and_what_goes_with_them(world: World, enter: Enter) -> None:
    olivia = await enter("olivia")
    for _ in range(2):
        await world.chat(olivia)
    page_id = (await olivia.call("list_archives", limit=1))["next_page_id"]
    invalid = Refused("validation", "`page_id` is not valid or has expired")
    assert await olivia.refused("list_archives", page_id=f"A{page_id}") == invalid
    assert await olivia.refused("list_chats", page_id=page_id) == Refused(
        "validation", "`page_id` belongs to another list"
    )
    for name, value in (("limit", 2), ("sort_order", "asc"), ("filters", {})):
        refusal = await olivia.refused("list_archives", page_id=page_id, **{name: value})
        assert refusal == Refused("validation", f"`{name}` can't be used together with `page_id`")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"limit": 0}, "`limit` must be an integer from 1 to 100"),
        ({"limit": 101}, "`limit` must be an integer from 1 to 100"),
        ({"sort_order": "up"}, "`sort_order` must be one of: asc, desc"),
        ({"highlights": {"pre_tag": "<b>"}}, "`highlights.post_tag` is required with `pre_tag`"),
        ({"highlights": {"post_tag": "</b>"}}, "`highlights.pre_tag` is required with `post_tag`"),
        ({"filters": {"query": 1}}, "`filters.query` must be a string"),
        ({"filters": {"from": "yesterday"}}, "`filters.from` must be an RFC 3339 date-time"),
        ({"filters": {"chat_ids": ["A"] * 1001}}, "`filters.chat_ids` must have at most 1000 elements"),
        ({"filters": {"thread_ids": ["A"] * 21}}, "`filters.thread_ids` must have at most 20 elements"),
        ({"filters": {"group_ids": [1] * 201}}, "`filters.group_ids` must have at most 200 elements"),
        (
            {"filters": {"thread_ids": ["A"], "query": "x"}},
            "`filters.query` can't be used together with `thread_ids`",
        ),
        (
            {"filters": {"thread_ids": ["A"], "from": "2026-01-01T00:00:00Z"}},
            "`filters.from` can't be used together with `thread_ids`",
        ),
        (
            {"filters": {"thread_ids": ["A"]}, "limit": 5},
            "`limit` can't be used together with `filters.thread_ids`",
        ),
        ({"filters": {"tags": {}}}, "`filters.tags` must have exactly one of: exists, values, exclude_values"),
        (
            {"filters": {"agents": {"exists": True, "values": []}}},
            "`filters.agents` must have exactly one of: exists, values, exclude_values",
        ),
        (
            {"filters": {"event_types": {"values": ["message"], "exclude_values": ["file"]}}},
            "`filters.event_types.exclude_values` can't be used together with `values`",
        ),
        (
            {"filters": {"event_types": {"values": ["letter"]}}},
            f"`filters.event_types.values[0]` must be one of: {EVENT_TYPES}",
        ),
        ({"filters": {"forms": {"type": "ticket"}}}, "`filters.forms[0].type` must be one of: pre_chat, post_chat"),
        (
            {"filters": {"agent_types": {"all_values": ["human"], "exclude_values": ["human"]}}},
            "`filters.agent_types` must name each agent type only once",
        ),
        ({"filters": {"greetings": {"values": ["7"]}}}, "`filters.greetings.values[0]` must be an integer"),
        ({"filters": {"customer_id": ""}}, "`filters.customer_id` must not be empty"),
    ],
)
async def test_requests_that_are_none(world: World, payload: dict[str, Any], message: str) -> None:
    alice = await world.web("alice")
    assert await alice.refused("list_archives", **payload) == Refused("validation", message)


async def test_the_list_takes_a_scope(world: World, enter: Enter) -> None:
    alice = await enter("alice", scopes=["agents--all:rw"])
    assert (await alice.refused("list_archives")).type == "authorization"


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_older_versions_know_fewer_filters(world: World, version: str) -> None:
    chats = await scene(world)
    alice = await world.web("alice", version=version)
    assert len(await found(alice, chat_ids=[chats["plain"].id])) == len(chats)
    assert len(await found(alice, customer_countries={"values": ["PL"]})) == (1 if version == "3.5" else len(chats))
    forms = "forms" if version == "3.5" else "surveys"
    assert await found(alice, **{forms: [{"type": "pre_chat"}]}) == [chats["form"].thread_id]


async def test_a_token_that_another_license_has_too_finds_none_of_its_threads(either_world: World) -> None:
    olivia = await either_world.web("olivia")
    async with visiting(either_world.server) as theirs:
        owner = await theirs.web("olivia")
        await owner.call("start_chat", chat={"thread": {"events": [{"type": "message", "text": "secret"}]}})
        assert len(await found(owner)) == 1
        async with either_world.server.database.engine.begin() as connection:
            same = labels.token(either_world.license_id, "tag", "guessed")
            both = f"labels || ' {same}'" if connection.dialect.name == "sqlite" else f"labels || '{same}'::tsvector"
            of_theirs = f"WHERE license_id = {theirs.license_id}"
            await connection.execute(text(f"UPDATE archive SET labels = {both} {of_theirs}"))
            if connection.dialect.name == "sqlite":  # its index is told what goes, and what comes
                for columns, values in (
                    ("archive_index, rowid, labels, words", "'delete', number, '', ''"),
                    ("rowid, labels, words", f"number, '{same}', ''"),
                ):
                    rows = f"SELECT {values} FROM archive {of_theirs}"
                    await connection.execute(text(f"INSERT INTO archive_index ({columns}) {rows}"))
        assert await found(olivia, tags={"values": ["guessed"]}) == []
