"""Payloads of actions: what is taken, what is refused and in which words."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtm.model.payload import Payload
from rtm.model.requests.chats import (
    AddUserToChat,
    ListChats,
    ListThreads,
    RemoveUserFromChat,
    ResumeChat,
    StartChat,
)
from rtm.model.requests.events import MarkEventsAsSeen, Multicast, SendEvent, SendEventPreview, SendTypingIndicator
from rtm.model.requests.sessions import Login, SetAwayStatus, SetRoutingStatus
from rtm.protocol.errors import ValidationError
from rtm.protocol.validation import MAX_MESSAGE_LENGTH
from tests.model.examples import EVENTS, PAYLOADS

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """The value with one part of it, at any depth, replaced or taken away."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
        return draw(ANY_JSON)
    place = draw(st.sampled_from(sorted(value)) if isinstance(value, dict) else st.integers(0, len(value) - 1))
    copy = value.copy()
    if draw(st.integers(0, 4)) == 0:
        del copy[place]
    else:
        copy[place] = draw(spoiled(value[place]))
    return copy


def outcome(model: type[Payload], payload: dict[str, Any]) -> str | None:
    """The words of the refusal, None for a payload that fits. Any other exception goes through."""
    try:
        model.parse(payload)
    except ValidationError as error:
        return error.message
    return None


def refusal(model: type[Payload], payload: dict[str, Any]) -> str:
    message = outcome(model, payload)
    assert message is not None, "taken"
    return message


@pytest.mark.parametrize("model", PAYLOADS, ids=lambda model: model.__name__)
def test_takes_every_field_of_the_action(model: type[Payload]) -> None:
    parsed = model.parse(PAYLOADS[model])
    assert {field.alias or name for name, field in model.model_fields.items()} >= set(PAYLOADS[model])
    assert {model.model_fields[name].alias or name for name in parsed.model_fields_set} == set(PAYLOADS[model])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_json_is_taken_or_refused_by_a_short_sentence_about_a_field(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(list(PAYLOADS)))
    payload = orjson.loads(orjson.dumps(data.draw(spoiled(PAYLOADS[model]))))
    message = outcome(model, payload if isinstance(payload, dict) else {})
    if message is not None:
        assert len(message) <= MAX_MESSAGE_LENGTH
        assert re.match(r"`[^`]+.*` (is required|must|can't|has a name that must)", message, re.DOTALL)


