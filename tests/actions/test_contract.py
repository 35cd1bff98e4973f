"""Every method by its sample in the reference: what is answered and pushed has the reference's fields, and no others.

`contract.json` holds names only, drawn from the public reference, its samples and released clients: of each request's
fields, and of what answers, pushes and structures consist of. 3.6 is whole; of other versions it has what is otherwise,
null for what they have not. A name with `?` may be missing, as the reference says or as it stands to reason
(`transferred_from`). A value is what the field consists of: "" for what is not looked into, "thread" for a structure of
that name, "user.*" for "user.agent" or "user.customer", as the value's own `type` says; under "*" there may be any
names.

A new action joins by a row in `ROWS`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from rtm import versions
from rtm.actions import registry
from rtm.actions.registry import AGENT, RTM, WEB
from tests.actions.test_doors import HELLO
from tests.actions.test_files import picture
from tests.documents.judge import complaints
from tests.model.examples import EVENTS, PROPERTIES
from tests.world import SALES, Client, Web, World

_TABLES: dict[str, dict[str, dict[str, Any]]] = orjson.loads(Path(__file__).with_name("contract.json").read_bytes())


def contract(version: str, section: str) -> dict[str, Any]:
    """One section of the version's contract."""
    entries = _TABLES["3.6"][section] | _TABLES[version].get(section, {})
    return {name: shape for name, shape in entries.items() if shape is not None}


