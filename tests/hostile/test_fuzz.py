"""Whatever comes: only errors of the contract, only close codes of RFC 6455, and a server that is unharmed."""

import json
import re
import socket
from contextlib import ExitStack
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rtm.actions import registry
from rtm.actions.registry import AGENT, RTM, Action
from rtm.versions import SERVED
from tests.hostile.scene import Scene
from tests.hostile.target import Target, error_of, frame, send_all
from tests.hostile.test_handshakes import handshake
from tests.hostile.test_http import post

pytestmark = pytest.mark.usefixtures("unharmed")

# The same examples in each run: what is found here is found by everybody.
bounded = settings(derandomize=True, database=None, deadline=None, max_examples=100)

OUR_CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011}
OUR_FAULT = {"internal", "service_unavailable", "request_timeout"}

# The port

LINES = st.sampled_from(
    [
        b"GET /health/live HTTP/1.1",
        b"POST /v3.6/agent/action/list_chats HTTP/1.1",
        b"GET /v3.6/agent/rtm/ws HTTP/1.1",
        b"OPTIONS * HTTP/1.0",
        b"Host: rtm.test",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Connection: close",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Authorization: Basic Og==",
        b"",
        b"{}",
        b"2\r\n{}",
        b"0",
    ]
)
BYTES = st.one_of(
    st.binary(max_size=300),
    st.lists(LINES | st.binary(max_size=20), max_size=20).map(b"\r\n".join),
    st.tuples(st.sampled_from([handshake(), post()]), st.integers(0, 200), st.binary(max_size=20)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
    ),
)


@bounded
@given(sent=BYTES)
def test_any_bytes_on_the_port(target: Target, sent: bytes) -> None:
    with target.connect() as connection:
        send_all(connection, sent)
        connection.shutdown(socket.SHUT_WR)
        answered = b""
        while data := _received(connection):
            answered += data
    statuses = [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answered, re.MULTILINE)]
    assert bool(statuses) == bool(answered)
    assert not {500, 502, 503, 504} & set(statuses)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except ConnectionResetError:
        return b""


# The socket

MESSAGES = st.sampled_from([b"", b"{}", b'{"action":"ping"}', b'{"action":"login"}', b"\xff", b"[" * 50])
FRAMES = st.builds(
    frame,
    st.sampled_from([0, 1, 2, 8, 9, 10]) | st.integers(0, 15),
    MESSAGES | st.binary(max_size=130),
    fin=st.booleans() | st.just(True),
    reserved=st.just(0) | st.just(0) | st.integers(0, 7),
    masked=st.just(True) | st.just(True) | st.booleans(),
    size=st.just(-1) | st.just(-1) | st.integers(0, 1 << 63),
)


@pytest.mark.parametrize("compressed", [False, True])
@bounded
@given(sent=st.lists(FRAMES | st.binary(max_size=20), min_size=1, max_size=10))
def test_any_frames_on_a_socket(target: Target, compressed: bool, sent: list[bytes]) -> None:
    with target.open_socket(compressed=compressed) as client:
        client.send_bytes(b"".join(sent))
        client.hang_up()
        messages, code = client.until_closed()
    # A peer's own code comes back to it.
    assert code is None or code in OUR_CLOSE_CODES | {1005, 1010, 1012, 1013, 1014} or 3000 <= code <= 4999
    for message in messages:
        assert message["type"] == "response"
        if not message["success"]:
            assert error_of(message["payload"])[0] not in OUR_FAULT


# Requests

TEXTS = st.sampled_from(["", "\0", "ping", "3.4", "3.6", "login", "\u2028", "🦆", "a" * 300]) | st.text(max_size=10)
JSON: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
ENVELOPES = JSON | st.fixed_dictionaries(
    {"action": st.sampled_from(["ping", "list_chats", "send_event"]) | JSON},
    optional=dict.fromkeys(("request_id", "version", "author_id", "payload", "x"), JSON),
)


