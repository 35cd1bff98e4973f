"""Logging in while things happen: every event is in the answer to `login` or in a push after it, once and in order.

And what is done about a push that cannot be told.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import pytest
import redis.asyncio
from structlog.testing import capture_logs
from websockets.frames import CloseCode

from rtm import versions
from rtm.access.directory import Directory
from rtm.bus.base import Envelope
from rtm.gateway import hub
from rtm.gateway.cork import Flusher
from rtm.gateway.fanout import Fanout
from rtm.gateway.feed import Feed
from rtm.gateway.room import MAX_REMEMBERED_RECIPIENTS, Room
from rtm.model.audience import Audience
from rtm.store.customers import Counted
from rtm.store.queries import Queries, Snapshot
from tests.servers import RedisServer
from tests.world import Client, World

HELLO = {"type": "message", "text": "hello"}
EVENTS = 150


async def heard_until(client: Client, last: int) -> list[int]:
    """Numbers of the events that are pushed, up to the last one."""
    numbers = [shown(client)]
    while numbers[-1] < last:
        push = await client.next_push("incoming_event")
        numbers.append(int(push["event"]["id"].rpartition("_")[2]))
    return numbers[1:]


def shown(client: Client) -> int:
    """Number of the last event that the answer to `login` showed."""
    [summary] = client.greeting["chats_summary"]
    return int(summary["last_event_per_type"]["message"]["event"]["id"].rpartition("_")[2])


async def logged_in_on(client: Client, token: str) -> Client:
    """Log in and keep every push, those included that come with the answer."""
    client.greeting = await client.call("login", token=token)
    return client


@pytest.mark.parametrize("somebody_is_there", [True, False])
async def test_nothing_is_missed_or_told_twice_around_a_login(either_world: World, somebody_is_there: bool) -> None:
    world = either_world
    alice = await (world.agent("alice") if somebody_is_there else world.web("alice"))
    chat = await world.chat(alice, users=["bob", "ada"], texts=["first"])
    web = await world.web("alice")
    tokens = [await world.token("bob") for _ in range(12)]

    async def talk() -> None:
        for _ in range(EVENTS - 1):
            await web.call("send_event", chat_id=chat.id, event=HELLO)

    talking = asyncio.create_task(talk())
    bobs = []
    for token in tokens:
        pair = [await world.socket(), await world.socket()]
        bobs += await asyncio.gather(*(logged_in_on(client, token) for client in pair))
    begun_while_talking = shown(bobs[0])
    await talking

    assert begun_while_talking < EVENTS
    for bob in bobs:
        assert await heard_until(bob, EVENTS) == list(range(shown(bob) + 1, EVENTS + 1))
        await bob.hears_nothing_more()


class Held:
    """Snapshots wait, read but not yet shown, until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = asyncio.Event()
        self.go_on = asyncio.Event()
        self.next_only = True
        snapshot = Queries.snapshot

        async def hold(queries: Queries, license_id: int, agent_id: str) -> Snapshot:
            found = await snapshot(queries, license_id, agent_id)
            if self.next_only:
                self.next_only = False
                self.read.set()
                await self.go_on.wait()
            return found

        monkeypatch.setattr(Queries, "snapshot", hold)


@pytest.mark.parametrize("somebody_is_there", [True, False])
async def test_two_logins_may_end_in_the_other_order(
    world: World, monkeypatch: pytest.MonkeyPatch, somebody_is_there: bool
) -> None:
    web = await (world.agent("alice") if somebody_is_there else world.web("alice"))
    chat = await world.chat(web, users=["bob"], texts=["first"])
    held = Held(monkeypatch)
    first, second = await world.socket(), await world.socket()
    token = await world.token("bob")

    early = asyncio.create_task(logged_in_on(first, token))
    await held.read.wait()
    await web.call("send_event", chat_id=chat.id, event=HELLO)
    await logged_in_on(second, token)
    held.go_on.set()
    await early

    assert (shown(first), shown(second)) == (1, 2)
    await web.call("send_event", chat_id=chat.id, event=HELLO)
    assert await heard_until(first, 3) == [2, 3]
    assert await heard_until(second, 3) == [3]


async def test_what_is_typed_during_a_login_is_heard_after_it_in_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["bob"], texts=["first"])
    held = Held(monkeypatch)
    bob = await world.socket()
    login = asyncio.create_task(logged_in_on(bob, await world.token("bob")))
    await held.read.wait()
    typing: dict[str, Any] = {"chat_id": chat.id, "is_typing": True}

    await alice.call("send_typing_indicator", **typing)
    await alice.call("send_event", chat_id=chat.id, event=HELLO)
    await alice.call("send_typing_indicator", **typing)
    held.go_on.set()
    await login

    for name in ("incoming_typing_indicator", "incoming_event", "incoming_typing_indicator"):
        await bob.next_push(name)
    await bob.hears_nothing_more()


