"""What other versions have otherwise than 3.6."""

from typing import Annotated, Any, Literal

import orjson
import pytest
from pydantic import Field

from rtm import versions
from rtm.actions.registry import listing
from rtm.model.payload import Payload
from rtm.model.pushes import PUSHES
from rtm.model.requests.archives import ListArchives
from rtm.model.requests.chats import ListChats, ListThreads, StartChat
from rtm.model.requests.customers import UpdateCustomer
from rtm.model.requests.events import SendEvent, SendRichMessagePostback
from rtm.model.requests.sessions import Login
from rtm.model.responses import AgentStatus, ChatsPage, FollowableChat, LoggedIn, ThreadsPage
from rtm.model.shown import CustomerWithChats, Event
from rtm.protocol.errors import ValidationError
from rtm.protocol.validation import Location
from rtm.versions import v3_4, v3_5, v3_7
from rtm.versions.differences import Differs, Step, named

VISIT = {"started_at": "2017-10-12T15:19:21.010200Z", "ip": "10.0.0.1"}
CUSTOMER = {
    "id": "b7eff798-f8df-4364-8059-649c35c9ed0c",
    "type": "customer",
    "name": "Thomas Anderson",
    "phone_number": "+18008529001",
    "visit": VISIT,
    "statistics": {"chats_count": 3, "tickets_count": 12},
    "tickets": [],
    "carts": [],
    "omnichannel": {},
    "address": {},
}
OLDER_CUSTOMER = {
    "id": "b7eff798-f8df-4364-8059-649c35c9ed0c",
    "type": "customer",
    "name": "Thomas Anderson",
    "last_visit": VISIT,
    "statistics": {"chats_count": 3},
}
AGENT = {"id": "smith@example.com", "type": "agent", "visibility": "all"}
EVENT = {"id": "K600PKZON8_1", "type": "message", "text": "hello"}
PRODUCTS = {
    "id": "K600PKZON8_2",
    "type": "rich_message",
    "template_id": "ecommerce",
    "elements": [{"title": "A jumper", "ecommerce": {"view_type": "tags", "product_id": "1"}}],
}
OLDER_PRODUCTS = PRODUCTS | {"template_id": "cards", "elements": [{"title": "A jumper"}]}
CHOSEN = EVENT | {"postback": {"id": "buy", "thread_id": "T", "event_id": "T_1", "ecommerce": {"product_id": "1"}}}
OLDER_CHOSEN = EVENT | {"postback": {"id": "buy", "thread_id": "T", "event_id": "T_1"}}
THREAD = {"id": "K600PKZON8", "events": [EVENT, PRODUCTS, CHOSEN], "summary": {"status": "ok"}, "customer_visit": VISIT}
OLDER_THREAD = {"id": "K600PKZON8", "events": [EVENT, OLDER_PRODUCTS, OLDER_CHOSEN]}
CHAT = {"id": "PJ0MRSHTDG", "users": [CUSTOMER, AGENT], "thread": THREAD}
OLDER_CHAT = {"id": "PJ0MRSHTDG", "users": [OLDER_CUSTOMER, AGENT], "thread": OLDER_THREAD}
SUMMARY = {"id": "PJ0MRSHTDG", "users": [CUSTOMER], "last_event_per_type": {"rich_message": {"event": PRODUCTS}}}
OLDER_SUMMARY = {
    "id": "PJ0MRSHTDG",
    "users": [OLDER_CUSTOMER],
    "last_event_per_type": {"rich_message": {"event": OLDER_PRODUCTS}},
}

RESPONSES = [
    (FollowableChat, CHAT, OLDER_CHAT),
    (CustomerWithChats, CUSTOMER, OLDER_CUSTOMER),
    (ChatsPage, {"chats_summary": [SUMMARY]}, {"chats_summary": [OLDER_SUMMARY]}),
    (ThreadsPage, {"threads": [THREAD]}, {"threads": [OLDER_THREAD]}),
    (LoggedIn, {"license": {}, "chats_summary": [SUMMARY]}, {"license": {}, "chats_summary": [OLDER_SUMMARY]}),
    (list[AgentStatus], [{"agent_id": "a"}], [{"agent_id": "a"}]),
]
SHOWN_PUSHES = [
    ("incoming_chat", {"requester_id": "a", "chat": CHAT}, {"requester_id": "a", "chat": OLDER_CHAT}),
    ("incoming_event", {"event": CHOSEN}, {"event": OLDER_CHOSEN}),
    ("incoming_event", {"event": EVENT}, {"event": EVENT}),
    ("incoming_event", {"event": PRODUCTS}, {"event": OLDER_PRODUCTS}),
    ("user_added_to_chat", {"user": CUSTOMER}, {"user": OLDER_CUSTOMER}),
    ("user_added_to_chat", {"user": AGENT}, {"user": AGENT}),
    ("incoming_customer", CUSTOMER, OLDER_CUSTOMER),
    ("incoming_customers", {"customers": [CUSTOMER]}, {"customers": [OLDER_CUSTOMER]}),
    ("customer_updated", {"id": "c", "cart": {}, "name": "T"}, {"id": "c", "name": "T"}),
    (
        "incoming_rich_message_postback",
        {"postback": {"id": "a", "toggled": True, "button_type": "url", "button_value": "b", "ecommerce": {}}},
        {"postback": {"id": "a", "toggled": True}},
    ),
]


