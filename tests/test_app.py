"""The parts put together: which database they use, and what it means for clients when that has no time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy.exc
from sqlalchemy import text

from rtm.access import directory
from rtm.actions.dispatch import answer_to
from rtm.protocol.errors import ServiceUnavailable
from tests.world import SOON_S, Refused, World, visiting

WorldWith = Callable[..., Awaitable[World]]
HELLO = {"type": "message", "text": "hello"}


async def test_a_sqlite_file_may_be_anywhere(world_with: WorldWith, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "other.db"
    world = await world_with(database_url=f"sqlite:///{path}")
    alice = await world.agent("alice")
    chat = await world.chat(alice, texts=["hello"])

    assert (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"][0]["text"] == "hello"
    assert path.exists()


async def test_a_database_url_may_say_how_to_use_tls(world_with: WorldWith, postgres_url: str) -> None:
    world = await world_with(database_url=f"{postgres_url}?sslmode=disable")
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    await alice.call("send_event", chat_id=chat.id, event=HELLO)


async def test_a_number_comes_back_whatever_its_size(either_world: World) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice)
    content = {"n": 1e20, "m": 2**64 - 1}
    await alice.call("send_event", chat_id=chat.id, event={"type": "custom", "content": content})

    [event] = (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"]
    assert event["content"] == content
    threads = (await alice.call("list_threads", chat_id=chat.id))["threads"]
    assert threads[0]["events"] == [event]


@asynccontextmanager
async def no_connection_left(world: World) -> AsyncIterator[None]:
    """Every connection of the server's pool waits for a lock that another process holds."""
    alice = await world.agent("alice", scopes=["chats--all:ro"])
    async with world.server.database.engine.connect() as connection:
        await connection.execute(text("LOCK TABLE chats IN ACCESS EXCLUSIVE MODE"))
        for _ in range(30):
            await alice.send("list_chats")
        await alice.forget()  # all of them have begun
        yield


async def test_a_revocation_does_not_wait_for_others(world_with: WorldWith, postgres_url: str) -> None:
    world = await world_with(database_url=postgres_url)
    token = await world.mint("bob")
    bob, dave = await world.agent("bob", token=f"Bearer {token.token}"), await world.agent("dave")

    async with no_connection_left(world), asyncio.timeout(SOON_S):
        await world.revoke(token)
        await world.change_agent("dave", suspended=True)
        assert (await bob.ended())[0] == {"reason": "access_token_revoked"}
        assert (await dave.ended())[0] == {"reason": "agent_disconnected_by_server"}


@pytest.mark.parametrize("table", ["tokens", "agents"])
async def test_who_asks_is_looked_up_in_time(world_with: WorldWith, postgres_url: str, table: str) -> None:
    world = await world_with({"request_timeout_s": 1}, database_url=postgres_url)
    web = await world.web("alice")
    async with world.server.database.engine.connect() as connection:
        await connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        assert await web.refused("list_chats") == Refused("request_timeout", "Request timed out")
    await web.call("list_chats")


def test_a_pool_without_a_connection_is_a_part_that_is_away() -> None:
    answer = answer_to(sqlalchemy.exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached"))
    assert isinstance(answer, ServiceUnavailable)


async def test_a_license_with_somebody_connected_is_watched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_MAX_RECENT", 1)
    dave = await world.agent("dave")
    async with visiting(world.server) as other:
        await other.agent("alice")
        await world.change_agent("dave", suspended=True)
        assert (await dave.ended())[0] == {"reason": "agent_disconnected_by_server"}
