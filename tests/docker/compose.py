"""`docker/compose.yaml` as the tests read it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[2] / "docker"
FILE = FOLDER / "compose.yaml"
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+):-([^}]*)\})")


def services(**environment: str) -> dict[str, Any]:
    """Each service, with variables as in this environment."""
    content = YAML(typ="safe").load(_VARIABLE.sub(lambda found: _value(found, environment), FILE.read_text()))
    found: dict[str, Any] = content["services"]
    return found


def declared(kind: str) -> set[str]:
    """The names of what services share: "volumes" or "networks"."""
    return set(YAML(typ="safe").load(FILE)[kind])


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    name, default = found.groups()
    return environment.get(name, default) if name else "$"


def started_with(service: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, str]:
    """Its environment, with each of these texts replaced: what is a name between containers is a port on loopback."""
    told = {}
    for name, value in service["environment"].items():
        text = str(value)
        for there, here in places.items():
            text = text.replace(there, here)
        told[name] = text
    return {"PATH": os.environ["PATH"], **told}
