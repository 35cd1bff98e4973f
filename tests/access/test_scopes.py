"""What contains what, and what each role may hold."""

from itertools import pairwise

import pytest

from rtm.access.scopes import ROLES, SCOPES, condense, expand, of_role


@pytest.mark.parametrize(
    ("scope", "contains"),
    [
        ("customers:rw", {"customers:ro"}),
        ("accounts--all:rc", {"accounts--all:ro", "accounts--my:ro"}),
        ("chats--access:ro", {"chats--my:ro"}),
        ("chats--all:ro", {"chats--access:ro", "chats--my:ro"}),
        ("tags--all:rw", {"tags--all:ro", "tags--groups:rw", "tags--groups:ro"}),
        ("agents--all:rw", {"agents--all:ro", "agents--my:rw", "agents--my:ro"}),
        ("chats--access:rw", {"chats.conversation--access:rw", "chats.conversation--my:rw", "chats--my:rw"}),
        ("chats.conversation--access:rw", {"chats--access:ro", "chats--my:ro"}),
        ("multicast:rw", {"multicast:ro"}),
    ],
)
def test_a_scope_contains(scope: str, contains: set[str]) -> None:
    assert expand([scope]) >= contains | {scope}


@pytest.mark.parametrize(
    ("scope", "lacks"),
    [
        ("chats--all:ro", "chats--access:rw"),
        ("chats--access:rw", "chats--all:ro"),
        ("chats.conversation--all:rw", "chats--my:rw"),
        ("customers:rw", "customers.ban:rw"),
        ("agents--all:rw", "agents-bot--all:ro"),
        ("tags--groups:rw", "tags--all:ro"),
    ],
)
def test_a_scope_does_not_contain(scope: str, lacks: str) -> None:
    assert lacks not in expand([scope])


def test_an_unknown_scope_gives_nothing() -> None:
    assert expand(["chats--all:rwx", "", ":", "--"]) == frozenset()


def test_a_higher_role_holds_all_that_a_lower_one_holds() -> None:
    held = [of_role(role) for role in ROLES]
    assert all(higher >= lower for higher, lower in pairwise(held))
    assert of_role("owner") == SCOPES.keys()
    assert "chats--all:ro" not in of_role("normal")
    assert "organization--my:rw" not in of_role("viceowner")


@pytest.mark.parametrize("role", ROLES)
def test_a_condensed_list_is_worth_the_same(role: str) -> None:
    short = condense(of_role(role))
    assert expand(short) == of_role(role)
    assert all(expand(set(short) - {scope}) != of_role(role) for scope in short)
