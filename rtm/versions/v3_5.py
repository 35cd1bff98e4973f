"""3.5, where it is not as 3.6.

- list_chats filters by `include_active` in place of `active`.
- list_archives knows fewer filters.
- A customer's `visit` is called `last_visit`; phone number, address, carts, other channels and tickets are not there.
- A thread has neither `summary` nor `customer_visit`.
- Rich messages and postbacks know nothing of ecommerce.
- What is told by system events is told by system messages; the last of them is in no list.
- An agent may act as a bot by naming it.
- No connection ends for the reason `role_permissions_changed`.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

import json
from typing import Annotated, Literal

from pydantic import Field

from rtm.model.events import Postback, RichMessage
from rtm.model.pushes import AgentDisconnected, CustomerUpdated, OldReason
from rtm.model.requests.archives import ArchivesFilters, EventTypesFilter, OldEventTypes
from rtm.model.requests.chats import ChatsFilters
from rtm.model.requests.customers import UpdateCustomer
from rtm.model.requests.events import ToggledButton
from rtm.model.rich_messages import Element
from rtm.model.shown import (
    ChatSummary,
    Customer,
    CustomerWithChats,
    RichMessageEvent,
    Statistics,
    SystemEvent,
    Thread,
)
from rtm.protocol.errors import ValidationError
from rtm.versions.differences import Differs, Object

LIFECYCLE = {"Legacy": "2027-12-31"}
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
        "incoming_error",
        "incoming_thinking_indicator",
        "subscribed_customers_totals_updated",
        "thread_summary_set",
    }
)


def _active_filter(filters: Object) -> Object:
    include_active = filters.get("include_active")
    if not isinstance(include_active, bool | None):
        raise ValidationError("`filters.include_active` must be a boolean")
    return filters | {"active": False} if include_active is False else filters


def _of_known_template(message: Object) -> Object:
    if message.get("template_id") == "ecommerce":
        raise ValidationError("`template_id` must be one of: cards, sticker, quick_replies")
    return message


def _without_products(event: Object) -> Object:
    return event | {"template_id": "cards"} if event["template_id"] == "ecommerce" else event


def _in_words(event: Object) -> Object:
    """The system message in place of a system event, with a text if there is one."""
    older = {name: item for name, item in event.items() if name not in ("source", "subtype", "version", "details")}
    older |= {"type": "system_message", "system_message_type": event["subtype"]}
    if event["subtype"] == "summary":
        older["text"] = json.loads(event["details"])["summary"]["text"]
    return older


def _with_a_known_reason(disconnected: Object) -> Object:
    """Of the reasons that the version has, one that asks to come back as the newer one does."""
    is_newer = disconnected["reason"] == "role_permissions_changed"
    return disconnected | {"reason": "internal_error"} if is_newer else disconnected


def _without_system_events(chat: Object) -> Object:
    last_events = {kind: last for kind, last in chat["last_event_per_type"].items() if kind != "system"}
    return chat | {"last_event_per_type": last_events}


_CUSTOMER = Differs(
    without=("phone_number", "address", "cart", "carts", "omnichannel", "tickets"), renamed={"visit": "last_visit"}
)
_IncludeActive = Annotated[bool, Field(description="`false` leaves active chats out.")]
_TEMPLATES = Literal["cards", "sticker", "quick_replies"]

STRUCTURES = {
    ChatsFilters: Differs(without=("active",), fields={"include_active": _IncludeActive}, read=_active_filter),
    ArchivesFilters: Differs(without=("chat_ids", "agent_types", "customer_id", "customer_email")),
    **dict.fromkeys((Customer, CustomerWithChats, CustomerUpdated, UpdateCustomer), _CUSTOMER),
    EventTypesFilter: Differs(fields=dict.fromkeys(("values", "exclude_values"), OldEventTypes)),
    Statistics: Differs(without=("tickets_count",)),
    Thread: Differs(without=("summary", "customer_visit")),
    Postback: Differs(without=("ecommerce",)),
    ToggledButton: Differs(without=("button_type", "button_value", "ecommerce")),
    Element: Differs(without=("ecommerce",)),
    RichMessage: Differs(fields={"template_id": _TEMPLATES}, read=_of_known_template),
    RichMessageEvent: Differs(fields={"template_id": _TEMPLATES}, shown=_without_products),
    SystemEvent: Differs(absent=True, shown=_in_words),
    ChatSummary: Differs(shown=_without_system_events),
    AgentDisconnected: Differs(fields={"reason": OldReason}, shown=_with_a_known_reason),
}
