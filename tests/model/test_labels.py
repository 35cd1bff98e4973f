"""What a thread is found by stays found, however much is said in it."""

from typing import Any

import pytest

from rtm.model import labels
from rtm.model.labels import Facts, of_events, token

FACTS = Facts(1, "CHAT", [0], ["alice@example.com"], ["ada"], [], [], ({}, {}))
MAX_TOKENS = 100
WORDS = [f"word{number}" for number in range(MAX_TOKENS)]


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_TOKENS", MAX_TOKENS)


def message(*said: str) -> dict[str, Any]:
    text = " ".join(said)
    return {"type": "message", "visibility": "all", "author_id": "ada", "created_at": "2026", "text": text}


def greeted(greeting_id: int) -> dict[str, Any]:
    return {**message(), "properties": {"lc2": {"greeting_id": greeting_id}}}


def test_words_leave_room_for_what_else_a_long_thread_is_found_by() -> None:
    full = of_events(FACTS, [message(*WORDS)], frozenset())
    assert len(full) == MAX_TOKENS

    found = of_events(FACTS, [message("more"), greeted(7)], full)
    assert found == full | {token(1, "greeting"), token(1, "greeting", "7"), token(1, "greeting_group", "0")}


def test_what_is_known_takes_no_room_from_what_is_new() -> None:
    nearly_full = of_events(FACTS, [message(*WORDS[:20])], frozenset())
    known = nearly_full | {f"token{number}" for number in range(MAX_TOKENS - 1 - len(nearly_full))}

    assert of_events(FACTS, [message(*WORDS[:20], "more")], known) == known | {token(1, "word", "more")}


def test_nothing_makes_a_thread_be_found_by_more_than_a_database_takes() -> None:
    known: frozenset[str] = frozenset()
    for start in range(0, 3 * MAX_TOKENS, 50):
        known = of_events(FACTS, [greeted(start + number) for number in range(50)], known)
    assert len(known) == 2 * MAX_TOKENS
    assert of_events(FACTS, [message("more")], known) == known
