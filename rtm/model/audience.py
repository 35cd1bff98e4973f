"""Who may see a push."""

from dataclasses import dataclass
from functools import cached_property

import orjson


@dataclass(frozen=True)
class Audience:
    """Recipients are the union of the fields, filtered by scope and by subscription.

    A chat's audience seldom changes and may be long, so what is worked out of it is kept.
    """

    agents: tuple[str, ...] = ()
    """Ids of agents and bots, for instance the members and followers of a chat."""
    groups: tuple[int, ...] = ()
    """Every agent of these groups; group 0 is every agent of the license."""
    customers: tuple[str, ...] = ()
    everyone: bool = False
    """Every agent of the license."""
    newcomers: tuple[str, ...] = ()
    """Ids of agents who are told as some of a group are: not where they hear of their own chats only."""
    scope: str | None = None
    """What a session's token must have besides, where the push's name alone does not tell."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.agents, self.groups, self.customers, self.everyone, self.newcomers, self.scope))

    @cached_property
    def encoded(self) -> orjson.Fragment:
        """An object with the fields, the last two if there are any."""
        fields: dict[str, object] = {
            "agents": self.agents,
            "groups": self.groups,
            "customers": self.customers,
            "everyone": self.everyone,
        }
        if self.newcomers:
            fields["newcomers"] = self.newcomers
        if self.scope is not None:
            fields["scope"] = self.scope
        return orjson.Fragment(orjson.dumps(fields))
