"""Messages that are no requests: what each of them is answered, and that the connection goes on."""

import json

import pytest

from tests.hostile.target import Target, error_of

pytestmark = pytest.mark.usefixtures("unharmed")

BAD_JSON = ("validation", "Request is not valid JSON")
NO_OBJECT = ("validation", "Request must be a JSON object")
NO_ACTION = ("validation", "`action` is required")
TOO_MANY_VALUES = ("validation", "Request must have at most 50000 of the characters [ { , in all")
LOG_IN = ("authentication", "Log in first")


def too_long(field: str) -> tuple[str, str]:
    return "validation", f"`{field}` must be at most 256 characters long"


def no_string(field: str) -> tuple[str, str]:
    return "validation", f"`{field}` must be a string"


def envelope(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def unknown(action: str) -> tuple[str, str]:
    return "not_found", f"`action` is unknown to version 3.6: {action}"


MALFORMED: dict[str, tuple[bytes, tuple[str, str]]] = {
    # JSON
    "nothing": (b"", BAD_JSON),
    "blanks": (b"   ", BAD_JSON),
    "a word": (b"hello", BAD_JSON),
    "U+0000": (b"\0", BAD_JSON),
    "JSON cut short": (b'{"action":"ping"', BAD_JSON),
    "JSON twice": (b'{"action":"ping"}{"action":"ping"}', BAD_JSON),
    "JSON with a comma too many": (b'{"action":"ping",}', BAD_JSON),
    "JSON in single quotes": (b"{'action':'ping'}", BAD_JSON),
    "JSON with a byte order mark": (b'\xef\xbb\xbf{"action":"ping"}', BAD_JSON),
    "JSON with a lone high surrogate": (b'{"action":"ping","request_id":"\\ud800"}', BAD_JSON),
    "JSON with a lone low surrogate": (b'{"action":"ping","request_id":"\\udfff"}', BAD_JSON),
    "JSON with surrogates in the wrong order": (b'{"action":"ping","request_id":"\\udc00\\ud800"}', BAD_JSON),
    "JSON with a raw control character": (b'{"action":"ping","request_id":"\x01"}', BAD_JSON),
    "JSON with an unknown escape": (b'{"action":"\\ping"}', BAD_JSON),
    "NaN": (b'{"action":"ping","payload":{"x":NaN}}', BAD_JSON),
    "Infinity": (b'{"action":"ping","payload":{"x":Infinity}}', BAD_JSON),
    "number beyond all floats": (b'{"action":"ping","payload":{"x":1e400}}', BAD_JSON),
    "number that begins with 0": (b'{"action":"ping","payload":{"x":01}}', BAD_JSON),
    "1,025 levels": (b"[" * 1025 + b"]" * 1025, BAD_JSON),
    # Not an object
    "null": (b"null", NO_OBJECT),
    "number": (b"42", NO_OBJECT),
    "string": (b'"ping"', NO_OBJECT),
    "array of requests": (b'[{"action":"ping"}]', NO_OBJECT),
    "array of 1,000 levels": (b"[" * 1000 + b"]" * 1000, NO_OBJECT),
    # Fields
    "empty object": (b"{}", NO_ACTION),
    "no action": (envelope(request_id="1", payload={}), NO_ACTION),
    "empty action": (envelope(action=""), NO_ACTION),
    "action null": (envelope(action=None), NO_ACTION),
    "action in capitals": (envelope(Action="ping"), NO_ACTION),
    "action a number": (envelope(action=1), no_string("action")),
    "action an array": (envelope(action=["ping"]), no_string("action")),
    "action an object": (envelope(action={"ping": 1}), no_string("action")),
    "action of 257 characters": (envelope(action="a" * 257), too_long("action")),
    "action twice, the last one is a number": (b'{"action":"ping","action":1}', no_string("action")),
    "request id a number": (envelope(action="ping", request_id=1), no_string("request_id")),
    "request id beyond 64 bits": (b'{"action":"ping","request_id":18446744073709551616}', no_string("request_id")),
    "request id false": (envelope(action="ping", request_id=False), no_string("request_id")),
    "request id of 257 characters": (envelope(action="ping", request_id="1" * 257), too_long("request_id")),
    "version a number": (envelope(action="ping", version=3.6), no_string("version")),
    "version unknown": (
        envelope(action="ping", version="9.9"),
        ("validation", "`version` must be one of: 3.4, 3.5, 3.6, 3.7"),
    ),
    "version older than the connection's": (
        envelope(action="ping", version="3.5"),
        ("validation", "`version` must not be older than the connection's, 3.6"),
    ),
    "author an object": (envelope(action="ping", author_id={}), no_string("author_id")),
    "payload a string": (envelope(action="ping", payload="{}"), ("validation", "`payload` must be an object")),
    "payload an array": (envelope(action="ping", payload=[]), ("validation", "`payload` must be an object")),
    "payload false": (envelope(action="ping", payload=False), ("validation", "`payload` must be an object")),
}
ONLY_BEFORE: dict[str, tuple[bytes, tuple[str, str]]] = {
    "unknown action": (envelope(action="fly"), LOG_IN),
    "action with U+0000": (envelope(action="ping\0"), LOG_IN),
    "action that needs a log-in": (envelope(action="list_chats"), LOG_IN),
    "log-in without a payload": (envelope(action="login"), ("validation", "`token` is required")),
    "log-in with a number": (
        envelope(action="login", payload={"token": 1}),
        ("validation", "`token` must be a string"),
    ),
    "log-in with a token of 4,097 characters": (
        envelope(action="login", payload={"token": "a" * 4097}),
        ("validation", "`token` must be at most 4096 characters long"),
    ),
    "log-in with U+0000": (
        envelope(action="login", payload={"token": "Bearer a\0"}),
        ("validation", "`token` must not contain the character U+0000"),
    ),
    "log-in with a wrong token": (
        envelope(action="login", payload={"token": "Bearer dal:wrong"}),
        ("authentication", "Authentication error"),
    ),
    "log-in with SQL": (
        envelope(action="login", payload={"token": "Bearer ' OR ''='"}),
        ("authentication", "Authentication error"),
    ),
    "log-in with pushes of 17 versions": (
        envelope(action="login", payload={"token": "Bearer x", "pushes": {str(number): [] for number in range(17)}}),
        ("validation", "`pushes` must have at most 16 elements"),
    ),
    "log-in with pushes of no version": (
        envelope(action="login", payload={"token": "Bearer x", "pushes": ["incoming_chat"]}),
        ("validation", "`pushes` must be an object"),
    ),
}
ONLY_AFTER: dict[str, tuple[bytes, tuple[str, str]]] = {
    # Before, a message has 64 KiB.
    "a million levels": (b"[" * 1_000_000, TOO_MANY_VALUES),
    "340,000 arrays where nobody looks": (envelope(action="ping", payload={"x": [[]] * 340_000}), TOO_MANY_VALUES),
    "request id of 1 MB": (envelope(action="ping", request_id="1" * 1_000_000), too_long("request_id")),
    "unknown action": (envelope(action="fly"), unknown("fly")),
    "unknown action of 256 characters": (envelope(action="🦆" * 256), unknown("🦆" * 64)),
    "action with U+0000": (envelope(action="ping\0"), unknown("ping\0")),
    "action as a path": (envelope(action="../login"), unknown("../login")),
    "action of Python": (envelope(action="__class__"), unknown("__class__")),
    "second log-in": (envelope(action="login", payload={"token": "Bearer x"}), ("validation", "Already logged in")),
}


@pytest.mark.parametrize(
    ("message", "error"),
    [*MALFORMED.values(), *ONLY_BEFORE.values()],
    ids=[*MALFORMED, *ONLY_BEFORE],
)
def test_before_the_log_in(target: Target, message: bytes, error: tuple[str, str]) -> None:
    with target.open_socket() as client:
        client.send(message)
        answer = client.next_message()
        assert (answer["type"], answer["success"]) == ("response", False)
        assert error_of(answer["payload"]) == error
        assert client.call("ping", {})["success"]


@pytest.mark.parametrize(
    ("message", "error"),
    [*MALFORMED.values(), *ONLY_AFTER.values()],
    ids=[*MALFORMED, *ONLY_AFTER],
)
def test_after_the_log_in(target: Target, message: bytes, error: tuple[str, str]) -> None:
    with target.logged_in(target.token()) as client:
        client.send(message)
        answer = client.next_response()
        assert not answer["success"]
        assert error_of(answer["payload"]) == error
        assert client.call("ping", {})["success"]


ODD_BUT_RIGHT: dict[str, bytes] = {
    "no payload": b'{"action":"ping"}',
    "payload null": b'{"action":"ping","payload":null}',
    "fields that nobody knows": b'{"action":"ping","__proto__":{"admin":true},"x":[1e308,-0.0]}',
    "action twice, the last one is right": b'{"action":"fly","action":"ping"}',
    "blanks around": b' \t\r\n{"action":"ping"}\n',
    "escapes": b'{"\\u0061ction":"\\u0070ing"}',
    "numbers beyond 64 bits where nobody looks": b'{"action":"ping","payload":{"x":-9223372036854775809}}',
    "1,000 levels where nobody looks": b'{"action":"ping","payload":{"x":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    "forty thousand fields where nobody looks": (
        b'{"action":"ping","payload":{' + b",".join(b'"%d":0' % number for number in range(40_000)) + b"}}"
    ),
}


