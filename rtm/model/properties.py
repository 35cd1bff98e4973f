"""Properties: namespace -> name -> value, on chats, threads and events.

Values are strings, integers and booleans; numbers with a fraction are let through. The reference states no bounds.
Properties are never changed in place: what is shown to others, or read anew from a request, may share them.

Source: the public reference, "Configuration API", "Properties".
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator

from rtm.model.payload import AtMost, Expected, Text, short_number
from rtm.protocol.errors import ValidationError
from rtm.protocol.validation import refusal

MAX_STRING_LENGTH = 16 * 1024
MAX_PROPERTIES_BYTES = 1 << 18
"""All properties of a chat, a thread or an event: each request has its own bounds, but they add up."""

PropertyName = Annotated[str, Text(128, least=1)]
PropertyValue = Annotated[
    Annotated[str, Text(MAX_STRING_LENGTH)] | bool | int | float,
    Expected(f"must be a boolean, a number or a string of at most {MAX_STRING_LENGTH} characters"),
    AfterValidator(short_number),
]


def _bounded(namespaces: dict[str, Any]) -> dict[str, Any]:
    if namespaces and len(orjson.dumps(namespaces)) > MAX_PROPERTIES_BYTES:
        raise refusal(f"must be at most {MAX_PROPERTIES_BYTES} bytes long")
    return namespaces


Properties = Annotated[
    dict[PropertyName, Annotated[dict[PropertyName, PropertyValue], AtMost(100)]],
    AtMost(100),
    AfterValidator(_bounded),
]


READ_ONLY = {
    "routing": ("continuous", "idle", "last_transfer_timestamp", "unassigned", "unreplied", "was_pinned"),
    "source": ("client_id", "customer_client_id"),
}
"""What the server tells: how a chat is routed, which it goes by, and what application it comes from."""


def _without_empty(namespaces: dict[str, Any]) -> dict[str, Any]:
    return {namespace: content for namespace, content in namespaces.items() if content}


def _writable(namespaces: dict[str, Any]) -> dict[str, Any]:
    for namespace, names in READ_ONLY.items():
        for name in names:
            if name in namespaces.get(namespace, ()):
                raise refusal("can only be read", f"{namespace}.{name}")
    return namespaces


PropertiesToSet = Annotated[Properties, AfterValidator(_without_empty), AfterValidator(_writable)]
PropertiesToDelete = Annotated[
    dict[PropertyName, Annotated[list[PropertyName], AtMost(100)]],
    AtMost(100),
    AfterValidator(_without_empty),
    AfterValidator(_writable),
]
"""Namespace -> names."""

Stored = dict[str, dict[str, Any]]


def merged(stored: Stored, given: Mapping[str, Mapping[str, Any]], field: str = "properties") -> Stored:
    """All that are stored, with those given set. Raises ValidationError past MAX_PROPERTIES_BYTES, about `field`."""
    both = dict(stored)
    for namespace, values in given.items():
        both[namespace] = {**stored.get(namespace, {}), **values}
    if len(orjson.dumps(both)) > MAX_PROPERTIES_BYTES:
        raise ValidationError(f"`{field}` must be at most {MAX_PROPERTIES_BYTES} bytes long with those that are there")
    return both


def deletable(stored: Stored, named: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Those of the names that there are."""
    found = {
        namespace: [name for name in dict.fromkeys(names) if name in stored.get(namespace, {})]
        for namespace, names in named.items()
    }
    return _without_empty(found)


def without(stored: Stored, named: Mapping[str, Collection[str]]) -> Stored:
    """All that are stored but those named."""
    left = {
        namespace: {name: value for name, value in values.items() if name not in named.get(namespace, ())}
        for namespace, values in stored.items()
    }
    return _without_empty(left)


def with_routing(stored: Stored, **values: int) -> Stored:
    """All that are stored, with these of the namespace in which the server tells how a chat or thread is routed."""
    return {**stored, "routing": {**stored.get("routing", {}), **values}}
