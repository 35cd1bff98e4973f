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
    """Ids of agents and bots, for instance the members of a chat."""
    groups: tuple[int, ...] = ()
    """Every agent of these groups; group 0 is every agent of the license."""
    customers: tuple[str, ...] = ()
    everyone: bool = False
    """Every agent of the license."""
    readers: tuple[str, ...] = ()
    """Ids of agents who are told where their token lets them read a chat that they are not in, as followers are."""
    nonreaders: tuple[str, ...] = ()
    """The same for where it does not let them, as of followers who come into a chat."""
    read_by: tuple[int, ...] = ()
    """The groups with access to it: where a token reads the chats of its agent's groups, one of them is needed."""
    scope: str | None = None
    """What a session's token must have besides, where the push's name alone does not tell."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        named = self.agents, self.groups, self.customers, self.readers, self.nonreaders
        return hash((named, self.everyone, self.read_by, self.scope))

    @cached_property
    def encoded(self) -> orjson.Fragment:
        """A JSON object of the fields; those from `readers` on only where they say something."""
        fields: dict[str, object] = {
            "agents": self.agents,
            "groups": self.groups,
            "customers": self.customers,
            "everyone": self.everyone,
        }
        if self.readers:
            fields["readers"] = self.readers
        if self.nonreaders:
            fields["nonreaders"] = self.nonreaders
        if self.readers or self.nonreaders:
            fields["read_by"] = self.read_by
        if self.scope is not None:
            fields["scope"] = self.scope
        return orjson.Fragment(orjson.dumps(fields))
