"""One full payload for each action, and one full event for each type."""

from typing import Any

from rtm.model.payload import Payload
from rtm.model.requests.chats import (
    AddUserToChat,
    DeactivateChat,
    FollowChat,
    GetChat,
    ListChats,
    ListThreads,
    RemoveUserFromChat,
    ResumeChat,
    StartChat,
    UnfollowChat,
)
from rtm.model.requests.events import (
    MarkEventsAsSeen,
    Multicast,
    SendEvent,
    SendEventPreview,
    SendRichMessagePostback,
    SendThinkingIndicator,
    SendTypingIndicator,
)
from rtm.model.requests.properties import (
    DeleteChatProperties,
    DeleteEventProperties,
    DeleteThreadProperties,
    TagThread,
    UntagThread,
    UpdateChatProperties,
    UpdateEventProperties,
    UpdateThreadProperties,
)
from rtm.model.requests.sessions import (
    ListRoutingStatuses,
    Login,
    Logout,
    Ping,
    SetAwayStatus,
    SetRoutingStatus,
    UpdateSession,
)

PROPERTIES = {"test": {"string_property": "hello", "int_property": 7, "bool_property": True}}
POSTBACK = {
    "id": "action_call",
    "thread_id": "K600PKZON8",
    "event_id": "K600PKZON8_1",
    "type": "phone",
    "value": "790034890",
    "ecommerce": {"product_id": "12345", "option_id": "red-xl", "quantity": 1},
}
ELEMENT = {
    "title": "A jumper",
    "subtitle": "Warm, and red",
    "image": {
        "name": "jumper.png",
        "url": "https://example.com/jumper.png",
        "content_type": "image/png",
        "size": 123444,
        "width": 640,
        "height": 480,
        "alternative_text": "A red jumper",
    },
    "buttons": [
        {"text": "yes", "postback_id": "action_yes", "user_ids": ["b7eff798-f8df-4364-8059-649c35c9ed0c"]},
        {
            "type": "webview",
            "text": "look",
            "value": "https://example.com/look",
            "webview_height": "tall",
            "postback_id": "action_look",
            "user_ids": [],
            "target": "current",
        },
    ],
    "ecommerce": {
        "view_type": "swatch",
        "product_id": "12345",
        "label": "Jumper",
        "options": [{"option_id": "red-xl", "label": "Red, XL", "price": "10.00", "available": True}],
        "addons": [{"addon_type": "price", "range_from": "8", "range_to": "12", "currency": "EUR"}],
    },
}
CHOICES = [{"id": "0", "label": "Sales", "group_id": 1}, {"id": 1, "label": "Support"}]

EVENTS: dict[str, dict[str, Any]] = {
    "message": {"type": "message", "text": "hello there", "postback": POSTBACK},
    "file": {"type": "file", "url": "https://example.com/image25.png", "alternative_text": "A picture"},
    "rich_message": {"type": "rich_message", "template_id": "ecommerce", "elements": [ELEMENT]},
    "custom": {"type": "custom", "content": {"nested": {"json": [1, None, 2.5]}}},
    "form": {
        "type": "form",
        "form_id": "1473433500211",
        "fields": [
            {"type": "name", "id": "154417206262603539", "label": "Your name", "required": True},
            {"type": "select", "id": "154417206262602572", "label": "Department", "options": CHOICES},
        ],
    },
    "filled_form": {
        "type": "filled_form",
        "form_id": "1473433500211",
        "fields": [
            {"type": "name", "id": "154417206262603539", "label": "Your name", "answer": "Thomas Anderson"},
            {"type": "radio", "id": "154417206262602571", "label": "Purpose", "answer": CHOICES[0]},
            {"type": "checkbox", "id": "154417206262604640", "label": "Industry", "answers": CHOICES},
        ],
    },
    "system_message": {
        "type": "system_message",
        "text": "Chat assigned to John Doe",
        "system_message_type": "routing.assigned",
        "text_vars": {"agent": "John Doe"},
    },
}
for _event in EVENTS.values():
    _event |= {"custom_id": "31-0C-1C-07-DB-16", "visibility": "all", "properties": PROPERTIES}

CHAT = {
    "properties": PROPERTIES,
    "access": {"group_ids": [0, 1]},
    "users": [{"id": "smith@example.com", "type": "agent"}, {"id": "b7eff798", "type": "customer"}],
    "thread": {"events": list(EVENTS.values()), "properties": PROPERTIES},
}

