"""Which pushes a session has asked for (`login`, `pushes`) and may see (scopes).

Sessions alike in both share one `Interest`, so that a push is encoded once for all of them.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from rtm import versions
from rtm.model.audience import Audience
from rtm.model.pushes import PUSHES, Subject

_CHATS_OF_GROUPS = frozenset(("chats--all:ro", "chats--access:ro"))
_ALL = "all"
_RELEVANT = frozenset(scope for push in PUSHES.values() for scope in push.scopes)


def subject_of(push: str) -> Subject | None:
    """What the push is about, which says who of its audience may see it; None for one of a process that is newer."""
    return PUSHES[push].about if push in PUSHES else None


class Interest:
    """In which versions to send a push; `subscriptions` has a version with its names, or None for all of them."""

    __slots__ = ("_scopes", "_subscriptions", "_versions", "own_chats_only", "reads_all_chats")

    def __init__(self, subscriptions: tuple[tuple[str, frozenset[str] | None], ...], scopes: frozenset[str]) -> None:
        self.own_chats_only = scopes.isdisjoint(_CHATS_OF_GROUPS)
        """Whether what is told of a chat to its groups is kept from it."""
        self.reads_all_chats = "chats--all:ro" in scopes
        self._subscriptions = subscriptions
        self._scopes = scopes
        self._versions: dict[str, tuple[str, ...]] = {}

    def versions(self, push: str) -> tuple[str, ...]:
        """The versions to send the push in; none for one that is not wanted or not allowed."""
        wanted = self._versions.get(push)
        if wanted is None:
            wanted = self._versions[push] = self._work_out(push)
        return wanted

    def may_see(self, audience: Audience) -> bool:
        """Whether the sessions have the scope that the audience asks for, one of those that pushes take."""
        return audience.scope is None or audience.scope in self._scopes

    def within(self, scopes: frozenset[str]) -> "Interest":
        """The same with other scopes."""
        return _shared(self._subscriptions, scopes & _RELEVANT)

    def _work_out(self, push: str) -> tuple[str, ...]:
        if push not in PUSHES:  # of a process that is newer
            return ()
        needed = PUSHES[push].scopes
        if needed and self._scopes.isdisjoint(needed):
            return ()
        return tuple(
            version
            for version, names in self._subscriptions
            if (names is None or push in names) and versions.has_push(version, push)
        )


def of_session(version: str, pushes: Mapping[str, Sequence[str]] | None, scopes: frozenset[str]) -> Interest:
    """The interest of a session of that version; versions that are not served are ignored."""
    if pushes is None:
        return _shared(((version, None),), scopes & _RELEVANT)
    subscriptions = tuple(
        (of_version, None if _ALL in names else frozenset(names))
        for of_version, names in sorted(pushes.items())
        if of_version in versions.SERVED
    )
    return _shared(subscriptions, scopes & _RELEVANT)


@lru_cache(maxsize=1024)
def _shared(subscriptions: tuple[tuple[str, frozenset[str] | None], ...], scopes: frozenset[str]) -> Interest:
    return Interest(subscriptions, scopes)
