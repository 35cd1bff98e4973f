"""Requests for a socket that are none, and where each of them ends."""

import pytest

from tests.hostile.target import SOCKET_PATH, Target, frame, read_answer, send_all

pytestmark = pytest.mark.usefixtures("unharmed")

HEADERS = {
    "Host": "rtm.test",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def handshake(
    path: str | bytes = SOCKET_PATH, *, method: str = "GET", version: str = "1.1", **headers: object
) -> bytes:
    """A handshake that is right but for what is given: a header of None is left out, one with a list comes often."""
    target = path.encode() if isinstance(path, str) else path
    lines = [method.encode() + b" " + target + b" HTTP/" + version.encode()]
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in (HEADERS | given).items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{name}: {each}".encode("latin-1") for each in values if each is not None]
    return b"\r\n".join(lines) + b"\r\n\r\n"


NOT_FOUND = (404, "not_found", "There is nothing at this path")

REFUSED_PATHS: dict[str, tuple[str, tuple[int, str, str]]] = {
    "unknown path": ("/", NOT_FOUND),
    "path that goes on": (SOCKET_PATH + "/more", NOT_FOUND),
    "path in capitals": (SOCKET_PATH.upper(), NOT_FOUND),
    "path with two slashes": ("/" + SOCKET_PATH, NOT_FOUND),
    "path of the Web API": ("/v3.6/agent/action/list_chats", NOT_FOUND),
    "path upwards": ("/v3.6/../v3.6/agent/rtm/ws", NOT_FOUND),
    "path upwards, encoded": ("/v3.6/%2e%2e/v3.6/agent/rtm/ws", NOT_FOUND),
    "path to a file": ("/../../../../etc/passwd", NOT_FOUND),
    "path with U+0000, encoded": (SOCKET_PATH + "%00", NOT_FOUND),
    "path that is encoded": ("/v3.6/agent/rtm/%77s", NOT_FOUND),
    "path with a host": ("http://elsewhere.test" + SOCKET_PATH, NOT_FOUND),
    "another API": ("/v3.6/customer/rtm/ws", NOT_FOUND),
    "version of 17 digits": ("/v" + "3" * 17 + "/agent/rtm/ws", NOT_FOUND),
    "version in words": ("/vthree/agent/rtm/ws", NOT_FOUND),
    "organization id of 65 characters": (
        SOCKET_PATH + "?organization_id=" + "a" * 65,
        (400, "validation", "`organization_id` must be at most 64 characters long"),
    ),
    "query of 1,000 fields": (
        SOCKET_PATH + "?" + "a=b&" * 1000,
        (400, "validation", "Query must have at most 20 fields"),
    ),
}


@pytest.mark.parametrize(("path", "answer"), REFUSED_PATHS.values(), ids=REFUSED_PATHS.keys())
def test_a_path_that_is_refused(target: Target, path: str, answer: tuple[int, str, str]) -> None:
    response = target.ask(handshake(path))
    assert (response.status, *response.error()) == answer


@pytest.mark.parametrize(
    "version", ["1.0", "99.9", ".......", "3.6.0"], ids=["of the past", "of the future", "of dots", "of three numbers"]
)
def test_a_version_that_is_not_served_is_told_so(target: Target, version: str) -> None:
    with target.open_socket(f"/v{version}/agent/rtm/ws") as client:
        client.send_bytes(frame(1, b'{"action":"ping"}') * 100)
        messages, code = client.until_closed()
    assert [message["payload"] for message in messages] == [{"reason": "unsupported_version"}]
    assert code == 1000


CUT = 0

MALFORMED: dict[str, tuple[bytes, int]] = {
    "no key": (handshake(Sec_WebSocket_Key=None), 400),
    "empty key": (handshake(Sec_WebSocket_Key=""), 400),
    "key of 15 bytes": (handshake(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25j"), 400),
    "key not base64": (handshake(Sec_WebSocket_Key="\xff" * 24), 400),
    "two keys": (handshake(Sec_WebSocket_Key=["dGhlIHNhbXBsZSBub25jZQ=="] * 2), 400),
    "no version": (handshake(Sec_WebSocket_Version=None), 400),
    "version 8": (handshake(Sec_WebSocket_Version="8"), 400),
    "version in words": (handshake(Sec_WebSocket_Version="thirteen"), 400),
    "two versions": (handshake(Sec_WebSocket_Version=["13", "13"]), 400),
    "POST": (handshake(method="POST"), 405),
    "POST with a body": (handshake(method="POST", Content_Length="5") + b"hello", CUT),
    "GET with a body": (handshake(Content_Length="5") + b"hello", CUT),
    "path of 60,000 bytes": (handshake("/" + "a" * 60_000), 414),
    "extension header without an end": (handshake(Sec_WebSocket_Extensions='permessage-deflate; a="'), 400),
    "subprotocol header with a comma too many": (handshake(Sec_WebSocket_Protocol="a,,{}"), 400),
    "129 headers": (handshake(**{f"X_{number}": "x" for number in range(129)}), 431),
    "header of 9,000 bytes": (handshake(Cookie="c" * 9000), 431),
    "header of 1 MiB": (handshake(Cookie="c" * (1 << 20)), CUT),
    "header with a line break": (handshake(Cookie="a\nb"), 400),
    "header with U+0000": (handshake(Cookie="a\0b"), 400),
    "header without a name": (handshake(**{"": "x"}), 400),
    "path with U+0000": (handshake(b"/v3.6/agent/rtm/ws\0"), 400),
    "path with a blank": (handshake(b"/v3.6/agent rtm/ws"), 400),
    "path of bytes": (handshake(b"/v3.6/agent/rtm/ws\xff\xfe"), 400),
    "no upgrade": (handshake(Upgrade=None), 426),
    "upgrade to HTTP/2": (handshake(Upgrade="h2c"), 426),
    "connection that is kept alive": (handshake(Connection="keep-alive"), 426),
    "CONNECT": (handshake("rtm.test:443", method="CONNECT"), 404),
}


@pytest.mark.parametrize(("request_", "status"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_handshake_is_refused(target: Target, request_: bytes, status: int) -> None:
    response = target.ask(request_)
    assert response.status == status


ACCEPTED: dict[str, bytes] = {
    "HTTP/1.0": handshake(version="1.0"),
    "more words than one for the connection": handshake(Connection="keep-alive, Upgrade"),
    "extension that nobody knows": handshake(Sec_WebSocket_Extensions="x-teleport"),
    "subprotocol that nobody speaks": handshake(Sec_WebSocket_Protocol="klingon"),
    "origin that nobody knows": handshake(Origin="null"),
    "header in Latin-1": handshake(User_Agent="\xff\xfe"),
    "query with parts that are not UTF-8": handshake(SOCKET_PATH + "?organization_id=%ff&=&&"),
}


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_odd_but_right_is_accepted(target: Target, request_: bytes) -> None:
    with target.connect() as connection:
        send_all(connection, request_)
        assert read_answer(connection).status == 101
