"""What the payloads of all requests are made of: their base class and the types of their fields.

Bounds that the reference does not state are ours; they keep a hostile payload small.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import orjson
import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from rtm.protocol import timestamps
from rtm.protocol.validation import WITHOUT_NUL, Naming, explain, refusal

MAX_JSON_BYTES = 64 * 1024
MAX_JSON_DEPTH = 32
MAX_JSON_VALUES = 5_000
"""Each costs a hundred times what a byte of text does."""
_NUMBERS = "smaller than 1e21 in size and not closer to 0 than 1e-21"
_WEB_URL = "must be a URL that begins with https:// or http://"
_SHALLOW = f"must be nested at most {MAX_JSON_DEPTH} levels deep"


class Payload(BaseModel):
    """An object in a request. A wrong type is refused, never converted; unknown fields are ignored."""

    # Tokens pass through here: what pydantic's own message would show of them never reaches a log.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def parse(cls, payload: dict[str, Any], naming: Naming = lambda location: location) -> Self:
        """The payload as this model. Raises rtm.protocol.errors.ValidationError, with the names of `naming`."""
        try:
            return cls.model_validate(payload)
        except pydantic.ValidationError as error:
            raise explain(error, payload, naming) from None


@dataclass(frozen=True, slots=True)
class Text:
    """Marks a string of `least` to `most` characters, none of them U+0000, which PostgreSQL cannot keep."""

    most: int
    least: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.str_schema(min_length=self.least, max_length=self.most, pattern=r"^[^\x00]*$", strict=True)


@dataclass(frozen=True, slots=True)
class Expected:
    """Marks a type whose errors are all told as `words`, such as one of several types."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source),
            custom_error_type="refusal",
            custom_error_message="{expected}",
            custom_error_context={"expected": self.words},
        )


@dataclass(frozen=True, slots=True)
class Between:
    """Marks an integer from `low` to `high`."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        expected = Expected(f"must be an integer from {self.low} to {self.high}")
        bounded = Annotated[int, Field(ge=self.low, le=self.high), expected]
        return handler.generate_schema(bounded)


@dataclass(frozen=True, slots=True)
class AtMost:
    """Marks an array, or an object with names of the client's own, of at most `most` elements.

    They are counted before pydantic looks inside, and it stops at the first that is wrong: nobody is told of a second
    one, and to collect its complaints about all that is wrong in a megabyte took over a second.
    """

    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler(source)  # that of a list or of a dict
        schema.update(fail_fast=True, max_length=self.most)
        kind = list if schema["type"] == "list" else dict

        def counted(value: Any) -> Any:
            if isinstance(value, kind) and len(value) > self.most:
                raise refusal(f"must have at most {self.most} elements")
            return value

        return core_schema.no_info_before_validator_function(counted, schema)


def check_together(payload: Payload, one: str, other: str) -> None:
    """Refuse a payload that gives one of the two fields only."""
    for given, missing in ((one, other), (other, one)):
        if getattr(payload, given) is not None and getattr(payload, missing) is None:
            raise refusal("is required with `{names}`", missing, (given,))


def check_alone(payload: Payload, field: str, *others: str) -> None:
    """Refuse a payload that gives `field` and any of the others."""
    if getattr(payload, field) is None:
        return
    for other in others:
        if other in payload.model_fields_set and getattr(payload, other) is not None:
            raise refusal(
                "can't be used together with `{names}`", type(payload).model_fields[other].alias or other, (field,)
            )


def check_one(payload: Payload, *fields: str) -> None:
    """Refuse a payload that does not give exactly one of the fields."""
    if sum(getattr(payload, field) is not None for field in fields) != 1:
        raise refusal("must have exactly one of: {names}", names=fields)


def _timestamp(text: str) -> str:
    try:
        return timestamps.parse(text)
    except (ValueError, OverflowError):
        raise refusal("must be an RFC 3339 date-time") from None


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise refusal(_WEB_URL) from None
    if parts.scheme not in ("http", "https") or not parts.netloc or not text.isprintable():
        raise refusal(_WEB_URL)
    return text


def _is_short(number: float) -> bool:
    """PostgreSQL keeps and shows all digits: of 1e308, which takes 5 characters to send, 309."""
    return number == 0 or 1e-21 <= abs(number) < 1e21


def short_number(value: Any) -> Any:
    """A validator of what may be a number."""
    if isinstance(value, float) and not _is_short(value):
        raise refusal(f"must be {_NUMBERS}")
    return value


def _json(value: Any) -> Any:
    """Any JSON that the database can keep and that can be written inside an answer."""
    try:
        size = len(orjson.dumps(value))
    except orjson.JSONEncodeError:
        raise refusal(_SHALLOW) from None  # orjson writes at most 254 levels
    if size > MAX_JSON_BYTES:
        raise refusal(f"must be at most {MAX_JSON_BYTES} bytes long")
    if _count_json(value, MAX_JSON_DEPTH) > MAX_JSON_VALUES:
        raise refusal(f"must have at most {MAX_JSON_VALUES} values")
    return value


def _count_json(value: Any, levels: int) -> int:
    """How many values it is."""
    values = 1
    if isinstance(value, str):
        if "\0" in value:
            raise refusal(WITHOUT_NUL)
    elif isinstance(value, float):
        if not _is_short(value):
            raise refusal(f"must have numbers only that are {_NUMBERS}")
    elif isinstance(value, dict | list):
        if levels == 0:
            raise refusal(_SHALLOW)
        items: Iterable[Any] = value
        if isinstance(value, dict):
            items = value.values()
            if "\0" in "".join(value):
                raise refusal(WITHOUT_NUL)
        for item in items:
            values += _count_json(item, levels - 1)
    return values


Id = Annotated[str, Text(256, least=1)]
Url = Annotated[str, Text(2048), AfterValidator(_url), Field(json_schema_extra={"format": "uri"})]
UrlOrNothing = Annotated[str, Text(2048), AfterValidator(lambda text: text and _url(text))]
Timestamp = Annotated[str, Text(64), AfterValidator(_timestamp), Field(json_schema_extra={"format": "date-time"})]
BoundedJson = AfterValidator(_json)
Json = Annotated[Any, BoundedJson]
Number = Annotated[int | float, Expected("must be a number"), AfterValidator(short_number)]
SortOrder = Literal["asc", "desc"]
GroupId = Annotated[int, Between(0, 2**31 - 1)]
GroupIds = Annotated[list[GroupId], AtMost(200)]
