"""Files that were uploaded, in the database: there every process finds them, and backups have them.

A file is kept in parts, so that neither who sends one nor who reads one costs more memory or time than a part. They are
written in small transactions beside the commands: by the writer's thread of SQLite, where nobody else may write, and on
connections of their own to PostgreSQL. A file without all of its parts has an id that nobody was told, and expires.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import structlog
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from rtm.model.files import StoredFile
from rtm.outage import Outage, again_and_again
from rtm.protocol.errors import LimitReached
from rtm.protocol.timestamps import from_seconds
from rtm.store.database import Database
from rtm.store.rows import FILE
from rtm.store.sqlite import SqliteStore, transaction

log = structlog.get_logger(__name__)

PART_BYTES = 1 << 16
ROW_BYTES = 1 << 12
"""What a file counts besides its size, however small it is."""
PARTS_IN_STEP = 16
"""Written or deleted in one transaction, for which the writer of SQLite waits: some 10 ms."""
AT_ONCE = 4
"""Reads and writes, so that the others find connections of the pool, however many send and read files."""
TRIM_INTERVAL_S = 60.0
TRIM_AFTER_S = 3600
"""Longer than clocks differ and a command takes: what is deleted is in no event, and in none about to be stored."""
PAUSE_S = 0.01
"""Between two steps, for those who write."""

Parameters = Mapping[str, Any]

_INSERT_FILE = f"INSERT INTO files ({FILE}) VALUES (:{FILE.replace(', ', ', :')})"  # noqa: S608 - our own names
_INSERT_PART = (
    "INSERT INTO file_parts (file_id, variant, number, content) VALUES (:file_id, :variant, :number, :content)"
)
_FIND = f"SELECT {FILE} FROM files WHERE id = :id"  # noqa: S608
_UNUSED = (
    "SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM files"
    " WHERE license_id = :license_id AND expires_at IS NOT NULL"
)
_READ = "SELECT content FROM file_parts WHERE file_id = :file_id AND variant = :variant AND number = :number"
_EXPIRED = "SELECT id, size FROM files WHERE expires_at < :before ORDER BY expires_at LIMIT 1"
_DELETE_PARTS = "DELETE FROM file_parts WHERE file_id = :id AND variant = 0 AND number < :end"
_DELETE = "DELETE FROM files WHERE id = :id"
"""What is left of its parts goes with it."""


class Writes(Protocol):
    """A way to write beside the commands."""

    async def __call__(self, statement: str, rows: Sequence[Parameters]) -> None:
        """Run the statement for each of these, in one transaction. Raises what the database's driver raises."""


def sqlite_writes(store: SqliteStore) -> Writes:
    """By the writer's thread, between its batches."""

    async def write(statement: str, rows: Sequence[Parameters]) -> None:
        def step(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(statement, rows)

        await store.between_batches(step)

    return write


def postgresql_writes(engine: AsyncEngine) -> Writes:
    """Beside the writer."""

    async def write(statement: str, rows: Sequence[Parameters]) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement), list(rows))

    return write


class Files:
    """Adds, finds, reads and forgets files."""

    def __init__(self, database: Database, write: Writes, unused_bytes: int = 0) -> None:
        """Of one license files that no event shows may have `unused_bytes`; 0 is any number."""
        self._engine = database.engine
        self._writes = write
        self._unused_bytes = unused_bytes
        self._adding = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def add(self, file: StoredFile, content: AsyncIterator[bytes], thumbnails: Sequence[bytes]) -> None:
        """Store a file of which the content comes in pieces of PART_BYTES, and its thumbnails. Raises LimitReached."""
        async with self._adding:  # so that no two take the same room; other processes may, for a moment
            await self.check_room(file.license_id, file.size)
            await self._write(_INSERT_FILE, [asdict(file)])
        parts: list[Parameters] = [
            _part(file.id, variant, number, thumbnail[start : start + PART_BYTES])
            for variant, thumbnail in enumerate(thumbnails, start=1)
            for number, start in enumerate(range(0, len(thumbnail), PART_BYTES))
        ]
        number = 0
        async for piece in content:
            parts.append(_part(file.id, 0, number, piece))
            number += 1
            if len(parts) >= PARTS_IN_STEP:
                await self._write(_INSERT_PART, parts)
                parts = []
        if parts:
            await self._write(_INSERT_PART, parts)

    async def find(self, file_id: str) -> StoredFile | None:
        """The file of that id, though it may have expired."""
        row = await self._one(_FIND, {"id": file_id})
        return None if row is None else StoredFile(**row)

    async def read(self, file_id: str, variant: int = 0, first_part: int = 0) -> AsyncGenerator[bytes, None]:
        """The parts of the file (0) or of a thumbnail (1, 2), each read when it is asked for."""
        number = first_part
        while (row := await self._one(_READ, {"file_id": file_id, "variant": variant, "number": number})) is not None:
            yield row["content"]
            number += 1

    async def remove_expired(self, before: str) -> None:
        """Delete what expired before then, in small steps. Raises what the database's driver raises."""
        while (row := await self._one(_EXPIRED, {"before": before})) is not None:
            for end in range(PARTS_IN_STEP, row["size"] // PART_BYTES, PARTS_IN_STEP):
                await self._write(_DELETE_PARTS, [{"id": row["id"], "end": end}])
                await asyncio.sleep(PAUSE_S)
            await self._write(_DELETE, [{"id": row["id"]}])
            await asyncio.sleep(PAUSE_S)

    async def run(self) -> None:
        """Delete expired files until cancelled."""
        await again_and_again(self._trim, Outage(log, "files_not_trimmed"), every_s=TRIM_INTERVAL_S)

    async def _trim(self) -> None:
        await self.remove_expired(from_seconds(time.time() - TRIM_AFTER_S))

    async def check_room(self, license_id: int, size: int) -> None:
        """Whether a file of so many bytes can be added. Raises LimitReached."""
        if not self._unused_bytes:
            return
        unused = await self._one(_UNUSED, {"license_id": license_id})
        assert unused is not None
        if unused["bytes"] + size + (unused["files"] + 1) * ROW_BYTES > self._unused_bytes:
            most = f"{self._unused_bytes / (1 << 20):g}MB"
            raise LimitReached(f"`file` is too much: files of the license that no event shows have at most {most}")

    async def _write(self, statement: str, rows: Sequence[Parameters]) -> None:
        async with self._turns:
            await self._writes(statement, rows)

    async def _one(self, query: str, parameters: Parameters) -> RowMapping | None:
        async with self._turns, self._engine.connect() as connection:
            return (await connection.execute(text(query), parameters)).mappings().one_or_none()


def _part(file_id: str, variant: int, number: int, content: bytes) -> Parameters:
    return {"file_id": file_id, "variant": variant, "number": number, "content": content}
