"""Scopes: the lowest role that may hold each, and what contains what.

A scope is `resource[--reach]:right`. Source: the public reference, "Scopes".
"""

from collections.abc import Iterable
from itertools import product

ROLES = ("owner", "viceowner", "administrator", "normal")
"""From the one that may do everything down."""

SCOPES = {
    "access_rules:ro": "administrator",
    "access_rules:rw": "administrator",
    "accounts--all:rc": "normal",
    "accounts--all:ro": "normal",
    "accounts--all:rw": "administrator",
    "accounts--my:ro": "normal",
    "accounts--my:rw": "normal",
    "accounts.roles--all:ro": "normal",
    "accounts.roles--all:rw": "administrator",
    "accounts.roles.lc--all:rw": "administrator",
    "agents--all:ro": "normal",
    "agents--all:rw": "administrator",
    "agents--my:ro": "normal",
    "agents--my:rw": "normal",
    "agents-bot--all:ro": "normal",
    "agents-bot--all:rw": "administrator",
    "agents-bot--my:ro": "administrator",
    "agents-bot--my:rw": "administrator",
    "canned_responses--all:ro": "administrator",
    "canned_responses--all:rw": "administrator",
    "canned_responses--groups:ro": "normal",
    "canned_responses--groups:rw": "administrator",
    "chats--access:ro": "normal",
    "chats--access:rw": "normal",
    "chats--all:ro": "administrator",
    "chats--all:rw": "administrator",
    "chats--my:ro": "normal",
    "chats--my:rw": "normal",
    "chats.conversation--access:rw": "normal",
    "chats.conversation--all:rw": "administrator",
    "chats.conversation--my:rw": "normal",
    "customers.ban:rw": "normal",
    "customers:own": "administrator",
    "customers:ro": "normal",
    "customers:rw": "normal",
    "groups--all:ro": "normal",
    "groups--all:rw": "administrator",
    "groups--my:ro": "normal",
    "groups--my:rw": "administrator",
    "multicast:rw": "normal",
    "organization--my:rw": "owner",
    "properties--all:ro": "administrator",
    "properties--my:ro": "administrator",
    "properties--my:rw": "administrator",
    "properties.configuration:rw": "administrator",
    "properties.group.value--all:rw": "administrator",
    "properties.group.value--my:rw": "administrator",
    "properties.license.value--all:rw": "administrator",
    "properties.license.value--my:rw": "administrator",
    "sessions--my:ro": "normal",
    "sessions--my:rw": "normal",
    "tags--all:rw": "administrator",
    "tags--groups:ro": "normal",
    "webhooks--all:ro": "administrator",
    "webhooks--all:rw": "administrator",
    "webhooks--my:ro": "administrator",
    "webhooks--my:rw": "administrator",
    "webhooks.configuration:rw": "administrator",
    "webhooks.state:ro": "administrator",
    "webhooks.state:rw": "administrator",
    # The reference assigns these two to no role: only an owner may be given them by name.
    "tags--all:ro": "owner",
    "tags--groups:rw": "owner",
    # These are required by methods of the reference, but its list lacks them; the role is that of their neighbours.
    "banlist_read": "normal",
    "banlist_write": "normal",
    "bots.templates:rw": "administrator",
    "greetings:ro": "normal",
    "greetings:rw": "administrator",
    "multicast:ro": "normal",
    "properties.group.value--all:ro": "administrator",
    "properties.group.value--my:ro": "administrator",
    "properties.license.value--all:ro": "administrator",
    "properties.license.value--my:ro": "administrator",
    "sessions--all:rw": "administrator",
    "subscription.lc:rw": "owner",
}
"""Every scope and the lowest role that may hold it."""

_RIGHTS = {"rw": ("rw", "rc", "ro"), "rc": ("rc", "ro")}
_REACHES = {"all": ("all", "access", "groups", "my"), "access": ("access", "my"), "groups": ("groups", "my")}


def _contained_in(scope: str) -> frozenset[str]:
    """Every known scope that `scope` gives, itself included."""
    name, colon, right = scope.rpartition(":")
    resource, dashes, reach = name.partition("--")
    rights = _RIGHTS.get(right, (right,))
    reaches = _REACHES.get(reach, (reach,))
    contained = {f"{resource}{dashes}{r}{colon}{right}" for r, right in product(reaches, rights)}
    # Conversation data is a part of a chat; who may write it may also read the rest.
    if resource == "chats" and right == "rw":
        contained |= {f"chats.conversation--{r}:rw" for r in reaches}
    if resource == "chats.conversation":
        contained |= {f"chats--{r}:ro" for r in reaches}
    return frozenset(contained & SCOPES.keys())


_CONTAINED = {scope: _contained_in(scope) for scope in SCOPES}


def expand(names: Iterable[str]) -> frozenset[str]:
    """The scopes named and all that they contain; unknown names give nothing."""
    return frozenset().union(*(_CONTAINED.get(name, frozenset()) for name in names))


def condense(names: Iterable[str]) -> list[str]:
    """The shortest list that expands to the same scopes."""
    given = set(names)
    return sorted(given - {inner for scope in given for inner in _CONTAINED[scope] if inner != scope})


def _held_by(role: str) -> frozenset[str]:
    rank = ROLES.index(role)
    return expand(scope for scope, lowest in SCOPES.items() if rank <= ROLES.index(lowest))


_OF_ROLE = {role: _held_by(role) for role in ROLES}


def of_role(role: str) -> frozenset[str]:
    """Every scope that an agent of the role may hold."""
    return _OF_ROLE[role]
