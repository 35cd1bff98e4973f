"""The machine notices: on servers that are broken on purpose, one way each, a few steps are enough for it to say so."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from rtm import versions
from rtm.actions.agent import chats, events
from rtm.bus.base import Envelope
from rtm.gateway.room import Room
from rtm.model.audience import Audience
from rtm.model.chat import Chat, Visibility
from rtm.protocol.envelope import encode_push
from rtm.routing import handover, queue, situation
from rtm.routing.assignment import Candidate, choose
from rtm.store.queries import Queries, Snapshot
from tests.lifecycle import scene
from tests.lifecycle.machine import machine_on
from tests.lifecycle.scene import Stage
from tests.lifecycle.test_lifecycle import SHORT

SPOILT = 5
"""Each push whose number is divisible by this."""

deliver = Room._deliver


def skips_pushes(patch: pytest.MonkeyPatch) -> None:
    def spoilt(of: Room, envelope: Envelope) -> None:
        if envelope.name != "incoming_event" or envelope.sequence % SPOILT:
            deliver(of, envelope)

    patch.setattr(Room, "_deliver", spoilt)


def delivers_twice(patch: pytest.MonkeyPatch) -> None:
    def spoilt(of: Room, envelope: Envelope) -> None:
        deliver(of, envelope)
        if envelope.sequence and envelope.sequence % SPOILT == 0:
            deliver(of, envelope)

    patch.setattr(Room, "_deliver", spoilt)


def tells_the_end_before_the_reason(patch: pytest.MonkeyPatch) -> None:
    """As a feed that heeds no order."""
    held: list[Envelope] = []

    def spoilt(of: Room, envelope: Envelope) -> None:
        if b"manual_archived_agent" in bytes(envelope.payload):
            held.append(envelope)
            return
        deliver(of, envelope)
        if held:
            deliver(of, held.pop())

    patch.setattr(Room, "_deliver", spoilt)


def tells_everybody(patch: pytest.MonkeyPatch) -> None:
    key_audience = Chat.key_audience

    def spoilt(chat: Chat, visibility: Visibility = "all") -> Audience:
        return replace(key_audience(chat, visibility), everyone=True)

    patch.setattr(Chat, "key_audience", spoilt)


def forgets_followers(patch: pytest.MonkeyPatch) -> None:
    """Unless there are many of them, as in the bell's chat: else nobody would hear anything."""
    audience = Chat.audience

    def spoilt(chat: Chat, visibility: Visibility) -> Audience:
        whole = audience(chat, visibility)
        return whole if len(chat.followers) > 3 else replace(whole, readers=())

    patch.setattr(Chat, "audience", spoilt)


def lets_anybody_in(patch: pytest.MonkeyPatch) -> None:
    for module in (chats, events):
        patch.setattr(module, "check_reach", lambda *of: None)


def lets_who_is_absent_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(events, "_check_writable", lambda *of: None)


def shows_too_little_at_log_in(patch: pytest.MonkeyPatch) -> None:
    snapshot = Queries.snapshot

    async def spoilt(queries: Queries, license_id: int, agent_id: str) -> Snapshot:
        whole = await snapshot(queries, license_id, agent_id)
        return replace(whole, chats=[chat for chat in whole.chats if agent_id not in chat.followers])

    patch.setattr(Queries, "snapshot", spoilt)


def speaks_the_newest_version(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(versions, "push_for", lambda version, name, payload: payload)


def names_no_request(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "rtm.gateway.room.encode_push",
        lambda version, name, payload, request_id=None: encode_push(version, name, payload),
    )


def favours_the_first_of_equals(patch: pytest.MonkeyPatch) -> None:
    def spoilt(candidates: Iterable[Candidate], preferred: str | None = None) -> str | None:
        return choose((replace(each, given_at="") for each in candidates), preferred)

    patch.setattr(situation, "choose", spoilt)


def forgets_who_wrote_last(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(situation, "choose", lambda candidates, preferred: choose(candidates))


def gives_chats_to_supervisors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Candidate, "rank", 0)


def serves_last_who_came_first(patch: pytest.MonkeyPatch) -> None:
    in_order = queue.in_order
    patch.setattr(queue, "in_order", lambda *of: in_order(*of)[::-1])


def keeps_positions_to_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover.Handover, "tell_positions", lambda self: None)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (skips_pushes, r"expected to be pushed \[.*'incoming_event'.*\], came \["),
        (delivers_twice, r"expected to be pushed \["),
        (
            tells_the_end_before_the_reason,
            r"'incoming_event', 'chat_deactivated'.*came \['chat_deactivated', 'incoming_",
        ),
        (tells_everybody, r"expected to be pushed \[('chat_access_updated')?\], came \['(incoming_chat|chat_|user_)"),
        (forgets_followers, r"expected to be pushed \['.*came \[\]"),
        (lets_anybody_in, r"expected to be refused with missing_access, came Answer"),
        (lets_who_is_absent_write, r"expected to be refused with (authorization|chat_inactive), came Answer"),
        (shows_too_little_at_log_in, r"login \{\}.chats_(summary|info): expected"),
        (speaks_the_newest_version, r"<(carol, rtm 3.4|alice, rtm 3.5|dave, rtm 3.5) at .>, push .*visit"),
        (names_no_request, r"request_id: expected '\d+', came nothing"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_server_is_noticed(
    one_process: Stage,
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    expected: str,
) -> None:
    spoil(monkeypatch)
    told = what_is_told_of("life", one_process, runner)
    assert re.search(expected, told), told[:2000]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (favours_the_first_of_equals, r"transferred_to.agent_ids\[0\]: expected"),
        (forgets_who_wrote_last, r"transferred_to.agent_ids\[0\]: expected"),
        (gives_chats_to_supervisors, r"transferred_to.agent_ids\[0\]: expected|expected to be refused with agent_off"),
        (serves_last_who_came_first, r"queue.position: expected|chat_transferred"),
        (keeps_positions_to_itself, r"expected to be pushed \[.*'queue_positions_updated'\], came"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_broken_routing_is_noticed(
    one_process: Stage,
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    expected: str,
) -> None:
    monkeypatch.setattr(scene, "PATIENCE_S", 3)
    spoil(monkeypatch)
    told = what_is_told_of("routing", one_process, runner)
    assert re.search(expected, told), told[:2000]


def what_is_told_of(kind: Literal["life", "routing"], stage: Stage, runner: asyncio.Runner) -> str:
    """What the machine says first."""
    told: list[str] = []

    def run(step: Coroutine[Any, Any, Any]) -> Any:
        try:
            return runner.run(step)
        except AssertionError as error:
            told.append(str(error))
            raise

    steps = settings(SHORT, max_examples=30, report_multiple_bugs=False)
    with pytest.raises((AssertionError, Flaky)):
        run_state_machine_as_test(machine_on(stage, run, kind), settings=steps)
    return told[0]
