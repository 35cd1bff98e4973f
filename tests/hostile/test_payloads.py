"""Payloads of each action that are wrong, through both doors, with the exact answer.

`$chat` and the like are names of a `Scene`.
"""

import json
from typing import Any

import pytest

from tests.hostile.scene import Scene
from tests.hostile.target import error_of

pytestmark = pytest.mark.usefixtures("unharmed")

SECRET = "dal:a-secret-that-nobody-repeats"
LONG = "a" * 257
NO_CHAT = ("not_found", "Chat not found")
NO_THREAD = ("not_found", "Thread not found")
NO_EVENT = ("not_found", "Event not found")
NO_AGENT = ("not_found", "Agent not found")
NO_CUSTOMER = ("not_found", "Customer not found")
INACTIVE = ("chat_inactive", "Chat is inactive")
WRONG_TOKEN = ("authentication", "Authentication error")
BAD_PAGE = ("validation", "`page_id` is not valid or has expired")
Case = tuple[str, Any, tuple[str, str]]


def wrong(message: str) -> tuple[str, str]:
    return "validation", message


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def send(**event: Any) -> dict[str, Any]:
    """The payload of send_event."""
    return {"chat_id": "$chat", "event": {"type": "message", "text": "hello"} | event}


def start(**chat: Any) -> dict[str, Any]:
    """The payload of start_chat."""
    return {"chat": chat}


def start_with(**event: Any) -> dict[str, Any]:
    """The payload of start_chat with an event."""
    return start(thread={"events": [{"type": "message", "text": "hello"} | event]})


def rich(**element: Any) -> dict[str, Any]:
    """The payload of send_event for a rich message."""
    return send(type="rich_message", template_id="cards", elements=[element])


def updating(fields: Any) -> dict[str, Any]:
    """The payload of update_customer."""
    return {"id": "$customer", **fields}


def button(**fields: Any) -> dict[str, Any]:
    return rich(buttons=[{"text": "yes", "postback_id": "yes"} | fields])


def filled(**field: Any) -> dict[str, Any]:
    """The payload of send_event for a filled form."""
    fields = [{"type": "name", "id": "1", "label": "Name"} | field]
    return send(type="filled_form", form_id="1", fields=fields)


def filtered(**filters: Any) -> dict[str, Any]:
    """The payload of a list."""
    return {"filters": filters}


def by_property(condition: Any) -> dict[str, Any]:
    return filtered(properties={"ns": {"name": condition}})


def thread(**more: Any) -> dict[str, Any]:
    """The payload of an action on a thread."""
    return {"chat_id": "$chat", "thread_id": "$thread"} | more


def postback(**fields: Any) -> dict[str, Any]:
    """The payload of send_rich_message_postback."""
    return thread(event_id="x", postback={"id": "yes", "toggled": True} | fields)


PROPERTY = "must be a boolean, a number or a string of at most 16384 characters"

WRONG_LIMITS: list[Any] = [-1, 0, 101, 1 << 63, 1 << 64, 1.5, "10", True, None, [], {}]

