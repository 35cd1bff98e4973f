"""Events: what clients may send, and the body that everybody then sees."""

from typing import Any

import pytest

from rtm.model.events import MAX_TEXT_BYTES, Event, File
from rtm.model.requests.events import SendEvent
from rtm.protocol.errors import ValidationError
from tests.model.examples import ELEMENT, EVENTS, POSTBACK, PROPERTIES


def sent(event: dict[str, Any]) -> Event:
    return SendEvent.parse({"chat_id": "PW94SJTGW6", "event": event}).event


def body(event: dict[str, Any]) -> dict[str, Any]:
    return sent(event).body(
        event_id="K600PKZON8_1", author_id="smith@example.com", created_at="2017-10-12T15:19:21.010200Z"
    )


def refusal(event: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        sent(event)
    return caught.value.message


@pytest.mark.parametrize("event_type", EVENTS)
def test_the_body_is_the_event_with_what_the_server_adds(event_type: str) -> None:
    added = {"id": "K600PKZON8_1", "created_at": "2017-10-12T15:19:21.010200Z"}
    if event_type != "system_message":
        added["author_id"] = "smith@example.com"
    assert body(EVENTS[event_type]) == EVENTS[event_type] | added


def test_what_was_not_given_is_not_shown() -> None:
    assert list(body({"type": "message", "text": "hello"})) == [
        "id",
        "created_at",
        "type",
        "author_id",
        "visibility",
        "text",
    ]
    assert body({"type": "message", "text": "hello"})["visibility"] == "all"
    assert "elements" not in body({"type": "rich_message", "template_id": "sticker"})
    assert "content" not in body({"type": "custom"})


def test_buttons_always_have_user_ids() -> None:
    button = {"text": "yes", "postback_id": "action_yes"}
    event = body({"type": "rich_message", "template_id": "cards", "elements": [{"buttons": [button]}]})
    assert event["elements"] == [{"buttons": [button | {"user_ids": []}]}]


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/a", "example.com/a", "javascript:alert(1)", "https://", "http://[", "https://a.com/\n", ""],
)
def test_a_file_must_be_on_the_web(url: str) -> None:
    assert refusal({"type": "file", "url": url}) == "`event.url` must be a URL that begins with https:// or http://"


