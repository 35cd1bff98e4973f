"""What versions are served, and how a payload of one is turned into that of the newest and back.

Everything inside speaks the newest version. A module here holds what its version has otherwise than the next one, and
nothing else; an older version goes through all modules between it and the newest.

v3_5.py  3.5, against 3.6
v3_4.py  3.4, against 3.5

Payloads are never changed in place: what is turned may be shown to others too.
"""

from typing import Any

from rtm.versions import v3_4, v3_5

SERVED = ("3.4", "3.5", "3.6")
NEWEST = SERVED[-1]

# The modules between each version and the newest, the version's own first.
_STEPS = {"3.4": (v3_4, v3_5), "3.5": (v3_5,), "3.6": ()}


def _absent(version: str, later: str, last: str) -> frozenset[str]:
    steps = _STEPS[version]
    earlier = [module for module in _STEPS[SERVED[0]] if module not in steps]
    to_come = [getattr(module, later) for module in steps]
    gone = [getattr(module, last) for module in earlier]
    return frozenset().union(*to_come, *gone)


_ABSENT_ACTIONS = {version: _absent(version, "LATER_ACTIONS", "LAST_ACTIONS") for version in SERVED}
_ABSENT_PUSHES = {version: _absent(version, "LATER_PUSHES", "LAST_PUSHES") for version in SERVED}


def has_action(version: str, action: str) -> bool:
    """Whether the version has this action of the catalogue."""
    return action not in _ABSENT_ACTIONS[version]


def has_push(version: str, name: str) -> bool:
    """Whether connections of the version are sent this push."""
    return name not in _ABSENT_PUSHES[version]


def bots_by_author_id(version: str) -> bool:
    """Whether an agent may act as a bot by naming it (`author_id`, `X-Author-Id`)."""
    return version != NEWEST


def upgrade_request(version: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The request's payload as the newest version has it; it is yet unchecked. Raises ValidationError."""
    for module in _STEPS[version]:
        if action in module.REQUESTS:
            payload = module.REQUESTS[action](payload)
    return payload


def downgrade_response(version: str, action: str, payload: Any) -> Any:
    """The response's payload as the version has it."""
    for module in reversed(_STEPS[version]):
        if action in module.RESPONSES:
            payload = module.RESPONSES[action](payload)
    return payload


def downgrade_push(version: str, name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The push's payload as the version has it."""
    for module in reversed(_STEPS[version]):
        if name in module.PUSHES:
            payload = module.PUSHES[name](payload)
    return payload


def changes_push(version: str, name: str) -> bool:
    """Whether the version may see this push otherwise than the newest; if not, the same bytes serve both."""
    return any(name in module.PUSHES for module in _STEPS[version])


def parameters(version: str, action: str, names: list[str]) -> list[str]:
    """The parameters of an action, by the names that the version has for them."""
    for module in reversed(_STEPS[version]):
        if action in module.PARAMETERS:
            names = module.PARAMETERS[action](names)
    return names
