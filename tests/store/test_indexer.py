"""Threads are indexed, whatever comes between: restarts, threads from before there was an index, long ones."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, text

from rtm.model.chat import EventBody, NewEvent
from rtm.protocol.identifiers import event_number
from rtm.settings import Settings
from rtm.store import indexer
from rtm.store.database import connect, migrate
from rtm.store.sqlite import SqliteStore
from tests.world import Chat, Server, World, visiting

LONG_AGO, FAR_OFF = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


async def found(by: Any, **filters: Any) -> int:
    answer = await by.call("list_archives", filters=filters)
    count: int = answer["found_chats"]
    return count


async def due(world: World) -> int:
    async with world.server.database.engine.connect() as connection:
        count = "SELECT (SELECT count(*) FROM archive_due) + (SELECT count(*) FROM archive_due_chats)"
        return int((await connection.execute(text(count))).scalar_one())


async def nothing_is_due(world: World) -> None:
    async with asyncio.timeout(20):
        while await due(world):
            await asyncio.sleep(0.05)


async def indexed(world: World, chat: Chat) -> int:
    """How many of the thread's events."""
    wanted = text("SELECT events_count FROM archive WHERE thread_id = :id")
    async with world.server.database.engine.connect() as connection:
        return int((await connection.execute(wanted, {"id": chat.thread_id})).scalar_one())


async def chat_of_threads(by: Any, world: World, count: int) -> Chat:
    """An open chat with so many threads."""
    chat = await world.chat(by)
    for _ in range(count - 1):
        await by.call("deactivate_chat", id=chat.id)
        await by.call("resume_chat", chat={"id": chat.id})
    return chat


async def test_what_is_not_indexed_when_the_server_stops_is_when_it_starts_again(either_database: Settings) -> None:
    async with Server(either_database) as server, visiting(server) as world:
        alice = await world.agent("alice")
        chat = await world.chat(alice, texts=["first"])
        assert await found(alice, query="first") == 1
        await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "second"})
        license_id = world.license_id
    async with Server(either_database) as server:
        world = World(server, license_id)
        await nothing_is_due(world)
        olivia = await world.web("olivia")
        assert await found(olivia, query="first second") == 1
        await world.close()


async def test_threads_from_before_there_was_an_index_are_found(either_database: Settings) -> None:
    async with Server(either_database) as server, visiting(server) as world:
        alice = await world.agent("alice")
        chats = [await world.chat(alice, texts=[f"number {number}"]) for number in range(30)]
        await nothing_is_due(world)
        async with server.database.engine.begin() as connection:
            await connection.execute(text("DELETE FROM archive"))
            statement = "INSERT INTO archive_due (license_id, thread_id) SELECT license_id, id FROM threads"
            await connection.execute(text(statement))
        await nothing_is_due(world)
        assert await found(alice, query="number") == len(chats)
        assert await found(alice, query="7") == 1


@pytest.mark.parametrize(("bound", "bytes_or_events"), [("EVENTS_IN_STEP", 30), ("BYTES_IN_STEP", 6000)])
async def test_a_thread_of_more_events_than_a_step_takes(
    either_world: World, monkeypatch: pytest.MonkeyPatch, bound: str, bytes_or_events: int
) -> None:
    monkeypatch.setattr(indexer, bound, bytes_or_events)
    read, most = indexer._decoded, 0

    def counted(rows: Sequence[Row[Any]]) -> dict[str, list[tuple[int, EventBody]]]:
        nonlocal most
        most = max(most, len(rows))
        return read(rows)

    monkeypatch.setattr(indexer, "_decoded", counted)
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice, texts=[f"word{number} said" for number in range(100)])
    await nothing_is_due(either_world)
    assert 10 < most <= 40
    assert await found(alice, query="word0 word99 said") == 1
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "and more"})
    assert await found(alice, query="more word50 said") == 1


async def test_a_thread_is_found_by_properties_that_its_events_got_later(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice, texts=[f"word{number}" for number in range(20)])
    await nothing_is_due(either_world)
    monkeypatch.setattr(indexer, "EVENTS_IN_STEP", 7)
    of_event = {"chat_id": chat.id, "thread_id": chat.thread_id, "event_id": chat.event_ids[3]}

    await alice.call("update_event_properties", **of_event, properties={"lc2": {"greeting_id": 7}})
    assert await found(alice, greetings={"values": [7]}) == 1
    assert await found(alice, greetings={"from": LONG_AGO, "to": FAR_OFF}) == 1
    assert await found(alice, query="word0 word19") == 1

    await alice.call("delete_event_properties", **of_event, properties={"lc2": ["greeting_id"]})
    assert await found(alice, greetings={"values": [7]}) == 0
    assert await found(alice, greetings={"from": LONG_AGO, "to": FAR_OFF}) == 0
    assert await found(alice, query="word0 word19") == 1


