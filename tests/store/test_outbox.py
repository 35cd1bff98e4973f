"""The outbox is kept short, and nobody is left behind by that."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from websockets.frames import CloseCode

from rtm.access.founding import license_row
from rtm.protocol.timestamps import from_microseconds
from rtm.settings import Settings
from rtm.store import outbox as module
from rtm.store import tables
from rtm.store.database import Database, connect, migrate
from rtm.store.outbox import Outbox, PostgresqlOutbox, SqliteOutbox, Trimmer
from rtm.store.queries import Queries
from rtm.store.sqlite import SqliteStore
from tests.world import World

KEEP_S, MAX_AGE_S = 60, 300
HELLO = {"type": "message", "text": "hello"}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0)


@pytest.fixture
async def database(either_database: Settings) -> AsyncIterator[Database]:
    await migrate(either_database)
    async with connect(either_database) as database:
        yield database


@pytest.fixture
async def outbox(either_database: Settings, database: Database) -> AsyncIterator[Outbox]:
    if database.dialect == "postgresql":
        yield PostgresqlOutbox(database.engine)
    else:
        store = SqliteStore(either_database.data_dir / "rtm.sqlite3")
        await store.start()
        yield SqliteOutbox(store)
        await store.stop()


async def fill(database: Database, ages_s: dict[int, Iterable[float]], envelope: dict[str, Any] | None = None) -> None:
    """Licenses whose pushes were stored so long ago."""
    now = time.time()
    rows = [
        {"license_id": license_id, "sequence": place, "created_at": timestamp(now - age_s), "envelope": envelope or {}}
        for license_id, ages in ages_s.items()
        for place, age_s in enumerate(ages, 1)
    ]
    async with database.engine.begin() as connection:
        await connection.execute(insert(tables.licenses), [license_row(license_id) for license_id in ages_s])
        await connection.execute(insert(tables.outbox), rows)


def timestamp(seconds: float) -> str:
    return from_microseconds(int(seconds * 1_000_000))


async def left(database: Database) -> dict[int, list[int]]:
    """The places that are still stored, by license."""
    columns = tables.outbox.c.license_id, tables.outbox.c.sequence
    found: dict[int, list[int]] = {}
    async with database.engine.connect() as connection:
        for license_id, place in await connection.execute(select(*columns).order_by(*columns)):
            found.setdefault(license_id, []).append(place)
    return found


def trimmer(outbox: Outbox, behind_s: float = 0) -> Trimmer:
    """Of a process that delivers so late."""
    return Trimmer(outbox, lambda: time.time() - behind_s, keep_s=KEEP_S, max_age_s=MAX_AGE_S)


async def test_what_has_been_passed_goes_after_a_while(outbox: Outbox, database: Database) -> None:
    await fill(database, {1: [1000, 70, 50, 0], 2: [90, 80], 3: [10], 7: [400] * 1200 + [0]})
    await trimmer(outbox).trim()
    assert await left(database) == {1: [3, 4], 3: [1], 7: [1201]}


async def test_many_licenses(outbox: Outbox, database: Database) -> None:
    await fill(database, {license_id: [100, 0] for license_id in range(1, 102)})
    await trimmer(outbox).trim()
    assert await left(database) == {license_id: [2] for license_id in range(1, 102)}


async def test_a_step_takes_few_pushes_if_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    await migrate(settings)
    store = SqliteStore(tmp_path / "rtm.sqlite3")
    await store.start()
    between_batches = store.between_batches
    took_s: list[float] = []

    async def timed(work: Callable[[sqlite3.Connection], Any]) -> Any:
        def step(connection: sqlite3.Connection) -> Any:
            began = time.thread_time()
            try:
                return work(connection)
            finally:
                took_s.append(time.thread_time() - began)

        return await between_batches(step)

    monkeypatch.setattr(store, "between_batches", timed)
    async with connect(settings) as database:
        await fill(database, {1: [100] * 100, 2: [100, 0]}, {"text": "x" * 1_000_000})
        await trimmer(SqliteOutbox(store)).trim()
        assert await left(database) == {2: [2]}
    await store.stop()
    assert max(took_s) < 0.15  # the writer waits; all at once took 0.5


async def test_no_more_is_read_at_once_than_a_megabyte(database: Database) -> None:
    audience = {"agents": [], "groups": [], "customers": [], "everyone": True}
    envelope = {"license_id": 1, "name": "incoming_event", "sequence": 1, "audience": audience}
    await fill(database, {1: [0] * 100}, envelope | {"payload": {"text": "x" * 100_000}})
    queries = Queries(database)
    assert len(await queries.pushes_after(1, 0, 500)) == 11
    assert len(await queries.pushes_after(1, 95, 500)) == 5
    assert len(await queries.pushes_after(1, 0, 3)) == 3


async def test_who_is_behind_keeps_what_is_needed_but_not_for_ever(outbox: Outbox, database: Database) -> None:
    await fill(database, {1: [290, 170, 150, 0]})
    await trimmer(outbox, behind_s=100).trim()
    assert await left(database) == {1: [3, 4]}
    await trimmer(outbox, behind_s=1000).trim()
    assert await left(database) == {1: [3, 4]}
    await fill(database, {2: [310, 290]})
    await trimmer(outbox, behind_s=1000).trim()
    assert await left(database) == {1: [3, 4], 2: [2]}


@pytest.fixture
async def on_postgresql(postgres_url: str) -> AsyncIterator[Database]:
    settings = Settings(database_url=postgres_url)
    await migrate(settings)
    async with connect(settings) as database:
        yield database


async def test_the_process_that_is_furthest_behind_counts_until_it_leaves(on_postgresql: Database) -> None:
    ahead, behind = PostgresqlOutbox(on_postgresql.engine), PostgresqlOutbox(on_postgresql.engine)
    await fill(on_postgresql, {1: [200, 170, 150, 100, 0]})
    await trimmer(behind, behind_s=100).trim()
    await trimmer(ahead).trim()
    assert await left(on_postgresql) == {1: [3, 4, 5]}
    await trimmer(behind).stop()
    await trimmer(ahead).trim()
    assert await left(on_postgresql) == {1: [5]}


async def test_a_process_that_died_counts_until_it_is_too_old(on_postgresql: Database) -> None:
    died = timestamp(time.time() - MAX_AGE_S - 1), timestamp(time.time() - MAX_AGE_S + 30)
    rows = [{"id": place, "passed_at": at} for place, at in enumerate(died)]
    readers = tables.outbox_readers
    async with on_postgresql.engine.begin() as connection:
        await connection.execute(insert(readers), [{**row, "id": str(row["id"])} for row in rows])
    await fill(on_postgresql, {1: [MAX_AGE_S, MAX_AGE_S - 60, 100]})

    await trimmer(PostgresqlOutbox(on_postgresql.engine)).trim()

    assert await left(on_postgresql) == {1: [2, 3]}
    async with on_postgresql.engine.connect() as connection:
        assert len(list(await connection.scalars(select(readers.c.id)))) == 2  # the one that has just told, too


async def test_one_process_trims_at_a_time_and_holds_up_nobody_who_writes(
    world_with: Callable[..., Awaitable[World]], postgres_url: str
) -> None:
    world = await world_with(database_url=postgres_url)
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])
    engine = world.server.database.engine
    async with engine.connect() as trimming:
        await trimming.exec_driver_sql(f"SELECT pg_advisory_xact_lock({module._LOCK})")
        await trimming.exec_driver_sql("DELETE FROM outbox")

        assert await PostgresqlOutbox(engine).trim(timestamp(time.time()), 0) == []
        await alice.call("send_event", chat_id=chat.id, event=HELLO)
        await bob.next_push("incoming_event")


async def test_a_server_trims_while_it_serves(
    world_with: Callable[..., Awaitable[World]],
    either_database: Settings,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.05)
    url = either_database.database_url
    shared = {"database_url": url, "redis_url": redis_url} if url else {}
    world = await world_with(outbox_keep_s=0, **shared)
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])

    async with asyncio.timeout(10):
        for _ in range(3):
            sent = (await alice.call("send_event", chat_id=chat.id, event=HELLO))["event_id"]
            assert (await bob.next_push("incoming_event"))["event"]["id"] == sent
            while await world.stored_pushes():
                await asyncio.sleep(0.02)
    await bob.hears_nothing_more()


async def test_who_wakes_up_to_find_what_is_needed_gone_is_sent_away(
    world_with: Callable[..., Awaitable[World]], postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 3600)
    world = await world_with(database_url=postgres_url, redis_url=redis_url)
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    # What another process, whose bus is cut, has stored and trimmed since, all but the last.
    async with world.server.database.engine.begin() as connection:
        of_license = tables.licenses.c.id == world.license_id
        sequence = tables.licenses.c.sequence
        await connection.execute(tables.outbox.delete().where(tables.outbox.c.license_id == world.license_id))
        await connection.execute(tables.licenses.update().where(of_license).values(sequence=sequence + 9))
        last = (await connection.execute(select(sequence).where(of_license))).scalar_one()
        envelope = {"license_id": world.license_id, "name": "incoming_multicast", "sequence": last, "payload": {}}
        envelope["audience"] = {"agents": [], "groups": [], "customers": [], "everyone": True}
        row = {"license_id": world.license_id, "sequence": last, "created_at": timestamp(0), "envelope": envelope}
        await connection.execute(insert(tables.outbox), row)

    async with asyncio.timeout(5):
        assert await alice.ended() == ({"reason": "internal_error"}, CloseCode.NORMAL_CLOSURE)

    alice = await world.agent("alice")
    await alice.call("send_event", chat_id=chat.id, event=HELLO)
    await alice.next_push("incoming_event")
