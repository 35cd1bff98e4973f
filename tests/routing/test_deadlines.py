"""What is due when: examples, and what holds for every chat."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm.model.chat import Chat, ChatUser
from rtm.model.properties import with_routing
from rtm.protocol.timestamps import seconds_after
from rtm.routing.deadlines import MAX_AHEAD_S, Due, deadlines, due, next_look
from rtm.routing.rules import Rules

START = "2026-11-22T09:00:00.000000Z"
AGENT, CUSTOMER = "smith@example.com", "ada"
GRACE_S = 60.0
RULES = Rules(transfer_chat_after_min=2)


def at(minutes: float) -> str:
    """So many minutes after the start."""
    return seconds_after(START, minutes * 60)


def started(*user_ids: str, **options: Any) -> Chat:
    users = [ChatUser(each, "customer" if each == CUSTOMER else "agent") for each in user_ids or (AGENT, CUSTOMER)]
    defaults: dict[str, Any] = {"properties": {}, "thread_properties": {}, "active": True, "continuous": False}
    return Chat.start(1, at=START, group_ids=[0], users=users, **(defaults | options))


def say(chat: Chat, author_id: str, minutes: float) -> None:
    chat.append({"type": "message", "created_at": at(minutes)}, author_id)


def test_a_chat_without_a_word_is_idle_and_then_archived() -> None:
    assert deadlines(started(), RULES, GRACE_S) == {Due.IDLE: at(10), Due.ARCHIVE: at(15)}


@pytest.mark.parametrize("chat", [started(AGENT), started(active=False)], ids=["no customer", "not open"])
def test_nothing_is_ever_due_in_a_chat(chat: Chat) -> None:
    assert deadlines(chat, RULES, GRACE_S) == {}
    assert next_look(chat, RULES, GRACE_S, START) is None


def test_every_event_of_a_user_puts_it_off_and_none_of_the_server() -> None:
    chat = started()
    say(chat, AGENT, 4)
    say(chat, "", 6)
    assert deadlines(chat, RULES, GRACE_S) == {Due.IDLE: at(14), Due.ARCHIVE: at(19)}


def test_a_continuous_chat_has_its_own_time() -> None:
    rules = Rules(archive_offline_chat_after_min=20)
    assert deadlines(started(continuous=True), rules, GRACE_S)[Due.ARCHIVE] == at(20)


def test_zero_is_never() -> None:
    assert deadlines(started(), Rules(chat_inactive_after_min=0, archive_chat_after_min=0), GRACE_S) == {}


def test_the_customers_first_word_without_an_answer_counts() -> None:
    chat = started()
    say(chat, CUSTOMER, 1)
    say(chat, CUSTOMER, 2)
    assert deadlines(chat, RULES, GRACE_S)[Due.TRANSFER] == at(3)
    assert Due.TRANSFER not in deadlines(chat, Rules(), GRACE_S)
    say(chat, AGENT, 2.5)
    assert Due.TRANSFER not in deadlines(chat, RULES, GRACE_S)


def test_nobody_is_too_slow_where_nobody_is() -> None:
    chat = started(CUSTOMER)
    say(chat, CUSTOMER, 1)
    assert Due.TRANSFER not in deadlines(chat, RULES, GRACE_S)


def test_an_idle_chat_is_not_idle_again() -> None:
    chat = started()
    assert chat.thread is not None
    chat.set_thread_properties(chat.thread, with_routing(chat.thread.properties, idle=True))
    assert deadlines(chat, RULES, GRACE_S) == {Due.ARCHIVE: at(15)}


def test_in_the_queue_it_only_waits() -> None:
    chat = started(CUSTOMER)
    say(chat, CUSTOMER, 1)
    chat.active_thread().queued_at = at(3)
    assert deadlines(chat, RULES, GRACE_S) == {Due.GIVE_UP: at(18)}


@pytest.mark.parametrize("of", ["properties", "thread_properties"])
def test_by_somebodys_wish_it_is_left_alone(of: str) -> None:
    assert Due.REASSIGN in deadlines(started(CUSTOMER), RULES, GRACE_S)
    left_alone = started(CUSTOMER, **{of: {"routing": {"ignore_agents_routing": True}}})
    assert Due.REASSIGN not in deadlines(left_alone, RULES, GRACE_S)


def test_agents_who_lost_their_connection_may_come_back_and_those_who_left_do_not() -> None:
    chat = started()
    thread = chat.active_thread()
    thread.unattended_since, thread.unattended_because = at(2), "disconnected"
    assert deadlines(chat, RULES, GRACE_S)[Due.REASSIGN] == at(3)
    say(chat, AGENT, 2.5)  # over HTTP
    assert deadlines(chat, RULES, GRACE_S)[Due.REASSIGN] == at(3.5)
    thread.unattended_because = "signed_out"
    assert deadlines(chat, RULES, GRACE_S)[Due.REASSIGN] == at(2)


MINUTES = st.floats(0, 30, allow_nan=False)
RULES_OF_ANY_KIND = st.builds(
    Rules,
    chat_inactive_after_min=MINUTES,
    archive_chat_after_min=MINUTES,
    archive_offline_chat_after_min=MINUTES,
    transfer_chat_after_min=MINUTES,
)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Open ones of a customer's, some minutes old."""
    users = draw(st.sampled_from([(CUSTOMER,), (CUSTOMER, AGENT), (CUSTOMER, AGENT, "jones@example.com")]))
    chat = started(*users, continuous=draw(st.booleans()))
    for minutes in sorted(draw(st.lists(MINUTES, max_size=4))):
        say(chat, draw(st.sampled_from([*users, ""])), minutes)
    thread = chat.active_thread()
    if len(users) == 1 and draw(st.booleans()):
        thread.queued_at = at(draw(MINUTES))
    elif draw(st.booleans()):
        thread.unattended_since = at(draw(MINUTES))
        thread.unattended_because = draw(st.sampled_from(["disconnected", "signed_out", "deleted"]))
    if draw(st.booleans()):
        thread.properties = {"routing": {"idle": draw(st.booleans())}}
    return chat