@pytest.mark.parametrize("version", ["3.4", "3.5"])
@pytest.mark.parametrize(("response", "ours", "older"), RESPONSES)
def test_responses_speak_the_older_version(version: str, response: Any, ours: Any, older: Any) -> None:
    before = repr(ours)
    assert versions.response_for(version, response, ours) == older
    assert versions.response_for(versions.STABLE, response, ours) is ours
    assert repr(ours) == before


QUOTED = EVENT | {"text": 'they say "ecommerce", "rich_message" and "system"'}
TOLD = {"id": "K600PKZON8_3", "type": "system", "source": "a", "subtype": "b", "version": 1, "details": "{}"}
OLDER_TOLD = {"id": "K600PKZON8_3", "type": "system_message", "system_message_type": "b"}
EVENTS = [(EVENT, EVENT), (PRODUCTS, OLDER_PRODUCTS), (CHOSEN, OLDER_CHOSEN), (QUOTED, QUOTED), (TOLD, OLDER_TOLD)]


@pytest.mark.parametrize("version", versions.SERVED)
@pytest.mark.parametrize(("ours", "older"), EVENTS)
def test_events_that_are_stored_speak_the_version(version: str, ours: Any, older: Any) -> None:
    expected = older if version in ("3.4", "3.5") else ours
    text = orjson.dumps(ours).decode()

    assert orjson.loads(orjson.dumps(list(versions.each_text(version, Event, [text])))) == [expected]
    assert orjson.loads(orjson.dumps(list(versions.each_as_json(version, Event, [ours])))) == [expected]


def test_what_older_versions_have_alike_is_not_looked_into() -> None:
    assert orjson.dumps(list(versions.each_text("3.4", Event, ["[what is no JSON"]))) == b"[[what is no JSON]"


@pytest.mark.parametrize("version", ["3.4", "3.5"])
@pytest.mark.parametrize(("name", "ours", "older"), SHOWN_PUSHES)
def test_pushes_speak_the_older_version(version: str, name: str, ours: Any, older: Any) -> None:
    before = repr(ours)
    assert versions.changes_push(version, name)
    assert versions.push_for(version, name, ours) == older
    assert repr(ours) == before


LAST_EVENTS = {
    "message": {"thread_id": "THREAD0002", "thread_created_at": "2026-01-01T00:00:00.000000Z", "event": EVENT},
    "rich_message": {"thread_id": "THREAD0001", "thread_created_at": "2025-01-01T00:00:00.000000Z", "event": PRODUCTS},
}
CHAT_INFOS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"id": "P", "last_event_per_type": LAST_EVENTS, "last_thread_summary": {"id": "THREAD0002", "active": True}},
        {
            "id": "P",
            "last_thread_info": {
                "id": "THREAD0002",
                "active": True,
                "last_event_per_type": {"message": {"event": EVENT}},
            },
        },
    ),
    (
        {"id": "P", "last_event_per_type": LAST_EVENTS, "last_thread_summary": {"id": "THREAD0003"}},
        {"id": "P", "last_thread_info": {"id": "THREAD0003", "last_event_per_type": {}}},
    ),
    ({"id": "P", "last_event_per_type": {}, "users": [CUSTOMER]}, {"id": "P", "users": [CUSTOMER]}),
]


@pytest.mark.parametrize("response", [ChatsPage, LoggedIn])
@pytest.mark.parametrize(("summary", "info"), CHAT_INFOS, ids=["active", "of an earlier thread", "without threads"])
def test_a_chat_info_of_3_7_has_the_last_events_of_its_last_thread(
    response: Any, summary: dict[str, Any], info: dict[str, Any]
) -> None:
    ours = {"license": {}, "chats_summary": [summary]}
    before = repr(ours)
    assert versions.response_for("3.7", response, ours) == {"license": {}, "chats_info": [info]}
    assert repr(ours) == before


