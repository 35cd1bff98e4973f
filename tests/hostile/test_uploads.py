"""Forms that are none, files that are not what they say, and senders that never come to an end."""

import json
import random
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rtm.web.uploads import UPLOADS_OF_ONE_AT_ONCE
from tests.hostile.target import Answer, Target, send_all
from tests.hostile.test_http import post
from tests.running import serving_demo

pytestmark = pytest.mark.usefixtures("unharmed")

UPLOAD = "/v3.6/agent/action/upload_file"
MEBIBYTE = 1 << 20


def part(content: bytes = b"hello", name: str = "file", filename: str | None = "a.txt", headers: bytes = b"") -> bytes:
    """One field of a form."""
    of_file = b"" if filename is None else b'; filename="%s"' % filename.encode()
    return b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n%s\r\n' % (
        name.encode(),
        of_file,
        headers,
        content,
    )


def upload(*parts: bytes, end: bytes = b"--B--\r\n", boundary: str = "B", **headers: Any) -> bytes:
    """A request with a form."""
    usual = {"Content_Type": f"multipart/form-data; boundary={boundary}"}
    return post(UPLOAD, b"".join(parts) + end, **usual | headers)


def answer_to(target: Target, request: bytes) -> Answer:
    token = target.server.token("owner@example.com").encode()
    return target.ask(request.replace(b"TOKEN", token))


INVALID = (400, "validation", "Request is not a valid form: Invalid multipart data.")
NO_FILE = (400, "validation", "`file` is required")
NO_FORM = (400, "validation", "`Content-Type` must be multipart/form-data")
TOO_LARGE = (413, "entity_too_large", "Upload limit exceeded (10MB).")
NOT_A_FILE = (400, "validation", "`file` must be a file")
OTHER_CHARSET = (400, "validation", "`Content-Type` must name no other charset than utf-8")
FORM_OF_B = "multipart/form-data; boundary=B"
NAMELESS = (
    400,
    "validation",
    'Request is not a valid form: The Content-Disposition header field "name" must be provided.',
)
TOO_MANY = (400, "validation", "Request is not a valid form: Too many files. Maximum number of files is 1.")

REFUSED: dict[str, tuple[bytes, tuple[int, str, str]]] = {
    "nothing": (upload(end=b""), NO_FILE),
    "no part": (upload(), NO_FILE),
    "no form": (post(UPLOAD, b'{"file":"a"}'), NO_FORM),
    "form of another kind": (
        upload(part(), Content_Type="application/x-www-form-urlencoded"),
        NO_FORM,
    ),
    "charset that takes long to decode": (
        upload(part(b"2n7caa" * 10_000, name="f0-", filename=None), Content_Type=f"{FORM_OF_B}; charset=punycode"),
        OTHER_CHARSET,
    ),
    "charset that cannot be decoded": (
        upload(part(name="-b9", filename=None), Content_Type=f'{FORM_OF_B}; charset="PUNYCODE"'),
        OTHER_CHARSET,
    ),
    "charset that is none": (upload(part(), Content_Type=f"{FORM_OF_B}; charset="), OTHER_CHARSET),
    "charset of forms": (upload(part(filename=None), Content_Type=f"{FORM_OF_B}; charset=UTF-8"), NOT_A_FILE),
    "no boundary": (
        upload(part(), Content_Type="multipart/form-data"),
        (400, "validation", "Request is not a valid form: Missing boundary in multipart."),
    ),
    "empty boundary": (upload(part(), boundary=""), INVALID),
    "boundary of 8,000 bytes": (upload(part(), boundary="b" * 8000), INVALID),
    "another boundary": (upload(part(), boundary="C"), INVALID),
    "part that does not end": (upload(part(), end=b""), NO_FILE),
    "part that ends in its headers": (upload(b"--B\r\nContent-Disposition: form-data; na", end=b""), NO_FILE),
    "part of nothing but a boundary": (upload(b"--B", end=b""), NO_FILE),
    "part without a name": (upload(b"--B\r\n\r\nhello\r\n"), NAMELESS),
    "part with a header of 100 KB": (upload(part(headers=b"X: " + b"x" * 100_000 + b"\r\n")), INVALID),
    "part with 10,000 headers": (upload(part(headers=b"X: x\r\n" * 10_000)), INVALID),
    "part with a header without a colon": (upload(part(headers=b"X\r\n")), INVALID),
    "two files": (upload(part(), part()), TOO_MANY),
    "a file and one of another name": (upload(part(), part(name="more")), TOO_MANY),
    "100,000 parts": (
        upload(part(b"", filename=None) * 20_000),
        (400, "validation", "Request is not a valid form: Too many fields. Maximum number of fields is 16."),
    ),
    "field of 100 KB": (
        upload(part(b"x" * 100_000, filename=None)),
        (400, "validation", "Request is not a valid form: Part exceeded maximum size of 64KB."),
    ),
    "file that is a field": (upload(part(filename=None)), NOT_A_FILE),
    "file of another name": (upload(part(name="File")), NO_FILE),
    "file and then a field of its name": (
        upload(part(), part(filename=None)),
        NOT_A_FILE,
    ),
    "file over the limit": (upload(part(bytes(10 * MEBIBYTE + 1))), TOO_LARGE),
    "file far over the limit": (upload(part(bytes(12 * MEBIBYTE))), TOO_LARGE),
    "chunks over the limit": (
        upload(end=b"", Content_Length=None, Transfer_Encoding="chunked")
        + b"100000\r\n"
        + part(bytes(MEBIBYTE))[:MEBIBYTE]
        + b"\r\n"
        + (b"100000\r\n" + bytes(MEBIBYTE) + b"\r\n") * 11,
        TOO_LARGE,
    ),
    "host that is none": (
        upload(part(), Host="evil.test/x"),
        (400, "validation", "`Host` header must name the server"),
    ),
    "version that is not served": (
        upload(part()).replace(b"v3.6", b"v1.0"),
        (400, "unsupported_version", "Cannot call unsupported API versions."),
    ),
    "nobody": (
        upload(part(), Authorization=None),
        (401, "authentication", "`Authorization` header is required"),
    ),
}