CASES: dict[str, Case] = {
    # start_chat
    "chat a string": ("start_chat", {"chat": "$chat"}, wrong("`chat` must be an object")),
    "active a number": ("start_chat", {"active": 1}, wrong("`active` must be a boolean")),
    "continuous a string": ("start_chat", {"continuous": "true"}, wrong("`continuous` must be a boolean")),
    "access to no group": (
        "start_chat",
        start(access={"group_ids": []}),
        wrong("`chat.access.group_ids` must not be empty"),
    ),
    "access to an unknown group": (
        "start_chat",
        start(access={"group_ids": [0, 77]}),
        wrong("`chat.access.group_ids` must name existing groups; there is no group 77"),
    ),
    "access to a negative group": (
        "start_chat",
        start(access={"group_ids": [-1]}),
        wrong("`chat.access.group_ids[0]` must be an integer from 0 to 2147483647"),
    ),
    "access to a group beyond 64 bits": (
        "start_chat",
        start(access={"group_ids": [1 << 64]}),
        wrong("`chat.access.group_ids[0]` must be an integer from 0 to 2147483647"),
    ),
    "access to a true group": (
        "start_chat",
        start(access={"group_ids": [True]}),
        wrong("`chat.access.group_ids[0]` must be an integer from 0 to 2147483647"),
    ),
    "access to 201 groups": (
        "start_chat",
        start(access={"group_ids": [0] * 201}),
        wrong("`chat.access.group_ids` must have at most 200 elements"),
    ),
    "user without an id": ("start_chat", start(users=[{"type": "agent"}]), wrong("`chat.users[0].id` is required")),
    "user of a third kind": (
        "start_chat",
        start(users=[{"id": "x", "type": "bot"}]),
        wrong("`chat.users[0].type` must be one of: agent, customer"),
    ),
    "seven users": (
        "start_chat",
        start(users=[{"id": str(number), "type": "agent"} for number in range(7)]),
        wrong("`chat.users` must have at most 6 elements"),
    ),
    "two customers": (
        "start_chat",
        start(users=[{"id": "$customer", "type": "customer"}] * 2),
        wrong("`chat.users` must have at most 1 customer"),
    ),
    "six agents": (
        "start_chat",
        start(users=[{"id": str(number), "type": "agent"} for number in range(6)]),
        wrong("`chat.users` must have at most 4 additional agents"),
    ),
    "unknown agent": ("start_chat", start(users=[{"id": "nobody", "type": "agent"}]), NO_AGENT),
    "agent of another license": (
        "start_chat",
        start(users=[{"id": "owner@elsewhere.test", "type": "agent"}]),
        NO_AGENT,
    ),
    "unknown customer": ("start_chat", start(users=[{"id": "nobody", "type": "customer"}]), NO_CUSTOMER),
    "agent as a customer": ("start_chat", start(users=[{"id": "smith@example.com", "type": "customer"}]), NO_CUSTOMER),
    "customer as an agent": ("start_chat", start(users=[{"id": "$customer", "type": "agent"}]), NO_AGENT),
    "user id with U+0000": (
        "start_chat",
        start(users=[{"id": "a\0b", "type": "agent"}]),
        wrong("`chat.users[0].id` must not contain the character U+0000"),
    ),
    "101 initial events": (
        "start_chat",
        start(thread={"events": [{"type": "message", "text": "x"}] * 101}),
        wrong("`chat.thread.events` must have at most 100 elements"),
    ),
    "20,000 initial events of no kind": (
        "start_chat",
        start(thread={"events": [1] * 20_000}),
        wrong("`chat.thread.events` must have at most 100 elements"),
    ),
    "initial event of agents only": (
        "start_chat",
        start_with(visibility="agents"),
        wrong("`chat.thread.events[0].visibility` must be one of: all"),
    ),
    "initial event of somebody else's": (
        "start_chat",
        start_with(author_id="jones@example.com"),
        wrong("`chat.thread.events[0].author_id` must be one of `chat.users`"),
    ),
    # Properties
    "properties an array": ("start_chat", start(properties=[]), wrong("`chat.properties` must be an object")),
    "properties without a namespace": (
        "start_chat",
        start(properties={"name": "value"}),
        wrong("`chat.properties.name` must be an object"),
    ),
    "property null": (
        "start_chat",
        start(properties={"ns": {"name": None}}),
        wrong(f"`chat.properties.ns.name` {PROPERTY}"),
    ),
    "property an object": (
        "start_chat",
        start(properties={"ns": {"name": {}}}),
        wrong(f"`chat.properties.ns.name` {PROPERTY}"),
    ),
    "property with U+0000": (
        "start_chat",
        start(properties={"ns": {"name": "a\0b"}}),
        wrong(f"`chat.properties.ns.name` {PROPERTY}"),
    ),
    "property of 16,385 characters": (
        "start_chat",
        start(properties={"ns": {"name": "a" * 16_385}}),
        wrong(f"`chat.properties.ns.name` {PROPERTY}"),
    ),
    "property whose name is empty": (
        "start_chat",
        start(properties={"ns": {"": 1}}),
        wrong("`chat.properties.ns` has a name that must not be empty"),
    ),
    "property whose name has U+0000": (
        "start_chat",
        start(properties={"ns": {"a\0b": 1}}),
        wrong("`chat.properties.ns` has a name that must not contain the character U+0000"),
    ),
    "namespace of 129 characters": (
        "start_chat",
        start(properties={"n" * 129: {}}),
        wrong("`chat.properties` has a name that must be at most 128 characters long"),
    ),
    "101 namespaces": (
        "start_chat",
        start(properties={str(number): {} for number in range(101)}),
        wrong("`chat.properties` must have at most 100 elements"),
    ),
    "101 properties": (
        "start_chat",
        start(properties={"ns": {str(number): 1 for number in range(101)}}),
        wrong("`chat.properties.ns` must have at most 100 elements"),
    ),
    "update a chat's properties by another name of its id": (
        "update_chat_properties",
        {"chat_id": "$chat", "properties": {}},
        wrong("`id` is required"),
    ),
    "update no properties": ("update_chat_properties", {"id": "$chat"}, wrong("`properties` is required")),
    "update properties to nothing": (
        "update_chat_properties",
        {"id": "$chat", "properties": {"ns": {"name": None}}},
        wrong(f"`properties.ns.name` {PROPERTY}"),
    ),
    "update properties of a chat of another license": (
        "update_chat_properties",
        {"id": "$foreign", "properties": {"ns": {"name": 1}}},
        NO_CHAT,
    ),
    "delete properties by value": (
        "delete_chat_properties",
        {"id": "$chat", "properties": {"ns": {"name": 1}}},
        wrong("`properties.ns` must be an array"),
    ),
    "delete 101 properties": (
        "delete_chat_properties",
        {"id": "$chat", "properties": {"ns": ["x"] * 101}},
        wrong("`properties.ns` must have at most 100 elements"),
    ),
    "delete a property with U+0000": (
        "delete_chat_properties",
        {"id": "$chat", "properties": {"ns": ["a\0b"]}},
        wrong("`properties.ns[0]` must not contain the character U+0000"),
    ),
    "delete properties of 101 namespaces": (
        "delete_thread_properties",
        thread(properties={str(number): [] for number in range(101)}),
        wrong("`properties` must have at most 100 elements"),
    ),
    "update properties of a thread of another license": (
        "update_thread_properties",
        thread(thread_id="$foreign_thread", properties={"ns": {"name": 1}}),
        NO_THREAD,
    ),
    "delete properties of a thread of nowhere": (
        "delete_thread_properties",
        thread(thread_id="' OR 1=1 --", properties={"ns": ["name"]}),
        NO_THREAD,
    ),
    "update properties of an event beyond 32 bits": (
        "update_event_properties",
        thread(event_id="X_99999999999", properties={}),
        NO_EVENT,
    ),
    "delete properties of an event of nowhere": (
        "delete_event_properties",
        thread(event_id="%", properties={}),
        NO_EVENT,
    ),
    "update properties of an event of another license": (
        "update_event_properties",
        thread(thread_id="$foreign_thread", event_id="x", properties={}),
        NO_THREAD,
    ),
    # request_thread_summary
    "summary of a list": (
        "request_thread_summary",
        {"chat_id": "$chat", "thread_id": []},
        wrong("`thread_id` must be a string"),
    ),
    "summary of another license's chat": (
        "request_thread_summary",
        {"chat_id": "$foreign", "thread_id": "$foreign_thread"},
        NO_CHAT,
    ),
    "summary of another license's thread": ("request_thread_summary", thread(thread_id="$foreign_thread"), NO_THREAD),
    # tag_thread, untag_thread
    "tag of nothing": ("tag_thread", thread(tag=""), wrong("`tag` must not be empty")),
    "tag of 257 characters": ("tag_thread", thread(tag=LONG), wrong("`tag` must be at most 256 characters long")),
    "tag that is not": ("tag_thread", thread(tag="nonsense"), ("not_found", "Tag not found")),
    "tag for another group": (
        "tag_thread",
        thread(tag="bug"),
        wrong("`tag` must have a group in common with the thread"),
    ),
    "tag on a thread of another license": ("tag_thread", thread(thread_id="$foreign_thread", tag="order"), NO_THREAD),
    "untag with a list": ("untag_thread", thread(tag=["order"]), wrong("`tag` must be a string")),
    "untag a thread of another license": (
        "untag_thread",
        thread(thread_id="$foreign_thread", tag="order"),
        NO_THREAD,
    ),
    # send_rich_message_postback
    "postback on a button of nothing": (
        "send_rich_message_postback",
        thread(event_id="x"),
        wrong("`postback` is required"),
    ),
    "postback neither on nor off": (
        "send_rich_message_postback",
        postback(toggled="yes"),
        wrong("`postback.toggled` must be a boolean"),
    ),
    "postback of no product": (
        "send_rich_message_postback",
        postback(ecommerce={}),
        wrong("`postback.ecommerce.product_id` is required"),
    ),
    "postback on an event that is not": ("send_rich_message_postback", postback(), NO_EVENT),
    # resume_chat, deactivate_chat, follow_chat, unfollow_chat
    "resume without a chat": ("resume_chat", {}, wrong("`chat` is required")),
    "resume without an id": ("resume_chat", {"chat": {}}, wrong("`chat.id` is required")),
    "resume a chat that is active": ("resume_chat", {"chat": {"id": "$chat"}}, wrong("Chat is already active")),
    "resume a chat of another license": ("resume_chat", {"chat": {"id": "$foreign"}}, NO_CHAT),
    "resume for an unknown group": (
        "resume_chat",
        {"chat": {"id": "$closed", "access": {"group_ids": [77]}}},
        wrong("`chat.access.group_ids` must name existing groups; there is no group 77"),
    ),
    "resume with an event of somebody else's": (
        "resume_chat",
        {"chat": {"id": "$closed"} | start_with(author_id="jones@example.com")["chat"]},
        wrong("`chat.thread.events[0].author_id` must be one of `chat.users`"),
    ),
    "deactivate without an id": ("deactivate_chat", {}, wrong("`id` is required")),
    "deactivate with a wrong name": ("deactivate_chat", {"chat_id": "$chat"}, wrong("`id` is required")),
    "deactivate an inactive chat": ("deactivate_chat", {"id": "$closed"}, INACTIVE),
    "deactivate a chat of another license": ("deactivate_chat", {"id": "$foreign"}, NO_CHAT),
    "follow an empty id": ("follow_chat", {"id": ""}, wrong("`id` must not be empty")),
    "follow an id of 257 characters": ("follow_chat", {"id": LONG}, wrong("`id` must be at most 256 characters long")),
    "follow a chat of another license": ("follow_chat", {"id": "$foreign"}, NO_CHAT),
    "follow a pattern": ("follow_chat", {"id": "%"}, NO_CHAT),
    "follow SQL": ("follow_chat", {"id": "' OR 1=1; DROP TABLE chats; --"}, NO_CHAT),
    "unfollow an id with U+0000": (
        "unfollow_chat",
        {"id": "a\0"},
        wrong("`id` must not contain the character U+0000"),
    ),
    "unfollow as a user": ("unfollow_chat", {"id": "$chat"}, wrong("Chat members cannot unfollow the chat")),
    "unfollow a chat of another license": ("unfollow_chat", {"id": "$foreign"}, NO_CHAT),
    # add_user_to_chat, remove_user_from_chat
    "add nobody": ("add_user_to_chat", {}, wrong("`chat_id` is required")),
    "add with a third visibility": (
        "add_user_to_chat",
        {"chat_id": "$chat", "user_id": "x", "user_type": "agent", "visibility": "none"},
        wrong("`visibility` must be one of: all, agents"),
    ),
    "add a hidden customer": (
        "add_user_to_chat",
        {"chat_id": "$chat", "user_id": "$customer", "user_type": "customer", "visibility": "agents"},
        wrong("`visibility` must be `all` for a customer"),
    ),
    "add who is there": (
        "add_user_to_chat",
        {"chat_id": "$chat", "user_id": "$customer", "user_type": "customer", "visibility": "all"},
        wrong("`user_id` is already a user of the chat"),
    ),
    "add an agent of another license": (
        "add_user_to_chat",
        {"chat_id": "$chat", "user_id": "owner@elsewhere.test", "user_type": "agent", "visibility": "all"},
        NO_AGENT,
    ),
    "add to a chat of another license": (
        "add_user_to_chat",
        {"chat_id": "$foreign", "user_id": "smith@example.com", "user_type": "agent", "visibility": "all"},
        NO_CHAT,
    ),
    "add to an inactive chat": (
        "add_user_to_chat",
        {"chat_id": "$closed", "user_id": "smith@example.com", "user_type": "agent", "visibility": "all"},
        INACTIVE,
    ),
    "remove a customer": (
        "remove_user_from_chat",
        {"chat_id": "$chat", "user_id": "$customer", "user_type": "customer"},
        wrong("`user_type` must be one of: agent"),
    ),
    "remove a customer as an agent": (
        "remove_user_from_chat",
        {"chat_id": "$chat", "user_id": "$customer", "user_type": "agent"},
        wrong("`user_id` is not an agent of the chat"),
    ),
    "remove who is not there": (
        "remove_user_from_chat",
        {"chat_id": "$chat", "user_id": "jones@example.com", "user_type": "agent"},
        wrong("`user_id` is not an agent of the chat"),
    ),
    # transfer_chat, list_agents_for_transfer
    "transfer nothing": ("transfer_chat", {}, wrong("`id` is required")),
    "transfer a chat of another license": ("transfer_chat", {"id": "$foreign"}, NO_CHAT),
    "transfer an inactive chat": ("transfer_chat", {"id": "$closed"}, INACTIVE),
    "transfer to a string": ("transfer_chat", {"id": "$chat", "target": "1"}, wrong("`target` must be an object")),
    "transfer to a group by an agent's id": (
        "transfer_chat",
        {"id": "$chat", "target": {"type": "group", "ids": ["smith@example.com"]}},
        wrong("`target.ids` must have the id of each group as an integer"),
    ),
    "transfer to a group before the first": (
        "transfer_chat",
        {"id": "$chat", "target": {"type": "group", "ids": [-1]}},
        wrong("`target.ids[0]` must be the id of a group or an agent"),
    ),
    "transfer to too many": (
        "transfer_chat",
        {"id": "$chat", "target": {"type": "group", "ids": list(range(201))}},
        wrong("`target.ids` must have at most 200 elements"),
    ),
    "transfer to a group that is not there": (
        "transfer_chat",
        {"id": "$chat", "target": {"type": "group", "ids": [2**31 - 1]}},
        ("not_found", "Group not found: 2147483647"),
    ),
    "transfer to an agent of another license": (
        "transfer_chat",
        {"id": "$chat", "target": {"type": "agent", "ids": ["owner@elsewhere.test"]}},
        NO_AGENT,
    ),
    "transfer with a string for a boolean": (
        "transfer_chat",
        {"id": "$chat", "ignore_agents_availability": "yes"},
        wrong("`ignore_agents_availability` must be a boolean"),
    ),
    "agents for the transfer of no chat": ("list_agents_for_transfer", {}, wrong("`chat_id` is required")),
    "agents for the transfer of a chat of another license": (
        "list_agents_for_transfer",
        {"chat_id": "$foreign"},
        NO_CHAT,
    ),
    # send_event
    "no event": ("send_event", {"chat_id": "$chat"}, wrong("`event` is required")),
    "event a string": ("send_event", {"chat_id": "$chat", "event": "hello"}, wrong("`event` must be an object")),
    "event without a type": (
        "send_event",
        {"chat_id": "$chat", "event": {"text": "x"}},
        wrong("`event.type` is required"),
    ),
    "event of the server's own type": (
        "send_event",
        send(type="system"),
        wrong("`event.type` must be one of: message, file, rich_message, custom, form, filled_form, system_message"),
    ),
    "event whose type is an object": (
        "send_event",
        send(type={"$ne": ""}),
        wrong("`event.type` must be one of: message, file, rich_message, custom, form, filled_form, system_message"),
    ),
    "event for an unknown chat": ("send_event", send() | {"chat_id": "nowhere"}, NO_CHAT),
    "event for a chat of another license": ("send_event", send() | {"chat_id": "$foreign"}, NO_CHAT),
    "event for an inactive chat": ("send_event", send() | {"chat_id": "$closed"}, INACTIVE),
    "event that only some see": (
        "send_event",
        send(visibility="me"),
        wrong("`event.visibility` must be one of: all, agents"),
    ),
    "custom id of 257 characters": (
        "send_event",
        send(custom_id=LONG),
        wrong("`event.custom_id` must be at most 256 characters long"),
    ),
    "message without a text": ("send_event", send(text=None), wrong("`event.text` must be a string")),
    "message of nothing": ("send_event", send(text=""), wrong("`event.text` must not be empty")),
    "message with U+0000": (
        "send_event",
        send(text="a\0b"),
        wrong("`event.text` must not contain the character U+0000"),
    ),
    "message of 16,385 bytes": (
        "send_event",
        send(text="a" * 16_385),
        wrong("`event.text` must be at most 16384 bytes long"),
    ),
    "message of 4,097 characters of 4 bytes": (
        "send_event",
        send(text="🦆" * 4097),
        wrong("`event.text` must be at most 16384 bytes long"),
    ),
    "message that hides in a field of its type's name": (
        "send_event",
        send(message={"text": "x"}, text=1),
        wrong("`event.text` must be a string"),
    ),
    "postback without an id": ("send_event", send(postback={}), wrong("`event.postback.id` is required")),
    "postback of half a kind": (
        "send_event",
        send(postback={"id": "1", "thread_id": "1", "event_id": "1", "type": "url"}),
        wrong("`event.postback.value` is required with `type`"),
    ),
    "quantity a string": (
        "send_event",
        send(
            postback={"id": "1", "thread_id": "1", "event_id": "1", "ecommerce": {"product_id": "1", "quantity": "7"}}
        ),
        wrong("`event.postback.ecommerce.quantity` must be a number"),
    ),
    **{
        f"file at {url[:20]}": (
            "send_event",
            send(type="file", url=url),
            wrong("`event.url` must be a URL that begins with https:// or http://"),
        )
        for url in (
            "",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "//host",
            "http://",
            "http://[::1",
            "https://a\u2028b",
        )
    },
    "file at 2,049 characters": (
        "send_event",
        send(type="file", url="https://example.com/".ljust(2049, "a")),
        wrong("`event.url` must be at most 2048 characters long"),
    ),
    "rich message of no template": ("send_event", send(type="rich_message"), wrong("`event.template_id` is required")),
    "rich message of 11 elements": (
        "send_event",
        send(type="rich_message", template_id="cards", elements=[{}] * 11),
        wrong("`event.elements` must have at most 10 elements"),
    ),
    "element null": (
        "send_event",
        send(type="rich_message", template_id="cards", elements=[None]),
        wrong("`event.elements[0]` must be an object"),
    ),
    "element that hides in a field of its event's type": (
        "send_event",
        send(type="rich_message", template_id="cards", rich_message=0, elements=[{"title": 1}]),
        wrong("`event.elements[0].title` must be a string"),
    ),
    "14 buttons": (
        "send_event",
        rich(buttons=[{"text": "x", "postback_id": "x"}] * 14),
        wrong("`event.elements[0].buttons` must have at most 13 elements"),
    ),
    "button without a text": (
        "send_event",
        button(text=""),
        wrong("`event.elements[0].buttons[0].text` must not be empty"),
    ),
    "button of a type without a value": (
        "send_event",
        button(type="url"),
        wrong("`event.elements[0].buttons[0].value` is required with `type`"),
    ),
    "webview without a height": (
        "send_event",
        button(type="webview", value="x"),
        wrong("`event.elements[0].buttons[0].webview_height` is required for a button of type webview"),
    ),
    "image of negative width": (
        "send_event",
        rich(image={"url": "https://example.com/a.png", "width": -1}),
        wrong("`event.elements[0].image.width` must be an integer from 0 to 2147483647"),
    ),
    "content a string": ("send_event", send(type="custom", content="x"), wrong("`event.content` must be an object")),
    "content 33 levels deep": (
        "send_event",
        send(type="custom", content={"a": nested(32)}),
        wrong("`event.content` must be nested at most 32 levels deep"),
    ),
    "content 300 levels deep": (
        "send_event",
        send(type="custom", content={"a": nested(300)}),
        wrong("`event.content` must be nested at most 32 levels deep"),
    ),
    "content over 64 KiB": (
        "send_event",
        send(type="custom", content={"a": "a" * (1 << 16)}),
        wrong("`event.content` must be at most 65536 bytes long"),
    ),
    "content with U+0000": (
        "send_event",
        send(type="custom", content={"a": ["\0"]}),
        wrong("`event.content` must not contain the character U+0000"),
    ),
    "content with a name with U+0000": (
        "send_event",
        send(type="custom", content={"\0": 1}),
        wrong("`event.content` must not contain the character U+0000"),
    ),
    "form without fields": ("send_event", send(type="form", form_id="1"), wrong("`event.fields` is required")),
    "form of 101 fields": (
        "send_event",
        send(type="form", form_id="1", fields=[{"type": "name", "id": "1", "label": "x"}] * 101),
        wrong("`event.fields` must have at most 100 elements"),
    ),
    "field without an answer": ("send_event", filled(), wrong("`event.fields[0].answer` is required")),
    "field whose answer has U+0000": (
        "send_event",
        filled(answer="\0"),
        wrong("`event.fields[0].answer` must not contain the character U+0000"),
    ),
    "field whose choice has no name": (
        "send_event",
        filled(answers=[{"id": 1.5, "label": "x"}]),
        wrong("`event.fields[0].answers[0].id` must be a string or an integer"),
    ),
    "system message of no type": (
        "send_event",
        send(type="system_message"),
        wrong("`event.system_message_type` is required"),
    ),
    "variables an array": (
        "send_event",
        send(type="system_message", system_message_type="x", text_vars=[]),
        wrong("`event.text_vars` must be an object"),
    ),
    # Previews and indicators
    "preview of a file": (
        "send_event_preview",
        {"chat_id": "$chat", "event": {"type": "file", "url": "https://example.com"}},
        wrong("`event.type` must be one of: message"),
    ),
    "preview for agents only": (
        "send_event_preview",
        send(visibility="agents"),
        wrong("`event.visibility` must be one of: all"),
    ),
    "preview for another license": ("send_event_preview", send() | {"chat_id": "$foreign"}, NO_CHAT),
    "typing perhaps": (
        "send_typing_indicator",
        {"chat_id": "$chat", "is_typing": "perhaps"},
        wrong("`is_typing` must be a boolean"),
    ),
    "typing elsewhere": ("send_typing_indicator", {"chat_id": "$foreign", "is_typing": True}, NO_CHAT),
    "typing too late": ("send_typing_indicator", {"chat_id": "$closed", "is_typing": True}, INACTIVE),
    "thinking a number": (
        "send_thinking_indicator",
        {"chat_id": "$chat", "title": 1},
        wrong("`title` must be a string"),
    ),
    "thinking at length": (
        "send_thinking_indicator",
        {"chat_id": "$chat", "description": "a" * 4097},
        wrong("`description` must be at most 4096 characters long"),
    ),
    "thinking elsewhere": ("send_thinking_indicator", {"chat_id": "$foreign"}, NO_CHAT),
    # customers
    "customer without an id": ("get_customer", {}, wrong("`id` is required")),
    "customer of nobody": ("get_customer", {"id": "nobody"}, NO_CUSTOMER),
    "customer with U+0000": ("get_customer", {"id": "a\0b"}, wrong("`id` must not contain the character U+0000")),
    "update of no customer's id": (
        "update_customer",
        {"id": "nobody", "name": "x"},
        wrong("`id` must be a UUID v4"),
    ),
    "update of an id and a line": (
        "update_customer",
        {"id": "9a4f2d5e-7a55-4a9c-8d3e-2f7b6c1d0e9f\n", "name": "x"},
        wrong("`id` must be a UUID v4"),
    ),
    "update of nobody": (
        "update_customer",
        {"id": "9a4f2d5e-7a55-4a9c-8d3e-2f7b6c1d0e9f", "name": "x"},
        NO_CUSTOMER,
    ),
    **{
        f"update {name}": ("update_customer", updating(given), wrong(message))
        for name, given, message in (
            (
                "of nothing",
                {"name": None},
                "`name` is required, or one of: email, avatar, phone_number, session_fields, omnichannel, address",
            ),
            ("of a name too long", {"name": LONG}, "`name` must be at most 256 characters long"),
            ("of a name with U+0000", {"name": "\0"}, "`name` must not contain the character U+0000"),
            ("of an e-mail that is a number", {"email": 1}, "`email` must be a string"),
            (
                "of an avatar that is a program",
                {"avatar": "javascript:alert(1)"},
                "`avatar` must be a URL that begins with https:// or http://",
            ),
            *(
                (
                    f"of the phone number {number}",
                    {"phone_number": number},
                    "`phone_number` must be a phone number in E.164 form, such as +14155552671",
                )
                for number in ("4155552671", "+0155552671", "+1415555267100000", "+1 415", "+1415\n", "+٤١٥", 5)
            ),
            ("of session fields that are no list", {"session_fields": {}}, "`session_fields` must be an array"),
            (
                "of a session field that is no text",
                {"session_fields": [{"a": "b"}, {"a": 1}]},
                "`session_fields[1].a` must be a string",
            ),
            (
                "of a session field without a name",
                {"session_fields": [{"": "b"}]},
                "`session_fields[0]` has a name that must not be empty",
            ),
            (
                "of 101 session fields",
                {"session_fields": [{}] * 101},
                "`session_fields` must have at most 100 elements",
            ),
            (
                "of session fields of 65,537 bytes",
                {"session_fields": [{str(number): "x" * 4096} for number in range(17)]},
                "`session_fields` must be at most 65536 bytes long",
            ),
            (
                "of a messenger without an id",
                {"omnichannel": {"fbmessenger": {"name": "x"}}},
                "`omnichannel.fbmessenger.id` is required",
            ),
            (
                "of a telephone without a number",
                {"omnichannel": {"twilio": {}}},
                "`omnichannel.twilio.phone_number` is required",
            ),
            ("of an address that is a text", {"address": "Paris"}, "`address` must be an object"),
            ("of a city that is a number", {"address": {"city": 1}}, "`address.city` must be a string"),
        )
    },
    "ban of nobody": ("ban_customer", {"id": "nobody", "ban": {"days": 1}}, NO_CUSTOMER),
    "ban without an end": ("ban_customer", {"id": "$customer"}, wrong("`ban` is required")),
    "ban for no days": ("ban_customer", {"id": "$customer", "ban": {}}, wrong("`ban.days` is required")),
    **{
        f"ban for {days!r} days": (
            "ban_customer",
            {"id": "$customer", "ban": {"days": days}},
            wrong("`ban.days` must be an integer from 1 to 36500"),
        )
        for days in (0, -1, 36_501, 1 << 64, 0.5, "3", True, None)
    },
    # list_archives
    **{
        f"archives {name}": ("list_archives", filtered(**filters), wrong(message))
        for name, filters, message in (
            ("of a query that is an object", {"query": {}}, "`filters.query` must be a string"),
            ("of a long query", {"query": "x" * 1025}, "`filters.query` must be at most 1024 characters long"),
            (
                "of a query that PostgreSQL cannot keep",
                {"query": "a\0b"},
                "`filters.query` must not contain the character U+0000",
            ),
            ("from no time", {"from": "2026-02-30T00:00:00Z"}, "`filters.from` must be an RFC 3339 date-time"),
            ("of a chat that is a number", {"chat_ids": [1]}, "`filters.chat_ids[0]` must be a string"),
            ("of many tags", {"tags": {"values": ["x"] * 101}}, "`filters.tags.values` must have at most 100 elements"),
            (
                "of a tag that is a list",
                {"tags": {"values": [[]]}},
                "`filters.tags.values[0]` must be a boolean, an integer or a string of at most 256 characters",
            ),
            ("of many forms", {"forms": [{}] * 5}, "`filters.forms` must have at most 4 elements"),
            ("of forms that are a text", {"forms": "pre_chat"}, "`filters.forms` must be an array"),
            ("of a form that is a text", {"forms": ["pre_chat"]}, "`filters.forms[0]` must be an object"),
            (
                "of groups past 32 bits",
                {"greetings": {"groups": {"values": [1 << 31]}}},
                "`filters.greetings.groups.values[0]` must be an integer from 0 to 2147483647",
            ),
            (
                "of a greeting that is true",
                {"greetings": {"values": [True]}},
                "`filters.greetings.values[0]` must be an integer",
            ),
            (
                "of agents that are robots",
                {"agent_types": {"any_values": ["robot"]}},
                "`filters.agent_types.any_values[0]` must be one of: human, chatbot, ai_agent",
            ),
        )
    },
    # mark_events_as_seen
    **{
        f"seen at {time}": (
            "mark_events_as_seen",
            {"chat_id": "$chat", "seen_up_to": time},
            wrong("`seen_up_to` must be an RFC 3339 date-time"),
        )
        for time in (
            "",
            "yesterday",
            "2026-01-01",
            "2026-02-30T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+99:99",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "\N{FULLWIDTH DIGIT TWO}026-01-01T00:00:00Z",
        )
    },
    "seen at a number": (
        "mark_events_as_seen",
        {"chat_id": "$chat", "seen_up_to": 1_700_000_000},
        wrong("`seen_up_to` must be a string"),
    ),
    "seen elsewhere": ("mark_events_as_seen", {"chat_id": "$foreign", "seen_up_to": "2026-01-01T00:00:00Z"}, NO_CHAT),
    # list_chats
    **{
        f"limit {limit!r}": ("list_chats", {"limit": limit}, wrong("`limit` must be an integer from 1 to 100"))
        for limit in WRONG_LIMITS
    },
    "order sideways": ("list_chats", {"sort_order": "up"}, wrong("`sort_order` must be one of: asc, desc")),
    "page and limit": (
        "list_chats",
        {"page_id": "x", "limit": 5},
        wrong("`limit` can't be used together with `page_id`"),
    ),
    "page and filters": (
        "list_chats",
        {"page_id": "x", "filters": {}},
        wrong("`filters` can't be used together with `page_id`"),
    ),
    "page of nothing": ("list_chats", {"page_id": ""}, wrong("`page_id` must not be empty")),
    "page of nobody's making": ("list_chats", {"page_id": "x"}, BAD_PAGE),
    "page with dots": ("list_chats", {"page_id": "a.b.c"}, BAD_PAGE),
    "page that is compressed": (
        "list_chats",
        {"page_id": ".eJyLjgUAARUAuQ.aSDrZA.AAAAAAAAAAAAAAAAAAAAAAAAAAA"},
        BAD_PAGE,
    ),
    "page in Unicode": ("list_chats", {"page_id": "🦆.🦆.🦆"}, BAD_PAGE),
    "page of 65,537 characters": (
        "list_chats",
        {"page_id": "a" * 65_537},
        wrong("`page_id` must be at most 65536 characters long"),
    ),
    "filters an array": ("list_chats", {"filters": []}, wrong("`filters` must be an object")),
    "filter by activity in words": ("list_chats", filtered(active="yes"), wrong("`filters.active` must be a boolean")),
    "filter by 201 groups": (
        "list_chats",
        filtered(group_ids=[0] * 201),
        wrong("`filters.group_ids` must have at most 200 elements"),
    ),
    "filter by nothing of a property": (
        "list_chats",
        by_property({}),
        wrong("`filters.properties.ns.name` must have exactly one of: exists, values, exclude_values"),
    ),
    "filter by two things of a property": (
        "list_chats",
        by_property({"exists": True, "values": [1]}),
        wrong("`filters.properties.ns.name` must have exactly one of: exists, values, exclude_values"),
    ),
    "filter by 101 values": (
        "list_chats",
        by_property({"values": [1] * 101}),
        wrong("`filters.properties.ns.name.values` must have at most 100 elements"),
    ),
    "filter by an object": (
        "list_chats",
        by_property({"values": [{}]}),
        wrong(f"`filters.properties.ns.name.values[0]` {PROPERTY}"),
    ),
    "filter by 10,000 properties": (
        "list_chats",
        filtered(properties={"ns": {str(name): {"exists": True} for name in range(10_000)}}),
        wrong("`filters.properties.ns` must have at most 20 elements"),
    ),
    "filter by 20 properties of 20 namespaces": (
        "list_chats",
        filtered(properties={str(ns): {str(name): {"exists": True} for name in range(20)} for ns in range(20)}),
        wrong("`filters.properties` must name at most 20 properties"),
    ),
    # list_threads, get_chat
    "threads of nothing": ("list_threads", {}, wrong("`chat_id` is required")),
    "threads of a chat of another license": ("list_threads", {"chat_id": "$foreign"}, NO_CHAT),
    "threads of a page of nobody's making": ("list_threads", {"chat_id": "$chat", "page_id": "x"}, BAD_PAGE),
    "threads with two limits": (
        "list_threads",
        {"chat_id": "$chat", "limit": 1, "min_events_count": 1},
        wrong("`limit` can't be used together with `min_events_count`"),
    ),
    "threads with -1 events": (
        "list_threads",
        {"chat_id": "$chat", "min_events_count": -1},
        wrong("`min_events_count` must be an integer from 1 to 100"),
    ),
    "threads from tomorrow's words": (
        "list_threads",
        {"chat_id": "$chat", "filters": {"from": "tomorrow"}},
        wrong("`filters.from` must be an RFC 3339 date-time"),
    ),
    "chat of another license": ("get_chat", {"chat_id": "$foreign"}, NO_CHAT),
    "chat with a thread of another license": (
        "get_chat",
        {"chat_id": "$chat", "thread_id": "$foreign_thread"},
        ("not_found", "Thread not found"),
    ),
    "chat of another license by its thread": (
        "get_chat",
        {"chat_id": "$foreign", "thread_id": "$foreign_thread"},
        NO_CHAT,
    ),
    "chat with an id in an array": ("get_chat", {"chat_id": ["$chat"]}, wrong("`chat_id` must be a string")),
    # set_routing_status, list_routing_statuses, multicast
    "status unknown": (
        "set_routing_status",
        {"status": "asleep"},
        wrong("`status` must be one of: accepting_chats, not_accepting_chats, offline"),
    ),
    "agent set offline": (
        "set_routing_status",
        {"status": "offline"},
        wrong("`status` must be one of: accepting_chats, not_accepting_chats"),
    ),
    "status of an agent of another license": (
        "set_routing_status",
        {"status": "accepting_chats", "agent_id": "owner@elsewhere.test"},
        NO_AGENT,
    ),
    "statuses of a group in words": (
        "list_routing_statuses",
        {"filters": {"group_ids": ["all"]}},
        wrong("`filters.group_ids[0]` must be an integer from 0 to 2147483647"),
    ),
    "multicast to nobody": ("multicast", {"recipients": {}, "content": 1}, wrong("`recipients.agents` is required")),
    "multicast to no agents": (
        "multicast",
        {"recipients": {"agents": {"ids": [], "groups": []}}, "content": 1},
        wrong("`recipients.agents` must have at least one of: all, ids, groups"),
    ),
    "multicast to 1,001 agents": (
        "multicast",
        {"recipients": {"agents": {"ids": ["x"] * 1001}}, "content": 1},
        wrong("`recipients.agents.ids` must have at most 1000 elements"),
    ),
    "multicast to a group of eleven digits": (
        "multicast",
        {"recipients": {"agents": {"groups": ["1" * 11]}}, "content": 1},
        wrong("`recipients.agents.groups[0]` must be an integer from 0 to 2147483647"),
    ),
    "multicast of nothing": (
        "multicast",
        {"recipients": {"agents": {"all": True}}},
        wrong("`content` is required"),
    ),
    "multicast 300 levels deep": (
        "multicast",
        {"recipients": {"agents": {"all": True}}, "content": nested(300)},
        wrong("`content` must be nested at most 32 levels deep"),
    ),
}
ON_SOCKETS_ONLY: dict[str, Case] = {
    "customers of a group by name": (
        "subscribe_customers",
        {"group_ids": ["Sales"]},
        wrong("`group_ids[0]` must be an integer from 0 to 2147483647"),
    ),
    "customers of 201 groups": (
        "subscribe_customers",
        {"group_ids": [0] * 201},
        wrong("`group_ids` must have at most 200 elements"),
    ),
    "all customers there are": (
        "subscribe_customers",
        {"limit": 10**9},
        wrong("`limit` must be an integer from 1 to 500"),
    ),
    "subscription by number": (
        "unsubscribe_customers",
        {"subscription_id": 1},
        wrong("`subscription_id` must be a string"),
    ),
    "subscription of nobody": (
        "unsubscribe_customers",
        {"subscription_id": "0"},
        ("not_found", "Subscription not found"),
    ),
    "away perhaps": ("set_away_status", {"away": "perhaps"}, wrong("`away` must be a boolean")),
    "session without a token": ("update_session", {}, wrong("`token` is required")),
    "session with a wrong token": ("update_session", {"token": f"Bearer {SECRET}"}, WRONG_TOKEN),
    "session with a token of another license": (
        "update_session",
        {"token": "$stranger_token"},
        ("authentication", "`token` belongs to another agent"),
    ),
}


