"""The settings of routing, out of properties that may hold anything."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm.routing.rules import MAX_MINUTES, MAX_QUEUED_CHATS, Rules

NAMES = [
    "queue.routing_priority",
    "manual_routing.override",
    "queue.reopen_threshold.override",
    "queue.enabled.override",
    "chat_inactive_after_min",
    "archive_chat_after_min",
    "archive_offline_chat_after_min",
    "transfer_chat_after_min",
    "manual_routing",
    "max_agent_active_chats",
    "queue.enabled",
    "queue.reopen_threshold",
    "prefer_recent_agent",
    "queue.limit",
]
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["10", [10], {"a": 10}, "", math.inf])
)
PROPERTIES: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.builds(
    lambda value: {"chats": value}, ANYTHING | st.dictionaries(st.sampled_from(NAMES), ANYTHING)
)


def rules(of_license: dict[str, Any], *of_groups: dict[str, Any]) -> Rules:
    return Rules.of({"chats": of_license}, *({"chats": each} for each in of_groups))


def test_a_license_without_properties_has_the_defaults() -> None:
    assert Rules.of({}) == Rules() == Rules.of({}, {}, {})


def test_every_property_of_a_license_is_read() -> None:
    read = rules(
        {
            "chat_inactive_after_min": 1,
            "archive_chat_after_min": 2,
            "archive_offline_chat_after_min": 3,
            "transfer_chat_after_min": 0.5,
            "max_agent_active_chats": 7,
            "prefer_recent_agent": False,
            "manual_routing": True,
            "queue.enabled": False,
            "queue.limit": 20,
            "queue.reopen_threshold": 10,
        }
    )
    assert read == Rules(1, 2, 3, 0.5, 7, False, True, False, 20, 10)


@pytest.mark.parametrize(
    ("override", "manual"), [(-1, True), (0, False), (1, True), (2, True), (True, True), (None, True)]
)
def test_a_group_overrides_the_license(override: Any, manual: bool) -> None:
    assert rules({"manual_routing": True}, {"manual_routing.override": override}).manual_routing is manual


def test_of_several_groups_the_first_that_overrides_counts_and_the_highest_priority() -> None:
    first = {"queue.routing_priority": -3}
    second = {"queue.enabled.override": 0, "queue.reopen_threshold.override": 5, "queue.routing_priority": 2}
    third = {"queue.enabled.override": 1, "queue.reopen_threshold.override": 6}
    read = rules({}, first, second, third)
    assert (read.queue_enabled, read.queue_reopen_threshold, read.queue_routing_priority) == (False, 5, 2)
    assert rules({}, first).queue_routing_priority == -3


@pytest.mark.parametrize("threshold", [{"queue.reopen_threshold": 90}, {}])
def test_the_threshold_does_not_exceed_the_limit(threshold: dict[str, int]) -> None:
    assert rules({"queue.limit": 8, **threshold}).queue_reopen_threshold == 8


@given(PROPERTIES, st.lists(PROPERTIES, max_size=3))
def test_whatever_the_properties_hold_there_are_rules_within_bounds(of_license: Any, of_groups: list[Any]) -> None:
    read = Rules.of(of_license, *of_groups)
    for minutes in (
        read.chat_inactive_after_min,
        read.archive_chat_after_min,
        read.archive_offline_chat_after_min,
        read.transfer_chat_after_min,
    ):
        assert math.isfinite(minutes)
        assert 0 <= minutes <= MAX_MINUTES
    assert 0 <= read.queue_reopen_threshold <= read.queue_limit <= MAX_QUEUED_CHATS
    assert {type(read.manual_routing), type(read.queue_enabled), type(read.prefer_recent_agent)} == {bool}
