"""What the documents say in words; most of it is the docstrings of handlers and of their modules."""

import inspect
import sys
from collections.abc import Iterable

from rtm import versions
from rtm.actions.registry import Action
from rtm.documents.schemas import Json, Schemas

_ENDINGS = {
    "access_token_expired": ("The token's time is over.", "with a new token"),
    "access_token_revoked": ("The token is no longer good for anything.", "no"),
    "agent_disconnected_by_server": ("The agent may no longer work here: suspended, or deleted.", "no"),
    "agent_logged_out_remotely": ("The agent was logged out from elsewhere.", "no"),
    "connection_evicted": ("A newer connection of the agent has taken the place of this one.", "no"),
    "connection_timeout": ("There was no `login` in time, or no `ping`.", "yes"),
    "internal_error": ("The server stops, or cannot go on with this connection.", "yes"),
    "license_expired": ("The license's time is over.", "no"),
    "license_not_found": ("The license is not there.", "no"),
    "misdirected_connection": ("The license is in another region, `data.region`.", "no, go there"),
    "role_permissions_changed": ("The agent has another role.", "yes"),
    "too_many_connections": ("The agent has as many connections as it may have.", "no"),
    "too_many_unauthorized_connections": ("The address has too many connections that are not logged in.", "yes"),
    "unsupported_version": ("The server does not speak this version.", "no"),
}
"""Why a connection ends, and whether to come back."""


def standing(version: str) -> str:
    """What a version is to this server's users."""
    if version == versions.STABLE:
        return "the newest stable version"
    return "the developer preview" if version == versions.PREVIEW else "an older version"


def about(schemas: Schemas) -> str:
    """What a document is about."""
    return (
        f"The methods of the {schemas.api.title()} Chat API {schemas.version}, {standing(schemas.version)}, as this "
        "server has them.\n\nFields that a request does not know are ignored; one that may be missing may be `null`. "
        "Clients must take fields that a response or a push does not name here: there may be more of them later."
    )


def summary(action: Action, version: str) -> Json:
    """`summary` and `description` of a method."""
    first, _, rest = documentation(action.handler).partition("\n")
    told = [name for name in action.pushes if versions.has_push(version, name)]
    paragraphs = [
        rest.strip(),
        f"Scopes: one of {_listed(sorted(action.scopes))}." if action.scopes else "Needs no scope.",
        f"Pushes: {_listed(told)}." if told else "",
    ]
    return {"summary": first, "description": "\n\n".join(filter(None, paragraphs))}


def topics(actions: Iterable[Action]) -> list[Json]:
    """The topics of these methods, in order, with what they are about."""
    modules = {action.topic: action.handler.__module__ for action in actions}
    return [{"name": topic, "description": documentation(sys.modules[module])} for topic, module in modules.items()]


def endings(schemas: Schemas) -> dict[str, tuple[str, str]]:
    """Of each reason of `agent_disconnected` that the version has: what it means, and whether to come back."""
    reasons = schemas.structures["AgentDisconnected"]["properties"]["reason"]["enum"]
    return {reason: _ENDINGS[reason] for reason in reasons}


def documentation(of: object) -> str:
    """Its docstring."""
    return inspect.getdoc(of) or ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
