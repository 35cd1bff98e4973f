"""The parts put together: which database they use, and what it means for clients when that has no time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.world import Refused, World

WorldWith = Callable[..., Awaitable[World]]
HELLO = {"type": "message", "text": "hello"}


async def test_a_sqlite_file_may_be_anywhere(world_with: WorldWith, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "other.db"
    world = await world_with(database_url=f"sqlite:///{path}")
    alice = await world.agent("alice")
    chat = await world.chat(alice, texts=["hello"])

    assert (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"][0]["text"] == "hello"
    assert path.exists()
    assert list(tmp_path.glob("*.sqlite3*")) == []


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

    async with no_connection_left(world), asyncio.timeout(1.2):
        await world.revoke(token)
        await world.change_agent("dave", suspended=True)
        assert (await bob.ended())[0] == {"reason": "access_token_revoked"}
        assert (await dave.ended())[0] == {"reason": "agent_disconnected_by_server"}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_a_request_that_nobody_has_time_for_is_answered_in_time(
    world_with: WorldWith, postgres_url: str, known: bool
) -> None:
    world = await world_with({"request_timeout_s": 0.5}, database_url=postgres_url)
    web = await world.web("alice")
    if known:
        await web.call("list_chats")
    async with no_connection_left(world), asyncio.timeout(3):
        assert await web.refused("list_chats") == Refused("request_timeout", "Request timed out")
