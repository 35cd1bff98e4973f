"""What a client needs to use the demo license, as `--credentials` writes it."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from rtm.private import write_private


@dataclass(frozen=True, slots=True)
class AgentCredentials:
    """An agent and two tokens with every scope that the role may hold."""

    id: str
    role: str
    account_id: str
    personal_access_token: str
    access_token: str


@dataclass(frozen=True, slots=True)
class BotCredentials:
    """A bot and its token."""

    id: str
    access_token: str


@dataclass(frozen=True, slots=True)
class Named:
    """A group or a customer."""

    id: int | str
    name: str


@dataclass(slots=True)
class Credentials:
    """What a client needs to use the demo license."""

    organization_id: str
    license_id: int
    client_id: str
    client_secret: str
    agents: list[AgentCredentials] = field(default_factory=list)
    bots: list[BotCredentials] = field(default_factory=list)
    groups: list[Named] = field(default_factory=list)
    customers: list[Named] = field(default_factory=list)

    def document(self, base_url: str) -> bytes:
        """The JSON object for `--credentials`."""
        content = {"base_url": base_url} | {each.name: getattr(self, each.name) for each in fields(self)}
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def keep(self, path: Path) -> None:
        """Write them where `kept` finds them. Raises OSError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, orjson.dumps(self))


def kept(path: Path, organization_id: str) -> Credentials | None:
    """The credentials kept there, if they are those of this organization."""
    try:
        found = TypeAdapter(Credentials).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.organization_id == organization_id else None
