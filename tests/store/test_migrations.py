"""The migrations make exactly the tables that the code uses, and no database is used that they do not fit."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select, text

from rtm.settings import Settings
from rtm.store import tables
from rtm.store.database import Database, DatabaseError, Schema, check_schema, connect, migrate, schema
from rtm.store.database import _config as config
from rtm.store.tables import metadata


@pytest.fixture
def settings(either_database: Settings) -> Settings:
    return either_database


def differences(connection: Connection) -> list[object]:
    def is_ours(name: str | None, _kind: str, _parents: object) -> bool:
        return not (name or "").startswith(
            ("archive_index", "ix_archive_labels", "ix_archive_words", "blanks", "new_events")
        )  # the inverted ones, and what one dialect has only

    context = MigrationContext.configure(connection, opts={"compare_server_default": True, "include_name": is_ours})
    return list(compare_metadata(context, metadata))


async def execute(settings: Settings, statement: str) -> None:
    async with connect(settings) as database, database.engine.begin() as connection:
        await connection.execute(text(statement))


@pytest.mark.filterwarnings("ignore:.*expression-based index")
async def test_the_migrated_schema_is_the_one_in_tables(settings: Settings) -> None:
    await migrate(settings)

    async with connect(settings) as database, database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_chats_from_before_routing_are_looked_at_by_the_router(settings: Settings) -> None:
    async with connect(settings) as database, database.engine.connect() as connection:
        await connection.run_sync(lambda before: command.upgrade(config(before), "0004"))
        for statement in (
            "INSERT INTO licenses VALUES (1, 'o', 'p', 't', NULL, '{}', 0, 0)",
            "INSERT INTO customers VALUES (1, 'ada', NULL, NULL, 't', '{}')",
            "INSERT INTO chats VALUES ('open', 1, true, NULL, 't', '{}', '{}')",
            "INSERT INTO chats VALUES ('closed', 1, false, NULL, 't', '{}', '{}')",
            "INSERT INTO chats VALUES ('internal', 1, true, NULL, 't', '{}', '{}')",
            "INSERT INTO chat_users VALUES ('open', 'ada', 1, true, false), ('closed', 'ada', 1, true, false)",
            "INSERT INTO chat_users VALUES ('open', 'bob', 1, true, false), ('internal', 'bob', 1, true, false)",
        ):
            await connection.execute(text(statement))
        await connection.commit()

    await migrate(settings)

    async with connect(settings) as database, database.engine.connect() as connection:
        due = await connection.execute(
            select(tables.chats.c.id, tables.chats.c.state).where(tables.chats.c.due_at == "t")
        )
        assert [tuple(row) for row in due] == [("open", {"due_at": "t"})]
        types = await connection.execute(select(tables.chat_users.c.user_id, tables.chat_users.c.type).distinct())
        assert sorted(tuple(row) for row in types) == [("ada", "customer"), ("bob", "agent")]


async def test_what_was_due_several_times_is_due_once(settings: Settings) -> None:
    async with connect(settings) as database, database.engine.connect() as connection:
        await connection.run_sync(lambda before: command.upgrade(config(before), "0011"))
        for thread_id, afresh in (("one", True), ("two", False), ("one", False), ("two", False)):
            row = f"(1, '{thread_id}', {afresh})"
            await connection.execute(text(f"INSERT INTO archive_due (license_id, thread_id, afresh) VALUES {row}"))
        await connection.commit()

    await migrate(settings)

    await execute(settings, "INSERT INTO archive_due (license_id, thread_id) VALUES (1, 'three')")
    async with connect(settings) as database, database.engine.connect() as connection:
        due = select(tables.archive_due.c.thread_id, tables.archive_due.c.afresh).order_by(tables.archive_due.c.id)
        found = await connection.execute(due)
        assert [tuple(row) for row in found] == [("one", True), ("two", False), ("three", False)]


async def test_migrating_again_changes_nothing(settings: Settings) -> None:
    assert await schema(settings) is Schema.EMPTY
    await migrate(settings)
    await execute(settings, "INSERT INTO licenses VALUES (1, 'o', 'p', 't', NULL, '{}', 0, 0)")

    await migrate(settings)

    assert await schema(settings) is Schema.CURRENT
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        await execute(settings, "INSERT INTO licenses VALUES (1, 'o', 'p', 't', NULL, '{}', 0, 0)")


async def test_an_empty_database_is_refused_with_the_command_to_run(settings: Settings) -> None:
    await execute(settings, "SELECT 1")  # SQLite makes the file
    with pytest.raises(DatabaseError, match="run `rtm migrate`"):
        await check_schema(settings)


async def test_a_database_of_a_newer_version_is_refused_and_not_touched(settings: Settings) -> None:
    await migrate(settings)
    await execute(settings, "UPDATE alembic_version SET version_num = '9999'")

    for use in (check_schema, migrate):
        with pytest.raises(DatabaseError, match="newer version of rtm") as refused:
            await use(settings)
        assert "\n" not in str(refused.value)
    assert await schema(settings) is Schema.NEWER


async def test_a_migration_that_fails_leaves_nothing_behind(settings: Settings) -> None:
    await execute(settings, "CREATE TABLE outbox (in_the_way INTEGER)")

    with pytest.raises(DatabaseError, match="outbox"):
        await migrate(settings)

    await execute(settings, "DROP TABLE outbox")
    assert await schema(settings) is Schema.EMPTY


async def test_sqlite_acknowledges_only_what_is_on_disk(tmp_path: Path) -> None:
    async with connect(Settings(data_dir=tmp_path)) as database:
        assert await pragma(database, "journal_mode") == "wal"
        assert await pragma(database, "synchronous") == 2  # FULL
        assert await pragma(database, "foreign_keys") == 1
        assert await pragma(database, "busy_timeout") == 10_000


async def pragma(database: Database, name: str) -> object:
    async with database.engine.connect() as connection:
        return (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()


@pytest.mark.parametrize("parameters", ["", "?no_such_parameter=1", "?ssl=words"])
async def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(parameters: str) -> None:
    settings = Settings(database_url=f"postgresql://me:secret@127.0.0.1:1/db{parameters}")

    with pytest.raises(
        DatabaseError, match=r"cannot use the database postgresql://me:\*\*\*@127.0.0.1:1/db"
    ) as refused:
        await check_schema(settings)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_looking_for_a_database_does_not_create_its_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="there is no database"):
        asyncio.run(check_schema(Settings(data_dir=tmp_path / "elsewhere")))
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "rtm.sqlite3").write_bytes(b"no database at all, only words " * 100)

    with pytest.raises(DatabaseError, match="not a database"):
        await check_schema(Settings(data_dir=tmp_path))
