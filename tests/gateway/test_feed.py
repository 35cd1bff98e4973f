"""A license's pushes come in the order of their sequence, each once, whatever the bus loses or swaps."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.frames import CloseCode

from rtm.bus.base import Envelope
from rtm.gateway import feed as module
from rtm.gateway.feed import REPAIR_BATCH, Feed
from rtm.model.audience import Audience
from rtm.routing.presence import Change, MemoryPresence
from rtm.store.postgresql import PostgresqlStore
from rtm.store.queries import PUSHES_BYTES
from rtm.store.tables import outbox
from rtm.store.work import Command, Needs, Work
from rtm.store.writer import Writer
from tests.world import SOON_S, Server, World, visiting

HELLO = {"type": "message", "text": "hello"}


class Reader:
    """A feed with an outbox of its own, and what it has delivered."""

    def __init__(self, stored: Iterable[int] = ()) -> None:
        self.outbox = [envelope(place) for place in stored]
        self.outages = 0
        self.reads = 0
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        """Reads wait for it, with what they have read."""
        self.go_on.set()
        self.gave_up = asyncio.Event()
        self.delivered: list[int] = []
        self._changed = asyncio.Event()
        self.feed = Feed(7, self._deliver, self._read, self.gave_up.set)

    def _deliver(self, delivered: Envelope) -> None:
        self.delivered.append(delivered.sequence)
        self._changed.set()

    async def _read(self, license_id: int, sequence: int, limit: int) -> Sequence[Envelope]:
        self.reads += 1
        self.reading.set()
        await asyncio.sleep(0)
        if self.outages:
            self.outages -= 1
            raise OSError("no route to host")
        found = [each for each in self.outbox if each.sequence > sequence][:limit]
        sizes = accumulate(len(each.payload) for each in found)
        found = found[: 1 + sum(size < PUSHES_BYTES for size in sizes)]
        await self.go_on.wait()
        return found

    def offer(self, *places: int) -> None:
        for place in places:
            self.feed.offer(envelope(place))

    async def hears(self, places: Iterable[int]) -> None:
        """All of these are delivered by and by, in this order, and nothing else."""
        expected = list(places)
        async with asyncio.timeout(5):
            while len(self.delivered) < len(expected):
                self._changed.clear()
                await self._changed.wait()
        assert self.delivered == expected


def envelope(place: int) -> Envelope:
    return Envelope(7, "incoming_event", b"{}", Audience(everyone=True), place)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)


async def test_what_comes_in_order_is_delivered_at_once() -> None:
    reader = Reader()
    reader.feed.start_at(0)
    reader.offer(1, 2, 3)
    assert reader.delivered == [1, 2, 3]


async def test_what_comes_twice_is_delivered_once() -> None:
    reader = Reader()
    reader.feed.start_at(0)
    reader.offer(1, 1, 3, 3, 2, 2, 1)
    assert reader.delivered == [1, 2, 3]


async def test_what_is_early_waits_for_what_comes_before_it() -> None:
    reader = Reader()
    reader.feed.start_at(4)
    reader.offer(7, 6)
    assert reader.delivered == []
    reader.offer(5)
    assert reader.delivered == [5, 6, 7]
    assert reader.reads == 0


async def test_what_is_not_stored_waits_for_nothing() -> None:
    reader = Reader()
    reader.offer(0)
    reader.feed.start_at(0)
    reader.offer(2, 0, 1)
    assert reader.delivered == [0, 0, 1, 2]


async def test_before_its_start_a_feed_only_listens() -> None:
    reader = Reader()
    reader.offer(3, 5, 4)
    assert reader.delivered == []
    reader.feed.start_at(3)
    assert reader.delivered == [4, 5]
    reader.feed.start_at(9)  # it has started
    reader.offer(6)
    assert reader.delivered == [4, 5, 6]


async def test_a_gap_is_read_from_the_outbox() -> None:
    reader = Reader(range(1, 6))
    reader.feed.start_at(0)
    reader.offer(1, 3, 5)
    await reader.hears(range(1, 6))
    assert reader.feed.gaps_repaired > 0


async def test_what_is_known_to_be_there_is_read_though_nothing_follows_it() -> None:
    reader = Reader(range(1, 6))
    reader.feed.start_at(2)
    reader.feed.expect(5)
    await reader.hears([3, 4, 5])


async def test_after_a_loss_the_outbox_is_read_at_once() -> None:
    reader = Reader([1, 2])
    reader.feed.start_at(0)
    reader.feed.catch_up()
    await reader.hears([1, 2])


async def test_a_gap_of_any_length() -> None:
    last = 2 * REPAIR_BATCH + 7
    reader = Reader(range(1, last + 1))
    reader.feed.start_at(0)
    reader.offer(last)
    await reader.hears(range(1, last + 1))


async def test_a_gap_of_any_size() -> None:
    reader = Reader(range(1, 8))
    reader.outbox = [replace(each, payload=bytes(600_000)) for each in reader.outbox]
    reader.feed.start_at(0)
    reader.feed.catch_up()  # nobody knows how far
    await reader.hears(range(1, 8))


async def test_what_takes_long_to_deliver_leaves_time_for_others() -> None:
    last = REPAIR_BATCH
    reader = Reader(range(1, last + 1))
    deliver, turns = reader.feed._deliver, [0] * last

    def deliver_slowly(envelope: Envelope) -> None:
        time.sleep(0.0005)
        turns[envelope.sequence - 1] = turn
        deliver(envelope)

    reader.feed._deliver = deliver_slowly
    reader.feed.start_at(0)
    reader.offer(last)
    turn = 0
    async with asyncio.timeout(10):
        while len(reader.delivered) < last:
            turn += 1
            await asyncio.sleep(0)
    await reader.hears(range(1, last + 1))
    assert max(Counter(turns).values()) <= last / 10


async def test_what_comes_while_the_outbox_is_read_is_delivered_once() -> None:
    reader = Reader(range(1, 6))
    reader.feed.start_at(0)
    reader.offer(5)
    await reader.reading.wait()
    reader.offer(1, 2, 4, 6)
    await reader.hears(range(1, 7))


async def test_an_outbox_that_cannot_be_read_is_read_again() -> None:
    reader = Reader(range(1, 4))
    reader.outages = 3
    reader.feed.start_at(0)
    with capture_logs() as logs:
        reader.offer(3)
        await reader.hears([1, 2, 3])
    assert [line["event"] for line in logs] == ["outbox_unreadable"] * 3


async def test_what_is_not_in_the_outbox_yet_is_looked_for_again() -> None:
    reader = Reader()
    reader.feed.start_at(0)
    reader.offer(2)
    await reader.reading.wait()
    reader.outbox = [envelope(1), envelope(2)]
    await reader.hears([1, 2])


async def test_a_loss_before_the_start_is_made_up_for_at_the_start() -> None:
    reader = Reader([1, 2])
    reader.feed.catch_up()
    reader.feed.start_at(1)
    await reader.hears([2])


async def test_a_loss_during_a_repair_is_made_up_for_after_it() -> None:
    reader = Reader([1])
    reader.go_on.clear()
    reader.feed.start_at(0)
    reader.feed.catch_up()
    await reader.reading.wait()
    await asyncio.sleep(0)  # it has read by now, and not shown it
    reader.outbox.append(envelope(2))
    reader.feed.catch_up()
    reader.go_on.set()
    await reader.hears([1, 2])


async def test_after_a_loss_an_outbox_that_cannot_be_read_is_read_again() -> None:
    reader = Reader([1, 2])
    reader.outages = 1
    reader.feed.start_at(0)
    with capture_logs() as logs:
        reader.feed.catch_up()
        await reader.hears([1, 2])
    assert [line["event"] for line in logs] == ["outbox_unreadable"]


@pytest.mark.parametrize("why", ["missing", "unreadable", "hanging"])
async def test_a_gap_that_cannot_be_closed_is_given_up(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.1)
    reader = Reader()
    if why == "unreadable":
        reader.outages = 1_000_000
    elif why == "hanging":
        reader.go_on.clear()
    reader.feed.start_at(0)
    with capture_logs() as logs:
        reader.offer(2)
        async with asyncio.timeout(5):
            await reader.gave_up.wait()
    assert logs[-1]["event"] == "gap_not_closed"
    assert reader.delivered == []


@pytest.mark.parametrize("left", [[5, 6], [1, 2, 5, 6], [1, 2, 4]])
async def test_what_is_gone_from_the_outbox_is_not_waited_for(left: list[int]) -> None:
    reader = Reader(left)
    reader.feed.start_at(0)
    reader.offer(6)
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            await reader.gave_up.wait()
    assert logs[-1]["event"] == "gap_not_closed"
    assert reader.delivered == [place for place in left if place <= 2]


async def test_who_gets_on_does_not_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 1)
    reader = Reader()
    reader.feed.start_at(0)
    reader.feed.expect(20)
    for place in range(1, 21):
        reader.outbox.append(envelope(place))
        await reader.hears(range(1, place + 1))
        await asyncio.sleep(0.06)
    assert not reader.gave_up.is_set()


async def test_more_early_pushes_than_are_kept_are_read_from_the_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EARLY", 3)
    reader = Reader(range(1, 8))
    reader.feed.start_at(0)
    reader.offer(2, 3, 4, 5, 6, 7, 1)
    assert reader.delivered == [1, 2, 3, 4]
    await reader.hears(range(1, 8))


async def test_a_feed_that_was_stopped_delivers_nothing_more() -> None:
    reader = Reader(range(1, 4))
    reader.feed.start_at(0)
    reader.offer(3)
    await reader.reading.wait()
    reader.feed.stop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert reader.delivered == []


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_with_any_loss(seed: int) -> None:
    last = 200
    rng = random.Random(seed)
    reader = Reader(range(1, last + 1))
    coming = [place for place in range(1, last + 1) if rng.random() > 0.3] * 2 + [last]
    coming.sort(key=lambda place: place + rng.uniform(-20, 20))
    reader.feed.start_at(0)
    for place in coming:
        reader.offer(place)
        if rng.random() < 0.1:
            await asyncio.sleep(rng.choice([0, 2 * module.PATIENCE_S]))
    await reader.hears(range(1, last + 1))


# With a real outbox


@pytest.fixture
async def world_on_postgresql(_server_on_postgresql: Server) -> AsyncIterator[World]:
    async with visiting(_server_on_postgresql) as world:
        yield world


async def push_without_telling(world: World, agent_id: str, count: int) -> None:
    """What a process does whose bus is cut: commit pushes that nobody else hears of."""
    url = world.server.settings.database_url
    assert url is not None
    store = PostgresqlStore(url)
    await store.start()
    writer = Writer(store, 0)
    running = asyncio.create_task(writer.run())
    for number in range(count):
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def apply(work: Work, number: int = number) -> None:
            work.push("incoming_multicast", {"content": number}, Audience(agents=(agent_id,)))

        writer.submit(Command(world.license_id, Needs(), apply, answer.set_result))
        await answer
    running.cancel()
    await asyncio.wait([running])
    await store.stop()


async def test_what_the_bus_has_lost_is_heard_in_its_place(world_on_postgresql: World) -> None:
    world = world_on_postgresql
    alice = await world.agent("alice")
    chat = await world.chat(alice)

    await push_without_telling(world, alice.id, 3)
    await alice.call("send_event", chat_id=chat.id, event=HELLO)

    for number in range(3):
        assert await alice.next_push("incoming_multicast") == {"content": number}
    await alice.next_push("incoming_event")
    await alice.hears_nothing_more()


async def test_ones_own_event_that_waits_for_another_process_is_not_kept_back_by_a_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 60)
    alice, web = await world.agent("alice"), await world.web("bob")
    chat = await world.chat(web, users=["alice"])
    offer, set_away = Feed.offer, MemoryPresence.set_away
    late: asyncio.Future[tuple[Feed, Envelope]] = asyncio.get_running_loop().create_future()
    changing, go_on = asyncio.Event(), asyncio.Event()

    def keep_first(feed: Feed, envelope: Envelope) -> None:
        if envelope.name == "incoming_event" and not late.done():
            late.set_result((feed, envelope))
        else:
            offer(feed, envelope)

    async def set_away_slowly(*arguments: Any) -> Change:
        changing.set()
        await go_on.wait()
        return await set_away(*arguments)

    monkeypatch.setattr(Feed, "offer", keep_first)
    monkeypatch.setattr(MemoryPresence, "set_away", set_away_slowly)
    sent = [await web.call("send_event", chat_id=chat.id, event=HELLO)]
    sent += [await alice.call("send_event", chat_id=chat.id, event=HELLO)]
    change = await alice.send("set_away_status", away=True)
    await changing.wait()
    offer(*late.result())
    sent += [await web.call("send_event", chat_id=chat.id, event=HELLO)]
    go_on.set()

    for event in sent:
        assert (await alice.next_push("incoming_event"))["event"]["id"] == event["event_id"]
    assert (await alice.answer(change))["success"]


async def test_a_login_that_is_ahead_of_the_bus_is_told_what_the_others_missed(world_on_postgresql: World) -> None:
    world = world_on_postgresql
    alice = await world.agent("alice")
    await world.chat(alice)

    await push_without_telling(world, alice.id, 2)
    bob = await world.agent("bob")

    for number in range(2):
        assert await alice.next_push("incoming_multicast") == {"content": number}
    await alice.call("start_chat")
    await bob.next_push("incoming_chat")
    await bob.hears_nothing_more()


async def test_what_a_process_writes_that_is_cut_off_from_the_bus_is_heard_within_a_second(
    world_with: Callable[..., Awaitable[World]], postgres_url: str, redis_url: str
) -> None:
    world = await world_with(database_url=postgres_url, redis_url=redis_url)
    alice = await world.agent("alice")
    await world.chat(alice)

    await push_without_telling(world, alice.id, 3)
    async with asyncio.timeout(SOON_S):
        for number in range(3):
            assert await alice.next_push("incoming_multicast") == {"content": number}
    await alice.hears_nothing_more()


async def test_who_cannot_be_told_what_was_missed_is_sent_away_and_begins_anew(
    world_on_postgresql: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.1)
    world = world_on_postgresql
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    web = await world.web("alice")
    await push_without_telling(world, alice.id, 1)
    async with world.server.database.engine.begin() as connection:
        await connection.execute(outbox.delete().where(outbox.c.license_id == world.license_id))

    await web.call("send_event", chat_id=chat.id, event=HELLO)
    assert await alice.ended() == ({"reason": "internal_error"}, CloseCode.NORMAL_CLOSURE)

    alice = await world.agent("alice")
    await web.call("send_event", chat_id=chat.id, event=HELLO)
    await alice.next_push("incoming_event")
    await alice.hears_nothing_more()
