"""Which agent is given a chat.

Of those who accept chats and have room, the one with the best priority in the chat's groups; of several, the one with
the least to do for what it may have; of equals, the one who has waited longest for a chat. Bots are agents, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

PRIORITIES = ("first", "normal", "last")
"""The best first. Who has another one, `supervisor`, is given nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent who accepts chats and has access to the chat."""

    agent_id: str
    priorities: tuple[str, ...]
    """In those of the chat's groups that it is in."""
    load: int
    """Active chats with customers."""
    limit: int
    """How many of them it may have."""
    given_at: str = ""
    """When it was last given one; empty if it never was."""

    @property
    def rank(self) -> int:
        """The place of its best priority, past the last one if it is only a supervisor."""
        return min((PRIORITIES.index(each) for each in self.priorities if each in PRIORITIES), default=len(PRIORITIES))

    @property
    def is_free(self) -> bool:
        """Whether it may be given a chat."""
        return self.load < self.limit and self.rank < len(PRIORITIES)


def choose(candidates: Iterable[Candidate], preferred: str | None = None) -> str | None:
    """Id of the agent who is given the chat, `preferred` if it may be; None if nobody may."""
    free = [candidate for candidate in candidates if candidate.is_free]
    if any(candidate.agent_id == preferred for candidate in free):
        return preferred
    best = min(free, key=lambda each: (each.rank, each.load / each.limit, each.given_at, each.agent_id), default=None)
    return None if best is None else best.agent_id
