"""Which pushes a session has asked for (`login`, `pushes`) and may see (scopes).

Sessions alike in both share one `Interest`, so that a push is encoded once for all of them.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from rtm import versions
from rtm.access.chats import scopes_for
from rtm.model.audience import Audience

_CHATS = scopes_for("chats", "ro")
_CUSTOMERS = ("customers:ro",)
_CHATS_OF_GROUPS = frozenset(("chats--all:ro", "chats--access:ro"))
_SCOPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "chat_access_updated",
            "chat_deactivated",
            "chat_deleted",
            "chat_properties_deleted",
            "chat_properties_updated",
            "chat_transferred",
            "chat_unfollowed",
            "event_deleted",
            "event_properties_deleted",
            "event_properties_updated",
            "event_updated",
            "events_marked_as_seen",
            "incoming_chat",
            "incoming_event",
            "incoming_rich_message_postback",
            "incoming_sneak_peek",
            "incoming_thinking_indicator",
            "incoming_typing_indicator",
            "queue_positions_updated",
            "thread_deleted",
            "thread_properties_deleted",
            "thread_properties_updated",
            "thread_summary_set",
            "thread_tagged",
            "thread_untagged",
            "threads_deleted",
            "user_added_to_chat",
            "user_removed_from_chat",
        ),
        _CHATS,
    ),
    **dict.fromkeys(
        (
            "customer_banned",
            "customer_left",
            "customer_page_updated",
            "customer_statistics_updated",
            "customer_transferred",
            "customer_updated",
            "incoming_customer",
            "incoming_customers",
            "subscribed_customers_totals_updated",
            "ticket_created",
            "ticket_deleted",
        ),
        _CUSTOMERS,
    ),
    **dict.fromkeys(
        ("agent_approved", "agent_created", "agent_deleted", "agent_suspended", "agent_unsuspended", "agent_updated"),
        ("agents--all:ro",),
    ),
    **dict.fromkeys(("bot_created", "bot_deleted", "bot_updated"), ("agents-bot--all:ro",)),
    "routing_status_set": ("agents--all:ro", "agents-bot--all:ro"),  # which of them, its audience says
    "incoming_multicast": ("multicast:ro",),
}
"""One of these is needed for the push; pushes not listed need none. Source: the reference, "Login"."""

_ALL = "all"
_RELEVANT = frozenset(scope for scopes in _SCOPES.values() for scope in scopes)


def is_about_chat(push: str) -> bool:
    """Whether the push is for those only who may see the chat."""
    return _SCOPES.get(push) is _CHATS


def is_about_customer(push: str) -> bool:
    """Whether the push is for those only who track the customer, or have them in a chat."""
    return _SCOPES.get(push) is _CUSTOMERS


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
        needed = _SCOPES.get(push)
        if needed is not None and self._scopes.isdisjoint(needed):
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
