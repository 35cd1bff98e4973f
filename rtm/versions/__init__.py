"""What versions are served, and how a payload of one is turned into that of another.

Everything inside speaks 3.6, the newest that is no preview. A module here holds what its version has otherwise than its
neighbour on the way to 3.6, and nothing else; a payload goes through all modules between.

v3_7.py         3.7, the developer preview, against 3.6
v3_5.py         3.5, against 3.6
v3_4.py         3.4, against 3.5
differences.py  how they say what is otherwise, and what follows from it

LIFECYCLE                       a header of all answers that tells until when an ageing version is served here
ABSENT_ACTIONS, ABSENT_PUSHES   what the neighbour has and the version has not
OWN_ACTIONS                     what the version has and the neighbour has not
STRUCTURES                      by class: what is otherwise in requests, responses and pushes, wherever they have it

Payloads are never changed in place: what is turned may be shown to others too.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from rtm.model.payload import Payload
from rtm.model.pushes import PUSHES
from rtm.versions import v3_4, v3_5, v3_7
from rtm.versions.differences import Step, Turn, fields_in, named, reading, showing, signs, structure_in

Request = TypeVar("Request", bound=Payload)

SERVED = ("3.4", "3.5", "3.6", "3.7")
STABLE = "3.6"
"""Spoken inside, and to those who name no version."""
PREVIEW = "3.7"

# The modules between each version and 3.6, the version's own first.
_STEPS: dict[str, tuple[Any, ...]] = {"3.4": (v3_4, v3_5), "3.5": (v3_5,), "3.6": (), "3.7": (v3_7,)}
_MODULES = frozenset(module for steps in _STEPS.values() for module in steps)


def _absent_actions(version: str) -> frozenset[str]:
    names = frozenset[str]().union(*(module.OWN_ACTIONS for module in _MODULES))
    for module in reversed(_STEPS[version]):
        names = (names | module.ABSENT_ACTIONS) - module.OWN_ACTIONS
    return names


_ABSENT_ACTIONS = {version: _absent_actions(version) for version in SERVED}
_ABSENT_PUSHES = {
    version: frozenset[str]().union(*(module.ABSENT_PUSHES for module in steps)) for version, steps in _STEPS.items()
}


def has_action(version: str, action: str) -> bool:
    """Whether the version has this action of the catalogue."""
    return action not in _ABSENT_ACTIONS[version]


def has_push(version: str, name: str) -> bool:
    """Whether connections of the version are sent this push."""
    return name not in _ABSENT_PUSHES[version]


def lifecycle(version: str) -> Mapping[str, str]:
    """The headers `Legacy` or `Deprecation` with the day that the version's present stage ends (YYYY-MM-DD), or none.

    Source: the public reference, "Messaging API Overview", "API versioning"; the days are our own.
    """
    return _STEPS[version][0].LIFECYCLE if _STEPS[version] else {}


def bots_by_author_id(version: str) -> bool:
    """Whether an agent may act as a bot by naming it (`author_id`, `X-Author-Id`)."""
    return v3_5 in _STEPS[version]


def steps_to(version: str) -> list[Step]:
    """The differences on the way from 3.6 to the version, the version's own last."""
    return [module.STRUCTURES for module in reversed(_STEPS[version])]


def request_from(version: str, model: type[Payload], payload: dict[str, Any]) -> dict[str, Any]:
    """The version's request in our own words; it is yet unchecked. Raises ValidationError."""
    if not _STEPS[version]:
        return payload
    read = _reader(version, model)
    return payload if read is None else read(payload)


def read(version: str, model: type[Request], payload: dict[str, Any]) -> Request:
    """The version's request, checked. Raises ValidationError, which names fields as the version does."""
    return model.parse(
        request_from(version, model, payload), lambda location: named(model, steps_to(version), location)
    )


def response_for(version: str, response: Any, payload: Any) -> Any:
    """The payload of a response of this class as the version has it."""
    if not _STEPS[version]:
        return payload
    show = _shower(version, response)
    return payload if show is None else show(payload)


def each_as_json(version: str, shown: Any, items: Iterable[Any]) -> Iterator[orjson.Fragment]:
    """The items, of this class, as the version has them."""
    show = _shower(version, shown)
    for item in items:
        yield orjson.Fragment(orjson.dumps(item if show is None else show(item)))


def each_text(version: str, shown: Any, texts: Iterable[str]) -> Iterator[orjson.Fragment]:
    """The same of items that are JSON, of which only those are decoded that may be otherwise in the version."""
    show = _shower(version, shown)
    if show is None:
        yield from map(orjson.Fragment, texts)
        return
    of_changed = _signs(version, shown)
    for text in texts:
        changes = any(sign in text for sign in of_changed)
        yield orjson.Fragment(orjson.dumps(show(orjson.loads(text))) if changes else text)


def push_for(version: str, name: str, payload: Any) -> Any:
    """The push's payload as the version has it."""
    show = _shower(version, PUSHES[name].payload)
    return payload if show is None else show(payload)


def changes_push(version: str, name: str) -> bool:
    """Whether the version may see this push otherwise than 3.6; if not, the same bytes serve both."""
    return bool(_STEPS[version]) and _shower(version, PUSHES[name].payload) is not None


@lru_cache(maxsize=1024)  # the classes are ours
def _shower(version: str, shown: Any) -> Turn | None:
    return showing(shown, steps_to(version))


@lru_cache(maxsize=1024)
def _signs(version: str, shown: Any) -> list[str]:
    return signs(shown, steps_to(version))


@lru_cache(maxsize=1024)
def _reader(version: str, model: type[Payload]) -> Turn | None:
    return reading(model, steps_to(version)[::-1])


def parameters(version: str, model: Any) -> list[str]:
    """The dotted names of everything that a request takes in the version: `chat`, `chat.users`, `chat.users.id`, ..."""
    names = []
    for name, annotation in fields_in(steps_to(version), model).items():
        names.append(name)
        inner = structure_in(annotation)
        if inner is not None:
            names += [f"{name}.{parameter}" for parameter in parameters(version, inner)]
    return names
