"""Files in the database: in parts, and gone when they have expired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from rtm.access.founding import license_row
from rtm.model.files import StoredFile
from rtm.settings import Settings
from rtm.store import tables
from rtm.store.database import Database, connect, migrate
from rtm.store.files import PART_BYTES, PARTS_IN_STEP, Files, postgresql_writes, sqlite_writes
from rtm.store.sqlite import SqliteStore

FILE = StoredFile("a", 1, "http://rtm", "a.txt", "text/plain", 5, None, None, "2026-01-01", "2026-01-02")
SIZES = (0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, PARTS_IN_STEP * PART_BYTES, (PARTS_IN_STEP + 1) * PART_BYTES)


@asynccontextmanager
async def serving(database: Database, settings: Settings) -> AsyncIterator[Files]:
    if database.dialect == "postgresql":
        yield Files(database, postgresql_writes(database.engine))
        return
    store = SqliteStore(Path(str(settings.database.database)))
    await store.start()
    yield Files(database, sqlite_writes(store))
    await store.stop()


@pytest.fixture
async def database(either_database: Settings) -> AsyncIterator[Database]:
    await migrate(either_database)
    async with connect(either_database) as database:
        async with database.engine.begin() as connection:
            await connection.execute(insert(tables.licenses), license_row(1))
        yield database


@pytest.fixture
async def files(database: Database, either_database: Settings) -> AsyncIterator[Files]:
    async with serving(database, either_database) as files:
        yield files


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PART_BYTES):
        yield content[start : start + PART_BYTES]


async def read(files: Files, file_id: str, variant: int = 0) -> bytes:
    return b"".join([part async for part in files.read(file_id, variant)])


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_comes_back_whole(files: Files, size: int) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    await files.add(FILE, pieces(content), [b"small", b"x" * (PART_BYTES + 1)])
    assert await files.find("a") == FILE
    assert await files.find("b") is None
    assert await read(files, "a") == content
    assert [await read(files, "a", variant) for variant in (1, 2, 3)] == [b"small", b"x" * (PART_BYTES + 1), b""]


async def test_what_has_expired_goes_with_its_parts(files: Files, database: Database) -> None:
    kept = [replace(FILE, id="later", expires_at="2026-01-04"), replace(FILE, id="used", expires_at=None)]
    for file in (FILE, *kept):
        await files.add(file, pieces(b"hello"), [b"small", b"large"])
    for size in (SIZES[-2], SIZES[-1], 3 * SIZES[-1]):
        await files.add(replace(FILE, id=str(size), size=size), pieces(bytes(size)), [b"small"])

    await files.remove_expired("2026-01-03")

    assert [await files.find(file_id) for file_id in ("a", str(SIZES[-1]))] == [None, None]
    assert [await files.find(file.id) for file in kept] == kept
    async with database.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(tables.file_parts)) == 3 * len(kept)


async def test_parts_are_read_one_at_a_time(files: Files) -> None:
    await files.add(FILE, pieces(bytes(3 * PART_BYTES)), ())
    parts = files.read("a", first_part=1)
    assert len(await anext(parts)) == PART_BYTES
    await files.remove_expired("2026-01-03")
    assert [part async for part in parts] == []
