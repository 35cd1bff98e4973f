"""3.7, the developer preview, where it is not as 3.6.

- A chat in a list is a chat info: its `last_thread_info` holds the last events, those of that thread only, as nothing
  names another one there. In 3.6 the chat summary itself holds them, with the thread of each.

Its reference lacks some fields that 3.6 was given later (`phone_number` and `omnichannel` of customers), though its
samples have them and its changelog takes none away: they are the same here.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

from typing_extensions import TypedDict

from rtm.model.responses import ChatsPage, LoggedIn
from rtm.model.shown import ChatSummary, Event, ThreadSummary
from rtm.versions.differences import Differs, Object

LIFECYCLE: dict[str, str] = {}
ABSENT_ACTIONS: frozenset[str] = frozenset()
OWN_ACTIONS: frozenset[str] = frozenset()
ABSENT_PUSHES: frozenset[str] = frozenset()


class LastEventOfThread(TypedDict):
    """The last event of its type."""

    event: Event


class ThreadInfo(ThreadSummary):
    """A thread in brief, with its last events by type."""

    last_event_per_type: dict[str, LastEventOfThread]


def _chat_info(summary: Object) -> Object:
    thread = summary.get("last_thread_summary")
    if thread is None:
        return summary
    last_events = {
        event_type: {"event": last["event"]}
        for event_type, last in summary["last_event_per_type"].items()
        if last["thread_id"] == thread["id"]
    }
    return summary | {"last_thread_info": thread | {"last_event_per_type": last_events}}


_CHATS_INFO = Differs(renamed={"chats_summary": "chats_info"})

STRUCTURES = {
    ChatSummary: Differs(
        name="ChatInfo",
        without=("last_event_per_type", "last_thread_summary"),
        fields={"last_thread_info": ThreadInfo},
        shown=_chat_info,
    ),
    ChatsPage: _CHATS_INFO,
    LoggedIn: _CHATS_INFO,
}