async def test_all_threads_of_a_chat_are_found_by_its_properties_as_they_are_now(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    olivia = await either_world.web("olivia")
    chats = [await chat_of_threads(olivia, either_world, 6) for _ in range(2)]
    await nothing_is_due(either_world)
    monkeypatch.setattr(indexer, "EARLIER_THREADS_AT_ONCE", 2)
    made_due = 0
    make_due = indexer.Indexer._make_due

    async def and_changed_meanwhile(self: indexer.Indexer, license_id: int | None) -> None:
        nonlocal made_due
        await make_due(self, license_id)
        made_due += 1
        if made_due == 3:
            await olivia.call("update_chat_properties", id=chats[0].id, properties={"marks": {"number": 3}})

    monkeypatch.setattr(indexer.Indexer, "_make_due", and_changed_meanwhile)
    for chat in chats:
        await olivia.call("update_chat_properties", id=chat.id, properties={"marks": {"number": 1}})
    await nothing_is_due(either_world)
    for number, count in ((1, 6), (3, 6)):
        assert await found(olivia, properties={"marks": {"number": {"values": [number]}}}) == count


async def test_other_threads_do_not_wait_for_all_of_a_chat(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    olivia = await either_world.web("olivia")
    long, short = await chat_of_threads(olivia, either_world, 6), await either_world.chat(olivia)
    await nothing_is_due(either_world)
    monkeypatch.setattr(indexer, "EARLIER_THREADS_AT_ONCE", 1)
    order: list[str] = []
    changes = indexer.Indexer._changes

    async def noted(self: indexer.Indexer, *args: Any) -> Any:
        transactions, complete = await changes(self, *args)
        rows = [row for part in transactions for written, rows in part if written is indexer._UPSERT for row in rows]
        order.extend(str(row["chat_id"]) for row in rows if row["chat_id"] in (long.id, short.id))
        if order.count(long.id) == 3 and short.id not in order:
            tagged = {"chat_id": short.id, "thread_id": short.thread_id, "tag": "order"}
            await olivia.call("tag_thread", **tagged)
        return transactions, complete

    monkeypatch.setattr(indexer.Indexer, "_changes", noted)
    await olivia.call("update_chat_properties", id=long.id, properties={"marks": {"number": 1}})
    await nothing_is_due(either_world)
    assert order == [*[long.id] * 3, short.id, *[long.id] * 3]


async def test_a_thread_that_changes_while_it_is_indexed_is_indexed_again(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    olivia = await either_world.web("olivia")
    chat = await either_world.chat(olivia)
    of_thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
    await nothing_is_due(either_world)
    tags = ["refund"]
    changes = indexer.Indexer._changes

    async def and_tagged_meanwhile(self: indexer.Indexer, *args: Any) -> Any:
        read = await changes(self, *args)
        if tags:
            await olivia.call("tag_thread", **of_thread, tag=tags.pop())
        return read

    monkeypatch.setattr(indexer.Indexer, "_changes", and_tagged_meanwhile)
    await olivia.call("tag_thread", **of_thread, tag="order")
    await nothing_is_due(either_world)
    for tag in ("order", "refund"):
        assert await found(olivia, tags={"values": [tag]}) == 1


async def test_licenses_in_which_nothing_is_left_to_index_are_forgotten(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    await migrate(settings)
    store = SqliteStore(tmp_path / "rtm.sqlite3")
    await store.start()
    async with connect(settings) as database:
        of_all = indexer.Indexer(database, store)
        for license_id in (1, 2):
            of_all.said(license_id, [NewEvent("THREAD", 1, {}, "alice", "CHAT")])
        await of_all._step([(1, "THREAD")])
        assert list(of_all._said) == [2]
    await store.stop()


async def test_open_threads_are_indexed_while_others_are_due(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice, texts=["before"])
    await nothing_is_due(either_world)

    async def is_due(*_: object) -> bool:
        return True

    monkeypatch.setattr(indexer.Indexer, "_is_due", is_due)
    await asyncio.sleep(indexer.INTERVAL_S)  # it is at it
    event = (await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "meanwhile"}))[
        "event_id"
    ]
    async with asyncio.timeout(20):
        while await indexed(either_world, chat) != event_number(chat.thread_id, event):
            await asyncio.sleep(0.05)


async def test_the_newest_are_those_of_the_last_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await world.agent("alice")
    first, second = [await world.chat(alice, texts=["before"]) for _ in range(2)]
    await nothing_is_due(world)
    monkeypatch.setattr(indexer, "THREADS_IN_STEP", 1)
    monkeypatch.setattr(indexer, "CATCH_UP_THREADS", 1)
    for chat, said in ((first, "one"), (second, "two"), (first, "three")):
        await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": said})
    assert await found(alice, query="three") == 1


async def test_long_threads_are_written_one_after_the_other(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await either_world.agent("alice")
    chats = [await either_world.chat(alice, texts=["many words that are said"]) for _ in range(5)]
    await nothing_is_due(either_world)
    monkeypatch.setattr(indexer, "WRITTEN_AT_ONCE", 20)
    written = []
    write = indexer._write_to_sqlite

    def noted(db: sqlite3.Connection, statements: Sequence[indexer.Statement]) -> None:
        written.append([statement for statement, _ in statements].count(indexer._UPSERT))
        write(db, statements)

    monkeypatch.setattr(indexer, "_write_to_sqlite", noted)
    async with either_world.server.database.engine.begin() as connection:
        of_license = f"FROM threads WHERE license_id = {either_world.license_id}"
        await connection.execute(text(f"DELETE FROM archive WHERE license_id = {either_world.license_id}"))
        due = f"INSERT INTO archive_due (license_id, thread_id) SELECT license_id, id {of_license}"
        await connection.execute(text(due))
    await nothing_is_due(either_world)
    assert await found(alice, query="many words") == len(chats)
    assert not written or max(written) == 1


async def test_a_long_thread_is_indexed_less_often_unless_somebody_asks(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "REST_S", 2000)
    alice = await either_world.agent("alice")
    words = " ".join(f"word{number}" for number in range(1000))
    long, short = [await either_world.chat(alice, texts=[each]) for each in (words, "word")]
    await nothing_is_due(either_world)
    before = await indexed(either_world, long)
    for chat in (long, short):
        await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "more"})
    async with asyncio.timeout(20):
        while await indexed(either_world, short) == before:
            await asyncio.sleep(0.05)
    assert await indexed(either_world, long) == before
    assert await found(alice, query="word0 more") == 1
    assert await indexed(either_world, long) == before + 1


async def test_of_a_long_thread_the_index_is_told_what_is_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, texts=[" ".join(f"word{number}" for number in range(1000))])
    await nothing_is_due(world)
    told: list[str] = []
    write = indexer._write_to_sqlite

    def noted(db: sqlite3.Connection, statements: Sequence[indexer.Statement]) -> None:
        of_index = (row for statement, rows in statements if statement is indexer._INDEX for row in rows)
        told.extend(str(row["words"]) for row in of_index)
        write(db, statements)

    monkeypatch.setattr(indexer, "_write_to_sqlite", noted)
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "and word7 more"})
    assert await found(alice, query="word0 word999 more") == 1
    assert sum(len(words.split()) for words in told) <= len(("and", "more"))


