"""The engine."""

import asyncio
import itertools
import stat
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from rtm.outage import UNAVAILABLE
from rtm.settings import Settings
from rtm.store import database
from rtm.store.database import Database, DatabaseError, connect, make_ready, migrate, open_postgresql
from tests.servers import SLOW_STATEMENT

SOON_S = 10


@pytest.mark.parametrize(("statement_timeout_s", "patience_s"), [(0.5, 300), (300, 0.5)], ids=["limit", "cancelled"])
async def test_a_statement_ends_with_its_time_or_when_nobody_waits_for_it(
    either_database: Settings, statement_timeout_s: float, patience_s: float
) -> None:
    async with connect(either_database, statement_timeout_s=statement_timeout_s) as database:
        for _ in range(2):
            began = monotonic()
            with pytest.raises(UNAVAILABLE):
                async with asyncio.timeout(patience_s), database.engine.connect() as connection:
                    await connection.execute(text(SLOW_STATEMENT))
            assert monotonic() - began < SOON_S
            await ask(database)


@pytest.mark.parametrize("statement_timeout_s", [None, 10])
async def test_a_cancelled_statement_leaves_no_task_that_cannot_end(
    tmp_path: Path, statement_timeout_s: float | None
) -> None:
    """Such a task would keep the process from ending. Cancelled at many points, and again soon after."""
    threads = set(threading.enumerate())
    async with connect(Settings(data_dir=tmp_path), statement_timeout_s=statement_timeout_s) as database:
        await ask(database)
        before = asyncio.all_tasks()
        for turns, more_turns in itertools.product((2, 5, 8, 12, 20, 40, 80), (1, 2, 4, 8, 12)):
            asking = asyncio.create_task(ask(database))
            await turn(turns)
            asking.cancel()
            await turn(more_turns)
            asking.cancel()
            await asyncio.wait([asking])
            for task in (left := asyncio.all_tasks() - before):
                task.cancel()
            if left:
                _, endless = await asyncio.wait(left, timeout=5)
                assert not endless
    for thread in set(threading.enumerate()) - threads:  # those that were stopped still report to the loop
        thread.join()


async def test_a_connection_that_could_not_be_prepared_is_closed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    connect = asyncpg.connect

    async def noted(*arguments: Any, **options: Any) -> Any:
        opened.append(await connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(asyncpg, "connect", noted)
    monkeypatch.setattr(database, "IDLE_IN_TRANSACTION_TIMEOUT_MS", "soon")
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await open_postgresql(postgres_url, statement_timeout_s=5)
    assert [each.is_closed() for each in opened] == [True]


async def ask(database: Database) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


async def turn(times: int) -> None:
    """Let the event loop turn."""
    for _ in range(times):
        await asyncio.sleep(0)


def modes(folder: Path) -> dict[str, int]:
    """Who may do what with the files that are there."""
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}


async def test_what_is_stored_is_its_owners_alone_in_any_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    await migrate(settings)
    async with connect(settings) as database, database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE more (id int)"))
        assert modes(tmp_path) == dict.fromkeys(("rtm.sqlite3", "rtm.sqlite3-wal", "rtm.sqlite3-shm"), 0o600)


async def test_a_database_that_can_only_be_read_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    await make_ready(settings, create=False)
    set_pragmas = database._set_pragmas

    def open_to_read(connection: Any, record: object) -> None:
        set_pragmas(connection, record)
        connection.execute("PRAGMA query_only = 1")

    monkeypatch.setattr(database, "_set_pragmas", open_to_read)
    with pytest.raises(DatabaseError, match=r"rtm\.sqlite3: attempt to write a readonly database"):
        await make_ready(settings, create=False)
