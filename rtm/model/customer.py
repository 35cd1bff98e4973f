"""A customer, as far as commands need to know them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Customer:
    """`state` holds the further fields of the reference's Customer structure (avatar, statistics, visit, ...)."""

    id: str
    license_id: int
    name: str | None
    email: str | None
    created_at: str
    state: dict[str, Any]
