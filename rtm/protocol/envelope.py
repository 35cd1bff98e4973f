"""Requests, responses and pushes as bytes.

Request   {"action", "request_id"?, "version"?, "author_id"?, "payload"?}
Response  {"request_id"?, "action", "type": "response", "success", "payload"}
Push      {"version", "request_id"?, "action", "type": "push", "payload"}

Source: the public reference, "Methods" and "Pushes" of the RTM API. A push's payload is
JSON already and is not encoded again.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from pydantic_core import from_json

from rtm.protocol.decoding import decode_object
from rtm.protocol.errors import ApiError, ValidationError

MAX_REQUEST_ID_LENGTH = 256
_BEGINNING_BYTES = 1024


@dataclass(slots=True)
class Request:
    """One request frame; `payload` is still unchecked."""

    action: str
    payload: dict[str, Any]
    request_id: str | None = None
    version: str | None = None
    author_id: str | None = None


class MalformedRequest(Exception):
    """The bytes are no request; `error` is the answer, `request` what could be read of them."""

    def __init__(self, message: str, request: Request) -> None:
        super().__init__(message)
        self.error = ValidationError(message)
        self.request = request


def decode_request(data: bytes) -> Request:
    """A request frame. Raises MalformedRequest."""
    try:
        frame = decode_object(data)
    except ValidationError as error:
        raise MalformedRequest(error.message, _begun(data)) from None
    request = Request(action="", payload={})
    # request_id and action come first: an error about any other field can then be told apart by the client.
    for name in ("request_id", "action", "version", "author_id"):
        value = frame.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise MalformedRequest(f"`{name}` must be a string", request)
        if len(value) > MAX_REQUEST_ID_LENGTH:
            raise MalformedRequest(f"`{name}` must be at most {MAX_REQUEST_ID_LENGTH} characters long", request)
        setattr(request, name, value)
    if not request.action:
        raise MalformedRequest("`action` is required", request)
    payload = frame.get("payload")
    if payload is not None:
        if not isinstance(payload, dict):
            raise MalformedRequest("`payload` must be an object", request)
        request.payload = payload
    return request


def _begun(data: bytes) -> Request:
    """What the first bytes of a frame tell that is not read: whoever waits for the answer knows it by its id."""
    request = Request(action="", payload={})
    with suppress(ValueError):
        frame = from_json(data[:_BEGINNING_BYTES], allow_partial=True)
        for name in ("request_id", "action"):
            value = frame.get(name) if isinstance(frame, dict) else None
            if isinstance(value, str) and len(value) <= MAX_REQUEST_ID_LENGTH:
                setattr(request, name, value)
    return request


def encode_response(request_id: str | None, action: str, payload: Any) -> bytes:
    """The answer to a request that was done; `payload` is whatever orjson can encode."""
    frame: dict[str, Any] = {} if request_id is None else {"request_id": request_id}
    frame.update(action=action, type="response", success=True, payload=payload)
    return orjson.dumps(frame)


def encode_error(request_id: str | None, action: str, error: ApiError) -> bytes:
    """The answer to a request that was refused."""
    frame: dict[str, Any] = {} if request_id is None else {"request_id": request_id}
    frame.update(action=action, type="response", success=False, payload={"error": error.as_dict()})
    return orjson.dumps(frame)


def encode_push(version: str, action: str, payload: bytes, request_id: str | None = None) -> bytes:
    """A push; `payload` is JSON. Only the connection that asked gets its `request_id`."""
    head, tail = _around_payload(version, action)
    if request_id is not None:
        head += b'"request_id":' + orjson.dumps(request_id) + b","
    return head + tail + payload + b"}"


def encode_disconnected(version: str, reason: str, data: Mapping[str, Any] | None = None) -> bytes:
    """The push `agent_disconnected`, a connection's last: why it ends, and what a program can use."""
    payload: dict[str, Any] = {"reason": reason}
    if data is not None:
        payload["data"] = data
    return encode_push(version, "agent_disconnected", orjson.dumps(payload))


@lru_cache(maxsize=512)  # the names and versions are ours
def _around_payload(version: str, action: str) -> tuple[bytes, bytes]:
    """What comes before and after the `request_id`: the same for every push of a name, so it is encoded once."""
    return (
        b'{"version":' + orjson.dumps(version) + b",",
        b'"action":' + orjson.dumps(action) + b',"type":"push","payload":',
    )
