"""3.5, where it is not as 3.6.

- list_chats filters by `include_active` in place of `active`.
- A customer's `visit` is called `last_visit`; phone number, address, carts, other channels and tickets are not there.
- A thread has neither `summary` nor `customer_visit`.
- Rich messages and postbacks know nothing of ecommerce.
- An agent may act as a bot by naming it.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

from typing import Any

from rtm.protocol.errors import ValidationError

Object = dict[str, Any]

ABSENT_ACTIONS = frozenset(
    {
        "request_thread_summary",
        "send_event_preview",
        "send_thinking_indicator",
        "subscribe_customers",
        "unsubscribe_customers",
        "update_session",
    }
)
OWN_ACTIONS = frozenset({"create_customer", "get_license_info", "list_customers"})
ABSENT_PUSHES = frozenset(
    {
        "customer_statistics_updated",
        "event_deleted",
        "group_properties_updated",
        "incoming_error",
        "incoming_thinking_indicator",
        "license_properties_updated",
        "subscribed_customers_totals_updated",
        "thread_summary_set",
        "ticket_created",
        "ticket_deleted",
    }
)
OWN_PUSHES: frozenset[str] = frozenset()


_LATER_OF_CUSTOMER = ("phone_number", "address", "cart", "carts", "omnichannel", "tickets")


def _without(value: Object, *names: str) -> Object:
    return {name: item for name, item in value.items() if name not in names}


# Requests


def _list_chats_request(payload: Object) -> Object:
    filters = payload.get("filters")
    if not isinstance(filters, dict):
        return payload
    include_active = filters.get("include_active")
    if not isinstance(include_active, bool | None):
        raise ValidationError("`filters.include_active` must be a boolean")
    filters = _without(filters, "include_active", "active")
    return payload | {"filters": filters | ({"active": False} if include_active is False else {})}


def _list_chats_parameters(names: list[str]) -> list[str]:
    return ["filters.include_active" if name == "filters.active" else name for name in names]


def _postback_request(payload: Object) -> Object:
    return _with_postback(payload) if isinstance(payload.get("postback"), dict) else payload


def _postback_parameters(names: list[str]) -> list[str]:
    later = {f"postback.{name}" for name in _LATER_IN_POSTBACKS}
    return [name for name in names if not name.startswith("postback.ecommerce.") and name not in later]


def _update_customer_request(payload: Object) -> Object:
    return _without(payload, *_LATER_OF_CUSTOMER)


def _update_customer_parameters(names: list[str]) -> list[str]:
    return [name for name in names if name.partition(".")[0] not in _LATER_OF_CUSTOMER]


# Structures

_LATER_IN_POSTBACKS = ("button_type", "button_value", "ecommerce")


def _user(user: Object) -> Object:
    return _customer(user) if user.get("type") == "customer" else user


def _customer(customer: Object) -> Object:
    older = _without(customer, "visit", *_LATER_OF_CUSTOMER)
    if "visit" in customer:
        older["last_visit"] = customer["visit"]
    if "statistics" in customer:
        older["statistics"] = _without(customer["statistics"], "tickets_count")
    return older


def _event(event: Object) -> Object:
    if "ecommerce" in event.get("postback", ()):
        return event | {"postback": _without(event["postback"], "ecommerce")}
    if event.get("template_id") == "ecommerce":
        elements = [_without(element, "ecommerce") for element in event.get("elements", ())]
        return event | {"template_id": "cards", "elements": elements}
    return event


def _thread(thread: Object) -> Object:
    older = _without(thread, "summary", "customer_visit")
    if "events" in thread:
        older["events"] = [_event(event) for event in thread["events"]]
    return older


def _chat(chat: Object) -> Object:
    """A chat or a chat summary."""
    older = chat | {"users": [_user(user) for user in chat["users"]]}
    if "thread" in chat:
        older["thread"] = _thread(chat["thread"])
    if "last_event_per_type" in chat:
        older["last_event_per_type"] = {
            event_type: last | {"event": _event(last["event"])}
            for event_type, last in chat["last_event_per_type"].items()
        }
    return older


# Responses and pushes


def _with_chats_summary(payload: Object) -> Object:
    return payload | {"chats_summary": [_chat(chat) for chat in payload["chats_summary"]]}


def _with_chats(payload: Object) -> Object:
    return payload | {"chats": [_chat(chat) for chat in payload["chats"]]}


def _with_chat(payload: Object) -> Object:
    return payload | {"chat": _chat(payload["chat"])}


def _with_threads(payload: Object) -> Object:
    return payload | {"threads": [_thread(thread) for thread in payload["threads"]]}


def _with_user(payload: Object) -> Object:
    return payload | {"user": _user(payload["user"])}


def _with_customers(payload: Object) -> Object:
    return payload | {"customers": [_customer(customer) for customer in payload["customers"]]}


def _with_event(payload: Object) -> Object:
    return payload | {"event": _event(payload["event"])}


def _with_postback(payload: Object) -> Object:
    return payload | {"postback": _without(payload["postback"], *_LATER_IN_POSTBACKS)}


REQUESTS = {
    "list_chats": _list_chats_request,
    "send_rich_message_postback": _postback_request,
    "update_customer": _update_customer_request,
}
PARAMETERS = {
    "list_chats": _list_chats_parameters,
    "send_rich_message_postback": _postback_parameters,
    "update_customer": _update_customer_parameters,
}
RESPONSES = {
    "get_chat": _chat,
    "get_customer": _customer,
    "list_archives": _with_chats,
    "list_chats": _with_chats_summary,
    "list_customers": _with_customers,
    "list_threads": _with_threads,
    "login": _with_chats_summary,
}
PUSHES = {
    "customer_updated": _customer,
    "event_updated": _with_event,
    "incoming_chat": _with_chat,
    "incoming_customer": _customer,
    "incoming_customers": _with_customers,
    "incoming_event": _with_event,
    "incoming_rich_message_postback": _with_postback,
    "user_added_to_chat": _with_user,
}
