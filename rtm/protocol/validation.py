"""pydantic's complaints in the protocol's words: `` `event.text` must be at most 16384 bytes long ``.

Only the first complaint is told. It names the field and what was expected of it, never the value that came, a class or
a page of pydantic's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic
from pydantic_core import PydanticCustomError

from rtm.protocol.errors import ValidationError

MAX_MESSAGE_LENGTH = 512
WITHOUT_NUL = "must not contain the character U+0000"
_MAX_NAME_LENGTH = 64  # the names of properties are the client's own


Location = tuple[int | str, ...]
Naming = Callable[[Location], Location | None]
"""What a location is called by who sent the payload; None for a field that they do not know."""


def refusal(expected: str, field: str = "", names: Sequence[str] = ()) -> PydanticCustomError:
    """What a validator raises; `expected` completes the sentence that `field`, under the place checked, begins.

    Where it has `{names}`, these other fields of the place are named.
    """
    return PydanticCustomError("refusal", "{expected}", {"expected": expected, "field": field, "names": tuple(names)})


def explain(
    error: pydantic.ValidationError, payload: Mapping[str, Any], naming: Naming = lambda location: location
) -> ValidationError:
    """The error to answer with when `payload` did not fit its model."""
    first = error.errors(include_url=False, include_input=False)[0]
    location, context = first["loc"], first.get("ctx", {})
    expected = _EXPECTED[first["type"]](context) if first["type"] in _EXPECTED else "is not valid"
    if first["type"].startswith("union_tag_"):
        location += (context["discriminator"].strip("'"),)
    elif "field" in context:
        known = [named[-1] for each in context["names"] if (named := naming((*location, each)))]
        expected = expected.replace("{names}", ", ".join(map(str, known)))
        location += (context["field"],) if context["field"] else ()
    elif location[-1:] == ("[key]",):
        location, expected = location[:-2], f"has a name that {expected}"
    path = _path(location, naming(location) or location, payload)
    return ValidationError(f"`{path}` {expected}"[:MAX_MESSAGE_LENGTH])


def _path(location: Location, named: Location, payload: Any) -> str:
    """`named` as the sender would write it; the payload shows what in it is no place, by our names."""
    path = ""
    here = payload
    for place, (part, name) in enumerate(zip(location, named, strict=True), start=1):
        if isinstance(part, int):
            path += f"[{part}]"
            here = here[part] if isinstance(here, list) and part < len(here) else None
        elif place == len(location) or not _is_tag(part, here):
            path += f".{str(name)[:_MAX_NAME_LENGTH]}"
            here = here.get(part) if isinstance(here, dict) else None
    return path.removeprefix(".")


def _is_tag(part: str, here: Any) -> bool:
    """pydantic puts the tag of a union (`message`) into the location, though there is no such field.

    The sender may have given one of that name; nobody looks at it. What comes last is never a tag.
    """
    return isinstance(here, dict) and here.get("type") == part


def _one_of(values: str) -> str:
    return "must be one of: " + ", ".join(re.findall(r"'([^']*)'", values))


_EXPECTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "refusal": lambda context: str(context["expected"]),
    "missing": lambda context: "is required",
    "bool_type": lambda context: "must be a boolean",
    "int_type": lambda context: "must be an integer",
    "float_type": lambda context: "must be a number",
    "string_type": lambda context: "must be a string",
    "list_type": lambda context: "must be an array",
    "dict_type": lambda context: "must be an object",
    "model_type": lambda context: "must be an object",
    "model_attributes_type": lambda context: "must be an object",
    "literal_error": lambda context: _one_of(context["expected"]),
    "union_tag_not_found": lambda context: "is required",
    "union_tag_invalid": lambda context: _one_of(context["expected_tags"]),
    "string_too_long": lambda context: f"must be at most {context['max_length']} characters long",
    "string_too_short": lambda context: "must not be empty",
    "string_pattern_mismatch": lambda context: WITHOUT_NUL,
    "too_long": lambda context: f"must have at most {context['max_length']} elements",
    "too_short": lambda context: "must not be empty",
}
