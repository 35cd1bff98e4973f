"""Reading the files that were uploaded, by whoever has been told their URL.

Browsers show images in place; everything else they are told to save, as a type of which they run nothing.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rtm.actions.dispatch import answer_to
from rtm.images import THUMBNAIL_TYPE
from rtm.model.files import THUMBNAIL, THUMBNAIL_2X, UNKNOWN_CONTENT_TYPE, StoredFile, is_id
from rtm.protocol.errors import NotFound, ServiceUnavailable
from rtm.protocol.timestamps import now
from rtm.store.files import PART_BYTES, Files

_VARIANTS = {None: 0, THUMBNAIL: 1, THUMBNAIL_2X: 2}
_RANGE = re.compile(r"bytes=(\d{1,10})-(\d{0,10})")
_PASSIVE = re.compile(r"(audio|video)/[a-z0-9.+-]+|text/plain|application/(pdf|zip)")
"""Types that players and readers should know, and no page runs."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",  # applications for agents have other origins
    "Cache-Control": "private, max-age=86400, immutable",  # no longer than a file lives
    "Accept-Ranges": "bytes",
}
DOWNLOADS_OF_ONE_AT_ONCE = 100
"""Of one address; a slow one holds some 200 KB."""


class Downloads:
    """Answers whoever knows where a file is."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._reading: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        """Where files are; as `rtm.model.files` writes their URLs."""
        return [Route("/files/{file_id}/{name}", self._get), Route("/files/{file_id}/{variant}/{name}", self._get)]

    async def _get(self, http: Request) -> Response:
        try:
            return await self._answer(http)
        except Exception as error:  # noqa: BLE001 - answered like those of actions
            refusal = answer_to(error)
            return JSONResponse({"error": refusal.as_dict()}, refusal.status, refusal.headers)

    async def _answer(self, http: Request) -> Response:
        file_id, variant = http.path_params["file_id"], _VARIANTS.get(http.path_params.get("variant"))
        file = await self._files.find(file_id) if is_id(file_id) else None
        if variant is None or file is None or file.name != http.path_params["name"] or file.has_expired(now()):
            raise NotFound("There is nothing at this path")
        headers = _headers(file, variant)
        if headers["ETag"] in http.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if variant:
            thumbnail = b"".join([part async for part in self._files.read(file.id, variant)])
            if not thumbnail:
                raise NotFound("There is nothing at this path")
            return Response(thumbnail, headers=headers)
        return self._content(http, file, headers)

    def _content(self, http: Request, file: StoredFile, headers: dict[str, str]) -> Response:
        status, start, end = HTTPStatus.OK, 0, file.size
        wanted = _RANGE.fullmatch(http.headers.get("range", ""))
        if wanted and http.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            start, end = int(wanted[1]), min(int(wanted[2] or file.size) + 1, file.size)
            if start >= end:
                headers["Content-Range"] = f"bytes */{file.size}"
                return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        if http.method == "HEAD":
            return Response(status_code=status, headers=headers)
        address = http.client.host if http.client else ""
        if self._reading[address] >= DOWNLOADS_OF_ONE_AT_ONCE:
            raise ServiceUnavailable("Too many files are being read from this address")
        return StreamingResponse(self._pieces(file.id, start, end, address), status, headers)

    async def _pieces(self, file_id: str, start: int, end: int, address: str) -> AsyncIterator[bytes]:
        self._reading[address] += 1
        try:
            first_part, skipped = divmod(start, PART_BYTES)
            left = end - start
            async with aclosing(self._files.read(file_id, first_part=first_part)) as parts:
                async for part in parts:
                    piece = part[skipped : skipped + left]
                    left -= len(piece)
                    skipped = 0
                    yield piece
                    if not left:
                        return
        finally:
            self._reading[address] -= 1
            if not self._reading[address]:
                del self._reading[address]


def _headers(file: StoredFile, variant: int) -> dict[str, str]:
    name = quote(file.name, safe="")
    if variant:
        content_type, disposition = THUMBNAIL_TYPE, "inline"
    elif file.is_image:
        content_type, disposition = file.content_type, f"inline; filename*=UTF-8''{name}"
    else:
        is_passive = _PASSIVE.fullmatch(file.content_type)
        content_type = file.content_type if is_passive else UNKNOWN_CONTENT_TYPE
        disposition = f"attachment; filename*=UTF-8''{name}"
    etag = f'"{file.id[:16]}-{variant}"'
    return {"Content-Type": content_type, "Content-Disposition": disposition, "ETag": etag, **_HEADERS}