@pytest.mark.parametrize(
    ("action", "payload", "error"),
    [*CASES.values(), *ON_SOCKETS_ONLY.values()],
    ids=[*CASES, *ON_SOCKETS_ONLY],
)
def test_on_a_socket(scene: Scene, action: str, payload: Any, error: tuple[str, str]) -> None:
    check_refusal(scene, action, payload, error)


def check_refusal(scene: Scene, action: str, payload: Any, error: tuple[str, str]) -> None:
    """The request gets this error."""
    with scene.agent() as agent:
        response = agent.call(action, scene.fill(payload))
        assert not response["success"]
        assert error_of(response["payload"]) == error


LOOKED_UP = {name: case for name, case in CASES.items() if case[2][0] != "validation"}


@pytest.mark.parametrize(("action", "payload", "error"), LOOKED_UP.values(), ids=LOOKED_UP.keys())
def test_on_either_database(either_scene: Scene, action: str, payload: Any, error: tuple[str, str]) -> None:
    check_refusal(either_scene, action, payload, error)


STATUSES = {
    "validation": 400,
    "chat_inactive": 400,
    "authentication": 401,
    "authorization": 403,
    "not_found": 404,
}


@pytest.mark.parametrize(("action", "payload", "error"), CASES.values(), ids=CASES.keys())
def test_over_http(scene: Scene, action: str, payload: Any, error: tuple[str, str]) -> None:
    answer = scene.target.call(action, scene.fill(payload))
    assert answer.error() == error
    assert answer.status == STATUSES[error[0]]