@pytest.mark.parametrize(("name", "ours", "_older"), SHOWN_PUSHES)
def test_pushes_of_3_7_are_those_of_3_6(name: str, ours: Any, _older: Any) -> None:
    assert not versions.changes_push("3.7", name)
    assert versions.push_for("3.7", name, ours) is ours


def test_every_push_of_an_action_or_a_version_is_in_the_catalogue() -> None:
    """Else nobody would be sent it, and no schema would tell of it."""
    assert {name for each in listing() for name in each["pushes"]} <= PUSHES.keys()
    assert PUSHES.keys() >= v3_4.ABSENT_PUSHES | v3_5.ABSENT_PUSHES | v3_7.ABSENT_PUSHES


def test_a_push_that_all_versions_share_is_not_touched() -> None:
    payload = {"chat_id": "P"}
    for version in versions.SERVED:
        assert not versions.changes_push(version, "chat_deactivated")
        assert versions.push_for(version, "chat_deactivated", payload) is payload
    assert not versions.changes_push(versions.STABLE, "incoming_chat")


@pytest.mark.parametrize("version", ["3.4", "3.5"])
@pytest.mark.parametrize(
    ("include_active", "active"),
    [({"include_active": True}, None), ({"include_active": False}, False), ({}, None), ({"active": True}, None)],
)
def test_include_active_becomes_active(version: str, include_active: dict[str, Any], active: bool | None) -> None:
    payload = {"filters": {"group_ids": [1], **include_active}}
    filters = ListChats.parse(versions.request_from(version, ListChats, payload)).filters
    assert filters is not None
    assert filters.active is active
    assert filters.group_ids == [1]


@pytest.mark.parametrize("filters", [None, [], "active", 5])
def test_what_cannot_be_upgraded_is_left_to_validation(filters: Any) -> None:
    payload = {"filters": filters}
    assert versions.request_from("3.5", ListChats, payload) == payload


def test_include_active_must_be_a_boolean() -> None:
    with pytest.raises(ValidationError, match=r"`filters\.include_active` must be a boolean"):
        versions.request_from("3.5", ListChats, {"filters": {"include_active": 1}})


@pytest.mark.parametrize("version", ["3.4", "3.5"])
@pytest.mark.parametrize("template_id", ["cards", "ecommerce"])
def test_older_versions_have_no_template_for_products(version: str, template_id: str) -> None:
    products = {"type": "rich_message", "template_id": template_id, "elements": []}
    for model, payload in (
        (SendEvent, {"chat_id": "P", "event": products}),
        (StartChat, {"chat": {"thread": {"events": [products]}}}),
    ):
        if template_id == "cards":
            assert versions.request_from(version, model, payload) == payload
        else:
            with pytest.raises(ValidationError, match="`template_id` must be one of: cards, sticker, quick_replies"):
                versions.request_from(version, model, payload)


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_postbacks_of_older_versions_know_less(version: str) -> None:
    payload = {"chat_id": "P", "postback": {"id": "a", "toggled": True, "button_type": 1, "ecommerce": []}}
    upgraded = {"chat_id": "P", "postback": {"id": "a", "toggled": True}}
    assert versions.request_from(version, SendRichMessagePostback, payload) == upgraded
    for wrong in ({}, {"postback": None}, {"postback": ["ecommerce"]}):
        assert versions.request_from(version, SendRichMessagePostback, wrong) == wrong
    names = versions.parameters(version, SendRichMessagePostback)
    assert [name for name in names if name.startswith("postback")] == [
        "postback",
        "postback.id",
        "postback.toggled",
    ]


@pytest.mark.parametrize(
    ("action", "served"),
    [
        ("send_event", ["3.4", "3.5", "3.6", "3.7"]),
        ("send_event_preview", ["3.6", "3.7"]),
        ("update_session", ["3.6", "3.7"]),
        ("list_customers", ["3.4", "3.5"]),
        ("get_license_info", ["3.5"]),
        ("change_push_notifications", ["3.4"]),
    ],
)
def test_actions_come_and_go(action: str, served: list[str]) -> None:
    assert [version for version in versions.SERVED if versions.has_action(version, action)] == served


@pytest.mark.parametrize(
    ("push", "served"),
    [
        ("incoming_event", ["3.4", "3.5", "3.6", "3.7"]),
        ("incoming_thinking_indicator", ["3.6", "3.7"]),
        ("groups_status_updated", ["3.5", "3.6", "3.7"]),
    ],
)
def test_pushes_come_and_go(push: str, served: list[str]) -> None:
    assert [version for version in versions.SERVED if versions.has_push(version, push)] == served


