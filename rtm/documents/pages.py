"""The documents to read, as HTML: made here whole, for browsers without scripts and without a way to the internet.

A page is drawn from the same schemas as the documents for programs; `templates/` says how it looks.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import rtm
from rtm import versions
from rtm.actions.registry import RTM, WEB, Action
from rtm.documents import asyncapi, openapi
from rtm.documents.samples import sample
from rtm.documents.schemas import Json, Schemas, reachable, referred
from rtm.documents.words import documentation, endings, standing, topics

_TEMPLATES = Path(__file__).with_name("templates")
_NAMES = {WEB: "Web API", RTM: "RTM API"}


class Field(NamedTuple):
    """A row of a table of fields."""

    name: str
    type: Markup
    description: str
    required: bool


class Structure(NamedTuple):
    """A structure with its fields, or, without fields, a type of another kind."""

    name: str
    description: str
    type: Markup
    fields: list[Field]


@dataclass(frozen=True)
class Method:
    """All that a page says of a method."""

    name: str
    summary: str
    description: str
    scopes: list[str]
    pushes: list[str]
    path: str
    takes_form: bool
    request: Structure
    response: Structure
    sent: str
    answered: str


@dataclass(frozen=True)
class Push:
    """All that a page says of a push."""

    name: str
    summary: str
    payload: Structure
    told: str


def style() -> bytes:
    """The style sheet of all pages."""
    return (_TEMPLATES / "style.css").read_bytes()


def page(schemas: Schemas, name: str) -> str:
    """The page of that name: `index`, or `web` or `rtm` of a version."""
    if name == "index":
        served = [(version, standing(version)) for version in reversed(versions.SERVED)]
        return _render("index.html", versions=served, names=_NAMES)
    return _render("methods.html", **_methods_page(schemas, name))


def _render(template: str, **about: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["prose"] = _prose
    environment.filters["name"] = _name
    return environment.get_template(template).render(release=rtm.__version__, **about)


def _methods_page(schemas: Schemas, transport: str) -> dict[str, Any]:
    actions = [action for action in schemas.actions if transport in action.transports]
    pushes = list(schemas.pushes) if transport == RTM else []
    methods = {action.name: _method(schemas, action, transport) for action in actions}
    return {
        "api": schemas.api,
        "version": schemas.version,
        "standing": standing(schemas.version),
        "transport": transport,
        "names": _NAMES,
        "served": list(reversed(versions.SERVED)),
        "topics": topics(actions),
        "methods": {
            topic: [methods[each.name] for each in of_topic]
            for topic, of_topic in groupby(actions, attrgetter("topic"))
        },
        "endings": endings(schemas),
        "pushes": [_push(schemas, name) for name in pushes],
        "structures": _structures(schemas, actions, pushes),
        "errors": openapi.error_types(transport),
        "socket": asyncapi.path(schemas),
        "as_bots": versions.bots_by_author_id(schemas.version),
    }


def _method(schemas: Schemas, action: Action, transport: str) -> Method:
    request, response = schemas.of("request", action.name), schemas.of("response", action.name)
    if transport == RTM:
        sent, answered = asyncapi.request_frame(schemas, action), asyncapi.response_frame(schemas, action)
    else:
        sent, answered = sample(request, schemas.structures), sample(response, schemas.structures)
    first, _, rest = documentation(action.handler).partition("\n")
    return Method(
        name=action.name,
        summary=first,
        description=rest.strip(),
        scopes=sorted(action.scopes),
        pushes=[name for name in action.pushes if versions.has_push(schemas.version, name)],
        path=openapi.path(schemas, action),
        takes_form=action.takes_form,
        request=_structure(schemas, request),
        response=_structure(schemas, response),
        sent=_json(sent),
        answered=_json(answered),
    )


def _push(schemas: Schemas, name: str) -> Push:
    payload = _structure(schemas, schemas.of("push", name))
    return Push(name, schemas.description("push", name), payload, _json(asyncapi.push_frame(schemas, name)))


def _structures(schemas: Schemas, actions: Iterable[Action], pushes: Iterable[str]) -> list[Structure]:
    """Those that the page's requests, responses and pushes refer to, directly or not."""
    roots = [schemas.of(kind, action.name) for action in actions for kind in ("request", "response")]
    roots += [schemas.of("push", name) for name in pushes]
    shown = [schemas.structures[referred(root)] if "$ref" in root else root for root in roots]
    return [_structure(schemas, {"$ref": f"#/{name}"}) for name in reachable(schemas.structures, shown)]


def _structure(schemas: Schemas, schema: Json) -> Structure:
    name = referred(schema)
    of = schemas.structures[name] if name else schema
    required = of.get("required", ())
    fields = [
        Field(field, _type(each), each.get("description", ""), field in required)
        for field, each in of.get("properties", {}).items()
    ]
    return Structure(name, of.get("description", ""), _type(schema), fields)


# In words


def _type(schema: Json) -> Markup:
    """What a value has to be, such as `array (at most 200) of integer (0 to 100)`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#{}">{}</a>').format(name, _name(name))
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return Markup(" or ").join(_type(each) for each in schema[choice])
    words = _words(schema)
    if "default" in schema:
        words += Markup(" · <code>{}</code> if missing").format(_compact(schema["default"]))
    return words


_FORMATS = {"date-time": "RFC 3339 date-time", "uri": "URL", "binary": "file"}


def _words(schema: Json) -> Markup:
    if "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return Markup(" | ").join(Markup("<code>{}</code>").format(_name(value)) for value in values)
    kind = schema.get("type", "any JSON")
    words = escape(_FORMATS.get(schema.get("format", ""), kind)) + _limits(schema)
    if kind == "array" and schema.get("items"):
        return words + " of " + _type(schema["items"])
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return words + ": name → " + _type(schema["additionalProperties"])
    return words


def _limits(schema: Json) -> Markup:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return escape(f" ({low} to {high:,})")
    bounds = [schema[name] for name in ("maxLength", "maxItems", "maxProperties") if name in schema]
    return escape(f" (at most {bounds[0]:,})") if bounds else Markup()


def _prose(text: str) -> Markup:
    """Paragraphs, with `code` in backquotes."""
    paragraphs = [re.sub("`([^`]+)`", _code, str(escape(each))) for each in text.split("\n\n")]
    return Markup("".join(f"<p>{paragraph}</p>" for paragraph in paragraphs if paragraph))  # noqa: S704  it is escaped


def _code(quoted: re.Match[str]) -> str:
    return f"<code>{_name(Markup(quoted[1]))}</code>"  # noqa: S704  it is escaped


def _name(name: object) -> Markup:
    """A name that may be broken between its words, and is copied whole."""
    return Markup(re.sub(r"(?<=\w[_.])(?=\w)", "<wbr>", str(escape(name))))  # noqa: S704  it is escaped


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