async def test_a_room_that_was_left_is_entered_anew(world: World) -> None:
    web = await world.web("alice")
    chat = await world.chat(web, users=["bob"], texts=["first"])
    for number in (1, 2, 3):
        bob = await logged_in_on(await world.socket(), await world.token("bob"))
        assert shown(bob) == number
        await web.call("send_event", chat_id=chat.id, event=HELLO)
        assert await heard_until(bob, number + 1) == [number + 1]
        await bob.call("logout")


async def test_who_cannot_be_told_a_push_is_sent_away_and_the_others_are_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, other_bob = [await world.agent(name) for name in ("alice", "bob", "bob")]
    old_bob = await world.agent("bob", version="3.4")
    chat = await world.chat(alice, users=["bob"])

    push_for = versions.push_for

    def fail(version: str, name: str, payload: dict[str, Any]) -> Any:
        if name == "incoming_event":  # which is turned for older versions only
            raise KeyError("unforeseen")
        return push_for(version, name, payload)

    monkeypatch.setattr(versions, "push_for", fail)
    with capture_logs() as logs:
        sent = await alice.call("send_event", chat_id=chat.id, event=HELLO)
        assert await old_bob.ended() == ({"reason": "internal_error"}, CloseCode.NORMAL_CLOSURE)
    assert [line["versions"] for line in logs if line["event"] == "push_failed"] == [("3.4",)]
    for client in (alice, bob, other_bob):
        assert (await client.next_push("incoming_event"))["event"]["id"] == sent["event_id"]
        await client.hears_nothing_more()


async def test_one_bad_item_on_the_bus_costs_that_item_alone(
    world_with: Callable[..., Awaitable[World]], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with(redis_url=redis_url)
    alice = await world.agent("alice")
    offer = Feed.offer

    def fail_once(feed: Feed, envelope: Envelope) -> None:
        monkeypatch.setattr(Feed, "offer", offer)
        raise RuntimeError("unforeseen")

    async with redis.asyncio.Redis.from_url(redis_url) as elsewhere:

        async def publish(agents: Any, content: str) -> None:
            audience = Audience(agents=agents)
            envelope = Envelope.ephemeral(world.license_id, "incoming_multicast", {"content": content}, audience)
            await elsewhere.publish(f"rtm:push:{{{world.license_id}}}", b"0123456789abcdef\n" + envelope.encode())

        with capture_logs() as logs:
            await publish(([],), "for an agent whose id is a list")
            await publish((alice.id,), "good")
            assert await alice.next_push("incoming_multicast") == {"content": "good"}
            monkeypatch.setattr(Feed, "offer", fail_once)
            await publish((alice.id,), "unforeseen")
            await publish((alice.id,), "good again")
            assert await alice.next_push("incoming_multicast") == {"content": "good again"}
    assert [line["event"] for line in logs] == ["bus_message_malformed", "bus_item_failed"]


async def test_who_hears_neither_bus_nor_database_sends_its_clients_away(
    world_with: Callable[..., Awaitable[World]], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(hub, "POLL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(hub, "GIVE_UP_S", 1)
    read = Queries.sequences
    answers, looked = asyncio.Event(), asyncio.Event()
    answers.set()

    async def sequences(queries: Queries, license_ids: Collection[int]) -> Mapping[int, int]:
        await answers.wait()
        looked.set()
        return await read(queries, license_ids)

    monkeypatch.setattr(Queries, "sequences", sequences)
    world = await world_with(redis_url=redis_server.url)
    alice = await world.agent("alice")

    redis_server.kill()
    for _ in range(24):
        looked.clear()
        await looked.wait()
    await alice.hears_nothing_more()  # one of the two will do
    answers.clear()
    assert await alice.ended() == ({"reason": "internal_error"}, CloseCode.NORMAL_CLOSURE)


class AgentId(str):
    """One can see whether it is still remembered."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("stored", [True, False])
async def test_what_is_remembered_of_audiences_is_bounded(stored: bool) -> None:
    async def read_outbox(license_id: int, sequence: int, limit: int) -> list[Envelope]:
        return []

    async def read_statuses(license_id: int) -> tuple[Directory, dict[str, str]]:
        raise NotImplementedError

    async def read_counted(license_id: int, customer_ids: Collection[str]) -> list[Counted]:
        raise NotImplementedError

    room = Room(1, read_outbox, read_statuses, read_counted, Flusher(), Fanout())
    room.feed.start_at(0)
    remembered: weakref.WeakSet[AgentId] = weakref.WeakSet()
    most = 0
    for sequence in range(1, 201):
        agents = [AgentId(f"{sequence}-{number}") for number in range(1000)]
        for agent_id in agents:
            remembered.add(agent_id)
        audience = Audience(agents=tuple(agents))
        room.feed.offer(Envelope(1, "incoming_event", b"{}", audience, sequence if stored else 0))
        del agents, agent_id, audience
        most = max(most, len(remembered))
    assert most <= MAX_REMEMBERED_RECIPIENTS
    assert (most > 0) == stored
