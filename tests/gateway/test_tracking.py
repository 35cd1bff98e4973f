"""Counting anew for views, and what is heard of chats that tells nothing of where customers are."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from rtm.bus.base import Envelope
from rtm.gateway import tracking
from rtm.gateway.tracking import Recounts, Trackers
from rtm.model.audience import Audience
from rtm.model.customer import Customer
from rtm.model.tracking import LEVEL
from rtm.store.customers import Here

ADA = Customer("ada", 2, "Ada", None, "2026-01-01T00:00:00.000000Z", {})


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, push: str, payload: Any) -> None:
        self.told.append(push)


class Room:
    def __init__(self, license_id: int) -> None:
        self.license_id = license_id
        self.session = Listener()
        self.trackers: Trackers[Listener] = Trackers(lambda *_: None)
        self.view = self.trackers.track(self.session, LEVEL, None, 1)
        self.view.regroup(frozenset((1,)))


async def test_a_room_that_cannot_be_read_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "RECOUNT_S", 0)
    monkeypatch.setattr(tracking, "RECOUNT_TIMEOUT_S", 0.01)
    stuck, other, first_read = Room(1), Room(2), Room(2)
    first_read.view.expect()
    first_read.view.closed("C1")

    async def read(license_id: int, group_ids: Collection[int] | None, limit: int) -> Here:
        if license_id == 1:
            await asyncio.Event().wait()
        return Here({"ada": ADA}, [("ada", "C1", frozenset((1,)))], 1)

    counting = asyncio.create_task(Recounts(lambda: [stuck, first_read, other], read).run())
    async with asyncio.timeout(10):
        while not other.session.told:
            await asyncio.sleep(0)
    counting.cancel()
    await asyncio.wait([counting])

    assert (other.session.told, other.view.misses) == (["incoming_customer"], False)
    assert (stuck.view.is_read, stuck.view.misses) == (False, True)
    assert first_read.view.fill([("ada", "C1", frozenset((1,)))], 1) == []  # it is still known what was closed


def test_what_is_shown_again_moves_nobody() -> None:
    trackers: Trackers[str] = Trackers(lambda *_: None)
    view = trackers.track("bob", LEVEL, None, 1)
    ada = {"id": "ada", "type": "customer", "present": True}
    chat = {"id": "C1", "users": [ada], "access": {"group_ids": [1]}, "thread": {"active": True}}
    trackers.heard(Envelope.ephemeral(1, "incoming_chat", {"chat": chat}, Audience()))
    trackers.heard(stored("incoming_chat", {"chat": chat}, Audience(agents=("bob",))))
    assert "ada" not in view
    trackers.heard(stored("incoming_chat", {"chat": chat}, Audience(groups=(1,))))
    assert "ada" in view


def test_what_is_read_for_somebody_who_has_left_concerns_no_other() -> None:
    told: list[tuple[str, Collection[str]]] = []
    trackers: Trackers[str] = Trackers(lambda push, _, sessions: told.append((push, sessions)))
    trackers.track("bob", LEVEL, None, 5)
    late = trackers.track("carol", LEVEL, None, 5)
    late.expect()
    came = {"chat_id": "C1", "user": {"id": "ada", "type": "customer", "present": True}}
    trackers.heard(stored("user_added_to_chat", came, Audience(groups=(1,))))
    trackers.forget("carol")
    late.fill([("ada", "C2", frozenset((1,)))], 1)  # which was closed by then
    trackers.heard(stored("chat_deactivated", {"chat_id": "C1"}, Audience()))
    assert told == [("incoming_customer", ["bob", "carol"]), ("customer_left", ["bob"])]


def stored(push: str, payload: Any, audience: Audience) -> Envelope:
    return replace(Envelope.ephemeral(1, push, payload, audience), sequence=1)
