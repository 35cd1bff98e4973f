"""What the documents say in words; most of it is the docstrings of handlers and of their modules."""

import inspect
import sys
from collections.abc import Iterable

from rtm import versions
from rtm.actions.registry import Action
from rtm.documents.schemas import Json, Schemas

_PREVIEW = "3.7"


def standing(version: str) -> str:
    """What a version is to this server's users."""
    if version == versions.STABLE:
        return "the newest stable version"
    return "the developer preview" if version == _PREVIEW else "an older version"


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


def documentation(of: object) -> str:
    """Its docstring."""
    return inspect.getdoc(of) or ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
