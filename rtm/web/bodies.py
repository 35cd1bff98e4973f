"""Request bodies: JSON objects of bounded size, and how long a body is said to be."""

from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request

from rtm.protocol.decoding import decode_object
from rtm.protocol.errors import EntityTooLarge, RequestTimeout, ValidationError


async def read_object(request: Request, max_bytes: int, max_s: float) -> dict[str, Any]:
    """The JSON object in the body, an empty one for no body; 0 turns a limit off.

    Raises ValidationError, EntityTooLarge, RequestTimeout.
    """
    try:
        with anyio.fail_after(max_s or None):
            body = await _read(request, max_bytes)
    except TimeoutError:
        raise RequestTimeout("Request took too long to arrive") from None
    return decode_object(body) if body else {}


async def _read(request: Request, max_bytes: int) -> bytes:
    """Stops reading as soon as there is too much, and does not begin where too much is announced."""
    _check_size(announced_bytes(request), max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            _check_size(len(body), max_bytes)
    except ClientDisconnect:
        raise ValidationError("Request ended early") from None
    return bytes(body)


def _check_size(size: int, most: int) -> None:
    if 0 < most < size:
        raise EntityTooLarge(f"Request must be at most {most} bytes long")


def announced_bytes(request: Request) -> int:
    """The length of the body, as the sender has announced it; 0 if it comes in chunks."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() else 0