@pytest.mark.parametrize(
    ("model", "payload", "message"),
    [
        (SendEvent, {}, "`chat_id` is required"),
        (SendEvent, {"chat_id": 5}, "`chat_id` must be a string"),
        (SendEvent, {"chat_id": ""}, "`chat_id` must not be empty"),
        (SendEvent, {"chat_id": "x" * 257}, "`chat_id` must be at most 256 characters long"),
        (SendEvent, {"chat_id": "P\0"}, "`chat_id` must not contain the character U+0000"),
        (SendEvent, {"chat_id": "P"}, "`event` is required"),
        (SendEvent, {"chat_id": "P", "event": "hello"}, "`event` must be an object"),
        (SendEventPreview, {"chat_id": "P", "event": EVENTS["custom"]}, "`event.type` must be one of: message"),
        (
            SendEventPreview,
            {"chat_id": "P", "event": {"type": "message", "text": "a", "visibility": "agents"}},
            "`event.visibility` must be one of: all",
        ),
        (SendTypingIndicator, {"chat_id": "P", "is_typing": 1}, "`is_typing` must be a boolean"),
        (MarkEventsAsSeen, {"chat_id": "P", "seen_up_to": "now"}, "`seen_up_to` must be an RFC 3339 date-time"),
        (
            MarkEventsAsSeen,
            {"chat_id": "P", "seen_up_to": "0001-01-01T00:00:00+01:00"},
            "`seen_up_to` must be an RFC 3339 date-time",
        ),
        (SetAwayStatus, {"away": "true"}, "`away` must be a boolean"),
        (
            SetRoutingStatus,
            {"status": "busy"},
            "`status` must be one of: accepting_chats, not_accepting_chats, offline",
        ),
        (Login, {"token": "Bearer x", "pushes": {"3.6": "all"}}, "`pushes.3.6` must be an array"),
        (Login, {"token": "Bearer x", "application": []}, "`application` must be an object"),
        (ListChats, {"limit": 0}, "`limit` must be an integer from 1 to 100"),
        (ListChats, {"limit": True}, "`limit` must be an integer from 1 to 100"),
        (ListChats, {"limit": 1.5}, "`limit` must be an integer from 1 to 100"),
        (ListChats, {"sort_order": "newest"}, "`sort_order` must be one of: asc, desc"),
        (ListChats, {"filters": {"active": "yes"}}, "`filters.active` must be a boolean"),
        (ListChats, {"filters": {"group_ids": [0] * 201}}, "`filters.group_ids` must have at most 200 elements"),
        (
            ListChats,
            {"filters": {"group_ids": [0, "1"]}},
            "`filters.group_ids[1]` must be an integer from 0 to 2147483647",
        ),
        (
            ListChats,
            {"filters": {"properties": {"routing": {"idle": {"exists": True, "values": [True]}}}}},
            "`filters.properties.routing.idle` must have exactly one of: exists, values, exclude_values",
        ),
        (ListThreads, {"chat_id": "P", "filters": {"from": 5}}, "`filters.from` must be a string"),
        (ListThreads, {"chat_id": "P", "min_events_count": 101}, "`min_events_count` must be an integer from 1 to 100"),
        (ResumeChat, {"chat": {}}, "`chat.id` is required"),
        (StartChat, {"chat": {"access": {"group_ids": []}}}, "`chat.access.group_ids` must not be empty"),
        (StartChat, {"chat": {"users": [{"id": "a"}]}}, "`chat.users[0].type` is required"),
        (
            StartChat,
            {"chat": {"users": [{"id": "a", "type": "customer"}, {"id": "b", "type": "customer"}]}},
            "`chat.users` must have at most 1 customer",
        ),
        (
            StartChat,
            {"chat": {"users": [{"id": str(number), "type": "agent"} for number in range(6)]}},
            "`chat.users` must have at most 4 additional agents",
        ),
        (
            StartChat,
            {"chat": {"thread": {"events": [{"type": "message", "text": "a", "visibility": "agents"}]}}},
            "`chat.thread.events[0].visibility` must be one of: all",
        ),
        (
            AddUserToChat,
            {"chat_id": "P", "user_id": "c", "user_type": "customer", "visibility": "agents"},
            "`visibility` must be `all` for a customer",
        ),
        (
            RemoveUserFromChat,
            {"chat_id": "P", "user_id": "c", "user_type": "customer"},
            "`user_type` must be one of: agent",
        ),
        (
            Multicast,
            {"recipients": {"agents": {"ids": []}}, "content": 1},
            "`recipients.agents` must have at least one of: all, ids, groups",
        ),
        (Multicast, {"recipients": {"customers": {"ids": ["c"]}}, "content": 1}, "`recipients.agents` is required"),
        (Multicast, {"recipients": {"agents": {"all": True}}}, "`content` is required"),
    ],
)
def test_refuses(model: type[Payload], payload: dict[str, Any], message: str) -> None:
    assert refusal(model, payload) == message


@pytest.mark.parametrize("field", ["filters", "limit", "sort_order"])
@pytest.mark.parametrize("model", [ListChats, ListThreads])
def test_a_page_cannot_be_asked_for_otherwise_than_the_first(model: type[Payload], field: str) -> None:
    payload = {"chat_id": "P", "page_id": "MTUx", field: PAYLOADS[model][field]}
    assert refusal(model, payload) == f"`{field}` can't be used together with `page_id`"


@pytest.mark.parametrize("field", ["filters", "limit"])
def test_threads_are_counted_by_events_alone(field: str) -> None:
    payload = {"chat_id": "P", "min_events_count": 5, field: PAYLOADS[ListThreads][field]}
    assert refusal(ListThreads, payload) == f"`{field}` can't be used together with `min_events_count`"


def test_null_means_that_an_optional_field_is_missing() -> None:
    assert ListChats.parse({"page_id": "MTUx", "filters": None}).filters is None
    assert ListChats.parse({"filters": {"active": None}}) == ListChats.parse({"filters": {}})


def test_unknown_fields_are_ignored() -> None:
    assert SetAwayStatus.parse({"away": True, "mood": "good"}) == SetAwayStatus.parse({"away": True})


def test_defaults_are_the_contract_s() -> None:
    chats, threads = ListChats.parse({}), ListThreads.parse({"chat_id": "P"})
    assert (chats.limit, chats.sort_order) == (10, "desc")
    assert (threads.limit, threads.sort_order) == (3, "desc")
    start = StartChat.parse({})
    assert (start.active, start.continuous) == (True, False)


def test_times_are_brought_into_the_protocol_s_form() -> None:
    seen = MarkEventsAsSeen.parse({"chat_id": "P", "seen_up_to": "2026-11-21T10:30:00+01:00"})
    assert seen.seen_up_to == "2026-11-21T09:30:00.000000Z"


def test_groups_to_multicast_to_may_be_written_as_strings() -> None:
    multicast = Multicast.parse({"recipients": {"agents": {"groups": ["1", 2]}}, "content": None})
    assert multicast.recipients.agents.groups == [1, 2]
