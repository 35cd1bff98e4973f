"""Files as forms bring them: bounded in size, time and number, and on disk but for the first megabyte."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import anyio
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from rtm.model.files import Upload
from rtm.protocol.errors import EntityTooLarge, RequestTimeout, ValidationError
from rtm.settings import Settings

UPLOADS_AT_ONCE = 64
UPLOADS_OF_ONE_AT_ONCE = 4
"""Of somebody who has as many others wait for their turn, and TCP holds them back."""
MAX_OTHER_FIELDS = 16
MAX_FORM_BYTES = 1 << 16
"""What a form may have besides its file."""

_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class Uploads:
    """Receives forms."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._all = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._of: WeakValueDictionary[object, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def received(self, http: Request, sender: object) -> AsyncIterator[dict[str, Any]]:
        """The form as a payload: `file` is an Upload while the block runs, every other field a string.

        Raises ValidationError, EntityTooLarge, RequestTimeout.
        """
        if not http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise ValidationError("`Content-Type` must be multipart/form-data")
        origin = self._settings.public_url or _origin(http)
        turns = self._of.setdefault(sender, asyncio.Semaphore(UPLOADS_OF_ONE_AT_ONCE))
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(self._settings.limits.upload_timeout_s or None):
                    await stack.enter_async_context(turns)
                    await stack.enter_async_context(self._all)
                    form = await self._read(http)
            except TimeoutError:
                raise RequestTimeout("Request took too long to arrive") from None
            stack.push_async_callback(form.close)
            yield {name: self._upload(value, origin) for name, value in form.items()}

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
        """The body, until there is too much of it."""
        most = self._settings.limits.upload_size_bytes
        size = 0
        async for chunk in http.stream():
            size += len(chunk)
            if 0 < most < size - MAX_FORM_BYTES:
                raise self._too_large()
            yield chunk

    def _upload(self, value: UploadFile | str, origin: str) -> Upload | str:
        if isinstance(value, str):
            return value
        size = value.size or 0
        if 0 < self._settings.limits.upload_size_bytes < size:
            raise self._too_large()
        return Upload(value.filename or "", size, value, origin)

    def _too_large(self) -> EntityTooLarge:
        return EntityTooLarge(f"Upload limit exceeded ({self._settings.limits.upload_size_bytes / (1 << 20):g}MB).")


def _origin(http: Request) -> str:
    """Where the sender has found us. Raises ValidationError."""
    host = http.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise ValidationError("`Host` header must name the server")
    return f"{http.scope['scheme']}://{host}"