NAMES = {"0805e283233042b37f460ed8fbf22160": ["string_property"]}
OF_THREAD = {"chat_id": "Q1GZ3FNAT9", "thread_id": "Q1GZ3FNAU9"}
OF_EVENT = OF_THREAD | {"event_id": "Q1GZ3FNAU9_1"}
TOGGLED = {
    "id": "action_yes",
    "toggled": True,
    "button_type": "url",
    "button_value": "https://www.example.com",
    "ecommerce": {"product_id": "12345", "option_id": "red-xl", "quantity": 1},
}

PAYLOADS: dict[type[Payload], dict[str, Any]] = {
    AddUserToChat: {
        "chat_id": "PW94SJTGW6",
        "user_id": "smith@example.com",
        "user_type": "agent",
        "visibility": "agents",
        "ignore_requester_presence": True,
    },
    DeactivateChat: {"id": "PJ0MRSHTDG", "ignore_requester_presence": True},
    FollowChat: {"id": "PW94SJTGW6"},
    GetChat: {"chat_id": "PJ0MRSHTDG", "thread_id": "K600PKZON8"},
    ListChats: {
        "filters": {
            "active": False,
            "include_chats_without_threads": False,
            "group_ids": [0, 1],
            "properties": {"routing": {"idle": {"values": [True]}, "continuous": {"exists": True}}},
        },
        "sort_order": "asc",
        "limit": 100,
    },
    ListRoutingStatuses: {"filters": {"group_ids": [0]}},
    ListThreads: {
        "chat_id": "PWJ8Y4THAV",
        "sort_order": "asc",
        "limit": 100,
        "filters": {"from": "2017-10-12T15:19:21.010200Z", "to": "2017-10-12T15:19:21.010200+02:00"},
    },
    Login: {
        "token": "Bearer dal:abc",
        "timezone": "Europe/Warsaw",
        "reconnect": True,
        "application": {"name": "desktop", "version": "1.2.3"},
        "away": True,
        "customer_monitoring_level": "highest_available",
        "pushes": {"3.6": ["incoming_chat", "incoming_multicast"], "3.7": ["all"]},
    },
    Logout: {},
    MarkEventsAsSeen: {"chat_id": "PJ0MRSHTDG", "seen_up_to": "2017-10-12T15:19:21.010200Z"},
    Multicast: {
        "recipients": {"agents": {"all": False, "ids": ["smith@example.com"], "groups": [1, "2"]}},
        "content": {"example": {"nested": "json"}},
        "type": "type1",
    },
    Ping: {},
    RemoveUserFromChat: {"chat_id": "PW94SJTGW6", "user_id": "smith@example.com", "user_type": "agent"},
    ResumeChat: {"chat": {"id": "PWJ8Y4THAV", **CHAT}, "active": False, "continuous": True},
    SendEvent: {"chat_id": "PW94SJTGW6", "event": EVENTS["message"]},
    SendEventPreview: {"chat_id": "PW94SJTGW6", "event": EVENTS["message"]},
    SendThinkingIndicator: {
        "chat_id": "PJ0MRSHTDG",
        "title": "Thinking",
        "description": "Asking the billing department",
        "visibility": "agents",
        "custom_id": "31-0C",
    },
    SendTypingIndicator: {"chat_id": "PJ0MRSHTDG", "visibility": "agents", "is_typing": True},
    DeleteChatProperties: {"id": "Q1VZR7AJCE", "properties": NAMES},
    DeleteEventProperties: OF_EVENT | {"properties": NAMES},
    DeleteThreadProperties: OF_THREAD | {"properties": NAMES},
    UpdateChatProperties: {"id": "Q1VZR7AJCE", "properties": PROPERTIES},
    UpdateEventProperties: OF_EVENT | {"properties": PROPERTIES},
    UpdateThreadProperties: OF_THREAD | {"properties": PROPERTIES},
    TagThread: OF_THREAD | {"tag": "support"},
    UntagThread: OF_THREAD | {"tag": "support"},
    SendRichMessagePostback: OF_EVENT | {"postback": TOGGLED},
    SetAwayStatus: {"away": True},
    SetRoutingStatus: {"status": "not_accepting_chats", "agent_id": "smith@example.com"},
    StartChat: {"chat": CHAT, "active": False, "continuous": True},
    UnfollowChat: {"id": "PJ0MRSHTDG"},
    UpdateSession: {"token": "Bearer dal:def"},
}
