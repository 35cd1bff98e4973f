"""How a structure of one version differs from its neighbour's, and what follows from it.

A version's module lists its differences by the classes of `rtm.model`. Wherever such a structure stands within a
request, a response or a push, its fields are named, left out and turned by the one list; the names that a method takes
and the published schemas come from it, too (`rtm.documents.schemas`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from orjson import Fragment
from pydantic import BaseModel
from typing_extensions import is_typeddict

from rtm.model.shown import Shape
from rtm.protocol.validation import Location

Object = dict[str, Any]
Turn = Callable[[Any], Any]


@dataclass(frozen=True)
class Differs:
    """What the version has otherwise than its neighbour on the way to 3.6."""

    without: tuple[str, ...] = ()
    """Fields that the version has not."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The version's names of fields, by the neighbour's."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Types of the fields that the version has alone, or whose type is another."""
    absent: bool = False
    """Whether the version has no such structure: it is shown as another one of those that may be in its place."""
    name: str | None = None
    """What the version calls the structure, if not as its neighbour does."""
    shown: Callable[[Object], Object] | None = None
    """What else has to be done to show the neighbour's structure in the version, given all of it."""
    read: Callable[[Object], Object] | None = None
    """The same for a request of the version, which is yet unchecked. Raises ValidationError."""

    @cached_property
    def unknown(self) -> frozenset[str]:
        """The neighbour's names that the version does not know."""
        return frozenset((*self.without, *self.renamed))


Step = Mapping[Any, Differs]
"""The differences of a version from its neighbour, by class."""


def fields_of(structure: Any) -> dict[str, Any]:
    """The types of a structure's fields by their names in JSON."""
    if is_typeddict(structure):
        return get_type_hints(structure, include_extras=True)
    return {each.alias or name: each.annotation for name, each in structure.model_fields.items()}


def fields_in(steps: Sequence[Step], structure: Any) -> dict[str, Any]:
    """The same as the last step has them."""
    fields = fields_of(structure)
    for each in (each for step in steps for each in differences(structure, step)):
        fields = {each.renamed.get(name, name): of for name, of in fields.items() if name not in each.without}
        fields |= each.fields
    return fields


def structure_in(annotation: Any) -> Any:
    """The one structure of a field. Not the many of an event, nor what stands under names of the client's own."""
    if is_structure(annotation):
        return annotation
    if get_origin(annotation) is dict:
        return None
    found = {inner for argument in get_args(annotation) if (inner := structure_in(argument))}
    return found.pop() if len(found) == 1 else None


def is_structure(annotation: Any) -> bool:
    """Whether it is a class with fields."""
    return is_typeddict(annotation) or (isinstance(annotation, type) and issubclass(annotation, BaseModel))


def differences(structure: Any, step: Step) -> list[Differs]:
    """Those of the structure in a step, and those of what it extends."""
    return [step[each] for each in _lineage(structure) if each in step]


def _lineage(structure: Any) -> Iterator[Any]:
    yield structure
    bases = getattr(structure, "__orig_bases__", ()) if is_typeddict(structure) else structure.__bases__
    for base in bases:
        if is_structure(base) and base is not BaseModel:
            yield from _lineage(base)


def structures_in(annotation: Any) -> Iterator[Any]:
    """Every structure that a type consists of, itself among them; some more than once."""
    if is_structure(annotation):
        yield annotation
        for inner in fields_of(annotation).values():
            yield from structures_in(inner)
    for marked in getattr(annotation, "__metadata__", ()):
        if isinstance(marked, Shape):
            yield from structures_in(marked.of)
    for argument in get_args(annotation):
        yield from structures_in(argument)


# From 3.6 to a version


def showing(annotation: Any, steps: Sequence[Step]) -> Turn | None:
    """What turns a value of this type into the last step's form, step by step; None if there is nothing to do."""
    return _turning(annotation, lambda structure: _shown(structure, steps))


def _shown(structure: Any, steps: Sequence[Step]) -> Turn | None:
    turns = _of_fields(structure, lambda inner: showing(inner, steps))
    mine = [each for step in steps for each in differences(structure, step)]
    if not turns and not mine:
        return None

    def show(value: Object) -> Object:
        inner = {name: turn(value[name]) for name, turn in turns.items() if name in value}
        if inner:
            value = value | inner
        for each in mine:
            if each.shown is not None:
                value = each.shown(value)
            if not each.unknown.isdisjoint(value):
                value = {each.renamed.get(name, name): item for name, item in value.items() if name not in each.without}
        return value

    return show


