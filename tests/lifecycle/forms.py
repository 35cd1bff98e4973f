"""How the versions put what 3.6 says, as far as the life of a chat is concerned.

    3.7     a chat in a list is a chat info: its last thread has the last events, those of that thread only
    3.5     a customer's `visit` is `last_visit`; neither phone numbers nor counts of tickets; nobody is seen thinking;
            a thread does not say from where its customer came; list_chats has `include_active` in place of `active`
    3.4     as 3.5

Source: the public reference, "Changelog" and "Data structures" of each version.
"""

from typing import Any

Payload = dict[str, Any]
OLD = ("3.4", "3.5")
_LATER_PUSHES = {"incoming_thinking_indicator"}
_LATER_ACTIONS = {"send_event_preview", "send_thinking_indicator"}


def has_push(version: str, name: str) -> bool:
    """Whether sockets of the version are sent it."""
    return version not in OLD or name not in _LATER_PUSHES


def has_action(version: str, action: str) -> bool:
    """Whether it can be asked for."""
    return version not in OLD or action not in _LATER_ACTIONS


def request(version: str, payload: Payload) -> Payload:
    """A request of 3.6 in the version's words."""
    filters = payload.get("filters", {})
    if version in OLD and "active" in filters:
        assert filters["active"] is False  # there is no word for "active ones only"
        return payload | {"filters": {"include_active": False}}
    return payload


def shown(version: str, value: Any) -> Any:
    """An answer or a push of 3.6 as the version has it."""
    if isinstance(value, list):
        return [shown(version, each) for each in value]
    if not isinstance(value, dict):
        return value
    whole = {name: shown(version, each) for name, each in value.items()}
    if version in OLD:
        whole.pop("customer_visit", None)
        if whole.get("type") == "customer":
            return _older_customer(whole)
    if version == "3.7" and "chats_summary" in whole:
        whole["chats_info"] = [_chat_info(chat) for chat in whole.pop("chats_summary")]
    return whole


def _older_customer(customer: Payload) -> Payload:
    older = {name: value for name, value in customer.items() if name not in ("visit", "phone_number")}
    if "visit" in customer:
        older["last_visit"] = customer["visit"]
    if "statistics" in customer:
        older["statistics"] = {name: n for name, n in customer["statistics"].items() if name != "tickets_count"}
    return older


def _chat_info(summary: Payload) -> Payload:
    info = dict(summary)
    thread, last_events = info.pop("last_thread_summary"), info.pop("last_event_per_type")
    of_thread = {
        kind: {"event": last["event"]} for kind, last in last_events.items() if last["thread_id"] is thread["id"]
    }
    return info | {"last_thread_info": thread | {"last_event_per_type": of_thread}}
