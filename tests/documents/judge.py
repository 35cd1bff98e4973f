"""Whether what a running server takes and says is what its published schemas say."""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from rtm.actions import agent, registry
from rtm.actions.registry import AGENT
from rtm.documents.schemas import Schemas, bundle


@cache
def _closed_bundle(version: str) -> dict[str, Any]:
    registry.load(agent)
    closed: dict[str, Any] = _closed(bundle(Schemas(AGENT, version)))
    return closed


def _closed(value: Any) -> Any:
    """The same, with no fields but those it names: clients must take others, we must not send them."""
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    closed = {name: _closed(item) for name, item in value.items()}
    if value.get("type") == "object" and ("properties" in value or value.get("title") == "Done"):
        closed["additionalProperties"] = False
    return closed


@cache
def _registry(version: str) -> Registry[Any]:
    resource = Resource.from_contents(_closed_bundle(version))
    registry_: Registry[Any] = Registry().with_resource("urn:schemas", resource)
    return registry_.crawl()


def complaints(version: str, kind: str, name: str, payload: Any) -> list[str]:
    """What the version's schema says against one of the `requests`, `responses` or `pushes`."""
    validator = Draft202012Validator(
        {"$ref": f"urn:schemas#/{kind}/{name}"},
        registry=_registry(version),
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(payload)]
