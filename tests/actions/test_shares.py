"""One license does not take everything: however much it asks for, the others are served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from rtm.actions import dispatch
from rtm.actions.shares import QUERIES_AT_ONCE
from rtm.settings import Settings
from rtm.store import tables
from rtm.store.queries import Page, Queries
from tests.servers import SLOW_STATEMENT
from tests.world import Client, Web, World, visiting

PROMPTLY_S = 10
"""Less than anything waits before it gives up."""


class Slow:
    """What `list_chats` reads comes when `go_on` is set, and takes a connection to the database until then."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.most = 0
        self._begun = asyncio.Semaphore(0)
        self._under_way = 0

    async def read(self, queries: Queries) -> Page[Any]:
        async with queries._engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            self._begun.release()
            try:
                await self.go_on.wait()
            finally:
                self._under_way -= 1
        return Page([], None, None, 0)

    async def asked_by(self, world: World, until: int = QUERIES_AT_ONCE) -> "asyncio.Future[Any]":
        """Ask for 18 lists at once, at both doors; so many are under way."""
        clients: list[Client | Web] = [*await world.agents("alice", "bob"), *[await world.web("alice")] * 16]
        lists = asyncio.gather(*(client.call("list_chats") for client in clients))
        for _ in range(until):
            await self._begun.acquire()
        return lists


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr(Queries, "list_chats", lambda queries, *_: slow.read(queries))
    return slow


@pytest.fixture
async def beside(either_world: World) -> AsyncIterator[World]:
    """Another license on the same server."""
    async with visiting(either_world.server) as world:
        yield world


async def test_while_a_license_waits_for_many_lists_all_others_are_served(
    either_world: World, beside: World, slow: Slow
) -> None:
    lists = await slow.asked_by(either_world)
    async with asyncio.timeout(PROMPTLY_S):
        bob, web = await beside.agent("bob"), await beside.web("carol")
        for client in (bob, web):
            assert (await client.refused("get_chat", chat_id="A")).type == "not_found"
        await (await either_world.agent("dave")).call("start_chat")
    slow.go_on.set()
    await lists
    assert slow.most == QUERIES_AT_ONCE


async def test_who_waits_for_a_turn_waits_no_longer_than_any_request_may(
    world_with: Callable[..., Awaitable[World]], slow: Slow
) -> None:
    world = await world_with({"request_timeout_s": 1})
    alice = await world.web("alice")
    async with asyncio.timeout(PROMPTLY_S):
        refusals = await asyncio.gather(*(alice.refused("list_chats") for _ in range(2 * QUERIES_AT_ONCE)))
    assert {refusal.type for refusal in refusals} == {"request_timeout"}
    assert slow.most == QUERIES_AT_ONCE


async def test_who_asks_for_what_takes_the_database_too_long_has_an_answer_and_the_share_back(
    world_with: Callable[..., Awaitable[World]], either_database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(queries: Queries, *_: object) -> None:
        async with queries._engine.connect() as connection:
            await connection.execute(text(SLOW_STATEMENT))

    world = await world_with({"request_timeout_s": 1}, database_url=either_database.database_url)
    alice, web = await world.agent("alice"), await world.web("alice")
    clients: list[Client | Web] = [alice, *[web] * 16]
    with monkeypatch.context() as patched:
        patched.setattr(Queries, "list_chats", read)
        async with asyncio.timeout(PROMPTLY_S):
            refusals = await asyncio.gather(*(client.refused("list_chats") for client in clients))
    assert {refusal.type for refusal in refusals} == {"request_timeout"}
    assert (await alice.call("list_chats"))["found_chats"] == 0


async def test_rooms_find_what_the_bus_withholds_when_handlers_have_all_their_connections(
    world_with: Callable[..., Awaitable[World]], postgres_url: str, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "QUERIES_AT_ONCE", 18)
    world = await world_with(database_url=postgres_url)
    alice = await world.agent("alice")
    lists = await slow.asked_by(world, until=15)
    async with asyncio.timeout(PROMPTLY_S):
        await store_elsewhere(world, "incoming_multicast", {"content": 1})
        assert await alice.next_push("incoming_multicast") == {"content": 1}
        assert (await (await world.socket()).refused("login", token="Bearer dal:0")).type == "authentication"
    slow.go_on.set()
    await lists


async def store_elsewhere(world: World, push: str, payload: Any) -> None:
    """As another process does that the bus does not reach."""
    sequence = tables.licenses.c.sequence
    of_license = update(tables.licenses).where(tables.licenses.c.id == world.license_id)
    async with world.server.database.engine.begin() as connection:
        place = (await connection.execute(of_license.values(sequence=sequence + 1).returning(sequence))).scalar_one()
        audience = {"agents": [], "groups": [], "customers": [], "everyone": True}
        row = {"license_id": world.license_id, "sequence": place}
        envelope = {**row, "name": push, "audience": audience, "payload": payload}
        row |= {"created_at": "2026-01-01T00:00:00.000000Z", "envelope": envelope}
        await connection.execute(insert(tables.outbox), row)
