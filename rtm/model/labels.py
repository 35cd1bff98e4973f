"""Labels of a thread: all that a list of archives can be filtered by, as short tokens for an inverted index.

A token is a hash of the license, a kind and a value, so that any value, whatever its characters and length, is ten
letters and digits, and no license finds another's threads. Words of a thread's events are tokens, too.

What the thread itself says (`of_thread`) is replaced when it changes; what its events say (`of_events`) only grows.
"""

from base64 import b32encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal, get_args

import orjson

from rtm.model.chat import EventBody
from rtm.model.search import texts, words

ThreadKind = Literal[
    "license",
    "chat",
    "group",
    "agent",
    "agent_type",
    "tag",
    "customer",
    "customer_country",
    "property",
    "sale",
    "goal",
]
EventKind = Literal[
    "event_type",
    "response_agent",
    "response_group",
    "first_response_agent",
    "first_response_group",
    "form_type",
    "form_answer",
    "form_group",
    "greeting",
    "greeting_group",
    "word",
]
Kind = ThreadKind | EventKind
OF_EVENTS: frozenset[Kind] = frozenset(get_args(EventKind))
Moment = Literal["form", "greeting"]
ANY = ""
"""In place of a value: the thread has something of the kind."""

MAX_PROPERTIES = 1000
"""That a thread can be found by, with its chat's."""
MAX_TOKENS = 20_000
"""Of a thread's events, mostly words: no more of those from there on, but as much again of the rest.

PostgreSQL takes 1 MB of them.
"""

_TOKEN_LENGTH = 10  # 50 bits
_RESPONSES = frozenset({"message", "file", "rich_message"})
_FORM_TYPES = {"prechat": "pre_chat", "postchat": "post_chat"}


@lru_cache(maxsize=1 << 14)
def token(license_id: int, kind: Kind, value: str = ANY) -> str:
    """The token of a label of the license's threads."""
    digest = blake2b(f"{license_id} {kind} {value}".encode(), digest_size=10).digest()
    return b32encode(digest)[:_TOKEN_LENGTH].decode().lower()


def property_label(namespace: str, name: str) -> str:
    """The label of kind `property` of threads that have this property, whatever its value."""
    return orjson.dumps([namespace, name]).decode()


def property_value_label(namespace: str, name: str, value: object) -> str:
    """The label of kind `property` of threads where this property has this value; 1 is not "1", nor true."""
    return orjson.dumps([namespace, name, value]).decode()


@dataclass(frozen=True, slots=True)
class Facts:
    """A thread, and what of its chat can be asked for together with it."""

    license_id: int
    chat_id: str
    group_ids: list[int]
    agent_ids: list[str]
    customer_ids: list[str]
    countries: Collection[str]
    """Of the customers, by their codes."""
    tags: list[str]
    properties: tuple[Mapping[str, Mapping[str, Any]], ...]
    """Of the thread and of the chat."""


def of_thread(facts: Facts) -> frozenset[str]:
    """The tokens of what a thread is like now."""
    labels: set[tuple[Kind, str]] = {("license", ANY), ("chat", facts.chat_id)}
    labels.update(("group", str(group_id)) for group_id in facts.group_ids)
    labels.update(("agent", value) for value in _and_any(facts.agent_ids))
    labels.update(("agent_type", _agent_type(agent_id)) for agent_id in facts.agent_ids)
    labels.update(("tag", value) for value in _and_any(facts.tags))
    labels.update(("customer", value) for value in facts.customer_ids)
    labels.update(("customer_country", value) for value in _and_any(facts.countries))
    for namespace, name, value in _properties(facts):
        labels.add(("property", property_label(namespace, name)))
        labels.add(("property", property_value_label(namespace, name, value)))
        if (namespace, name, value) == ("ecommerce", "has_sale", True):
            labels.add(("sale", ANY))
    return frozenset(token(facts.license_id, *label) for label in labels)


