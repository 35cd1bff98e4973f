"""JSON as clients send it."""

from typing import Any

import orjson

from rtm.protocol.errors import ValidationError

_SMALL_BYTES = 1 << 16
MAX_VALUES = 50_000
"""In what is larger, counted by the characters that come before them: a megabyte may have 340,000 arrays, which take
25 ms to make, and as long again to collect as garbage."""


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValidationError."""
    if len(data) > _SMALL_BYTES and sum(map(data.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise ValidationError(f"Request must have at most {MAX_VALUES} of the characters [ {{ , in all")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ValidationError("Request is not valid JSON") from None
    if not isinstance(document, dict):
        raise ValidationError("Request must be a JSON object")
    return document