def test_a_request_of_too_many_values_is_answered_by_its_id(target: Target) -> None:
    with target.logged_in(target.token()) as client:
        client.send(envelope(action="ping", request_id="7", payload={"x": [[]] * 340_000}))
        answer = client.next_response()
        assert (answer["request_id"], answer["action"], answer["success"]) == ("7", "ping", False)
        assert error_of(answer["payload"]) == TOO_MANY_VALUES


@pytest.mark.parametrize("message", ODD_BUT_RIGHT.values(), ids=ODD_BUT_RIGHT.keys())
def test_what_is_odd_but_right_is_answered(target: Target, message: bytes) -> None:
    with target.logged_in(target.token()) as client:
        client.send(message)
        assert client.next_response() == {"action": "ping", "type": "response", "success": True, "payload": {}}


REQUEST_IDS = ["", "\0", "🦆" * 256, "\u2028\u2029", "\u202eabc", '"}\\', "\ufffe", "null"]


@pytest.mark.parametrize("request_id", REQUEST_IDS)
def test_a_request_id_comes_back_as_it_was(target: Target, request_id: str) -> None:
    with target.open_socket() as client:
        client.send(envelope(action="ping", request_id=request_id))
        assert client.next_message()["request_id"] == request_id


def test_two_log_ins_at_once_are_one_log_in(target: Target) -> None:
    login = envelope(action="login", payload={"token": target.token()})
    with target.open_socket() as client:
        client.send(login)
        client.send(login)
        answers = [client.next_response(), client.next_response()]
        assert sorted(answer["success"] for answer in answers) == [False, True]
        [refused] = [answer for answer in answers if not answer["success"]]
        assert error_of(refused["payload"]) == ("validation", "Already logged in")
        assert client.call("list_routing_statuses", {})["success"]


def test_who_asks_without_waiting_is_limited_and_served_again(target: Target) -> None:
    with target.logged_in(target.token()) as client:
        for number in range(1000):
            client.send(envelope(action="list_chats", request_id=str(number)))
        answers = [client.next_response() for _ in range(1000)]
        assert {answer["request_id"] for answer in answers} == {str(number) for number in range(1000)}
        errors = [error_of(answer["payload"]) for answer in answers if not answer["success"]]
        assert set(errors) == {("pending_requests_limit_reached", "Requests limit reached")}
        assert len(errors) < 1000
        assert client.call("list_chats", {})["success"]