NAMES = ["$", "$.a", "$[", "[0]", "0", '"', "a.b", "\\", "'", "a b", "\u2028", "🦆", "%", "{}", '"$"', "\x01", "type"]


@pytest.mark.parametrize("name", NAMES)
def test_properties_of_any_name_are_found_by_it(either_scene: Scene, name: str) -> None:
    with either_scene.agent() as agent:
        properties = {name: {name: name}}
        chat_id = agent.call("start_chat", start(properties=properties))["payload"]["chat_id"]
        for condition, is_found in (
            ({"exists": True}, True),
            ({"exists": False}, False),
            ({"values": [name, 1]}, True),
            ({"values": [name + name]}, False),
            ({"exclude_values": [name]}, False),
            ({"exclude_values": ["other"]}, True),
        ):
            found = agent.call("list_chats", filtered(properties={name: {name: condition}}))
            chats = {chat["id"]: chat["properties"] for chat in found["payload"]["chats_summary"]}
            assert chats.get(chat_id, {}).get(name) == (properties[name] if is_found else None), condition


def test_the_largest_filter_is_served(either_scene: Scene) -> None:
    values = [f"{number:016000}" for number in range(3)] + list(range(97))
    properties = {"ns": {str(name): {"exclude_values": values} for name in range(20)}}
    with either_scene.agent() as agent:
        assert agent.call("list_chats", filtered(properties=properties, group_ids=[0] * 200))["success"]


@pytest.mark.parametrize("long_ago", ["0001-01-01T00:00:00Z", "0999-12-31T23:59:59.999999999+01:00"])
def test_what_was_seen_long_ago_is_not_seen_later(scene: Scene, long_ago: str) -> None:
    with scene.agent() as agent:
        before = agent.call("get_chat", scene.fill({"chat_id": "$chat"}))
        assert agent.call("mark_events_as_seen", scene.fill({"chat_id": "$chat", "seen_up_to": long_ago}))["success"]
        assert agent.call("get_chat", scene.fill({"chat_id": "$chat"}))["payload"] == before["payload"]


def test_an_error_repeats_no_secret(scene: Scene) -> None:
    with scene.agent() as agent:
        for action in ("login", "update_session"):
            for token in (SECRET, [SECRET], {SECRET: SECRET}, SECRET * 500):
                response = agent.call(action, {"token": token})
                assert not response["success"]
                assert SECRET not in json.dumps(response)