def test_parameters_have_their_version_s_names() -> None:
    assert "filters.active" in versions.parameters("3.6", ListChats)
    assert "filters.include_active" in versions.parameters("3.4", ListChats)
    assert "filters.active" not in versions.parameters("3.5", ListChats)
    assert "push_notifications.platform" in versions.parameters("3.4", Login)
    assert "push_notifications" not in versions.parameters("3.5", Login)
    assert not {"phone_number", "address.city"} & set(versions.parameters("3.5", UpdateCustomer))


def test_the_names_of_parameters_are_dotted() -> None:
    assert versions.parameters("3.6", ListThreads) == [
        "page_id",
        "chat_id",
        "sort_order",
        "limit",
        "min_events_count",
        "filters",
        "filters.from",
        "filters.to",
    ]
    assert "chat.users.id" in versions.parameters("3.6", StartChat)
    assert versions.parameters("3.6", SendEvent) == ["chat_id", "event"]


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_older_versions_send_nothing_that_they_do_not_know(version: str) -> None:
    sent = {"chat_id": "P", "event": {"type": "message", "text": "a", "postback": {"id": "a", "ecommerce": {}}}}
    read = versions.request_from(version, SendEvent, sent)
    assert read == {"chat_id": "P", "event": {"type": "message", "text": "a", "postback": {"id": "a"}}}
    products = {"type": "rich_message", "elements": [{"title": "a", "ecommerce": {}}, None, 5]}
    started = {"chat": {"thread": {"events": [products, "no event", {"type": []}]}}}
    read = versions.request_from(version, StartChat, started)
    events = [{"type": "rich_message", "elements": [{"title": "a"}, None, 5]}, "no event", {"type": []}]
    assert read == {"chat": {"thread": {"events": events}}}
    assert versions.request_from(version, UpdateCustomer, {"id": "a", "address": {}, "tickets": 1}) == {"id": "a"}


def refusal(version: str, model: type[Payload], payload: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        versions.read(version, model, payload)
    return caught.value.message


@pytest.mark.parametrize(
    ("version", "name"), [("3.4", "surveys"), ("3.5", "forms"), ("3.6", "forms"), ("3.7", "forms")]
)
def test_a_refusal_names_a_field_as_its_version_does(version: str, name: str) -> None:
    def refused(**filters: Any) -> str:
        return refusal(version, ListArchives, {"filters": filters})

    assert refused(**{name: "x"}) == f"`filters.{name}` must be an array"
    assert refused(**{name: [{}] * 5}) == f"`filters.{name}` must have at most 4 elements"
    assert refused(**{name: [{}, {"type": "x"}]}) == f"`filters.{name}[1].type` must be one of: pre_chat, post_chat"
    alone = f"`filters.{name}` can't be used together with `thread_ids`"
    assert refused(**{name: []}, thread_ids=["A"]) == alone


def test_a_refusal_names_what_its_version_knows() -> None:
    nothing = {"id": "b7eff798-f8df-4364-8059-649c35c9ed0c", "phone_number": "1"}
    older = "`name` is required, or one of: email, avatar, session_fields"
    assert refusal("3.5", UpdateCustomer, nothing) == older
    assert refusal("3.6", UpdateCustomer, {"id": nothing["id"]}) == (
        "`name` is required, or one of: email, avatar, phone_number, session_fields, omnichannel, address"
    )


class Wheel(Payload):
    type: Literal["wheel"]
    spokes: int


class Sail(Payload):
    type: Literal["sail"]
    area: int


class Vehicle(Payload):
    parts: dict[str, list[Annotated[Wheel | Sail, Field(discriminator="type")]]]
    spare: Wheel | None = None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (("parts", "left", 0, "wheel", "spokes"), ("pieces", "left", 0, "wheel", "rods")),
        (("parts", "parts", 0, "sail", "area"), ("pieces", "parts", 0, "sail", "area")),
        (("parts", "left", 0, "type"), ("pieces", "left", 0, "type")),
        (("spare", "spokes"), ("spare", "rods")),
        (("spare", "spokes", 3), ("spare", "rods", 3)),
        ((), ()),
    ],
)
def test_a_place_is_named_as_the_last_version_names_it(ours: Location, theirs: Location) -> None:
    steps: list[Step] = [
        {Vehicle: Differs(renamed={"parts": "bits"}), Wheel: Differs(renamed={"spokes": "rods"})},
        {Vehicle: Differs(renamed={"bits": "pieces"})},
    ]
    assert named(Vehicle, steps, ours) == theirs


def test_a_place_that_a_version_has_not_has_no_name() -> None:
    assert named(Vehicle, [{Wheel: Differs(without=("spokes",))}], ("spare", "spokes")) is None


def test_bots_are_named_in_older_versions_only() -> None:
    assert [versions.bots_by_author_id(version) for version in versions.SERVED] == [True, True, False, False]