@given(chats(), RULES_OF_ANY_KIND, MINUTES, MINUTES)
def test_nothing_becomes_due_before_the_next_look(chat: Chat, rules: Rules, now_min: float, later_min: float) -> None:
    now = at(now_min)
    look_at = next_look(chat, rules, GRACE_S, now)
    assert look_at is not None
    assert now <= look_at <= seconds_after(now, MAX_AHEAD_S)
    if due(chat, rules, GRACE_S, now) is None and now <= at(now_min + later_min) < look_at:
        assert due(chat, rules, GRACE_S, at(now_min + later_min)) is None


@given(chats(), RULES_OF_ANY_KIND, MINUTES, st.sampled_from([AGENT, CUSTOMER]), MINUTES)
def test_nor_does_anything_that_is_written_meanwhile_make_it_due(
    chat: Chat, rules: Rules, now_min: float, author_id: str, later_min: float
) -> None:
    now = at(30 + now_min)
    look_at = next_look(chat, rules, GRACE_S, now)
    say(chat, author_id, 30 + now_min + later_min)
    chat.active_thread().properties = {}  # whoever writes wakes an idle chat
    assert look_at is not None
    for each, when in deadlines(chat, rules, GRACE_S).items():
        assert when >= look_at or when <= now, each


@given(chats(), RULES_OF_ANY_KIND)
def test_what_is_due_is_done_in_order_and_stays_due_until_it_is_done(chat: Chat, rules: Rules) -> None:
    times = deadlines(chat, rules, GRACE_S)
    for moment in times.values():
        assert due(chat, rules, GRACE_S, moment) in {each for each, when in times.items() if when <= moment}
    if times:
        assert due(chat, rules, GRACE_S, max(times.values())) is min(times, key=lambda each: each.value)
