"""Values that only the server can choose, and the comparison of what was expected with what came."""

import re
from collections.abc import Callable, Iterator
from typing import Any

_FORMS: dict[str, Callable[[Any], object]] = {
    "text": lambda value: isinstance(value, str) and value != "",
    "time": lambda value: isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value),
    "number": lambda value: isinstance(value, int) and not isinstance(value, bool),
}
_UNORDERED = {"users", "user_ids", "group_ids", "agent_ids", "tags", "chats_summary", "chats_info"}
"""Lists of which the reference promises no order; those of objects are put in the order of their ids."""


class Given:
    """A value of the server's: it is learned where it is seen first, and must be the same wherever it is seen after."""

    __slots__ = ("kind", "may_lack", "value")

    def __init__(self, kind: str, *, may_lack: bool = False) -> None:
        self.kind = kind
        self.may_lack = may_lack
        """Whether it is shown only if there is one."""
        self.value: Any = None

    def __repr__(self) -> str:
        return f"<{self.kind}>" if self.value is None else repr(self.value)


def known(value: Any) -> Any:
    """The value, with what has been learned in place of what was to be."""
    if isinstance(value, Given):
        return value.value
    if isinstance(value, dict):
        return {name: known(each) for name, each in value.items()}
    return [known(each) for each in value] if isinstance(value, list) else value


def differences(expected: Any, actual: Any, at: str = "") -> Iterator[str]:
    """Where `actual` is not as expected; learns what is given."""
    if isinstance(expected, Given):
        if expected.value is None and _FORMS[expected.kind](actual):
            expected.value = actual
        if expected.value is None or expected.value != actual:
            yield f"{at}: expected {expected}, came {actual!r}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        for name in expected.keys() - actual.keys():
            if isinstance(expected[name], Given) and expected[name].may_lack:
                continue
            yield f"{at}.{name}: expected {known(expected[name])!r}, came nothing"
        for name in actual.keys() - expected.keys():
            yield f"{at}.{name}: expected nothing, came {actual[name]!r}"
        for name in expected.keys() & actual.keys():
            yield from _within(name, expected[name], actual[name], f"{at}.{name}")
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for place, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(one, other, f"{at}[{place}]")
    elif type(expected) is not type(actual) or expected != actual:
        yield f"{at}: expected {known(expected)!r}, came {actual!r}"


def _within(name: str, expected: Any, actual: Any, at: str) -> Iterator[str]:
    if name in _UNORDERED and isinstance(actual, list):
        expected, actual = sorted(expected, key=_id), sorted(actual, key=_id)
    yield from differences(expected, actual, at)


def _id(value: Any) -> Any:
    return known(value["id"]) if isinstance(value, dict) else value