@bounded
@given(envelopes=st.lists(ENVELOPES, min_size=1, max_size=10))
def test_any_envelopes(scene: Scene, envelopes: list[Any]) -> None:
    with scene.agent() as agent:
        for envelope in envelopes:
            agent.send(json.dumps(envelope).encode())
            answer = agent.next_response()
            assert answer["success"] or error_of(answer["payload"])[0] not in OUR_FAULT


# Payloads, of the shape that each action takes and of shapes beside it

WORDS = st.sampled_from(["3.5", "all", "\u2028", "🦆", "$.a"]) | st.text(max_size=20)
IDS = st.sampled_from(["$chat", "$closed", "$closed", "$foreign", "$customer", "smith@example.com"])
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999999Z"])
BY_NAME: dict[str, SearchStrategy[Any]] = {
    "chat_id": st.just("$chat"),
    "thread_id": st.just("$thread"),
    "token": st.sampled_from(["$token", "$stranger_token"]),
    "url": st.sampled_from(["https://example.com/a%00b.png", "http://localhost", "https://[::1]/"]),
    **dict.fromkeys(["id", "user_id", "agent_id", "author_id"], IDS),
    **dict.fromkeys(["seen_up_to", "from", "to"], TIMES),
}
NUMBERS = st.integers(1, 3) | st.integers(-(1 << 64), 1 << 64)
OF_TYPE: dict[Any, SearchStrategy[Any]] = {
    str: WORDS,
    int: NUMBERS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    Any: JSON,
}


def rather(expected: SearchStrategy[Any], other: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """What is expected, and the other one time of twenty."""
    return st.integers(1, 20).flatmap(lambda number: other if number == 20 else expected)


def of(annotation: Any) -> SearchStrategy[Any]:
    """Values for a field's type; without the bounds that go with it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return of_model(annotation)
    if origin is Annotated:
        return of(arguments[0])
    if origin in (Union, UnionType):
        return st.one_of(*map(of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(rather(of(arguments[0]), JSON), max_size=3)
    if origin is dict:
        return st.dictionaries(WORDS, rather(of(arguments[1]), JSON), max_size=3)
    return OF_TYPE[annotation]


def of_field(name: str, field: FieldInfo) -> SearchStrategy[Any]:
    """Values for a field: ids where there are ids, else what its type says."""
    return BY_NAME[name] if name in BY_NAME else of(field.annotation)


@cache
def of_model(model: type[BaseModel]) -> SearchStrategy[dict[str, Any]]:
    """Objects with a model's fields, sometimes without one that is required."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    values = {name: rather(of_field(name, field), JSON) for name, field in fields.items()}
    required = {name: value for name, value in values.items() if fields[name].is_required()}
    optional = {name: value for name, value in values.items() if name not in required}
    return rather(st.fixed_dictionaries(required, optional=optional), st.fixed_dictionaries({}, optional=values))


ACTIONS = sorted({row["action"] for row in registry.listing() if (row["api"], row["transport"]) == (AGENT, RTM)})


def declared(action: str) -> Action:
    """The action of that name, of any version."""
    return next(found for version in SERVED if (found := registry.find(AGENT, action, version, RTM)) is not None)


@pytest.mark.parametrize("action", ACTIONS)
def test_any_payloads(either_scene: Scene, action: str) -> None:
    with ExitStack() as stack:
        agents = {version: stack.enter_context(either_scene.agent(version)) for version in SERVED}

        @settings(bounded, max_examples=25)
        @given(version=st.sampled_from(SERVED), payload=of_model(declared(action).payload))
        def play(version: str, payload: Any) -> None:
            open_, closed = (agents[version].call("start_chat", {"active": active}) for active in (True, False))
            chat = open_["payload"]
            names = {"$chat": chat["chat_id"], "$thread": chat["thread_id"], "$closed": closed["payload"]["chat_id"]}
            answer = agents[version].call(action, either_scene.fill(payload, **names))
            assert answer["success"] or error_of(answer["payload"])[0] not in OUR_FAULT
            if action == "logout" and answer["success"]:
                agents[version] = stack.enter_context(either_scene.agent(version))
            # A log-in shows the open chats: as many as there are examples would make the next ones slow.
            agents[version].call("deactivate_chat", {"id": chat["chat_id"], "ignore_requester_presence": True})

        play()
