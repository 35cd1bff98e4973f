"""What parts of answers and pushes look like, to compare whole ones with."""

import re
from typing import Any

from tests.world import CLIENT_ID, SALES, VISIT, Chat, World

SOURCE = {"source": {"client_id": CLIENT_ID}}
CHAT_PROPERTIES = SOURCE | {"routing": {"continuous": False, "unassigned": False}}
"""What every new chat has, and (below) every new thread."""
THREAD_PROPERTIES = SOURCE | {"routing": {"continuous": False, "idle": False, "unassigned": False}}


class Like:
    """Equal to every string that matches the whole of the pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(self._pattern, other) is not None

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __repr__(self) -> str:
        return f"<{self._pattern}>"


TIME = Like(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ID = Like("[A-Z0-9]{10}")
EVENT_ID = Like("[A-Z0-9]{10}_[1-9][0-9]*")


def agent(world: World, name: str, *, present: bool = True, visibility: str = "all", **more: Any) -> dict[str, Any]:
    """An agent in a chat's users."""
    return {
        "id": world.id(name),
        "type": "agent",
        "name": name.title(),
        "email": world.id(name),
        "present": present,
        "avatar": "",
        "visibility": visibility,
        **more,
    }


def bot(world: World, name: str, **more: Any) -> dict[str, Any]:
    """A bot in a chat's users: an agent without an address."""
    shown = agent(world, name, **more)
    del shown["email"]
    return shown


def ada(world: World, **more: Any) -> dict[str, Any]:
    """The customer of whom most is known."""
    return {
        "id": world.id("ada"),
        "type": "customer",
        "name": "Ada",
        "email": "ada@example.net",
        "present": True,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "statistics": {"chats_count": 1, "tickets_count": 2},
        "visit": VISIT,
        "phone_number": "+1 555 0100",
        **more,
    }


def older_ada(world: World, **more: Any) -> dict[str, Any]:
    """The same in the versions before 3.6."""
    shown = ada(world, **more)
    shown["last_visit"] = shown.pop("visit")
    shown["statistics"] = {"chats_count": 1}
    del shown["phone_number"]
    return shown


def message(text: str, author_id: str, **more: Any) -> dict[str, Any]:
    """A message as everybody sees it."""
    return {
        "id": EVENT_ID,
        "created_at": TIME,
        "type": "message",
        "author_id": author_id,
        "visibility": "all",
        "text": text,
        **more,
    }


def said(kind: str, text: str, visibility: str = "all", **text_vars: str) -> dict[str, Any]:
    """What the server says in a chat."""
    return {
        "id": EVENT_ID,
        "created_at": TIME,
        "type": "system_message",
        "visibility": visibility,
        "text": text,
        "system_message_type": kind,
        "text_vars": text_vars,
    }


def archived_by(name: str) -> dict[str, Any]:
    """The last event of a thread that an agent has closed."""
    return said("manual_archived_agent", f"{name} archived the chat", agent=name)


def summary_with_ada(world: World, chat: Chat, last: dict[str, Any]) -> dict[str, Any]:
    """A chat of Alice and Ada in Sales, as Alice sees it in a list; `last` is its last message."""
    return {
        "id": chat.id,
        "last_event_per_type": {
            "message": {"thread_id": chat.thread_id, "thread_created_at": TIME, "event": last},
        },
        "users": [agent(world, "alice", events_seen_up_to=TIME), ada(world)],
        "last_thread_summary": {
            "id": chat.thread_id,
            "created_at": TIME,
            "active": True,
            "user_ids": [world.id("alice"), world.id("ada")],
            "properties": THREAD_PROPERTIES,
            "access": {"group_ids": [SALES]},
        },
        "properties": CHAT_PROPERTIES,
        "access": {"group_ids": [SALES]},
        "is_followed": True,
    }
