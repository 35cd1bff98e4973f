"""A customer, as far as commands need to know them, and the ban of one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Customer:
    """`state` holds the further fields of the reference's Customer structure (avatar, statistics, visit, ...).

    Of other channels it holds what the push `customer_updated` shows.
    """

    id: str
    license_id: int
    name: str | None
    email: str | None
    created_at: str
    state: dict[str, Any]

    def updated(self, fields: Mapping[str, Any]) -> Self:
        """The customer with these fields in place of its own; an empty one is no longer set."""
        merged = {"name": self.name, "email": self.email, **self.state, **fields}
        state = {name: value for name, value in merged.items() if value not in (None, "", [], {})}
        return replace(self, name=state.pop("name", None), email=state.pop("email", None), state=state)

    @property
    def came_from(self) -> dict[str, Any] | None:
        """What a thread tells of the customer's visit; None if nothing is known."""
        visit = self.state.get("visit", {})
        return {name: visit[name] for name in ("ip", "user_agent", "geolocation") if name in visit} or None


@dataclass(frozen=True, slots=True)
class CustomerBan:
    """Until `expires_at` the customer may not connect; a later ban takes the place of an earlier one."""

    license_id: int
    customer_id: str
    ip: str | None
    """Of the customer's last visit, if there was one."""
    agent_id: str
    created_at: str
    expires_at: str
