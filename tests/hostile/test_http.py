"""HTTP that is none, or that nobody should send: what each of it is answered."""

import socket
import struct

import pytest

from tests.hostile.target import Target

pytestmark = pytest.mark.usefixtures("unharmed")

ACTION = "/v3.6/agent/action/list_chats"


def post(
    path: str | bytes = ACTION, body: bytes = b"{}", *, method: str = "POST", version: str = "1.1", **headers: object
) -> bytes:
    """A request; `TOKEN` stands for a token that is right, a header of None is left out."""
    target = path.encode() if isinstance(path, str) else path
    lines = [method.encode() + b" " + target + b" HTTP/" + version.encode()]
    usual = {"Host": "rtm.test", "Authorization": "Bearer TOKEN", "Content-Length": str(len(body))}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in (usual | given).items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{name}: {each}".encode("latin-1") for each in values if each is not None]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """A request whose body comes in these chunks, right or wrong."""
    return post(body=b"", Content_Length=None, Transfer_Encoding="chunked") + b"".join(chunks)


UNREADABLE: dict[str, bytes] = {
    "nothing but a line break too many": b"\r\n\r\n\r\n\0",
    "no HTTP": b"HELO rtm.test\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": post(version="9.9"),
    "unknown method": post(method="FETCH"),
    "method in small letters": post(method="post"),
    "path of bytes": post(b"/v3.6/agent/action/\xff\xfe"),
    "path with U+0000": post(b"/v3.6/agent/action/\0"),
    "path without a slash": post("v3.6/agent/action/ping"),
    "header without a colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "header with a blank before the colon": b"GET / HTTP/1.1\r\nHost : rtm.test\r\n\r\n",
    "header with U+0000": post(Cookie="a\0b"),
    "header folded": b"GET / HTTP/1.1\r\nHost: rtm.test\r\n folded\r\n\r\n",
    "line ends without carriage returns and a stray one": b"GET / HTTP/1.1\rHost: rtm.test\r\n\r\n",
    "negative length": post(Content_Length="-1"),
    "length in words": post(Content_Length="two"),
    "length in hexadecimal": post(Content_Length="0x2"),
    "length with a sign": post(Content_Length="+2"),
    "length of 2**64": post(Content_Length=str(1 << 64)),
    "two lengths": post(Content_Length=["2", "3"]),
    "length and chunks": post(Transfer_Encoding="chunked"),
    "chunks within gzip": post(Content_Length=None, Transfer_Encoding="chunked, gzip"),
    "chunk of negative size": chunked(b"-1\r\n{}\r\n0\r\n\r\n"),
    "chunk of no size": chunked(b"\r\n{}\r\n0\r\n\r\n"),
    "chunk size of 17 digits": chunked(b"1" + b"0" * 16 + b"\r\n"),
    "chunk size in words": chunked(b"two\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than its size": chunked(b"1\r\n{}\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("request_", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_http_is_refused(target: Target, request_: bytes) -> None:
    response = target.ask(request_)
    assert response.status == 400


HURRIED = {
    "garbage behind a request": post() + b"\0",
    "garbage behind requests": post() * 10 + b"\0",
    "a hundred requests at once": post() * 100,
    "requests of which the last is a handshake": post() * 3
    + post("/v3.6/agent/rtm/ws", b"", method="GET", Upgrade="websocket"),
}


@pytest.mark.parametrize("requests", HURRIED.values(), ids=HURRIED.keys())
def test_who_does_not_wait_for_answers_harms_nobody(target: Target, requests: bytes) -> None:
    token = target.server.token("owner@example.com").encode()
    for _ in range(3):
        with target.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # end with a reset
            connection.sendall(requests.replace(b"TOKEN", token))
            connection.recv(1)


BAD_JSON = (400, "validation", "Request is not valid JSON")
TOO_MANY_VALUES = (400, "validation", "Request must have at most 50000 of the characters [ { , in all")
NO_OBJECT = (400, "validation", "Request must be a JSON object")
TOO_LARGE = (413, "entity_too_large", "Request must be at most 1048576 bytes long")
NOT_FOUND = (404, "not_found", "There is nothing at this path")
UNSUPPORTED = (400, "unsupported_version", "Cannot call unsupported API versions.")
NO_TOKEN = (401, "authentication", "Authentication error")
NO_METHOD = (405, "validation", "The path has no such method")
MEBIBYTE = 1 << 20

REFUSED: dict[str, tuple[bytes, tuple[int, str, str]]] = {
    # Paths and methods
    "unknown path": (post("/nowhere"), NOT_FOUND),
    "path with two slashes": (post("//v3.6/agent/action/list_chats"), NOT_FOUND),
    "path upwards": (post("/v3.6/agent/action/../../../etc/passwd"), NOT_FOUND),
    "path upwards, encoded": (post("/v3.6/agent/action/..%2f..%2fetc%2fpasswd"), NOT_FOUND),
    "path that ends in a slash": (post(ACTION + "/"), NOT_FOUND),
    "path that ends in a slash, from a host that is none": (post(ACTION + "/", Host="[::1"), NOT_FOUND),
    "HTTP/0.9": (b"GET /nowhere\r\n\r\n", NOT_FOUND),
    "path of a socket": (post("/v3.6/agent/rtm/ws"), NO_METHOD),
    "unknown action": (post("/v3.6/agent/action/fly"), (404, "not_found", "`action` is unknown to version 3.6: fly")),
    "action of sockets only": (
        post("/v3.6/agent/action/login"),
        (404, "not_found", "`action` is for sockets only: login"),
    ),
    "action of 1,000 letters": (
        post("/v3.6/agent/action/" + "a" * 1000),
        (404, "not_found", "`action` is unknown to version 3.6: " + "a" * 64),
    ),
    "action with U+0000": (
        post("/v3.6/agent/action/%00"),
        (404, "not_found", "`action` is unknown to version 3.6: \0"),
    ),
    "action that is not UTF-8": (
        post("/v3.6/agent/action/%ff"),
        (404, "not_found", "`action` is unknown to version 3.6: \ufffd"),
    ),
    "action later than its version": (
        post("/v3.5/agent/action/send_event_preview"),
        (404, "not_found", "`action` is unknown to version 3.5: send_event_preview"),
    ),
    "version of the past": (post("/v1.0/agent/action/list_chats"), UNSUPPORTED),
    "version of the future": (post("/v99.9/agent/action/list_chats"), UNSUPPORTED),
    "version in words": (post("/vnext/agent/action/list_chats"), UNSUPPORTED),
    "version in a header": (post("/agent/action/list_chats", X_API_Version="9.9"), UNSUPPORTED),
    **{
        f"method {method}": (post(method=method, body=b""), NO_METHOD)
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE")
    },
    "method of a path that is no action": (post("/health/live"), NO_METHOD),
    # Authorization
    "host that is none": (
        post(Host="[::1", Authorization=None),
        (401, "authentication", "`Authorization` header is required"),
    ),
    "no authorization": (post(Authorization=None), (401, "authentication", "`Authorization` header is required")),
    "empty authorization": (post(Authorization=""), NO_TOKEN),
    "authorization of one word": (post(Authorization="Bearer"), NO_TOKEN),
    "authorization without a scheme": (post(Authorization="TOKEN"), NO_TOKEN),
    "authorization of an unknown scheme": (post(Authorization="Digest TOKEN"), NO_TOKEN),
    "token of somebody else's making": (post(Authorization="Bearer dal:" + "A" * 43), NO_TOKEN),
    "token and a letter": (post(Authorization="Bearer TOKENa"), NO_TOKEN),
    "token in Latin-1": (post(Authorization="Bearer \xff\xfe"), NO_TOKEN),
    "token of 8,000 bytes": (post(Authorization="Bearer " + "a" * 8000), NO_TOKEN),
    "token of another region": (post(Authorization="Bearer fra:abc"), (421, "misdirected_request", "Wrong region")),
    "token as SQL": (post(Authorization="Bearer ' OR 1=1 --"), NO_TOKEN),
    "Basic that is not base64": (post(Authorization="Basic %%%%"), NO_TOKEN),
    "Basic that is not UTF-8": (post(Authorization="Basic //79"), NO_TOKEN),
    "Basic without a colon": (post(Authorization="Basic YWJj"), NO_TOKEN),
    "Basic without a user": (post(Authorization="Basic OmFiYw=="), NO_TOKEN),
    "Basic without a token": (post(Authorization="Basic YWJjOg=="), NO_TOKEN),
    "two authorizations, the first of which is wrong": (
        post(Authorization=["Bearer dal:wrong", "Bearer TOKEN"]),
        NO_TOKEN,
    ),
    # Other headers
    "unknown region": (post(X_Region="atlantis"), (400, "validation", "`X-Region` is unknown")),
    "other region": (post(X_Region="fra"), (421, "misdirected_request", "Wrong region")),
    "author who is no bot": (
        post("/v3.5/agent/action/list_chats", X_Author_Id="jones@example.com"),
        (400, "validation", "`author_id` must be the id of a bot"),
    ),
    "author of 8,000 bytes of Latin-1": (
        post("/v3.5/agent/action/list_chats", X_Author_Id="\xff" * 8000),
        (400, "validation", "`author_id` must be the id of a bot"),
    ),
    # Bodies
    "no JSON": (post(body=b"hello"), BAD_JSON),
    "JSON and more": (post(body=b"{}{}"), BAD_JSON),
    "JSON cut short": (post(body=b'{"limit":'), BAD_JSON),
    "JSON with a comment": (post(body=b"{/* none */}"), BAD_JSON),
    "JSON with a byte order mark": (post(body=b"\xef\xbb\xbf{}"), BAD_JSON),
    "JSON in UTF-16": (post(body="{}".encode("utf-16")), BAD_JSON),
    "JSON that is not UTF-8": (post(body=b'{"chat_id":"\xff"}'), BAD_JSON),
    "JSON with a lone surrogate": (post(body=b'{"chat_id":"\\ud800"}'), BAD_JSON),
    "JSON with a control character": (post(body=b'{"chat_id":"\n"}'), BAD_JSON),
    "NaN": (post(body=b'{"limit":NaN}'), BAD_JSON),
    "Infinity": (post(body=b'{"limit":-Infinity}'), BAD_JSON),
    "number beyond all floats": (post(body=b'{"limit":1e999}'), BAD_JSON),
    "JSON 50,000 levels deep": (post(body=b"[" * 50_000), BAD_JSON),
    "JSON 100,000 levels deep": (post(body=b"[" * 100_000), TOO_MANY_VALUES),
    "objects 2,000 levels deep": (post(body=b'{"a":' * 2000 + b"1" + b"}" * 2000), BAD_JSON),
    "a form": (post(body=b"limit=1", Content_Type="application/x-www-form-urlencoded"), BAD_JSON),
    "gzip": (post(body=b"\x1f\x8b\x08\x00", Content_Encoding="gzip"), BAD_JSON),
    "array": (post(body=b"[]"), NO_OBJECT),
    "null": (post(body=b"null"), NO_OBJECT),
    "string": (post(body=b'"{}"'), NO_OBJECT),
    "array 1,000 levels deep": (post(body=b"[" * 1000 + b"]" * 1000), NO_OBJECT),
    "body over the limit": (post(body=b" " * (MEBIBYTE + 1)), TOO_LARGE),
    "body of 4 EiB announced": (post(body=b" " * (MEBIBYTE + 1), Content_Length=str(1 << 62)), TOO_LARGE),
    "chunks over the limit": (chunked(*[b"10000\r\n" + b" " * 0x10000 + b"\r\n"] * 17), TOO_LARGE),
}


@pytest.mark.parametrize(("request_", "answer"), REFUSED.values(), ids=REFUSED.keys())
def test_a_request_that_is_refused(target: Target, request_: bytes, answer: tuple[int, str, str]) -> None:
    token = target.server.token("owner@example.com").encode()
    response = target.ask(request_.replace(b"TOKEN", token))
    assert (response.status, *response.error()) == answer
