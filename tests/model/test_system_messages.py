"""What system messages say."""

from typing import Any, get_args

import pytest

from rtm.model.system_messages import Kind, customer_updated, system_message

AT = "2026-01-01T00:00:00.000000Z"
VARIABLES: dict[str, Any] = dict.fromkeys(
    ("agent", "agent_added", "agent_removed", "customer", "initiator", "targets"), "Somebody"
)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_says_something(kind: Kind) -> None:
    body = system_message(kind, AT, **VARIABLES, duration=5)
    assert body["text"]
    assert "{" not in body["text"]
    assert body["system_message_type"] == kind


def test_a_system_message_has_no_author_and_shows_its_variables_as_text() -> None:
    assert system_message("routing.idle", AT, duration=10) == {
        "id": "",
        "created_at": AT,
        "type": "system_message",
        "visibility": "all",
        "text": "Chat is idle due to 10 minutes of inactivity",
        "system_message_type": "routing.idle",
        "text_vars": {"duration": "10"},
    }
    assert "text_vars" not in system_message("routing.archived_other", AT)


def test_what_people_are_called_is_no_part_of_the_text() -> None:
    body = system_message("agent_joined", AT, visibility="agents", agent="{agent} %s")
    assert body["text"] == "{agent} %s joined the chat"
    assert body["visibility"] == "agents"


@pytest.mark.parametrize(
    ("initiator", "name", "email", "text"),
    [
        ("Al", "Ada", None, "Al has changed customer's name to Ada"),
        ("Al", None, "a@b.example", "Al has changed customer's email to a@b.example"),
        ("Al", "Ada", "a@b.example", "Al has changed customer's name and email to Ada, a@b.example"),
        (None, "Ada", None, "Customer's name has been changed to Ada"),
        (None, None, "a@b.example", "Customer's email has been changed to a@b.example"),
        (None, "Ada", "a@b.example", "Customer's name and email has been changed to Ada, a@b.example"),
    ],
)
def test_who_changed_a_customer_is_named_unless_it_was_an_integration(
    initiator: str | None, name: str | None, email: str | None, text: str
) -> None:
    body = customer_updated(AT, initiator=initiator, name=name, email=email)
    given = {"initiator": initiator, "customer_name": name, "customer_email": email}
    assert body["text"] == text
    assert body["text_vars"] == {variable: value for variable, value in given.items() if value is not None}
    assert body["visibility"] == "agents"
