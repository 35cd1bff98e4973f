"""Chats that are due are found some of each license at a time."""

from typing import Any

from sqlalchemy import insert

from rtm.access.founding import license_row
from rtm.protocol.timestamps import seconds_after
from rtm.settings import Settings
from rtm.store import tables
from rtm.store.database import connect, migrate
from rtm.store.queries import DueChat, Queries

NOW = "2026-11-22T09:00:00.000000Z"


def chat(license_id: int, id_: str, due_s: float | None) -> dict[str, Any]:
    """Due so many seconds after NOW; of those due the earlier, the thread began the later."""
    return {
        "id": id_,
        "license_id": license_id,
        "active": True,
        "sorted_at": seconds_after(NOW, -1000 - (due_s or 0)),
        "due_at": None if due_s is None else seconds_after(NOW, due_s),
        "properties": {},
        "state": {},
    }


async def test_the_many_of_one_license_leave_room_for_those_of_others(either_database: Settings) -> None:
    await migrate(either_database)
    many = [chat(1, f"MANY{number:02}", number - 100) for number in range(20)]
    agent = {"chat_id": "ONE", "license_id": 2, "type": "agent", "present": True, "follows": False}
    agents = [agent | {"user_id": each} for each in ("alice", "bob")]
    async with connect(either_database) as database:
        async with database.engine.begin() as connection:
            await connection.execute(insert(tables.licenses), [license_row(1), license_row(2)])
            await connection.execute(
                insert(tables.chats), [*many, chat(2, "ONE", 0), chat(2, "LATER", 1), chat(2, "NEVER", None)]
            )
            await connection.execute(insert(tables.chat_users), agents)
        queries = Queries(database)
        one = DueChat(2, "ONE", frozenset({"alice", "bob"}))
        first = [DueChat(1, f"MANY{number:02}", frozenset()) for number in range(10)]
        assert await queries.due_chats(NOW, of_license=10, limit=100) == [one, *reversed(first)]
        assert await queries.due_chats(NOW, of_license=10, limit=2) == [one, first[0]]
        assert await queries.due_chats(seconds_after(NOW, -1000), of_license=10, limit=100) == []
