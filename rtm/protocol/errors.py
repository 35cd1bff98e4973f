"""Every error of the Agent Chat API: `ApiError` and its family.

    ApiError
    ├── ValidationError, UnsupportedVersion, WrongProductVersion, LimitReached, ChatInactive, ...     400
    ├── AuthenticationError, LicenseExpired                                                           401
    ├── AuthorizationError, MissingAccess, RequesterSuspended, ...                                    403
    ├── NotFound, LicenseNotFound                                                                     404
    ├── EntityTooLarge                                                                                413
    ├── MisdirectedRequest                                                                            421
    ├── TooManyRequests, PendingRequestsLimitReached                                                  429
    ├── InternalError                                                                                 500
    ├── ServiceUnavailable                                                                            503
    └── RequestTimeout                                                                                504

`type` and the default message are the contract's (`errors.json`); the HTTP status is ours, and says the same. Each API
has its own list of types (`errors_by_api.json`): what a door's API lacks is told there as another error (`INSTEAD`).
A refused request is an `ApiError`; a connection that is ended is told why by `agent_disconnected`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar


class ApiError(Exception):
    """A request is refused; `message` tells its sender why, `data` what a program can use."""

    type: ClassVar[str]
    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    default_message: ClassVar[str]

    def __init__(self, message: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message or self.default_message)
        self.message = message or self.default_message
        self.data = data
        self.headers: Mapping[str, str] = {}

    def at(self, door: str) -> "ApiError":
        """The same in the words that the API of this door has."""
        known = INSTEAD[door].get(type(self))
        return self if known is None else known(self.message, self.data)

    def as_dict(self) -> dict[str, Any]:
        """`{"type", "message", "data"?}`, as both doors send it."""
        body: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


class ValidationError(ApiError):
    """The request is not of the form that the action takes; the message names the field."""

    type = "validation"
    default_message = "Wrong format of request"


class UnsupportedVersion(ApiError):
    """The path or the request names an API version that this server does not speak."""

    type = "unsupported_version"
    default_message = "Cannot call unsupported API versions."


class WrongProductVersion(ApiError):
    """The license belongs to another product."""

    type = "wrong_product_version"
    default_message = "Wrong product version"


class LimitReached(ApiError):
    """A bound on how many there may be of something."""

    type = "limit_reached"
    default_message = "Limit reached"


class ChatInactive(ApiError):
    """The action needs an active thread."""

    type = "chat_inactive"
    default_message = "Chat is inactive"


class RequesterAlreadyOffline(ApiError):
    """The requester has no session to change."""

    type = "requester_already_offline"
    default_message = "Requester is already offline"


class AgentOffline(ApiError):
    """The agent named cannot take part while offline."""

    type = "agent_offline"
    default_message = "Agent offline"


class AuthenticationError(ApiError):
    """No token, or one that is wrong, expired or revoked."""

    type = "authentication"
    status = HTTPStatus.UNAUTHORIZED
    default_message = "Authentication error"


class LicenseExpired(ApiError):
    """The license's subscription or trial has ended."""

    type = "license_expired"
    status = HTTPStatus.UNAUTHORIZED
    default_message = "License expired"


class AuthorizationError(ApiError):
    """The token's scopes do not allow the action."""

    type = "authorization"
    status = HTTPStatus.FORBIDDEN
    default_message = "Authorization error"


class MissingAccess(ApiError):
    """The requester, or the agent named, has no access to the chat."""

    type = "missing_access"
    status = HTTPStatus.FORBIDDEN
    default_message = "Missing access"


class RequesterSuspended(ApiError):
    """The agent's account is suspended."""

    type = "requester_suspended"
    status = HTTPStatus.FORBIDDEN
    default_message = "Requester suspended"


class RequesterAwaitingApproval(ApiError):
    """The agent's account has not been approved yet."""

    type = "requester_awaiting_approval"
    status = HTTPStatus.FORBIDDEN
    default_message = "Requester awaiting approval"


class SeatsLimitExceeded(ApiError):
    """The license has no free seat."""

    type = "seats_limit_exceeded"
    status = HTTPStatus.FORBIDDEN
    default_message = "Seats limit exceeded"


class NotFound(ApiError):
    """What the request names does not exist on the requester's license."""

    type = "not_found"
    status = HTTPStatus.NOT_FOUND
    default_message = "Not found"


class LicenseNotFound(ApiError):
    """No license of that id or organization."""

    type = "license_not_found"
    status = HTTPStatus.NOT_FOUND
    default_message = "License not found"


class EntityTooLarge(ApiError):
    """The body of the request is larger than the limit."""

    type = "entity_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_message = "Request is too large."


class MisdirectedRequest(ApiError):
    """The token or `X-Region` belongs to another region; `data.region` names the one to call."""

    type = "misdirected_request"
    status = HTTPStatus.MISDIRECTED_REQUEST
    default_message = "Wrong region"

    def __init__(self, region: str) -> None:
        super().__init__(data={"region": region})


class TooManyRequests(ApiError):
    """The license has used up its quota, or an address or a token its limit; try again in `retry_after_s` seconds."""

    type = "too_many_requests"
    status = HTTPStatus.TOO_MANY_REQUESTS
    default_message = "Too many requests"

    def __init__(self, what: str, at_most: str, retry_after_s: int) -> None:
        super().__init__(f"Too many {what}: at most {at_most}, try again in {retry_after_s} s")
        self.headers = {"Retry-After": str(retry_after_s)}


class PendingRequestsLimitReached(ApiError):
    """The connection has as many unanswered requests as it may have."""

    type = "pending_requests_limit_reached"
    status = HTTPStatus.TOO_MANY_REQUESTS
    default_message = "Requests limit reached"


class InternalError(ApiError):
    """Our fault; the cause is in the log, not in the answer."""

    type = "internal"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    default_message = "Internal server error"


class ServiceUnavailable(ApiError):
    """A part that the request needs does not answer; the same request may succeed later."""

    type = "service_unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    default_message = "Service unavailable"


class RequestTimeout(ApiError):
    """The answer took longer than the limit; the change may or may not have happened."""

    type = "request_timeout"
    status = HTTPStatus.GATEWAY_TIMEOUT
    default_message = "Request timed out"


INSTEAD: Mapping[str, Mapping[type[ApiError], type[ApiError]]] = {
    "rtm": {
        EntityTooLarge: ValidationError,
        LicenseNotFound: AuthenticationError,
        LimitReached: ValidationError,
        MisdirectedRequest: AuthenticationError,
        UnsupportedVersion: ValidationError,
    },
    "web": {
        PendingRequestsLimitReached: ServiceUnavailable,
        RequesterAlreadyOffline: ValidationError,
        RequesterAwaitingApproval: AuthorizationError,
        RequesterSuspended: AuthorizationError,
        SeatsLimitExceeded: AuthorizationError,
    },
}
"""By door, the errors that the Agent Chat API has not there, in any version, and what is told in their place."""
