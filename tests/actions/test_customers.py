"""Who customers are, and keeping them away."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from rtm.model.requests.customers import UpdateCustomer
from rtm.protocol.errors import ValidationError
from rtm.store import tables
from tests.actions.conftest import Enter
from tests.actions.shapes import TIME, archived_by, said
from tests.world import VISIT, Refused, World

SESSION_FIELDS = [{"plan": "gold"}, {"cart": "3 items"}]
ADDRESS = {"address": "1 Long Lane", "city": "Paris", "country": "France", "state": "", "postal_code": "75001"}
FB = {"id": "fb-1", "name": "Ada L", "first_name": "Ada", "is_verified_user": False}
STATISTICS = {
    "chats_count": 0,
    "threads_count": 0,
    "visits_count": 0,
    "page_views_count": 0,
    "greetings_shown_count": 0,
    "greetings_accepted_count": 0,
    "tickets_count": 0,
}


def grace(world: World, **more: Any) -> dict[str, Any]:
    """The customer of whom least is known."""
    return {
        "id": world.id("grace"),
        "type": "customer",
        "name": "Grace",
        "email": "grace@example.net",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "statistics": STATISTICS,
        **more,
    }


async def bans(world: World) -> list[dict[str, Any]]:
    table = tables.customer_bans
    statement = select(table).where(table.c.license_id == world.license_id)
    async with world.server.database.engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def test_one_of_whom_little_is_known(world: World, enter: Enter) -> None:
    alice = await enter("alice", scopes=["customers:ro"])
    assert await alice.call("get_customer", id=world.id("grace")) == grace(world)


async def test_what_the_chats_tell_of_a_customer(either_world: World) -> None:
    world = either_world
    alice, ada = await world.agent("alice"), world.id("ada")
    first = await world.chat(alice, users=["ada"], texts=["hello"])
    second = await world.chat(alice, users=["ada"])
    await world.chat(alice, users=["grace"], texts=["hello"])
    written = (await alice.call("get_chat", chat_id=first.id))["thread"]["events"][0]["created_at"]
    by_ada = {"type": "message", "text": "hello", "author_id": ada}
    await alice.call("deactivate_chat", id=first.id)
    users = [{"id": ada, "type": "customer"}]
    await alice.call("resume_chat", chat={"id": first.id, "users": users, "thread": {"events": [by_ada]}})

    shown = await alice.call("get_customer", id=ada)

    assert shown == {
        "id": ada,
        "type": "customer",
        "name": "Ada",
        "email": "ada@example.net",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "visit": VISIT,
        "phone_number": "+1 555 0100",
        "statistics": STATISTICS | {"chats_count": 2, "threads_count": 3, "tickets_count": 2},
        "agent_last_event_created_at": written,
        "customer_last_event_created_at": TIME,
        "chat_ids": [first.id, second.id],
    }


async def test_the_older_versions_know_less(world: World) -> None:
    newest, older = await world.web("alice"), await world.web("alice", version="3.5")
    shown = await older.call("get_customer", id=world.id("ada"))
    assert shown["last_visit"] == VISIT
    assert {"visit", "phone_number"}.isdisjoint(shown)
    assert "tickets_count" not in shown["statistics"]
    await older.call("update_customer", id=world.id("grace"), name="Grace H", phone_number=7, address=[])
    shown = await newest.call("get_customer", id=world.id("grace"))
    assert shown == grace(world, name="Grace H")


async def test_an_update_is_kept_and_told_to_all_who_may_read_customers(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice", scopes=["customers:rw"])
    carol = await world.agent("carol")
    older = await world.agent("bob", version="3.5")
    erin = await world.agent("erin", scopes=["chats--access:rw"])
    fields = {
        "name": "Ada Lovelace",
        "email": "countess@example.net",
        "avatar": "https://example.com/ada.png",
        "phone_number": "+14155552671",
        "session_fields": SESSION_FIELDS,
    }
    omnichannel = {"fbmessenger": FB, "twilio": {"phone_number": "+14155552671"}}

    request_id = await alice.send(
        "update_customer", id=world.id("ada"), **fields, omnichannel=omnichannel, address=ADDRESS
    )

    assert (await alice.answer(request_id))["payload"] == {}
    address = {part: text for part, text in ADDRESS.items() if text}
    told = {"fb_messenger": [FB], "twilio": [{"phone_number": "+14155552671"}]}
    push = {"id": world.id("ada"), "type": "customer", **fields, "omnichannel": told, "address": address}
    frame = await alice.next_frame("customer_updated")
    assert (frame["payload"], frame["request_id"]) == (push, request_id)
    assert await carol.next_push("customer_updated") == push
    older_push = {name: value for name, value in push.items() if name not in ("phone_number", "omnichannel", "address")}
    assert await older.next_push("customer_updated") == older_push
    await erin.hears_nothing_more()

    shown = await carol.call("get_customer", id=world.id("ada"))
    assert shown.items() >= (fields | {"address": address, "visit": VISIT}).items()
    assert shown["omnichannel"] == {
        "fb_messenger": [{"ID": "fb-1", "Name": "Ada L", "FirstName": "Ada", "IsVerifiedUser": False}],
        "twilio": [{"+14155552671": {"phone_number": "+14155552671"}}],
    }


async def test_what_is_not_named_stays_and_what_is_empty_goes(world: World, enter: Enter) -> None:
    alice, listener, grace_id = await enter("alice"), await world.agent("bob"), world.id("grace")
    omnichannel = {"fbmessenger": FB}
    await alice.call(
        "update_customer", id=grace_id, session_fields=SESSION_FIELDS, address=ADDRESS, omnichannel=omnichannel
    )
    await listener.next_push("customer_updated")

    twilio = {"twilio": {"phone_number": "+48600"}}
    await alice.call(
        "update_customer", id=grace_id, email="", session_fields=[], address={"city": "Lyon"}, omnichannel=twilio
    )

    address = {"address": "1 Long Lane", "city": "Lyon", "country": "France", "postal_code": "75001"}
    assert await listener.next_push("customer_updated") == {
        "id": grace_id,
        "type": "customer",
        "email": "",
        "session_fields": [],
        "omnichannel": {"fb_messenger": [FB], "twilio": [{"phone_number": "+48600"}]},
        "address": address,
    }
    shown = await alice.call("get_customer", id=grace_id)
    assert (shown["name"], shown["address"]) == ("Grace", address)
    assert {"email", "session_fields"}.isdisjoint(shown)


async def test_updates_that_come_together_are_all_kept(either_world: World) -> None:
    alice, ada = await either_world.agent("alice"), either_world.id("ada")
    city = {"city": "C"}
    fields: list[dict[str, Any]] = [{"name": "A"}, {"email": "a@example.net"}, {"name": "B"}, {"address": city}]

    requests = [await alice.send("update_customer", id=ada, **each) for each in fields]
    for each in requests:
        assert (await alice.answer(each))["success"]

    shown = await alice.call("get_customer", id=ada)
    assert (shown["name"], shown["email"], shown["address"]) == ("B", "a@example.net", city)


async def test_a_chat_shows_its_customer_as_updated(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["grace"])
    await alice.call("update_customer", id=world.id("grace"), name="Grace H", session_fields=SESSION_FIELDS)

    users = (await alice.call("get_chat", chat_id=chat.id))["users"]

    [customer] = [user for user in users if user["type"] == "customer"]
    assert (customer["name"], customer["session_fields"]) == ("Grace H", SESSION_FIELDS)


async def test_agents_read_in_the_chat_what_its_customer_is_called_now(either_world: World) -> None:
    world = either_world
    alice, bob, web = await world.agent("alice"), await world.agent("bob"), await world.web("olivia")
    robin, ada = await world.web("robin"), world.id("ada")
    closed = await world.chat(alice, users=["ada"])
    await alice.call("deactivate_chat", id=closed.id)
    chat = await world.chat(alice, users=["ada"], group=0)
    bob.noise.add("customer_updated")
    await bob.call("follow_chat", id=chat.id)
    await bob.forget()

    await alice.call("update_customer", id=ada, name="Ada L")
    await web.call("update_customer", id=ada, name="Ada L", email="countess@example.net")
    await robin.call("update_customer", id=ada, name="Ada", email="ada@example.net")
    for nothing_new in ({"name": "Ada"}, {"email": ""}, {"address": {"city": "London"}}):
        await alice.call("update_customer", id=ada, **nothing_new)

    by_alice = "Alice has changed customer's name to Ada L"
    by_web = "Customer's email has been changed to countess@example.net"
    by_robin = "Customer's name and email has been changed to Ada, ada@example.net"
    variables = {"customer_name": "Ada", "customer_email": "ada@example.net"}
    told = [
        said("customer_updated", by_alice, "agents", initiator="Alice", customer_name="Ada L"),
        said("customer_updated", by_web, "agents", customer_email="countess@example.net"),
        said("customer_updated", by_robin, "agents", **variables),
    ]
    for event in told:
        push = await bob.next_push("incoming_event")
        assert push == {"chat_id": chat.id, "thread_id": chat.thread_id, "event": event}
    await bob.hears_nothing_more()
    assert (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"] == told
    assert (await alice.call("get_chat", chat_id=closed.id))["thread"]["events"] == [archived_by("Alice")]


async def test_an_empty_text_takes_a_field_away(world: World) -> None:
    alice = await world.agent("alice")
    fields = {"avatar": "https://example.com/ada.png", "phone_number": "+14155552671"}
    await alice.call("update_customer", id=world.id("ada"), **fields)
    assert (await alice.call("get_customer", id=world.id("ada"))).items() >= fields.items()
    await alice.call("update_customer", id=world.id("ada"), **dict.fromkeys(fields, ""))
    assert (await alice.call("get_customer", id=world.id("ada"))).keys().isdisjoint(fields)


async def test_a_customer_is_created_in_the_older_versions(either_world: World) -> None:
    world = either_world
    alice = await world.agent("alice", version="3.5", scopes=["customers:rw"])
    carol = await world.agent("carol")
    erin = await world.agent("erin", scopes=["chats--access:rw"])
    fields = {"name": "Joan", "avatar": "https://example.com/joan.png", "session_fields": SESSION_FIELDS}

    created = await alice.call("create_customer", **fields, email="", phone_number="+14155552671")

    customer = {"id": created["customer_id"], "type": "customer", "created_at": TIME, **fields}
    assert await alice.next_push("incoming_customer") == customer
    assert await carol.next_push("incoming_customer") == customer
    await erin.hears_nothing_more()
    shown = await carol.call("get_customer", id=created["customer_id"])
    assert shown == customer | {"statistics": STATISTICS}
    assert (await carol.refused("create_customer", **fields)).type == "not_found"  # there is no such method any more
    await carol.call("start_chat", chat={"users": [{"id": created["customer_id"], "type": "customer"}]})


async def test_nothing_need_be_known_of_a_customer(world: World, enter: Enter) -> None:
    alice = await enter("alice", version="3.4")
    created = [(await alice.call("create_customer"))["customer_id"] for _ in range(2)]
    assert created[0] != created[1]
    await alice.call("update_customer", id=created[0], name="Joan")  # by an id of the form that it takes
    assert (await alice.call("get_customer", id=created[0]))["name"] == "Joan"
    bob = await enter("bob", version="3.4", scopes=["customers:ro"])
    refusal = await bob.refused("create_customer")
    assert refusal == Refused("authorization", "Token lacks the scope: customers:rw")
    refusal = await alice.refused("create_customer", session_fields=[{"a": None}])
    assert refusal == Refused("validation", "`session_fields[0].a` must be a string")


async def test_a_ban_is_kept_and_told(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    erin = await world.agent("erin", scopes=["chats--access:rw"])

    for days in (1, 30):
        assert await alice.call("ban_customer", id=world.id("ada"), ban={"days": days}) == {}
        push = {"customer_id": world.id("ada"), "ban": {"days": days}}
        assert await alice.next_push("customer_banned") == push
        assert await bob.next_push("customer_banned") == push

    await erin.hears_nothing_more()
    [ban] = await bans(world)
    assert ban == {
        "license_id": world.license_id,
        "customer_id": world.id("ada"),
        "ip": VISIT["ip"],
        "agent_id": alice.id,
        "created_at": TIME,
        "expires_at": TIME,
    }
    lasts = datetime.fromisoformat(ban["expires_at"]) - datetime.fromisoformat(ban["created_at"])
    assert lasts == timedelta(days=30)


async def test_a_ban_closes_the_customers_chats(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    dave = await world.agent("dave", customer_monitoring_level="chatting")
    carol = await world.web("carol", scopes=["customers.ban:rw"])
    closed = await world.chat(alice, users=["ada"])
    await alice.call("deactivate_chat", id=closed.id)
    other = await world.chat(alice, users=["grace"])
    chats = [await world.chat(alice, users=["bob", "ada"]) for _ in range(2)]

    assert await carol.call("ban_customer", id=world.id("ada"), ban={"days": 3}) == {}

    await bob.next_push("customer_banned")
    text = "Chat archived because customer was banned by Carol for 3 day(s)"
    why = said("customer_banned", text, agent="Carol", duration="3")
    for chat in chats:
        place = {"chat_id": chat.id, "thread_id": chat.thread_id}
        assert await bob.next_push("incoming_event") == {**place, "event": why}
        assert await bob.next_push("chat_deactivated") == {**place, "user_id": world.id("carol")}
        read = await alice.call("get_chat", chat_id=chat.id)
        assert (read["thread"]["active"], read["thread"]["events"]) == (False, [why])
    await bob.hears_nothing_more()
    await dave.next_push("customer_banned")
    for _ in chats:
        await dave.next_push("chat_deactivated")
    assert (await alice.call("get_chat", chat_id=other.id))["thread"]["active"]
    assert (await alice.call("get_chat", chat_id=closed.id))["thread"]["events"] == [archived_by("Alice")]


async def test_a_chat_that_begins_with_the_ban_of_its_customer_is_closed(either_world: World) -> None:
    """They may be committed together."""
    alice, ada = await either_world.agent("alice"), either_world.id("ada")
    users = [{"id": ada, "type": "customer"}]
    started = await alice.send("start_chat", chat={"users": users})
    banned = await alice.send("ban_customer", id=ada, ban={"days": 3})
    renamed = await alice.send("update_customer", id=ada, name="Ada L")

    chat_id = (await alice.answer(started))["payload"]["chat_id"]
    for request_id in (banned, renamed):
        assert (await alice.answer(request_id))["success"]
    thread = (await alice.call("get_chat", chat_id=chat_id))["thread"]
    assert [event["system_message_type"] for event in thread["events"]] == ["customer_banned"]
    assert not thread["active"]


async def test_the_longest_ban_of_one_who_never_came(world: World, enter: Enter) -> None:
    alice = await enter("alice", scopes=["customers.ban:rw"])
    await alice.call("ban_customer", id=world.id("grace"), ban={"days": 36_500})
    [ban] = await bans(world)
    assert (ban["ip"], ban["customer_id"]) == (None, world.id("grace"))


@pytest.mark.parametrize(
    ("action", "payload", "scope"),
    [
        ("get_customer", {}, "customers:ro"),
        ("update_customer", {"name": "A"}, "customers:rw"),
        ("ban_customer", {"ban": {"days": 1}}, "customers.ban:rw"),
    ],
)
async def test_what_is_refused(world: World, enter: Enter, action: str, payload: dict[str, Any], scope: str) -> None:
    alice = await enter("alice")
    stranger = await world.server.world()
    not_found = Refused("not_found", "Customer not found")
    assert await alice.refused(action, id="9a4f2d5e-7a55-4a9c-8d3e-2f7b6c1d0e9f", **payload) == not_found
    assert await alice.refused(action, id=stranger.id("ada"), **payload) == not_found
    assert await alice.refused(action, **payload) == Refused("validation", "`id` is required")
    others = {"customers:rw", "customers.ban:rw", "chats--all:rw"} - {scope}
    others -= {"customers:rw"} if scope == "customers:ro" else set()
    bob = await enter("bob", scopes=others)
    refusal = await bob.refused(action, id=world.id("ada"), **payload)
    assert refusal == Refused("authorization", f"Token lacks the scope: {scope}")
    assert await world.stored_pushes() == []
    assert await bans(world) == []


def test_a_request_of_the_largest_size_is_taken() -> None:
    fields = [{f"field-{number}": "x" * 600} for number in range(100)]
    payload = {"id": "9a4f2d5e-7a55-4a9c-8d3e-2f7b6c1d0e9f", "session_fields": fields}
    assert UpdateCustomer.parse(payload).session_fields == fields
    with pytest.raises(ValidationError, match="`session_fields` must have at most 100 keys"):
        UpdateCustomer.parse(payload | {"session_fields": [{str(number): "" for number in range(51)}] * 2})
