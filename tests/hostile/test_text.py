"""Text of every kind comes back as it was: in the push, in the history, in a summary, on each database."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.scene import Scene
from tests.hostile.target import Socket

pytestmark = pytest.mark.usefixtures("unharmed")

KIBIBYTE = 1024
TEXTS = {
    "control characters": "".join(map(chr, [*range(1, 32), *range(127, 160)])),
    "line ends": "a\nb\r\nc\rd\u0085e\u2028f\u2029g\vh\fi",
    "only blanks": " \t\n\u00a0\u3000\ufeff",
    "quotes and escapes": '"\'`\\\\" \\u0041 \\x00 \\ud800 %00 $1 ${x} {{x}} %s {0}',
    "SQL": "'; DROP TABLE events; -- \" OR 1=1",
    "HTML": "<script>alert(1)</script>&amp;<!--",
    "JSON": '{"action":"login","payload":null}',
    "emoji of one person": "\U0001f469\U0001f3fe\u200d\U0001f9b0",
    "emoji of a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f4\U000e0067\U000e007f",
    "flags": "\U0001f1f5\U0001f1f1\U0001f1fa\U0001f1f3",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c \u2066x\u2069",
    "composed and decomposed": "\u00e9 e\u0301 \u1e9b\u0323 \ufb01 \u212b",
    "a letter under many marks": "Z" + "\u0351\u036b\u0343" * 100,
    "scripts": "Grüße Žluťoučký ελληνικά кириллица हिन्दी ไทย 中文 日本語 한국어 አማርኛ",
    "beyond the basic plane": "\U00010000\U0001d54f\U00020000\U0002f800\U0003134a",
    "private use": "\ue000\uf8ff\U000f0000\U0010fffd",
    "no characters": "\ufffe\uffff\U0001fffe\U0010ffff\ufdd0",
    "replacement and byte order mark": "\ufffd\ufeff\u200b\u2060\ufff9",
    "numbers": "007 1e400 NaN Infinity null true",
    "16 KiB in 1 byte each": "a" * 16 * KIBIBYTE,
    "16 KiB in 2 bytes each": "ö" * 8 * KIBIBYTE,
    "16 KiB in 3 bytes each": "中" * (16 * KIBIBYTE // 3),
    "16 KiB in 4 bytes each": "🦆" * 4 * KIBIBYTE,
    "16 KiB that are escaped": '"\\\x1f' * (16 * KIBIBYTE // 3),
}
CATEGORIES = sorted({unicodedata.category(chr(code)) for code in range(0x110000)} - {"Cs"})


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_comes_back_as_it_was(either_scene: Scene, text: str) -> None:
    with either_scene.agent() as agent:
        check_round_trip(agent, text)


@pytest.mark.parametrize("category", CATEGORIES)
def test_text_of_a_category_comes_back_as_it_was(either_scene: Scene, category: str) -> None:
    alphabet = st.characters(categories=[category], exclude_characters="\0")  # type: ignore[list-item]

    @settings(derandomize=True, database=None, deadline=None, max_examples=4)
    @given(text=st.text(alphabet, min_size=1, max_size=60))
    def play(text: str) -> None:
        check_round_trip(agent, text)

    with either_scene.agent() as agent:
        play()


def check_round_trip(agent: Socket, text: str) -> None:
    """Say the text, and use what of it is short enough as a name, an id and a value."""
    short = text[:100]
    chat = agent.call("start_chat", {"chat": {"properties": {short: {short: text[:16_384]}}}})["payload"]
    event = {
        "type": "message",
        "text": text,
        "custom_id": short,
        "properties": {short: {short: short}},
    }
    push = said(agent, {"chat_id": chat["chat_id"], "event": event})
    [thread] = agent.call("list_threads", {"chat_id": chat["chat_id"]})["payload"]["threads"]
    summaries = agent.call("list_chats", {"limit": 1})["payload"]["chats_summary"]
    last_event = summaries[0]["last_event_per_type"]["message"]["event"]
    for shown in (push, *thread["events"], last_event):
        assert {name: shown[name] for name in event} == event
    assert summaries[0]["properties"][short] == {short: text[:16_384]}
    assert agent.call("deactivate_chat", {"id": chat["chat_id"]})["success"]


def said(agent: Socket, payload: Any) -> dict[str, Any]:
    """The event as the push about it shows it."""
    response = agent.call("send_event", payload)
    assert response["success"], response
    while (push := agent.next_message())["action"] != "incoming_event" or push["request_id"] != response["request_id"]:
        pass
    event: dict[str, Any] = push["payload"]["event"]
    assert event["id"] == response["payload"]["event_id"]
    return event
