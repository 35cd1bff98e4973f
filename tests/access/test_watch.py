"""A revocation made elsewhere is noticed, once, and an outage is survived."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import text

from rtm.access.directory import Directories
from rtm.access.tokens import revoke
from rtm.access.watch import Watch
from tests.access.conftest import AGENT, LICENSE_ID, World
from tests.world import SOON_S


@asynccontextmanager
async def running(watch: Watch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def revoke_in(world: World, token: str) -> None:
    async with world.database.engine.begin() as connection:
        assert await revoke(connection, token)


async def test_a_revoked_token_is_told_once(world: World) -> None:
    told: list[str] = []
    watch = Watch(world.database, Directories(world.database), told.append)
    first, second = await world.token(AGENT), await world.token(AGENT)

    await revoke_in(world, first.token)
    await watch.look()
    await watch.look()
    assert told == [first.row["id"]]
    await revoke_in(world, second.token)
    await watch.look()
    assert told == [first.row["id"], second.row["id"]]


async def test_a_revocation_that_was_committed_late_is_not_missed(world: World) -> None:
    told: list[str] = []
    watch = Watch(world.database, Directories(world.database), told.append)
    new = await world.token(AGENT)
    await watch.look()

    async with world.database.engine.begin() as connection:  # dated before that look
        await connection.execute(text("UPDATE tokens SET revoked_at = created_at"))
    await watch.look()

    assert told == [new.row["id"]]


async def test_a_running_watch_tells_within_a_second(world: World) -> None:
    revoked: asyncio.Queue[str] = asyncio.Queue()
    watch = Watch(world.database, Directories(world.database), revoked.put_nowait)
    new = await world.token(AGENT)

    async with running(watch):
        await revoke_in(world, new.token)
        async with asyncio.timeout(SOON_S):
            assert await revoked.get() == new.row["id"]


async def test_a_changed_directory_is_reloaded(world: World) -> None:
    directories = Directories(world.database)
    await directories.get(LICENSE_ID)
    await world.change_agent(AGENT, suspended=True)

    await Watch(world.database, directories, lambda _: None).look()

    directory = await directories.get(LICENSE_ID)
    assert not directory.agents[AGENT].in_good_standing


async def test_an_outage_of_the_database_is_survived(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    revoked: asyncio.Queue[str] = asyncio.Queue()
    watch = Watch(world.database, Directories(world.database), revoked.put_nowait)
    look, failed = watch.look, asyncio.Event()

    async def fail_once() -> None:
        if failed.is_set():
            return await look()
        failed.set()
        raise OSError("no route to host")

    monkeypatch.setattr(watch, "look", fail_once)
    new = await world.token(AGENT)

    async with running(watch):
        await failed.wait()
        await revoke_in(world, new.token)
        async with asyncio.timeout(SOON_S):
            assert await revoked.get() == new.row["id"]
