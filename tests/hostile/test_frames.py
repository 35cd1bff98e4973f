"""Bytes after the handshake: each violation of RFC 6455 has its close code, what is odd but right is taken."""

import zlib

import pytest
from websockets.frames import Opcode

from tests.hostile.target import Target, frame

pytestmark = pytest.mark.usefixtures("unharmed")

TEXT, CONT, BINARY, CLOSE, PING, PONG = (
    Opcode.TEXT,
    Opcode.CONT,
    Opcode.BINARY,
    Opcode.CLOSE,
    Opcode.PING,
    Opcode.PONG,
)
PROTOCOL_ERROR, UNSUPPORTED, NOT_UTF_8, TOO_BIG = 1002, 1003, 1007, 1009
MOST = 1 << 16
"""What a message may have before the log-in."""
ASK = b'{"action":"ping","request_id":"1"}'


def deflated(data: bytes) -> bytes:
    """A payload as permessage-deflate has it (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason)


VIOLATIONS: dict[str, tuple[bytes, int]] = {
    # 5.1, 5.2: the head of a frame
    "unmasked text": (frame(TEXT, ASK, masked=False), PROTOCOL_ERROR),
    "unmasked ping": (frame(PING, masked=False), PROTOCOL_ERROR),
    "unmasked close": (frame(CLOSE, masked=False), PROTOCOL_ERROR),
    "first reserved bit": (frame(TEXT, ASK, reserved=4), PROTOCOL_ERROR),
    "second reserved bit": (frame(TEXT, ASK, reserved=2), PROTOCOL_ERROR),
    "third reserved bit": (frame(TEXT, ASK, reserved=1), PROTOCOL_ERROR),
    "all reserved bits of a ping": (frame(PING, reserved=7), PROTOCOL_ERROR),
    **{f"reserved opcode {opcode}": (frame(opcode), PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "size with the highest bit": (b"\x81\xff" + (1 << 63).to_bytes(8), TOO_BIG),
    "HTTP in place of a frame": (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL_ERROR),
    "TLS in place of a frame": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", PROTOCOL_ERROR),
    # 5.4: fragments
    "continuation of nothing": (frame(CONT, ASK), PROTOCOL_ERROR),
    "continuation after the end": (frame(TEXT, ASK) + frame(CONT, ASK), PROTOCOL_ERROR),
    "message within a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), PROTOCOL_ERROR),
    "binary within a message": (frame(TEXT, b"{", fin=False) + frame(BINARY, b"}"), PROTOCOL_ERROR),
    # 5.5: control frames
    "ping of 126 bytes": (frame(PING, bytes(126)), PROTOCOL_ERROR),
    "pong of 65,536 bytes": (frame(PONG, bytes(1 << 16)), PROTOCOL_ERROR),
    "close of 126 bytes": (close(1000, b"x" * 124), PROTOCOL_ERROR),
    "ping in fragments": (frame(PING, fin=False), PROTOCOL_ERROR),
    "close in fragments": (frame(CLOSE, fin=False), PROTOCOL_ERROR),
    # 7.4: close codes
    "close code of one byte": (frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
    **{
        f"close code {code}": (close(code), PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "close reason not UTF-8": (close(1000, b"\xff"), NOT_UTF_8),
    # 5.6: data
    "binary": (frame(BINARY, ASK), UNSUPPORTED),
    "binary in fragments": (frame(BINARY, b"{", fin=False) + frame(CONT, b"}"), UNSUPPORTED),
    # 8.1: UTF-8
    "text not UTF-8": (frame(TEXT, b"\xff"), NOT_UTF_8),
    "text ends within a character": (frame(TEXT, "ö".encode()[:1]), NOT_UTF_8),
    "text with a surrogate": (frame(TEXT, b"\xed\xa0\x80"), NOT_UTF_8),
    "text with an overlong slash": (frame(TEXT, b"\xc0\xaf"), NOT_UTF_8),
    "text beyond Unicode": (frame(TEXT, b"\xf4\x90\x80\x80"), NOT_UTF_8),
    "fragments not UTF-8 together": (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"x"), NOT_UTF_8),
    # 10.4: limits
    "message over the limit": (frame(TEXT, bytes(MOST + 1)), TOO_BIG),
    "head of a message over the limit": (frame(TEXT, size=MOST + 1), TOO_BIG),
    "head of a message of 4 EiB": (frame(TEXT, size=1 << 62), TOO_BIG),
    "fragments over the limit": (
        frame(TEXT, bytes(MOST // 2), fin=False) + frame(CONT, bytes(MOST // 2 + 1)),
        TOO_BIG,
    ),
}


@pytest.mark.parametrize(("sent", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_violation_has_its_close_code(target: Target, sent: bytes, code: int) -> None:
    with target.open_socket() as client:
        client.send_bytes(sent + frame(TEXT, ASK))
        answers, closed_with = client.until_closed()
    assert closed_with == code
    assert len(answers) == sent.startswith(frame(TEXT, ASK))


COMPRESSED_VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "not deflated": (frame(TEXT, b"\xff\xff\xff", reserved=4), PROTOCOL_ERROR),
    "deflated, not UTF-8": (frame(TEXT, deflated(b"\xff"), reserved=4), NOT_UTF_8),
    "a few bytes that become one too many": (frame(TEXT, deflated(bytes(MOST + 1)), reserved=4), TOO_BIG),
    "compressed continuation": (
        frame(TEXT, deflated(b"{"), fin=False, reserved=4) + frame(CONT, deflated(b"}"), reserved=4),
        PROTOCOL_ERROR,
    ),
    "compressed ping": (frame(PING, deflated(b""), reserved=4), PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("sent", "code"), COMPRESSED_VIOLATIONS.values(), ids=COMPRESSED_VIOLATIONS.keys())
def test_a_violation_of_compression_has_its_close_code(target: Target, sent: bytes, code: int) -> None:
    with target.open_socket(compressed=True) as client:
        client.send_bytes(sent)
        assert client.until_closed() == ([], code)


ODD_BUT_RIGHT: dict[str, bytes] = {
    "sizes in longer forms than needed": b"\x81\xfe\x00\x22" + bytes(4) + ASK,
    "a byte a fragment": (
        frame(TEXT, ASK[:1], fin=False)
        + b"".join(frame(CONT, ASK[place : place + 1], fin=False) for place in range(1, len(ASK)))
        + frame(CONT)
    ),
    "a thousand empty fragments": frame(TEXT, fin=False) + frame(CONT, fin=False) * 1000 + frame(CONT, ASK),
    "pings within a message": frame(TEXT, ASK[:5], fin=False) + frame(PING, b"?") * 9 + frame(CONT, ASK[5:]),
    "a thousand pongs unasked": frame(PONG, b"!") * 1000 + frame(TEXT, ASK),
    "a thousand pings": frame(PING, b"?" * 125) * 1000 + frame(TEXT, ASK),
    "64 KiB of blanks": frame(TEXT, ASK.ljust(MOST)),
}


@pytest.mark.parametrize("sent", ODD_BUT_RIGHT.values(), ids=ODD_BUT_RIGHT.keys())
def test_what_is_odd_but_right_is_answered(target: Target, sent: bytes) -> None:
    with target.open_socket() as client:
        client.send_bytes(sent)
        answer = client.next_message()
    assert (answer["request_id"], answer["success"]) == ("1", True)


ENDINGS: dict[str, tuple[bytes, int]] = {
    "close without a code": (frame(CLOSE), 1005),
    "close 1000": (close(1000), 1000),
    "close with a private code and a reason": (close(4999, b"x" * 123), 4999),
    "two closes": (close(1000) + close(1001), 1000),
    "a close and a flood behind it": (close(1000) + frame(TEXT, ASK) * 10_000, 1000),
}


@pytest.mark.parametrize(("sent", "code"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_close_is_answered_with_itself(target: Target, sent: bytes, code: int) -> None:
    with target.open_socket() as client:
        client.send_bytes(sent)
        assert client.until_closed() == ([], code)


@pytest.mark.parametrize("sent", [frame(TEXT, ASK)[:-1], frame(TEXT, b"{", fin=False), b"\x81", b"\x81\xff\x00"])
def test_who_leaves_within_a_frame_leaves_nothing(target: Target, sent: bytes) -> None:
    with target.open_socket() as client:
        client.send_bytes(sent)
