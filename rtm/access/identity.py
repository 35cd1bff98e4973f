"""Who asks: what a token says about its holder."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """The holder of a token that was valid when it was looked at."""

    license_id: int
    organization_id: str
    agent_id: str
    kind: Literal["agent", "bot"]
    role: str
    client_id: str | None
    scopes: frozenset[str]
    """With everything they contain, and nothing that the agent's role may not hold."""
    token_id: str
    personal: bool
    """Whether it is a personal access token."""
    expires_at: float | None
    """Unix seconds; None for a token that lasts until it is revoked."""
    holder: "Identity | None" = None
    """Of a bot that somebody speaks as: whose token it is."""
