"""How a license wants its chats to be routed: its properties of the namespace `chats`, and those of its groups.

A value of another type, or out of its range, counts as none. Defaults are the values of the reference's sample, except
that `manual_routing` is off: as long as it is on, nobody is given a chat.

Source: the public reference, "Default properties".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from rtm.access.directory import Directory

MAX_MINUTES = 366 * 24 * 60
MAX_ACTIVE_CHATS = 1000
MAX_QUEUED_CHATS = 1000
"""Of a license: a transaction that routes may look at all of them."""
MAX_PRIORITY = 1_000_000

Properties = Mapping[str, Any]
"""Namespace -> name -> value, as a license or a group has them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What applies to a chat. Fields are named after their properties; times are minutes, with 0 for never."""

    chat_inactive_after_min: float = 10
    archive_chat_after_min: float = 15
    archive_offline_chat_after_min: float = 10
    """In place of `archive_chat_after_min` for continuous chats."""
    transfer_chat_after_min: float = 0
    max_agent_active_chats: int = 6
    prefer_recent_agent: bool = True
    manual_routing: bool = False
    queue_enabled: bool = True
    queue_limit: int = 100
    """Of the license, whatever the chats' groups."""
    queue_reopen_threshold: int = 90
    """A queue that was full takes chats again once it has this many; at most `queue_limit`."""
    queue_routing_priority: int = 0
    """The highest of the chat's groups."""

    @classmethod
    def of(cls, license_properties: Properties, *group_properties: Properties) -> Self:
        """The rules for a chat with access of these groups; the first of them that overrides the license does so."""
        own, groups = _Values(license_properties), [_Values(each) for each in group_properties]
        limit = own.whole("queue.limit", 100, most=MAX_QUEUED_CHATS)
        threshold = own.whole("queue.reopen_threshold", 90, most=MAX_QUEUED_CHATS)
        return cls(
            chat_inactive_after_min=own.minutes("chat_inactive_after_min", 10),
            archive_chat_after_min=own.minutes("archive_chat_after_min", 15),
            archive_offline_chat_after_min=own.minutes("archive_offline_chat_after_min", 10),
            transfer_chat_after_min=own.minutes("transfer_chat_after_min", 0),
            max_agent_active_chats=own.whole("max_agent_active_chats", 6, most=MAX_ACTIVE_CHATS),
            prefer_recent_agent=own.flag("prefer_recent_agent", default=True),
            manual_routing=bool(_overridden(groups, "manual_routing", own.flag("manual_routing", default=False), 1)),
            queue_enabled=bool(_overridden(groups, "queue.enabled", own.flag("queue.enabled", default=True), 1)),
            queue_limit=limit,
            queue_reopen_threshold=min(
                limit, _overridden(groups, "queue.reopen_threshold", threshold, MAX_QUEUED_CHATS)
            ),
            queue_routing_priority=max(
                (each.whole("queue.routing_priority", 0, least=-MAX_PRIORITY, most=MAX_PRIORITY) for each in groups),
                default=0,
            ),
        )


def rules_of(directory: Directory, group_ids: Iterable[int]) -> Rules:
    """The rules for chats of these groups."""
    groups = (directory.groups.get(group_id) for group_id in group_ids)
    return Rules.of(directory.properties, *(group.properties for group in groups if group is not None))


class _Values:
    """What there is in the namespace, whatever it is."""

    def __init__(self, properties: Properties) -> None:
        values = properties.get("chats")
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    def whole(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        value = self._values.get(name)
        return value if type(value) is int and least <= value <= most else default

    def minutes(self, name: str, default: float) -> float:
        """With a fraction, too, as properties are let have one."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        return value if 0 <= value <= MAX_MINUTES else default

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name)
        return value if isinstance(value, bool) else default


def _overridden(groups: list[_Values], name: str, of_license: int, most: int) -> int:
    """The first group's value that is not -1, else the license's."""
    values = (group.whole(f"{name}.override", -1, most=most) for group in groups)
    return next((value for value in values if value != -1), of_license)