@pytest.mark.parametrize(("request_", "answer"), REFUSED.values(), ids=REFUSED.keys())
def test_an_upload_that_is_refused(target: Target, request_: bytes, answer: tuple[int, str, str]) -> None:
    response = answer_to(target, request_)
    assert (response.status, *response.error()) == answer


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *before: bytes) -> bytes:
    """A PNG of these pixels, right or wrong, at 8 bits of grey each."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PIXELS = (400, "validation", "`file` must be an image of at most 64000000 pixels")
BOMBS: dict[str, tuple[bytes, tuple[int, str, str] | None]] = {
    "PNG of 4 G pixels, none of them there": (png(65_535, 65_535, b""), PIXELS),
    "PNG of 2**62 pixels": (png(2**31 - 1, 2**31 - 1, b""), PIXELS),
    "PNG of no pixels": (png(0, 0, b""), None),
    "PNG of 64 M pixels in 60 KB": (png(8000, 8000, zlib.compress(bytes(8001 * 8000), 9)), None),
    "PNG of one pixel with 200 MB of data": (png(1, 1, zlib.compress(bytes(200 << 20), 9)), None),
    "PNG with a text of 100 MB": (
        png(1, 1, zlib.compress(b"\0\0"), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20), 9))),
        None,
    ),
    "PNG with a profile of 100 MB": (
        png(1, 1, zlib.compress(b"\0\0"), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 << 20), 9))),
        None,
    ),
    "PNG with a wrong checksum": (png(8, 8, zlib.compress(bytes(72)))[:-20] + bytes(20), None),
    "PNG of noise": (b"\x89PNG\r\n\x1a\n" + random.Random(7).randbytes(100_000), None),
    "GIF of 4 G pixels": (
        b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
        + b"\x08\0;",
        PIXELS,
    ),
    "JPEG of 4 G pixels": (
        b"\xff\xd8\xff\xc0\0\x0b\x08" + struct.pack(">HH", 65_535, 65_535) + b"\x01\x01\x11\0",
        PIXELS,
    ),
    "JPEG of noise": (b"\xff\xd8\xff\xe0" + random.Random(7).randbytes(100_000), None),
    "WebP of noise": (b"RIFF" + struct.pack("<I", 100_000) + b"WEBPVP8L" + random.Random(7).randbytes(100_000), None),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(100), None),
}


@pytest.mark.parametrize(("content", "refusal"), BOMBS.values(), ids=BOMBS.keys())
def test_an_image_that_is_a_trap(target: Target, content: bytes, refusal: tuple[int, str, str] | None) -> None:
    assert len(content) < MEBIBYTE
    response = answer_to(target, upload(part(content, filename="a.png")))
    if refusal is not None:
        assert (response.status, *response.error()) == refusal
        return
    url = json.loads(response.body)["url"]
    shown = target.ask(f"GET {url.partition('rtm.test')[2]} HTTP/1.1\r\nHost: rtm.test\r\n\r\n".encode())
    assert (shown.status, shown.body) == (200, content)


# Who is slow


def test_who_goes_away_amid_an_upload_is_forgotten(target: Target) -> None:
    token = target.server.token("owner@example.com").encode()
    request = upload(part(bytes(5 * MEBIBYTE))).replace(b"TOKEN", token)
    for length in (400, 100_000, 4 * MEBIBYTE):
        with target.connect() as connection:
            send_all(connection, request[:length])


def test_who_uploads_slowly_keeps_only_itself_waiting(target: Target) -> None:
    token = target.server.token("owner@example.com").encode()
    slow = upload(part(bytes(MEBIBYTE))).replace(b"TOKEN", token)
    with ExitStack() as stack:
        for _ in range(3 * UPLOADS_OF_ONE_AT_ONCE):
            send_all(stack.enter_context(target.connect()), slow[:1000])
        request = upload(part()).replace(b"TOKEN", target.server.token("jones@example.com").encode())
        assert target.ask(request).status == 200
        connection = stack.enter_context(target.connect())
        connection.settimeout(1)
        connection.sendall(upload(part()).replace(b"TOKEN", token))
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_an_upload_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with serving_demo(tmp_path, "--upload-timeout-s", "0.2") as server:
        impatient = Target(server, tmp_path / "log", stranger_token="")
        answer = answer_to(impatient, upload(part(), end=b"", Content_Length="1000"))
        assert (answer.status, *answer.error()) == (504, "request_timeout", "Request took too long to arrive")
