"""Logging in while things happen: every event is in the answer to `login` or in a push after it, once and in order."""

import asyncio
from typing import Any

import pytest

from rtm.store.queries import Queries, Snapshot
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
