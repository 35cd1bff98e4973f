"""Files as forms bring them: bounded in size, time, pace and number, and on disk but for the first megabyte."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

import anyio
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from rtm.access.identity import Identity
from rtm.model.files import Upload
from rtm.protocol.errors import EntityTooLarge, RequestTimeout, TooManyRequests, ValidationError
from rtm.settings import Settings
from rtm.store.files import Files
from rtm.web.bodies import announced_bytes

UPLOADS_AT_ONCE = 64
UPLOADS_OF_LICENSE_AT_ONCE = 16
"""So that no license has all places; one more is refused."""
RETRY_AFTER_S = 1
UPLOADS_OF_ONE_AT_ONCE = 4
"""Of somebody who has as many others wait for their turn, and TCP holds them back."""
MAX_OTHER_FIELDS = 16
MAX_FORM_BYTES = 1 << 16
"""What a form may have besides its file."""
BYTES_PER_S = 16 << 10
"""Who sends fewer uses up PATIENCE_S; who sends more than that regains it."""
PATIENCE_S = 10.0

_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class Uploads:
    """Receives forms."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings = settings
        self._files = files
        self._all = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._of_license: Counter[int] = Counter()
        self._of: WeakValueDictionary[tuple[int, str], asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def received(self, http: Request, sender: Identity) -> AsyncIterator[dict[str, Any]]:
        """The form as a payload: `file` is an Upload while the block runs, every other field a string.

        Raises ValidationError, EntityTooLarge, LimitReached, TooManyRequests, RequestTimeout.
        """
        _check_kind(http)
        origin = self._settings.public_url or _origin(http)
        least = announced_bytes(http) - MAX_FORM_BYTES
        self._check_size(least)
        turns = self._of.setdefault((sender.license_id, sender.agent_id), asyncio.Semaphore(UPLOADS_OF_ONE_AT_ONCE))
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(self._settings.limits.upload_timeout_s or None):
                    await self._files.check_room(sender.license_id, max(0, least))
                    await stack.enter_async_context(turns)
                    stack.enter_context(self._place_of(sender.license_id))
                    await stack.enter_async_context(self._all)
                    form = await self._read(http)
            except TimeoutError:
                raise RequestTimeout("Request took too long to arrive") from None
            stack.push_async_callback(form.close)
            yield {name: self._upload(value, origin) for name, value in form.items()}

    @contextmanager
    def _place_of(self, license_id: int) -> Iterator[None]:
        """One of those that the license has. Raises TooManyRequests."""
        if self._of_license[license_id] >= UPLOADS_OF_LICENSE_AT_ONCE:
            raise TooManyRequests("uploads at once", f"{UPLOADS_OF_LICENSE_AT_ONCE} of a license", RETRY_AFTER_S)
        self._of_license[license_id] += 1
        try:
            yield
        finally:
            self._of_license[license_id] -= 1
            if not self._of_license[license_id]:
                del self._of_license[license_id]

    async def _read(self, http: Request) -> FormData:
        parser = MultiPartParser(
            http.headers, self._bounded(http), max_files=1, max_fields=MAX_OTHER_FIELDS, max_part_size=MAX_FORM_BYTES
        )
        try:
            return await parser.parse()
        except MultiPartException as error:
            raise ValidationError(f"Request is not a valid form: {error.message}") from None
        except ClientDisconnect:
            raise ValidationError("Request ended early") from None

    async def _bounded(self, http: Request) -> AsyncGenerator[bytes, None]:
        """The body, until there is too much of it or it comes too slowly."""
        stream, size, patience_s = http.stream(), 0, PATIENCE_S
        while True:
            began = monotonic()
            with anyio.fail_after(patience_s):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            # Only the time spent waiting counts: the rest is ours.
            patience_s = min(PATIENCE_S, patience_s - (monotonic() - began) + len(chunk) / BYTES_PER_S)
            size += len(chunk)
            self._check_size(size - MAX_FORM_BYTES)
            yield chunk

    def _upload(self, value: UploadFile | str, origin: str) -> Upload | str:
        if isinstance(value, str):
            return value
        size = value.size or 0
        self._check_size(size)
        return Upload(value.filename or "", size, value, origin)

    def _check_size(self, size: int) -> None:
        most = self._settings.limits.upload_size_bytes
        if 0 < most < size:
            raise EntityTooLarge(f"Upload limit exceeded ({most / (1 << 20):g}MB).")


def _check_kind(http: Request) -> None:
    """Raises ValidationError."""
    kind, options = parse_options_header(http.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise ValidationError("`Content-Type` must be multipart/form-data")
    # Fields are decoded on the event loop, and some of Python's codecs take seconds for 64 KiB.
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise ValidationError("`Content-Type` must name no other charset than utf-8")


def _origin(http: Request) -> str:
    """Where the sender has found us. Raises ValidationError."""
    host = http.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise ValidationError("`Host` header must name the server")
    return f"{http.scope['scheme']}://{host}"
