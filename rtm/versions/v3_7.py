"""3.7, the developer preview, where it is not as 3.6.

- A chat in a list is a chat info: its `last_thread_info` holds the last events, those of that thread only, as nothing
  names another one there. In 3.6 the chat summary itself holds them, with the thread of each.
- There are pushes about canned responses.

Its reference lacks some fields that 3.6 was given later (`phone_number` and `omnichannel` of customers), though its
samples have them and its changelog takes none away: they are the same here.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

from typing import Any

Object = dict[str, Any]

ABSENT_ACTIONS: frozenset[str] = frozenset()
OWN_ACTIONS: frozenset[str] = frozenset()
ABSENT_PUSHES: frozenset[str] = frozenset()
OWN_PUSHES = frozenset({"canned_response_created", "canned_response_deleted", "canned_response_updated"})


def _without(value: Object, *names: str) -> Object:
    return {name: item for name, item in value.items() if name not in names}


def _chat_info(summary: Object) -> Object:
    info = _without(summary, "last_event_per_type", "last_thread_summary")
    thread = summary.get("last_thread_summary")
    if thread is not None:
        last_events = {
            event_type: {"event": last["event"]}
            for event_type, last in summary["last_event_per_type"].items()
            if last["thread_id"] == thread["id"]
        }
        info["last_thread_info"] = thread | {"last_event_per_type": last_events}
    return info


def _with_chats_info(payload: Object) -> Object:
    chats_info = [_chat_info(summary) for summary in payload["chats_summary"]]
    return _without(payload, "chats_summary") | {"chats_info": chats_info}


REQUESTS: dict[str, Any] = {}
PARAMETERS: dict[str, Any] = {}
RESPONSES = {"list_chats": _with_chats_info, "login": _with_chats_info}
PUSHES: dict[str, Any] = {}
