"""The AsyncAPI 3 document of the sockets."""

import rtm
from rtm import versions
from rtm.actions.registry import RTM, Action
from rtm.documents.openapi import error_schema
from rtm.documents.samples import sample
from rtm.documents.schemas import Json, Schemas, rewritten, without_discriminator
from rtm.documents.words import about, summary, topics

_CHANNEL = {"$ref": "#/channels/socket"}
_NAME = {"type": "string", "maxLength": 256}
_ERROR = "error"


def asyncapi(schemas: Schemas) -> Json:
    """The document: methods are operations that the server receives and replies to, pushes those that it sends."""
    actions = [action for action in schemas.actions if RTM in action.transports]
    document: Json = {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"{schemas.api.title()} Chat RTM API",
            "version": schemas.version,
            "description": f"{about(schemas)}\n\n{_LIFE}",
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": topics(actions),
            "x-generator": f"rtm {rtm.__version__}",
        },
        "defaultContentType": "application/json",
        "servers": {
            name: {
                "host": "{host}",
                "protocol": protocol,
                "description": text,
                "variables": {"host": {"default": "127.0.0.1:8080", "description": "Where the server listens."}},
            }
            for name, protocol, text in (("plain", "ws", "Without TLS."), ("tls", "wss", "With TLS."))
        },
        "channels": {"socket": _channel(schemas, actions)},
        "operations": _operations(schemas, actions),
        "components": {
            "messages": _messages(schemas, actions),
            "schemas": schemas.structures | {"Error": error_schema(RTM)},
        },
    }
    return rewritten(document, without_discriminator)  # type: ignore[no-any-return]


_LIFE = (
    "A socket begins with `login`, whose token says who it is; before it only `ping` is answered. A `ping`, or a ping "
    "frame, must come at least every 30 seconds. Responses have the `request_id` of their requests, and come in any "
    "order; `agent_disconnected` is the last push on a connection that the server ends."
)


def path(schemas: Schemas) -> str:
    """Where the socket is."""
    return f"/v{schemas.version}/{schemas.api}/rtm/ws"


def request_frame(schemas: Schemas, action: Action) -> Json:
    """A sample of a request as it is sent."""
    payload = sample(schemas.of("request", action.name), schemas.structures)
    return {"request_id": "1", "action": action.name, "payload": payload}


def response_frame(schemas: Schemas, action: Action) -> Json:
    """A sample of its answer."""
    payload = sample(schemas.of("response", action.name), schemas.structures)
    return {"request_id": "1", "action": action.name, "type": "response", "success": True, "payload": payload}


def push_frame(schemas: Schemas, push: str) -> Json:
    """A sample of a push as it comes."""
    payload = sample(schemas.of("push", push), schemas.structures)
    return {"version": schemas.version, "action": push, "type": "push", "payload": payload}


def _channel(schemas: Schemas, actions: list[Action]) -> Json:
    names = [*_messages(schemas, actions)]
    query: Json = {
        "type": "object",
        "properties": {"organization_id": {"type": "string", "description": "The license's organization."}},
    }
    return {
        "address": path(schemas),
        "title": "The socket of an agent or a bot",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"ws": {"method": "GET", "query": query}},
    }


def _operations(schemas: Schemas, actions: list[Action]) -> Json:
    operations: Json = {
        action.name: {
            "action": "receive",
            "channel": _CHANNEL,
            **summary(action, schemas.version),
            "tags": [{"name": action.topic}],
            "messages": [_message_of(f"{action.name}_request")],
            "reply": {
                "channel": _CHANNEL,
                "messages": [_message_of(f"{action.name}_response"), _message_of(_ERROR)],
            },
        }
        for action in actions
    }
    for push in schemas.pushes:
        operations[f"push_{push}"] = {
            "action": "send",
            "channel": _CHANNEL,
            "summary": schemas.description("push", push),
            "tags": [{"name": "pushes"}],
            "messages": [_message_of(push)],
        }
    return operations


def _message_of(name: str) -> Json:
    return {"$ref": f"#/channels/socket/messages/{name}"}


def _messages(schemas: Schemas, actions: list[Action]) -> Json:
    messages: Json = {}
    for action in actions:
        request, response = (schemas.of(kind, action.name) for kind in ("request", "response"))
        own = {"author_id": _NAME} if versions.bots_by_author_id(schemas.version) else {}
        messages[f"{action.name}_request"] = _message(
            _frame({"request_id": _NAME, "version": {"enum": list(versions.SERVED)}, **own}, action.name, request),
            request_frame(schemas, action),
        )
        messages[f"{action.name}_response"] = _message(
            _frame(_RESPONSE | {"success": {"const": True}}, action.name, response, "type", "success", "payload"),
            response_frame(schemas, action),
        )
    refusal = {"type": "object", "properties": {"error": {"$ref": "#/components/schemas/Error"}}, "required": [_ERROR]}
    messages[_ERROR] = _message(
        _frame(_RESPONSE | {"success": {"const": False}}, None, refusal, "type", "success", "payload"),
        {
            "request_id": "1",
            "action": "send_event",
            "type": "response",
            "success": False,
            "payload": {"error": {"type": "not_found", "message": "Chat not found"}},
        },
    )
    for push in schemas.pushes:
        head = {"version": {"const": schemas.version}, "request_id": _NAME, "type": {"const": "push"}}
        messages[push] = _message(
            _frame(head, push, schemas.of("push", push), "version", "type", "payload"), push_frame(schemas, push)
        )
    return messages


_RESPONSE: Json = {"request_id": _NAME, "type": {"const": "response"}}


def _frame(head: Json, action: str | None, payload: Json, *required: str) -> Json:
    name = {"type": "string"} if action is None else {"const": action}
    properties = {**head, "action": name, "payload": payload}
    return {"type": "object", "properties": properties, "required": ["action", *required]}


def _message(schema: Json, example: Json) -> Json:
    return {
        "payload": schema,
        "examples": [{"payload": example}],
        "correlationId": {"location": "$message.payload#/request_id"},
    }
