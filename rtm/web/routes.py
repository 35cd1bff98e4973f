"""The Web API: `POST /v{version}/agent/action/<action>` runs the same actions as the sockets.

`Authorization` is Bearer or Basic; `X-API-Version` names the version where the path does not; `X-Author-Id` lets an
agent act as a bot in the versions that have it; `X-Region` must be ours. Source: the public reference, "Web API".

Who is known is told with every answer how much of the license's quota is left: `RateLimit-Limit`, `-Remaining` and
`-Reset` (seconds). The reference has no such headers; these are the IETF's, draft-ietf-httpapi-ratelimit-headers-06,
which clients know best. What is one too many is answered 429 with `Retry-After`.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any

import anyio
import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from rtm import versions
from rtm.access.identity import Identity
from rtm.access.tokens import REGIONS
from rtm.actions.context import Services
from rtm.actions.dispatch import Caller, Dispatcher, answer_to
from rtm.actions.outcomes import Outcomes
from rtm.actions.registry import AGENT, WEB, Action
from rtm.protocol.envelope import Request
from rtm.protocol.errors import (
    ApiError,
    AuthenticationError,
    InternalError,
    MisdirectedRequest,
    NotFound,
    UnsupportedVersion,
    ValidationError,
)
from rtm.web.bodies import read_object
from rtm.web.files import Downloads
from rtm.web.uploads import Uploads

log = structlog.get_logger(__name__)

_NOTHING = "There is nothing at this path"


class WebApi:
    """The HTTP door into the catalogue."""

    def __init__(self, dispatcher: Dispatcher, services: Services, outcomes: Outcomes) -> None:
        self._dispatcher = dispatcher
        self._services = services
        self._outcomes = outcomes
        self._uploads = Uploads(services.settings, services.files)

    def routes(self) -> list[Route]:
        """The Web API's routes, and those of files."""
        return [
            Route("/v{version}/agent/action/{action}", self._action, methods=["POST"]),
            Route("/agent/action/{action}", self._action, methods=["POST"]),
            Route("/v{version}/agent/rtm/ws", self._socket),
            Route("/v{version}/agent/rtm/ws/", self._socket),
            *Downloads(self._services.files).routes(),
        ]

    async def not_found(self, request: HttpRequest, error: Exception) -> Response:
        """What every other path is answered."""
        return self._refusal(NotFound(_NOTHING))

    async def wrong_method(self, request: HttpRequest, error: Exception) -> Response:
        """The answer to a method that a path does not have."""
        assert isinstance(error, HTTPException)
        return self._refusal(_MethodNotAllowed(error.headers or {}))

    async def failed(self, request: HttpRequest, error: Exception) -> Response:
        """The answer to what nobody foresaw."""
        return self._refusal(InternalError())

    async def _socket(self, http: HttpRequest) -> Response:
        """What is asked here is no handshake, or it would have come to the sockets."""
        is_served = http.path_params["version"] in versions.SERVED
        return self._refusal(_UpgradeRequired(http) if is_served else NotFound(_NOTHING))

    async def _action(self, http: HttpRequest) -> Response:
        began = perf_counter()
        caller = Caller(AGENT, WEB, versions.STABLE)
        action = http.path_params["action"]
        outcome: bytes | ApiError
        try:
            caller.version = _version(http)
            caller.identity = await self._authenticate(http)
            outcome = await self._run(http, caller, caller.identity, action)
        except Exception as error:  # noqa: BLE001 - answered and logged like those of actions
            outcome = answer_to(error).at(WEB)
        self._outcomes.answered(caller, action, outcome, began, request_id=http.headers.get("x-request-id"))
        headers = {**versions.lifecycle(caller.version)}
        if caller.identity is not None:
            headers |= self._dispatcher.quota.headers(caller.identity.license_id)
        if isinstance(outcome, ApiError):
            return self._refusal(outcome, headers)
        return _json(outcome, 200, headers)

    async def _authenticate(self, http: HttpRequest) -> Identity:
        self._check_region(http)
        authorization = http.headers.get("authorization")
        if authorization is None:
            raise AuthenticationError("`Authorization` header is required")
        address = http.client.host if http.client else None
        with anyio.fail_after(self._services.settings.limits.request_timeout_s or None):
            return await self._services.authenticator.authenticate(authorization, address)

    async def _run(self, http: HttpRequest, caller: Caller, identity: Identity, name: str) -> bytes:
        limits = self._services.settings.limits
        with anyio.fail_after(limits.request_timeout_s or None):
            caller.directory = await self._services.directories.get(identity.license_id)
        action = self._dispatcher.admit(caller, name, caller.version)  # before the body has cost anything
        if action.takes_form:
            async with self._uploads.received(http, identity) as payload:
                return await self._execute(http, caller, action, payload)
        payload = await read_object(http, limits.body_size_bytes, limits.request_timeout_s)
        return await self._execute(http, caller, action, payload)

    async def _execute(self, http: HttpRequest, caller: Caller, action: Action, payload: dict[str, Any]) -> bytes:
        request = Request(action.name, payload, author_id=http.headers.get("x-author-id"))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._dispatcher.execute(action, caller, request, caller.version, partial(_settle, answer))
        outcome = await answer
        if isinstance(outcome, ApiError):
            raise outcome
        return orjson.dumps(outcome)

    def _check_region(self, http: HttpRequest) -> None:
        region = http.headers.get("x-region")
        ours = self._services.settings.region
        if region is not None and region != ours:
            if region in REGIONS:
                raise MisdirectedRequest(ours)
            raise ValidationError("`X-Region` is unknown")

    def _refusal(self, error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
        status = 200 if self._services.settings.errors_as_200 else error.status
        return _json(orjson.dumps({"error": error.as_dict()}), status, {**(headers or {}), **error.headers})


def _settle(answer: asyncio.Future[Any], outcome: Any) -> None:
    if not answer.done():  # the client may have gone
        answer.set_result(outcome)


class _MethodNotAllowed(ValidationError):
    status = HTTPStatus.METHOD_NOT_ALLOWED
    default_message = "The path has no such method"

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.headers = headers  # `Allow` tells those it has


class _UpgradeRequired(ValidationError):
    status = HTTPStatus.UPGRADE_REQUIRED
    default_message = "Here is a websocket: connect to it with a websocket client (ws:// or wss://)"

    def __init__(self, http: HttpRequest) -> None:
        super().__init__()
        if http.scope["http_version"] == "1.1":  # others have no upgrades
            self.headers = {"Upgrade": "websocket", "Connection": "Upgrade"}


def _version(http: HttpRequest) -> str:
    version = http.path_params.get("version") or http.headers.get("x-api-version", versions.STABLE)
    if version not in versions.SERVED:
        raise UnsupportedVersion()
    return str(version)


def _json(body: bytes, status: int, headers: Mapping[str, str]) -> Response:
    return Response(body, status, headers, "application/json")
