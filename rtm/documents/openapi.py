"""The OpenAPI 3.1 document of the Web API."""

from collections.abc import Iterator
from http import HTTPStatus

import rtm
from rtm import versions
from rtm.actions.registry import WEB, Action
from rtm.documents.samples import sample
from rtm.documents.schemas import Json, Schemas
from rtm.documents.words import about, summary, topics
from rtm.protocol.errors import INSTEAD, ApiError

_JSON = "application/json"
_RATE_LIMITS = {
    "RateLimit-Limit": "Requests that the license may make in a minute.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "Seconds until there are more.",
}
_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of an agent, or a token of a bot.",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The account id, or the e-mail address, of an agent, and a personal access token of theirs.",
    },
}


def error_types(door: str) -> dict[HTTPStatus, list[type[ApiError]]]:
    """Every error that this door's API has, by its HTTP status."""
    by_status: dict[HTTPStatus, list[type[ApiError]]] = {}
    known = (each for each in _public_errors(ApiError) if each not in INSTEAD[door])
    for error in sorted(known, key=lambda each: (each.status, each.type)):
        by_status.setdefault(error.status, []).append(error)
    return by_status


def _public_errors(base: type[ApiError]) -> Iterator[type[ApiError]]:
    for error in base.__subclasses__():
        if not error.__name__.startswith("_"):
            yield error
        yield from _public_errors(error)


def openapi(schemas: Schemas) -> Json:
    """The document; its paths are below the server that it was read from."""
    actions = [action for action in schemas.actions if WEB in action.transports]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{schemas.api.title()} Chat Web API",
            "version": schemas.version,
            "summary": "Every method by an HTTP request of its own.",
            "description": about(schemas),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            "x-generator": f"rtm {rtm.__version__}",
        },
        "servers": [{"url": "/", "description": "This server."}],
        "tags": topics(actions),
        "paths": {path(schemas, action): {"post": _operation(schemas, action)} for action in actions},
        "components": {
            "schemas": schemas.structures | {"Error": error_schema(WEB)},
            "responses": {_name(status): _refusal(status, errors) for status, errors in error_types(WEB).items()},
            "headers": {
                name: {"description": text, "schema": {"type": "integer"}} for name, text in _RATE_LIMITS.items()
            },
            "parameters": _HEADERS,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def path(schemas: Schemas, action: Action) -> str:
    """Where the Web API has an action."""
    return f"/v{schemas.version}/{schemas.api}/action/{action.name}"


_HEADERS = {
    "Region": {
        "name": "X-Region",
        "in": "header",
        "description": "The region of the license; a request for another one is refused.",
        "schema": {"type": "string", "enum": ["dal", "fra"]},
    },
    "AuthorId": {
        "name": "X-Author-Id",
        "in": "header",
        "description": "The id of a bot to act as.",
        "schema": {"type": "string"},
    },
}


def _operation(schemas: Schemas, action: Action) -> Json:
    headers = ["Region", *(["AuthorId"] if versions.bots_by_author_id(schemas.version) else [])]
    request = schemas.of("request", action.name)
    response = schemas.of("response", action.name)
    return {
        "operationId": action.name,
        "tags": [action.topic],
        **summary(action, schemas.version),
        "security": _security(action),
        "parameters": [{"$ref": f"#/components/parameters/{header}"} for header in headers],
        "requestBody": {
            "content": {
                "multipart/form-data": {"schema": request},
            }
            if action.takes_form
            else {_JSON: {"schema": request, "example": sample(request, schemas.structures)}},
            "required": action.takes_form,
        },
        "responses": {
            "200": {
                "description": "It is done.",
                "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in _RATE_LIMITS},
                "content": {_JSON: {"schema": response, "example": sample(response, schemas.structures)}},
            },
            **{str(status.value): {"$ref": f"#/components/responses/{_name(status)}"} for status in error_types(WEB)},
        },
    }


def _security(action: Action) -> list[Json]:
    """One of these is enough: either kind of token, with any of the scopes."""
    needed = [[scope] for scope in sorted(action.scopes)] or [[]]
    return [{scheme: scopes} for scheme in _SECURITY_SCHEMES for scopes in needed]


def error_schema(door: str) -> Json:
    """What every refusal says there."""
    types = sorted({error.type for errors in error_types(door).values() for error in errors})
    return {
        "type": "object",
        "description": "Why a request was refused; `message` is for people, `data` has what a program can use.",
        "properties": {
            "type": {"type": "string", "enum": types},
            "message": {"type": "string"},
            "data": {"type": "object"},
        },
        "required": ["type", "message"],
    }


def _refusal(status: HTTPStatus, errors: list[type[ApiError]]) -> Json:
    types = [error.type for error in errors]
    narrowed = {"allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"type": {"enum": types}}}]}
    return {
        "description": "\n".join(f"- `{error.type}`: {error.__doc__}" for error in errors),
        "content": {
            _JSON: {
                "schema": {"type": "object", "properties": {"error": narrowed}, "required": ["error"]},
                "examples": {
                    error.type: {"value": {"error": {"type": error.type, "message": error.default_message}}}
                    for error in errors
                },
            }
        },
    }


def _name(status: HTTPStatus) -> str:
    return status.phrase.title().replace(" ", "")