def differences(version: str, shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """The fields that are missing, and those that nobody knows."""
    if isinstance(shape, str):
        if shape:
            name = shape.replace("*", value["type"]) if "*" in shape else shape
            yield from differences(version, contract(version, "structures")[name], value, path)
    elif isinstance(shape, list):
        for item in value:
            yield from differences(version, shape[0], item, path + "[]")
    elif "*" in shape:
        for item in value.values():
            yield from differences(version, shape["*"], item, path + ".*")
    else:
        known = {name.removesuffix("?"): name for name in shape}
        yield from (f"{path}.{name} is missing" for name in shape if not name.endswith("?") and name not in value)
        for name, item in value.items():
            if name in known:
                yield from differences(version, shape[known[name]], item, f"{path}.{name}")
            else:
                yield f"{path}.{name} is unknown"


@dataclass(frozen=True)
class Row:
    """A method's sample request, with names in place of ids; `before` is what is called first."""

    action: str
    payload: dict[str, Any] = field(default_factory=dict)
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    untold: frozenset[str] = frozenset()
    """Pushes that the sample is no occasion for."""


CHAT = {"chat_id": "$chat"}
THREAD = {"chat_id": "$chat", "thread_id": "$thread"}
EVENT = THREAD | {"event_id": "$event"}
CUSTOMER = {
    "name": "Thomas Anderson",
    "email": "t.anderson@example.com",
    "avatar": "https://example.com/avatars/1.png",
    "session_fields": [{"custom_key": "custom_value"}, {"another_custom_key": "another_custom_value"}],
}
NAMES = {"test": ["string_property"]}
SET_OF_CHAT = ("update_chat_properties", {"id": "$chat", "properties": PROPERTIES})
SET_OF_THREAD = ("update_thread_properties", THREAD | {"properties": PROPERTIES})
SET_OF_EVENT = ("update_event_properties", EVENT | {"properties": PROPERTIES})
BOB = {"chat_id": "$chat", "user_id": "$bob", "user_type": "agent"}

OF_UNASSIGNED = frozenset({"chat_properties_updated", "thread_properties_updated"})

ROWS = [
    Row("list_chats"),
    Row("list_threads", CHAT),
    Row("get_chat", THREAD),
    Row("start_chat"),
    Row(
        "resume_chat",
        {"chat": {"id": "$chat"}},
        before=(("deactivate_chat", {"id": "$chat"}),),
        untold=frozenset({"chat_access_updated"}),
    ),
    Row("deactivate_chat", {"id": "$chat"}),
    Row("follow_chat", {"id": "$other_chat"}),
    Row("unfollow_chat", {"id": "$other_chat"}, before=(("follow_chat", {"id": "$other_chat"}),)),
    Row(
        "add_user_to_chat",
        CHAT | {"user_id": "$dave", "user_type": "agent", "visibility": "all", "ignore_requester_presence": True},
        untold=OF_UNASSIGNED | {"incoming_chat"},
    ),
    Row("remove_user_from_chat", BOB),
    Row(
        "transfer_chat",
        {"id": "$chat", "target": {"type": "agent", "ids": ["$bob"]}},
        untold=frozenset(
            {
                "incoming_chat",
                "chat_access_updated",
                "user_added_to_chat",
                "chat_unfollowed",
                "chat_properties_updated",
            }
        ),
    ),
    Row(
        "send_rich_message_postback",
        THREAD
        | {
            "event_id": "$rich_message",
            "postback": {
                "id": "action_yes",
                "toggled": True,
                "button_type": "url",
                "button_value": "https://www.example.com",
                "ecommerce": {"product_id": "12345", "option_id": "red-xl", "quantity": 1},
            },
        },
    ),
    Row("update_chat_properties", {"id": "$chat", "properties": PROPERTIES}),
    Row("delete_chat_properties", {"id": "$chat", "properties": NAMES}, before=(SET_OF_CHAT,)),
    Row("update_thread_properties", THREAD | {"properties": PROPERTIES}),
    Row("delete_thread_properties", THREAD | {"properties": NAMES}, before=(SET_OF_THREAD,)),
    Row("update_event_properties", EVENT | {"properties": PROPERTIES}),
    Row("delete_event_properties", EVENT | {"properties": NAMES}, before=(SET_OF_EVENT,)),
    Row("tag_thread", THREAD | {"tag": "order"}),
    Row("untag_thread", THREAD | {"tag": "order"}, before=(("tag_thread", THREAD | {"tag": "order"}),)),
    Row("get_customer", {"id": "$ada"}),
    Row("update_customer", {"id": "$ada"} | CUSTOMER),
    Row("create_customer", CUSTOMER),
    Row("list_customers"),
    Row("subscribe_customers", {"group_ids": [0, 1], "limit": 100}),
    Row("ban_customer", {"id": "$ada", "ban": {"days": 3}}),
    Row("list_archives", {"filters": {"event_types": {"values": ["message", "filled_form"]}}}),
    Row("list_agents_for_transfer", CHAT),
    Row("send_event_preview", CHAT | {"event": HELLO | {"visibility": "all", "custom_id": "31-0C-1C-07-DB-16"}}),
    Row("send_event", CHAT | {"event": HELLO | {"visibility": "all"}}),
    Row("set_away_status", {"away": True}),
    Row(
        "set_routing_status",
        {"status": "accepting_chats", "agent_id": "$alice"},
        before=(("set_routing_status", {"status": "not_accepting_chats"}),),
    ),
    Row("list_routing_statuses", {"filters": {"group_ids": [0]}}),
    Row("update_session", {"token": "$token"}),
    Row("change_push_notifications", {"firebase_token": "8daDAD9dada8ja1JADA11", "platform": "ios", "enabled": True}),
    Row("get_license_info"),
    Row("mark_events_as_seen", CHAT | {"seen_up_to": "2999-10-12T15:19:21.010200Z"}),
    Row(
        "send_thinking_indicator",
        CHAT | {"title": "Thinking", "description": "Asking", "visibility": "all", "custom_id": "31-0C"},
    ),
    Row("send_typing_indicator", CHAT | {"is_typing": True}),
    Row(
        "multicast",
        {"recipients": {"agents": {"all": True, "ids": ["$bob"], "groups": [1, 2]}}, "content": {"nested": "json"}},
    ),
]
APART = {"login", "logout", "ping", "request_thread_summary", "upload_file", "unsubscribe_customers"}
"""Actions with a test of their own."""

NOT_HERE = {
    "login": {
        ".license.expiration_timestamp is missing",  # a license need not end
        ".license.website_last_activity is missing",  # nothing is known of websites
    }
}
"""Where we differ from the reference."""


def sampled(action: str) -> str:
    """The version whose sample of the action is sent: 3.6, or the last that has it."""
    return next(version for version in ("3.6", "3.5", "3.4") if versions.has_action(version, action))


LATE = {"customer_statistics_updated"}
"""Pushes that come when something has been read, and have a test of their own."""

CATALOGUE = registry.listing()
CASES = [
    pytest.param(row, version, door, id=f"{row.action}-{version}-{door}")
    for row in ROWS
    for version in versions.SERVED
    for door in (RTM, WEB)
    if registry.find(AGENT, row.action, version, door) and (door == RTM or version == sampled(row.action))
]


def fill(value: Any, names: dict[str, str]) -> Any:
    """The payload with ids for names."""
    if isinstance(value, dict):
        return {name: fill(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [fill(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


async def scene(world: World) -> dict[str, str]:
    """A chat of Alice, Bob and Ada in its second thread, with events of all types, and a chat without Alice."""
    alice, olivia = await world.web("alice"), await world.web("olivia")
    first = await world.chat(alice, users=["bob", "ada"], texts=["hello"])
    await alice.call("deactivate_chat", id=first.id)
    users = [{"id": world.id("bob"), "type": "agent"}, {"id": world.id("ada"), "type": "customer"}]
    events = [{name: item for name, item in event.items() if name != "custom_id"} for event in EVENTS.values()]
    chat = {"id": first.id, "access": {"group_ids": [SALES]}, "users": users, "thread": {"events": events}}
    resumed = await alice.call("resume_chat", chat=chat)
    other = await world.chat(olivia, users=["grace"], texts=["hello"])
    return {
        "$chat": first.id,
        "$thread": resumed["thread_id"],
        "$event": resumed["event_ids"][0],
        "$rich_message": resumed["event_ids"][list(EVENTS).index("rich_message")],
        "$other_chat": other.id,
        "$token": await world.token("alice"),
        **{f"${name}": world.id(name) for name in ("alice", "bob", "dave", "ada")},
    }


async def pushes(client: Client) -> list[tuple[str, Any]]:
    """What the client has been told by now."""
    request_id = await client.send("ping")
    told = []
    while (frame := await client.next()).get("request_id") != request_id or frame["type"] == "push":
        told.append((frame["action"], frame["payload"]))
    return told


@pytest.mark.parametrize(("row", "version", "door"), CASES)
async def test_answer_and_pushes_have_the_fields_of_the_reference(
    world: World, row: Row, version: str, door: str
) -> None:
    names = await scene(world)
    hearers = [await world.agent(name, version=version) for name in ("alice", "bob")]
    asker: Client | Web = hearers[0] if door == RTM else await world.web("alice", version=version)
    for action, payload in row.before:
        await asker.call(action, **fill(payload, names))
    for hearer in hearers:
        hearer.noise = set()
        await hearer.forget()

    request = fill(row.payload, names)
    answer = await asker.call(row.action, **request)

    told = [push for hearer in hearers for push in await pushes(hearer)]
    assert list(differences(version, contract(version, "responses")[row.action], answer)) == []
    if version == sampled(row.action):
        assert complaints(version, "requests", row.action, request) == []
    assert complaints(version, "responses", row.action, answer) == []
    for name, payload in told:
        assert list(differences(version, contract(version, "pushes")[name], payload)) == [], name
        assert complaints(version, "pushes", name, payload) == []
    action_ = registry.find(AGENT, row.action, version, door)
    assert action_ is not None
    expected = set(action_.pushes) - row.untold
    assert {name for name, _ in told} - LATE == {name for name in expected if versions.has_push(version, name)}


@pytest.mark.parametrize("version", versions.SERVED)
async def test_a_login_has_the_fields_of_the_reference(world: World, version: str) -> None:
    await scene(world)
    alice = await world.agent("alice", version=version, pushes={"3.6": ["incoming_chat"], "3.7": ["all"]})
    found = differences(version, contract(version, "responses")["login"], alice.greeting)
    assert set(found) == NOT_HERE["login"]
    assert complaints(version, "responses", "login", alice.greeting) == []
    assert await alice.call("logout") == {}


@pytest.mark.parametrize("version", versions.SERVED)
async def test_an_upload_and_its_event_have_the_fields_of_the_reference(world: World, version: str) -> None:
    names = await scene(world)
    alice, web = await world.agent("alice", version=version), await world.web("alice", version=version)
    answer = (await web.upload("image.png", picture())).json()
    assert list(differences(version, contract(version, "responses")["upload_file"], answer)) == []
    event = {"type": "file", "alternative_text": "An image"} | answer
    await alice.call("send_event", chat_id=names["$chat"], event=event)
    shown = (await alice.next_push("incoming_event"))["event"]
    everything = {
        name.removesuffix("?"): shape for name, shape in contract(version, "structures")["event.file"].items()
    }
    assert everything.keys() - shown.keys() == {"custom_id", "properties", "deleted"}
    assert shown.keys() <= everything.keys()


@pytest.mark.parametrize("version", [each for each in versions.SERVED if versions.has_push(each, *LATE)])
async def test_what_is_told_late_has_the_fields_of_the_reference(world: World, version: str) -> None:
    (late,) = LATE
    alice = await world.agent("alice", version=version, pushes={version: [late]})
    alice.noise = set()
    await world.chat(await world.web("alice"), users=["ada"])
    told = await alice.next_push(late)
    assert list(differences(version, contract(version, "pushes")[late], told)) == []
    assert complaints(version, "pushes", late, told) == []


@pytest.mark.parametrize("row", [pytest.param(row, id=row.action) for row in ROWS])
def test_requests_are_the_samples_of_the_reference(row: Row) -> None:
    version = sampled(row.action)
    assert list(differences(version, contract(version, "requests")[row.action], row.payload)) == []


def test_what_is_missing_is_found_and_so_is_what_nobody_knows() -> None:
    customer = {"id": "C", "type": "customer", "last_visit": {"started_at": "now", "ip": "10.0.0.1", "color": "red"}}
    push = {"reason": "manual", "user": customer, "size": 1}
    shape = contract("3.6", "pushes")["user_added_to_chat"]
    assert list(differences("3.6", shape, push)) == [
        ".chat_id is missing",
        ".user.last_visit is unknown",
        ".size is unknown",
    ]
    assert list(differences("3.5", shape, push)) == [
        ".chat_id is missing",
        ".user.last_visit.color is unknown",
        ".size is unknown",
    ]


def test_every_action_has_a_row() -> None:
    actions = {each["action"] for each in CATALOGUE}
    assert actions - {row.action for row in ROWS} == APART


@pytest.mark.parametrize("version", versions.SERVED)
def test_every_version_has_its_actions_only_and_they_tell_what_the_reference_says(version: str) -> None:
    catalogue = {each["action"]: each for each in CATALOGUE if each["version"] == version}
    assert catalogue.keys() - contract(version, "responses").keys() == {"ping"}
    for name, told in contract(version, "pushes_of").items():
        assert name not in catalogue or set(told) <= set(catalogue[name]["pushes"]), name
