"""Counting customers anew: together what changes in quick succession, and in spite of databases that fail."""

import asyncio
from collections.abc import Collection, Sequence

import pytest
from structlog.testing import capture_logs

from rtm.bus.base import Envelope
from rtm.gateway import customer_statistics
from rtm.gateway.customer_statistics import CustomerStatistics
from rtm.model.audience import Audience
from rtm.model.customer import Customer
from rtm.model.pushes import CustomerStatisticsUpdated
from rtm.store.customers import Counted

Told = tuple[str, int, Collection[str]]


class Scene:
    """Customers whose numbers are those of the chats that were heard of when the reading began."""

    def __init__(self) -> None:
        self.chats = dict.fromkeys(("ada", "grace"), 0)
        self.readings: list[Collection[str]] = []
        self.may_read = asyncio.Event()
        self.told: asyncio.Queue[Told] = asyncio.Queue()
        self.statistics = CustomerStatistics(1, self._read, lambda *_: True, self._tell)

    def starts(self, customer_id: str, *agent_ids: str) -> None:
        self.chats[customer_id] += 1
        chat = {
            "users": [{"id": each, "type": "agent"} for each in agent_ids] + [{"id": customer_id, "type": "customer"}]
        }
        audience = Audience(agents=agent_ids, groups=(0,))
        self.statistics.heard(Envelope.ephemeral(1, "incoming_chat", {"chat": chat}, audience))

    async def _read(self, license_id: int, customer_ids: Collection[str]) -> Sequence[Counted]:
        self.readings.append(sorted(customer_ids))
        found = [Counted(Customer(id_, 1, None, None, "", {}), self.chats[id_], 0) for id_ in customer_ids]
        await self.may_read.wait()
        return found

    def _tell(self, told: CustomerStatisticsUpdated, agent_ids: Collection[str]) -> None:
        self.told.put_nowait((told["customer_id"], told["statistics"]["chats_count"], agent_ids))

    async def hears(self, count: int) -> list[Told]:
        async with asyncio.timeout(10):
            return sorted([await self.told.get() for _ in range(count)])

    async def reads(self) -> None:
        async with asyncio.timeout(10):
            while not self.readings:
                await asyncio.sleep(0)


async def test_what_changes_while_customers_are_counted_is_counted_together() -> None:
    scene = Scene()
    scene.starts("grace", "alice")
    await scene.reads()
    for _ in range(10):
        scene.starts("ada")
        scene.starts("grace", "bob")
    scene.starts("grace", "carol")
    scene.may_read.set()

    assert await scene.hears(1) == [("grace", 1, {"alice"})]
    assert await scene.hears(2) == [("ada", 10, set()), ("grace", 12, {"bob", "carol"})]
    assert scene.readings == [["grace"], ["ada", "grace"]]


async def test_who_could_not_be_counted_in_time_is_told_of_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customer_statistics, "READ_TIMEOUT_S", 0.01)
    scene = Scene()
    with capture_logs() as logs:
        scene.starts("grace", "alice")
        async with asyncio.timeout(10):
            while not logs:
                await asyncio.sleep(0.01)
    assert [entry["event"] for entry in logs] == ["statistics_unknown"]
    scene.may_read.set()
    scene.starts("grace", "bob")
    assert await scene.hears(1) == [("grace", 2, {"bob"})]


async def test_those_who_wait_to_be_counted_are_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customer_statistics, "MAX_UNTOLD", 1)
    scene = Scene()
    scene.starts("grace", "alice")
    scene.starts("ada", "alice")
    scene.starts("grace", "bob")
    scene.may_read.set()
    assert await scene.hears(1) == [("grace", 2, {"alice", "bob"})]
    scene.starts("ada", "alice")
    assert await scene.hears(1) == [("ada", 2, {"alice"})]


async def test_a_room_that_is_left_counts_nobody() -> None:
    scene = Scene()
    scene.starts("grace", "alice")
    await scene.reads()
    scene.statistics.stop()
    scene.may_read.set()
    await asyncio.sleep(0.01)
    assert scene.told.empty()
