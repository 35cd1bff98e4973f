"""Where the documents about the API are, for people and for programs.

    /docs                               what there is
    /docs/v3.6/web, /docs/v3.6/rtm      the methods of a version and the pushes, to read
    /docs/v3.6/openapi.json             the Web API
    /docs/v3.6/asyncapi.json            the sockets
    /docs/v3.6/schemas.json             JSON Schemas of all requests, responses and pushes

Each is made when it is first asked for, in a thread, and kept. They are the same for everybody who asks.
"""

import gzip
import hashlib
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from rtm import versions
from rtm.actions.registry import AGENT

_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class _Made:
    """A document, in both encodings; `etag` is that of what it says."""

    body: bytes
    zipped: bytes
    media_type: str
    etag: str


class Documents:
    """The documents of one process."""

    def __init__(self) -> None:
        self._making = anyio.Lock()
        self._made: dict[tuple[str, str], _Made] = {}

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/", self._home),
            Route("/docs", self._index),
            Route("/docs/", self._home),
            Route("/docs/v{version}", self._home_of_version),
            Route("/docs/v{version}/", self._home_of_version),
            Route("/docs/style.css", self._style),
            Route("/docs/v{version}/{name}", self._of_version),
        ]

    async def _home(self, request: Request) -> Response:
        return RedirectResponse("/docs")

    async def _home_of_version(self, request: Request) -> Response:
        if request.path_params["version"] not in versions.SERVED:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return RedirectResponse("/docs")

    async def _index(self, request: Request) -> Response:
        return await self._answer(request, versions.STABLE, "index")

    async def _style(self, request: Request) -> Response:
        return await self._answer(request, versions.STABLE, "style.css")

    async def _of_version(self, request: Request) -> Response:
        version, name = request.path_params["version"], request.path_params["name"]
        if version not in versions.SERVED or name not in _OF_VERSION:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return await self._answer(request, version, name)

    async def _answer(self, request: Request, version: str, name: str) -> Response:
        async with self._making:
            made = self._made.get((version, name))
            if made is None:
                made = self._made[version, name] = await run_sync(_make, version, name)
        headers = {
            "ETag": made.etag,
            "Cache-Control": "no-cache",  # may be kept, and has to be asked about: the next release has other documents
            "Vary": "Accept-Encoding",
            "Content-Security-Policy": _POLICY,
        }
        if made.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        body = made.body
        if "gzip" in request.headers.get("accept-encoding", ""):
            body = made.zipped
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type=made.media_type)


_OF_VERSION = {"web", "rtm", "openapi.json", "asyncapi.json", "schemas.json"}


def _make(version: str, name: str) -> _Made:
    """Whatever makes it is loaded here: most processes are never asked."""
    from rtm.documents import document

    body, media_type = document(AGENT, version, name)
    return _Made(body, gzip.compress(body, mtime=0), media_type, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')