async def test_the_index_has_what_the_threads_have_whatever_changes(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, texts=["first"])
    of_thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
    of_event = {**of_thread, "event_id": chat.event_ids[0]}
    greeted = {"properties": {"lc2": {"greeting_id": 7}}}
    for action, payload in (
        ("tag_thread", {**of_thread, "tag": "order"}),
        ("send_event", {"chat_id": chat.id, "event": {"type": "message", "text": "second"}}),
        ("update_event_properties", {**of_event, **greeted}),
        ("untag_thread", {**of_thread, "tag": "order"}),
        ("delete_event_properties", {**of_event, "properties": {"lc2": ["greeting_id"]}}),
        ("update_thread_properties", {**of_thread, **greeted}),
        ("deactivate_chat", {"id": chat.id}),
    ):
        await alice.call(action, **payload)
        await found(alice)
    await nothing_is_due(world)
    assert await found(alice, query="first second", greetings={"values": [7]}) == 1
    assert await found(alice, tags={"values": ["order"]}) == 0
    async with world.server.database.engine.begin() as connection:
        # Fails if a token is in the index and not in `archive`, or the other way round.
        await connection.execute(text("INSERT INTO archive_index (archive_index, rank) VALUES ('integrity-check', 1)"))
        await connection.execute(text("DELETE FROM archive WHERE chat_id = :id"), {"id": chat.id})
        await connection.execute(text("INSERT INTO archive_index (archive_index, rank) VALUES ('integrity-check', 1)"))


async def test_words_are_kept_apart_from_the_rows_that_are_counted(either_world: World) -> None:
    olivia = await either_world.web("olivia")
    chat = await either_world.chat(olivia, texts=[" ".join(f"word{place}" for place in range(30))])
    assert await found(olivia, query="word0") == 1
    await olivia.call("send_event", chat_id=chat.id, event={"type": "message", "text": "and one more"})
    assert await found(olivia, query="word0 more") == 1

    async with either_world.server.database.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            apart = "SELECT pg_column_toast_chunk_id(words) IS NOT NULL FROM archive WHERE thread_id = :thread_id"
            assert (await connection.execute(text(apart), {"thread_id": chat.thread_id})).scalar_one()
