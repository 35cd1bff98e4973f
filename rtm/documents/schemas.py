"""JSON Schemas of every request, response and push of a version.

They are made of the classes that the code is written with, in 3.6's vocabulary, and then of what `rtm.versions` lists
as otherwise: the same list that turns the payloads. A field that may be missing may be `null` in a request, too; the
schemas do not say so, nor that no string may contain U+0000.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rtm import versions
from rtm.actions import registry
from rtm.actions.registry import Action
from rtm.model.pushes import PUSHES
from rtm.versions.differences import Differs, differences, structures_in

Json = dict[str, Any]
Key = tuple[str, str]
"""What it is of (`request`, `response`, `push`, or the name of a class), and its name."""

_PLACE = "#/components/schemas/"


class _Plain(GenerateJsonSchema):
    """Without what says nothing to a reader: null for what may be missing, titles that repeat names, U+0000."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        plain = super().str_schema(schema)
        if plain.get("pattern") == r"^[^\x00]*$":
            del plain["pattern"]
        if plain.get("minLength") == 0:
            del plain["minLength"]
        return plain

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True)
class Schemas:
    """The schemas of one version of an API; `actions` are those that it has, at either door."""

    api: str
    version: str

    @cached_property
    def actions(self) -> list[Action]:
        """The catalogue of the version, by topic and name."""
        return registry.served(self.api, self.version)

    @cached_property
    def pushes(self) -> dict[str, Any]:
        """The class of each push that the version has, by name."""
        return {name: PUSHES[name].payload for name in sorted(PUSHES) if versions.has_push(self.version, name)}

    def of(self, kind: str, name: str) -> Json:
        """The schema of a `request`, `response` or `push`; it refers to `structures`."""
        return self._generated[0][kind, name]

    def description(self, kind: str, name: str) -> str:
        """What is said of it, in words."""
        schema = self.of(kind, name)
        return str((self.structures[referred(schema)] if "$ref" in schema else schema).get("description", ""))

    @property
    def structures(self) -> dict[str, Json]:
        """The schemas of all structures, by name, in order."""
        return self._generated[1]

    @cached_property
    def _generated(self) -> tuple[dict[Key, Json], dict[str, Json]]:
        roots = self._roots()
        known = {each.__name__: each for root in roots.values() for each in structures_in(root)}
        own = self._own_fields(known)
        inputs: list[Any] = [(key, "validation", TypeAdapter(root)) for key, root in (roots | own).items()]
        found, definitions = TypeAdapter.json_schemas(inputs, ref_template=_PLACE + "{model}", schema_generator=_Plain)
        by_key = {key: schema for (key, _), schema in found.items()}
        structures = definitions["$defs"]
        names: dict[str, str] = {}
        absent: set[str] = set()
        for name, structure in known.items():
            for differs in self._differences(structure):
                _apply(structures[name], differs, {field: by_key[name, field] for field in differs.fields})
                names[name] = differs.name or names.get(name, name)
                if differs.absent:
                    absent.add(name)

        def change(schema: Json) -> Json:
            return _without(_renamed(schema, names), absent)

        own_structures = {names.get(name, name): rewritten(schema, change) for name, schema in structures.items()}
        own_roots = {key: rewritten(by_key[key], change) for key in roots}
        return own_roots, reachable(own_structures, own_roots.values())

    def _roots(self) -> dict[Key, Any]:
        """What each request, response and push is of."""
        roots: dict[Key, Any] = {}
        for action in self.actions:
            roots["request", action.name] = action.payload
            roots["response", action.name] = action.response
        return roots | {("push", name): payload for name, payload in self.pushes.items()}

    def _own_fields(self, known: dict[str, Any]) -> dict[Key, Any]:
        """The types of fields that this version has otherwise, by structure and field."""
        return {
            (name, field): of
            for name, structure in known.items()
            for differs in self._differences(structure)
            for field, of in differs.fields.items()
        }

    def _differences(self, structure: Any) -> list[Differs]:
        return [each for step in versions.steps_to(self.version) for each in differences(structure, step)]


def _apply(schema: Json, differs: Differs, own: dict[str, Json]) -> None:
    """Make the neighbour's schema that of the version."""
    properties = {
        differs.renamed.get(name, name): each
        for name, each in schema.get("properties", {}).items()
        if name not in differs.without
    }
    required = [differs.renamed.get(name, name) for name in schema.get("required", ()) if name not in differs.without]
    said = {name: {"description": each["description"]} for name, each in properties.items() if "description" in each}
    schema["properties"] = properties | {name: said.get(name, {}) | each for name, each in own.items()}
    schema["required"] = required
    if not required:
        del schema["required"]
    if differs.name is not None:
        schema["title"] = differs.name


def rewritten(value: Any, change: Callable[[Json], Json]) -> Any:
    """The same with every object in it as `change` has it, inner ones first."""
    if isinstance(value, list):
        return [rewritten(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    return change({name: rewritten(item, change) for name, item in value.items()})


def _renamed(schema: Json, names: dict[str, str]) -> Json:
    if "$ref" not in schema:
        return schema
    name = referred(schema)
    return schema | {"$ref": _PLACE + names.get(name, name)}


def _without(schema: Json, absent: set[str]) -> Json:
    """Of several structures, those that are not absent."""
    left = schema | {
        choice: [each for each in schema[choice] if referred(each) not in absent]
        for choice in ("oneOf", "anyOf")
        if choice in schema
    }
    if "discriminator" in schema:
        mapping = schema["discriminator"]["mapping"]
        kept = {kind: place for kind, place in mapping.items() if place.removeprefix(_PLACE) not in absent}
        left["discriminator"] = schema["discriminator"] | {"mapping": kept}
    return left


def referred(schema: Json) -> str:
    """The name of the structure that the schema is a reference to, if it is one."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def references(value: Any) -> Iterator[str]:
    """The names of the structures that a schema refers to."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item.rpartition("/")[2]
            else:
                yield from references(item)


def reachable(structures: dict[str, Json], roots: Any) -> dict[str, Json]:
    """Those structures that anything refers to; a version does not have the others."""
    found: set[str] = set()
    waiting = list(references(list(roots)))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(references(structures[name]))
    return {name: structures[name] for name in sorted(found)}


def bundle(schemas: Schemas) -> Json:
    """One JSON Schema document of all: `requests`, `responses` and `pushes` by name, and `$defs`."""
    names = [action.name for action in schemas.actions]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{schemas.api.title()} Chat API {schemas.version}",
        "requests": {name: schemas.of("request", name) for name in names},
        "responses": {name: schemas.of("response", name) for name in names},
        "pushes": {name: schemas.of("push", name) for name in schemas.pushes},
        "$defs": schemas.structures,
    }
    return rewritten(whole, _of_json_schema)  # type: ignore[no-any-return]


def _of_json_schema(schema: Json) -> Json:
    """With references into `$defs`, and without what OpenAPI alone has."""
    plain = without_discriminator(schema)
    return plain | {"$ref": "#/$defs/" + referred(schema)} if "$ref" in schema else plain


def without_discriminator(schema: Json) -> Json:
    """As it is outside of OpenAPI."""
    return {name: item for name, item in schema.items() if name != "discriminator"}