def test_text_is_measured_in_bytes() -> None:
    assert body({"type": "message", "text": "é" * (MAX_TEXT_BYTES // 2)})
    message = "`event.text` must be at most 16384 bytes long"
    assert refusal({"type": "message", "text": "é" * (MAX_TEXT_BYTES // 2) + "a"}) == message


SHORT = "smaller than 1e21 in size and not closer to 0 than 1e-21"


@pytest.mark.parametrize("number", [1e308, -1e21, 1e-22, -5e-324])
def test_numbers_of_hundreds_of_digits_are_refused_wherever_they_would_be_stored(number: float) -> None:
    in_content = f"must have numbers only that are {SHORT}"
    answered = {"type": "name", "id": "1", "label": "Name", "answer": [number]}
    bought = EVENTS["message"]["postback"] | {"ecommerce": {"product_id": "1", "quantity": number}}
    assert refusal({"type": "custom", "content": {"a": [number]}}) == f"`event.content` {in_content}"
    assert refusal({**EVENTS["filled_form"], "fields": [answered]}) == f"`event.fields[0].answer` {in_content}"
    assert refusal({**EVENTS["message"], "postback": bought}) == f"`event.postback.ecommerce.quantity` must be {SHORT}"
    assert refusal({**EVENTS["file"], "properties": {"a": {"b": number}}}) == f"`event.properties.a.b` must be {SHORT}"
    assert refusal({**EVENTS["system_message"], "text_vars": {"a": number}}) == f"`event.text_vars.a` must be {SHORT}"


@pytest.mark.parametrize("number", [0.0, -0.0, 1e-21, 9.9e20, -1.5, 2**63])
def test_other_numbers_are_taken(number: float) -> None:
    assert body({"type": "custom", "content": {"a": number}})["content"] == {"a": number}
    assert body({**EVENTS["file"], "properties": {"a": {"b": number}}})["properties"] == {"a": {"b": number}}


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "`event.type` is required"),
        (
            {"type": "system"},
            "`event.type` must be one of: message, file, rich_message, custom, form, filled_form, system_message",
        ),
        ({"type": "message"}, "`event.text` is required"),
        ({"type": "message", "text": ""}, "`event.text` must not be empty"),
        ({"type": "message", "text": "\0"}, "`event.text` must not contain the character U+0000"),
        ({"type": "message", "text": 5}, "`event.text` must be a string"),
        ({**EVENTS["message"], "visibility": "me"}, "`event.visibility` must be one of: all, agents"),
        ({**EVENTS["message"], "custom_id": "x" * 257}, "`event.custom_id` must be at most 256 characters long"),
        (
            {"type": "message", "text": "a", "postback": {**POSTBACK, "value": None}},
            "`event.postback.value` is required with `type`",
        ),
        (
            {"type": "message", "text": "a", "postback": {**POSTBACK, "ecommerce": {}}},
            "`event.postback.ecommerce.product_id` is required",
        ),
        ({"type": "rich_message"}, "`event.template_id` is required"),
        (
            {"type": "rich_message", "template_id": "cards", "elements": [ELEMENT] * 11},
            "`event.elements` must have at most 10 elements",
        ),
        (
            {"type": "rich_message", "template_id": "cards", "elements": [{"buttons": [{}] * 14}]},
            "`event.elements[0].buttons` must have at most 13 elements",
        ),
        (
            {"type": "rich_message", "template_id": "cards", "elements": [{}, {"title": 1}]},
            "`event.elements[1].title` must be a string",
        ),
        (
            {
                "type": "rich_message",
                "template_id": "cards",
                "elements": [{"buttons": [{"type": "webview", "text": "a", "value": "b", "postback_id": "c"}]}],
            },
            "`event.elements[0].buttons[0].webview_height` is required for a button of type webview",
        ),
        (
            {"type": "rich_message", "template_id": "cards", "elements": [{"image": {}}]},
            "`event.elements[0].image.url` is required",
        ),
        (
            {"type": "form", "form_id": "1", "fields": [{"type": "shoe", "id": "1", "label": "Size"}]},
            (
                "`event.fields[0].type` must be one of: "
                "checkbox, email, name, question, subject, textarea, group_chooser, radio, select"
            ),
        ),
        (
            {"type": "filled_form", "form_id": "1", "fields": [{"type": "name", "id": "1", "label": "Name"}]},
            "`event.fields[0].answer` is required",
        ),
        ({"type": "custom", "content": []}, "`event.content` must be an object"),
        ({"type": "custom", "content": {"a": "x" * 65536}}, "`event.content` must be at most 65536 bytes long"),
        ({"type": "custom", "content": {"a": nested(32)}}, "`event.content` must be nested at most 32 levels deep"),
        ({"type": "custom", "content": {"a": nested(300)}}, "`event.content` must be nested at most 32 levels deep"),
        ({"type": "custom", "content": {"a": [1] * 4999}}, "`event.content` must have at most 5000 values"),
        ({"type": "custom", "content": {"a": [[], {"b": 1}] * 1667}}, "`event.content` must have at most 5000 values"),
        (
            {"type": "custom", "content": {str(n): 1 for n in range(5000)}},
            "`event.content` must have at most 5000 values",
        ),
        ({"type": "custom", "content": {"\0": 1}}, "`event.content` must not contain the character U+0000"),
        ({"type": "system_message", "text": "a"}, "`event.system_message_type` is required"),
    ],
)
def test_refuses(event: dict[str, Any], message: str) -> None:
    assert refusal(event) == message


def test_content_may_be_as_deep_as_the_limit() -> None:
    content = {"a": nested(31)}
    assert body({"type": "custom", "content": content})["content"] == content


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"test": 1}, "`event.properties.test` must be an object"),
        ({"": {}}, "`event.properties` has a name that must not be empty"),
        ({str(number): {} for number in range(101)}, "`event.properties` must have at most 100 elements"),
        (
            {"message": {"text": []}},
            "`event.properties.message.text` must be a boolean, a number or a string of at most 16384 characters",
        ),
        (
            {"test": {str(number): "x" * 16_000 for number in range(17)}},
            "`event.properties` must be at most 262144 bytes long",
        ),
    ],
)
def test_refuses_properties(properties: dict[str, Any], message: str) -> None:
    assert refusal({"type": "message", "text": "a", "properties": properties}) == message


def test_property_values_keep_their_types() -> None:
    event = body({"type": "message", "text": "a", "properties": PROPERTIES})
    assert repr(event["properties"]) == repr(PROPERTIES)


def test_a_file_event_is_told_by_its_model() -> None:
    assert isinstance(sent(EVENTS["file"]), File)