def signs(annotation: Any, steps: Sequence[Step]) -> list[str]:
    """What a JSON text of this type has in it, one at least, if there is something to do to show it.

    A structure that is shown otherwise as a whole is one of several, told by its `type`.
    """
    found: set[str] = set()
    for structure in structures_in(annotation):
        for each in (each for step in steps for each in differences(structure, step)):
            found |= each.unknown
            if each.shown is not None:
                found.add(_type_of(structure))
    return [f'"{name}"' for name in sorted(found)]


# From a version to 3.6


def reading(annotation: Any, steps: Sequence[Step]) -> Turn | None:
    """What turns a version's unchecked value of this type into ours; `steps` are in the opposite order."""
    return _turning(annotation, lambda structure: _read(structure, steps))


def _read(structure: Any, steps: Sequence[Step]) -> Turn | None:
    turns = _of_fields(structure, lambda inner: reading(inner, steps))
    mine = [each for step in steps for each in differences(structure, step)]
    if not turns and not mine:
        return None

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for each in mine:
            value = _upgraded(value, each)
        return {name: turns[name](item) if name in turns else item for name, item in value.items()}

    return read


def _upgraded(value: Object, differs: Differs) -> Object:
    """The neighbour's words for the version's, and none that the version does not know."""
    ours = {theirs: name for name, theirs in differs.renamed.items()}
    known = {ours.get(name, name): item for name, item in value.items() if name not in differs.unknown}
    return known if differs.read is None else differs.read(known)


# What a version calls things


def named(annotation: Any, steps: Sequence[Step], location: Location) -> Location | None:
    """A place in a value of this type as the last step names it; None if it has no such field."""
    if not location:
        return ()
    first, rest = location[0], location[1:]
    if is_structure(annotation):
        name = _name(annotation, steps, first)
        inner = named(fields_of(annotation).get(str(first)), steps, rest)
        return None if name is None or inner is None else (name, *inner)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Annotated, Required, NotRequired):
        return named(arguments[0], steps, location)
    if origin in (Union, UnionType):
        members = [each for each in arguments if each is not NoneType]
        if len(members) == 1:
            return named(members[0], steps, location)
        # Of several structures pydantic puts the type into the location.
        arguments = tuple(each for each in members if is_structure(each) and _type_of(each) == first)
    inner = named(arguments[-1] if arguments else None, steps, rest)
    return None if inner is None else (first, *inner)


def _name(structure: Any, steps: Sequence[Step], field: int | str) -> int | str | None:
    for each in (each for step in steps for each in differences(structure, step)):
        if field in each.without:
            return None
        field = each.renamed.get(str(field), field)
    return field


# What both have in common


def _of_fields(structure: Any, turning: Callable[[Any], Turn | None]) -> dict[str, Turn]:
    turns = {name: turning(annotation) for name, annotation in fields_of(structure).items()}
    return {name: turn for name, turn in turns.items() if turn is not None}


def _turning(annotation: Any, of_structure: Callable[[Any], Turn | None]) -> Turn | None:
    """The turn of whatever type, made of the turns of its structures."""
    if is_structure(annotation):
        return of_structure(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        shapes = [each.of for each in annotation.__metadata__ if isinstance(each, Shape)]
        return _turning(shapes[0] if shapes else arguments[0], of_structure)
    if origin in (Required, NotRequired):
        return _turning(arguments[0], of_structure)
    if origin in (Union, UnionType):
        return _of_union(arguments, of_structure)
    if origin in (list, dict):
        turn = _turning(arguments[-1], of_structure)
        if turn is not None:
            return _each_item(turn) if origin is list else _each_value(turn)
    return None


def _of_union(members: Sequence[Any], of_structure: Callable[[Any], Turn | None]) -> Turn | None:
    """One of several structures is told by its `type`."""
    members = [each for each in members if each is not NoneType]
    if len(members) == 1:
        return _turning(members[0], of_structure)
    by_type: dict[str, Turn] = {}
    for member in filter(is_structure, members):
        turn = of_structure(member)
        if turn is not None:
            by_type[_type_of(member)] = turn

    def of_its_type(value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        return by_type[kind](value) if isinstance(kind, str) and kind in by_type else value

    return of_its_type if by_type else None


def _type_of(structure: Any) -> str:
    annotation = fields_of(structure)["type"]
    assert get_origin(annotation) is Literal
    return str(get_args(annotation)[0])


def _each_item(turn: Turn) -> Turn:
    def of_each(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [item if isinstance(item, Fragment) else turn(item) for item in value]  # what is JSON was turned before

    return of_each


def _each_value(turn: Turn) -> Turn:
    def of_each(value: Any) -> Any:
        return {name: turn(item) for name, item in value.items()} if isinstance(value, dict) else value

    return of_each
