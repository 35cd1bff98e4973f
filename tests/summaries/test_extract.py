"""A summary without anybody's help, and what it is made of."""

from typing import Any

import pytest

from rtm.model.chat import Chat, ChatUser
from rtm.summaries.extract import MAX_BULLET, Extract
from rtm.summaries.transcript import Said, transcript

C, A = "Customer", "Agent"


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ([(A, "hello")], ["Agent: hello"]),
        ([(C, "1"), (C, "2")], ["Customer: 1", "Customer: 2"]),
        ([(A, "1"), (C, "2"), (A, "3"), (C, "4")], ["Agent: 1", "Customer: 2", "Agent: 3", "Customer: 4"]),
        ([(C, "1"), (A, "2"), (A, "3"), (C, "4"), (A, "5"), (C, "6")], [f"{C}: 1", f"{A}: 2", f"{A}: 5", f"{C}: 6"]),
        ([(C, " a \n\n b\t")], ["Customer: a b"]),
        ([(C, "x" * 1000)], [f"Customer: {'x' * (MAX_BULLET - 1)}…"]),
    ],
)
async def test_what_was_said_first_and_last(said: list[Any], lines: list[str]) -> None:
    text = await Extract().write([Said(*each) for each in said])
    assert text.split("  \n") == [f"• {line}" for line in lines]


def test_a_transcript_is_what_everybody_could_read() -> None:
    users = [ChatUser("ada", "customer"), ChatUser("alice", "agent"), ChatUser("bot", "agent", present=False)]
    chat = Chat("C", 1, "", [0], users={user.id: user for user in users})

    def event(author_id: str, kind: str = "message", visibility: str = "all", **more: Any) -> dict[str, Any]:
        return {"id": "T_1", "author_id": author_id, "type": kind, "visibility": visibility, **more}

    events = [
        event("bot", text="welcome"),
        event("ada", text="hello"),
        event("alice", text="a note", visibility="agents"),
        event("ada", "file", name="photo.png", url="https://example.com/photo.png"),
        {"id": "T_5", "type": "system_message", "visibility": "all", "text": "Alice joined the chat"},
        event("ada", "custom", content={}),
    ]
    said = [("Agent", "welcome"), ("Customer", "hello"), ("Customer", "[photo.png]")]
    assert transcript(chat, events) == said
