"""Those who have an open chat are found by their open chats, however many chats there were."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from rtm.settings import Settings
from rtm.store.customers import CustomerQueries
from rtm.store.database import connect, migrate


@pytest.mark.parametrize("group_ids", [None, {0, 1}])
async def test_sqlite_reads_no_closed_chats(tmp_path: Path, group_ids: set[int] | None) -> None:
    settings = Settings(data_dir=tmp_path)
    await migrate(settings)
    asked: list[tuple[str, Any]] = []

    async with connect(settings) as database:
        engine = database.engine

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def ask(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((statement, parameters))

        await CustomerQueries(database).here(1, group_ids, 500)
        queries = list(asked)
        async with engine.connect() as connection:
            for statement, parameters in queries:
                plan = str((await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all())
                assert "ix_chats_due" in plan
                assert "ix_chats_license_id_sorted_at" not in plan
                assert "SCAN chat" not in plan
    assert queries