def of_events(facts: Facts, events: Iterable[EventBody], known: frozenset[str]) -> frozenset[str]:
    """The tokens of what the thread's events say, with those that are `known` from the events before."""
    of_license = facts.license_id
    has_response = token(of_license, "response_agent") in known
    labels: set[tuple[Kind, str]] = {("license", ANY)}
    for properties in facts.properties:
        if "greeting_id" in properties.get("lc2", {}):
            labels |= _greeting(properties["lc2"]["greeting_id"], facts)
    said: set[str] = set()
    for event in events:
        labels.add(("event_type", event["type"]))
        if _is_response(facts, event):
            labels |= _response(facts, event, first=not has_response)
            has_response = True
        if event["type"] == "filled_form":
            labels |= _form(facts, event)
        greeting_id = _property(event, "lc2", "greeting_id")
        if greeting_id is not None:
            labels |= _greeting(greeting_id, facts)
        for text in texts(event):
            said |= words(text)
    of_labels = {token(of_license, *label) for label in labels} - known
    of_words = {token(of_license, "word", word) for word in said} - known
    found = known.union(_first(of_labels, 2 * MAX_TOKENS - len(known)))
    return found.union(_first(of_words, MAX_TOKENS - len(found)))


def _first(tokens: Collection[str], room: int) -> Sequence[str]:
    """So many of them, the same ones each time."""
    return sorted(tokens)[: max(0, room)]


def moments(facts: Facts, created_at: str, events: Iterable[EventBody]) -> set[tuple[Moment, str]]:
    """When the thread, created at this time, got its greetings and forms, as far as these events tell."""
    found: set[tuple[Moment, str]] = set()
    if any("greeting_id" in properties.get("lc2", {}) for properties in facts.properties):
        found.add(("greeting", created_at))
    for event in events:
        if event["type"] == "filled_form":
            found.add(("form", event["created_at"]))
        if _property(event, "lc2", "greeting_id") is not None:
            found.add(("greeting", event["created_at"]))
    return found


def _and_any(values: Collection[str]) -> Collection[str]:
    return [ANY, *values] if values else ()


def _agent_type(agent_id: str) -> str:
    return "human" if "@" in agent_id else "chatbot"


def _properties(facts: Facts) -> Iterable[tuple[str, str, Any]]:
    every = (
        (namespace, name, value)
        for properties in facts.properties
        for namespace, names in properties.items()
        for name, value in names.items()
    )
    return [each for _, each in zip(range(MAX_PROPERTIES), every, strict=False)]


def _property(event: EventBody, namespace: str, name: str) -> Any:
    return event.get("properties", {}).get(namespace, {}).get(name)


def _is_response(facts: Facts, event: EventBody) -> bool:
    said_to_all = event["type"] in _RESPONSES and event.get("visibility") == "all"
    return said_to_all and event.get("author_id") in facts.agent_ids


def _response(facts: Facts, event: EventBody, *, first: bool) -> set[tuple[Kind, str]]:
    labels: set[tuple[Kind, str]] = {("response_agent", ANY), ("response_agent", event["author_id"])}
    labels.update(("response_group", str(group_id)) for group_id in facts.group_ids)
    if first:
        labels.add(("first_response_agent", event["author_id"]))
        labels.update(("first_response_group", str(group_id)) for group_id in facts.group_ids)
    return labels


def _form(facts: Facts, event: EventBody) -> set[tuple[Kind, str]]:
    labels: set[tuple[Kind, str]] = {("form_type", ANY)}
    labels.update(("form_group", str(group_id)) for group_id in facts.group_ids)
    form_type = _property(event, "lc2", "form_type") or event.get("form_type")
    if isinstance(form_type, str):
        labels.add(("form_type", _FORM_TYPES.get(form_type, form_type)))
    for form_field in event["fields"]:
        for answer in (form_field.get("answer"), *(form_field.get("answers") or ())):
            if isinstance(answer, dict) and "id" in answer:
                labels.add(("form_answer", str(answer["id"])))
    return labels


def _greeting(greeting_id: Any, facts: Facts) -> set[tuple[Kind, str]]:
    labels: set[tuple[Kind, str]] = {("greeting", ANY), ("greeting", str(greeting_id))}
    labels.update(("greeting_group", str(group_id)) for group_id in facts.group_ids)
    return labels
