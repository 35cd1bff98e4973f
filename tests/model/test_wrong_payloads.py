"""Large payloads that are wrong all over: the first complaint is told, and the others cost nothing."""

from collections.abc import Iterator
from time import process_time
from typing import Any

import orjson
import pydantic
import pytest

from rtm.actions import agent, registry
from rtm.actions.registry import AGENT
from rtm.model.payload import Payload
from rtm.protocol.errors import ValidationError
from rtm.versions import SERVED

MAX_BYTES = 1 << 20
MAX_COMPLAINTS = 50
MAX_S = 0.05  # it takes 2 ms; pydantic's complaints about each of the values took over a second

registry.load(agent)
MODELS = {action.payload.__name__: action.payload for version in SERVED for action in registry.served(AGENT, version)}


def wrong_values(schema: dict[str, Any], structures: dict[str, Any]) -> Iterator[Any]:
    """Values of this shape, each with as many as may be of something that is wrong at one of its places."""
    if "$ref" in schema:
        yield from wrong_values(structures[schema["$ref"].rsplit("/", 1)[1]], structures)
        return
    for kind in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from wrong_values(kind, structures)
    if "items" in schema:
        for value in wrong_values(schema["items"], structures):
            room = MAX_BYTES // (len(orjson.dumps(value)) + 1)
            yield [value] * min(room, schema.get("maxItems", room))
        return
    yield []
    fields = schema.get("properties", {})
    tags = {name: field["const"] for name, field in fields.items() if "const" in field}
    for name, field in fields.items():
        for value in wrong_values(field, structures):
            yield {**tags, name: value}
    for values in schema.get("patternProperties", {}).values():
        for value in wrong_values(values, structures):
            room = MAX_BYTES // (len(orjson.dumps(value)) + len('"000000":,'))
            yield {f"{number:06}": value for number in range(min(room, schema.get("maxProperties", room)))}


def count_complaints(model: type[Payload], payload: dict[str, Any]) -> int:
    try:
        model.model_validate(payload)
    except pydantic.ValidationError as refused:
        return refused.error_count()
    return 0


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_is_wrong_everywhere_is_refused_for_the_first_of_it(name: str) -> None:
    model = MODELS[name]
    schema = model.model_json_schema()
    for payload in wrong_values(schema, schema.get("$defs", {})):
        if not isinstance(payload, dict):
            continue
        complaints = count_complaints(model, payload)
        assert complaints <= MAX_COMPLAINTS, orjson.dumps(payload)[:200]
        if complaints:
            began = process_time()
            with pytest.raises(ValidationError):
                model.parse(payload)
            assert process_time() - began < MAX_S, orjson.dumps(payload)[:200]
