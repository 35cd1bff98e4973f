"""What versions are served, and how a payload of one is turned into that of another.

Everything inside speaks 3.6, the newest that is no preview. A module here holds what its version has otherwise than its
neighbour on the way to 3.6, and nothing else; a payload goes through all modules between.

v3_7.py  3.7, the developer preview, against 3.6
v3_5.py  3.5, against 3.6
v3_4.py  3.4, against 3.5

ABSENT_ACTIONS, ABSENT_PUSHES   what the neighbour has and the version has not
OWN_ACTIONS, OWN_PUSHES         what the version has and the neighbour has not
REQUESTS, PARAMETERS            by action: from the version's words to the neighbour's, and the names of parameters back
RESPONSES, PUSHES               by action and by push: from the neighbour's words to the version's

Payloads are never changed in place: what is turned may be shown to others too.
"""

from typing import Any

from rtm.versions import v3_4, v3_5, v3_7

SERVED = ("3.4", "3.5", "3.6", "3.7")
STABLE = "3.6"
"""Spoken inside, and to those who name no version."""

# The modules between each version and 3.6, the version's own first.
_STEPS: dict[str, tuple[Any, ...]] = {"3.4": (v3_4, v3_5), "3.5": (v3_5,), "3.6": (), "3.7": (v3_7,)}
_MODULES = frozenset(module for steps in _STEPS.values() for module in steps)


def _absent(version: str, absent: str, own: str) -> frozenset[str]:
    names = frozenset[str]().union(*(getattr(module, own) for module in _MODULES))
    for module in reversed(_STEPS[version]):
        names = (names | getattr(module, absent)) - getattr(module, own)
    return names


_ABSENT_ACTIONS = {version: _absent(version, "ABSENT_ACTIONS", "OWN_ACTIONS") for version in SERVED}
_ABSENT_PUSHES = {version: _absent(version, "ABSENT_PUSHES", "OWN_PUSHES") for version in SERVED}


def has_action(version: str, action: str) -> bool:
    """Whether the version has this action of the catalogue."""
    return action not in _ABSENT_ACTIONS[version]


def has_push(version: str, name: str) -> bool:
    """Whether connections of the version are sent this push."""
    return name not in _ABSENT_PUSHES[version]


def bots_by_author_id(version: str) -> bool:
    """Whether an agent may act as a bot by naming it (`author_id`, `X-Author-Id`)."""
    return v3_5 in _STEPS[version]


def request_from(version: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The version's request in our own words; it is yet unchecked. Raises ValidationError."""
    for module in _STEPS[version]:
        if action in module.REQUESTS:
            payload = module.REQUESTS[action](payload)
    return payload


def response_for(version: str, action: str, payload: Any) -> Any:
    """The response's payload as the version has it."""
    for module in reversed(_STEPS[version]):
        if action in module.RESPONSES:
            payload = module.RESPONSES[action](payload)
    return payload


def push_for(version: str, name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The push's payload as the version has it."""
    for module in reversed(_STEPS[version]):
        if name in module.PUSHES:
            payload = module.PUSHES[name](payload)
    return payload


def changes_push(version: str, name: str) -> bool:
    """Whether the version may see this push otherwise than 3.6; if not, the same bytes serve both."""
    return any(name in module.PUSHES for module in _STEPS[version])


def parameters(version: str, action: str, names: list[str]) -> list[str]:
    """The parameters of an action, by the names that the version has for them."""
    for module in reversed(_STEPS[version]):
        if action in module.PARAMETERS:
            names = module.PARAMETERS[action](names)
    return names
