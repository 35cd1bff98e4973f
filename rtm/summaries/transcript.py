"""What was said in a thread. What only agents may see is left out: a summary is passed on."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from rtm.model.chat import Chat, EventBody


class Said(NamedTuple):
    """A message, or the name of a file."""

    by: Literal["Agent", "Customer"]
    text: str


def transcript(chat: Chat, events: Iterable[EventBody]) -> list[Said]:
    """The messages of a thread of the chat, in order."""
    said = []
    for event in events:
        text = _text(event)
        if text and event["visibility"] == "all":
            author = chat.users.get(event["author_id"])
            said.append(Said("Customer" if author is not None and author.type == "customer" else "Agent", text))
    return said


def _text(event: EventBody) -> str | None:
    match event["type"]:
        case "message":
            return str(event["text"])
        case "file":
            return f"[{event['name']}]"
        case _:
            return None
