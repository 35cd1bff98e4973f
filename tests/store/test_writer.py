"""Group commit: what arrives together is stored together, in order, and a failure harms only whom it must."""

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import asyncpg
import orjson
import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import insert, select
from sqlalchemy import text as sql
from structlog.testing import capture_logs

from rtm.access.founding import license_row
from rtm.bus.base import Envelope
from rtm.model.audience import Audience
from rtm.model.chat import EVENTS_AFTER_STATE, Chat, ChatUser
from rtm.model.customer import Customer
from rtm.model.properties import merged
from rtm.protocol.errors import ApiError, ChatInactive, InternalError, NotFound, ServiceUnavailable
from rtm.settings import Settings
from rtm.store import kept_chats, sqlite, tables, writer
from rtm.store.customers import CustomerQueries
from rtm.store.database import Database, StoreUnavailable, connect, migrate
from rtm.store.kept_chats import Bounds
from rtm.store.postgresql import PostgresqlStore
from rtm.store.queries import Queries
from rtm.store.sqlite import SqliteStore
from rtm.store.work import Command, Loaded, Needs, Work
from rtm.store.writer import MAX_BATCH, MAX_PUSHED_BYTES_OF_ONE, MAX_SHOWN, Changes, Writer, WriteStore
from tests.servers import PostgresServer
from tests.world import Refused, Server, World, visiting

_license_ids = itertools.count(1)
HELLO = {"type": "message", "text": "hello"}


@dataclass(frozen=True, slots=True)
class Data:
    """A database in which two licenses are this test's own."""

    settings: Settings
    database: Database
    license_id: int
    other_license_id: int

    @classmethod
    async def of(cls, settings: Settings, opened: Database) -> Self:
        data = cls(settings, opened, next(_license_ids), next(_license_ids))
        async with opened.engine.begin() as connection:
            rows = [license_row(data.license_id), license_row(data.other_license_id)]
            await connection.execute(insert(tables.licenses), rows)
        return data

    async def texts(self, chat_id: str) -> list[str]:
        """What was said in the chat, as it is stored."""
        queries = Queries(self.database)
        chat = await queries.chat(self.license_id, chat_id)
        assert chat is not None
        assert chat.thread is not None
        thread = await queries.thread(chat_id, chat.thread.id)
        assert thread is not None
        assert chat.thread.events_count == len(thread.texts)
        return [event["text"] for event in await thread.events()]

    async def stored_state(self, chat_id: str) -> bytes:
        """A chat's state as it is in its row."""
        statement = select(tables.chats.c.state).where(tables.chats.c.id == chat_id)
        async with self.database.engine.connect() as connection:
            return orjson.dumps(await connection.scalar(statement))

    async def sequences(self) -> list[int]:
        """The places of the stored pushes."""
        statement = select(tables.outbox.c.sequence).order_by(tables.outbox.c.sequence)
        async with self.database.engine.connect() as connection:
            return list(await connection.scalars(statement.where(tables.outbox.c.license_id == self.license_id)))


class Process:
    """A writer at work, and what it has said, in order."""

    def __init__(self, store: WriteStore, license_id: int, timeout_s: float) -> None:
        self.writer = Writer(store, timeout_s)
        self.writer.deliver_to(self._deliver)
        self.said: list[tuple[str, Any]] = []
        self._license_id = license_id

    def submit(
        self,
        apply: Callable[[Work], Any],
        *,
        chat: str | None = None,
        custom_id: str | None = None,
        event: str | None = None,
        customer: str | None = None,
        shows: bool = False,
        routing: bool = False,
        stores: bool = True,
        license_id: int | None = None,
    ) -> "asyncio.Future[Any]":
        """Queue a command; what it is answered."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(outcome: Any) -> None:
            self.said.append(("answer", outcome))
            answer.set_result(outcome)

        needs = Needs(
            (chat,) if chat else (),
            (customer,) if customer else (),
            custom_ids=(custom_id,) if custom_id else (),
            thread_ids=(event.partition("_")[0],) if event else (),
            event_ids=(event,) if event else (),
            events_of_chats=shows,
            routing=routing,
        )
        self.writer.submit(Command(license_id or self._license_id, needs, apply, done, stores=stores))
        return answer

    def _deliver(self, envelopes: Sequence[Envelope]) -> None:
        self.said += [("push", envelope) for envelope in envelopes]

    @property
    def sequences(self) -> list[int]:
        """The places of the pushes that were delivered."""
        return [said.sequence for kind, said in self.said if kind == "push"]

    def size_of(self, chat_id: str) -> int:
        """What the chat counts for among those that are kept."""
        store: Any = self.writer._store
        size: int = store._batch.sizes[chat_id]
        return size

    async def start_chat(self, license_id: int | None = None) -> str:
        chat_id: str = await self.submit(start, license_id=license_id)
        return chat_id


def start(work: Work) -> str:
    """A chat with one agent."""
    chat = Chat.start(
        work.license_id,
        at=work.now(),
        group_ids=[0],
        users=[ChatUser("alice", "agent")],
        properties={},
        thread_properties={},
        active=True,
        continuous=False,
    )
    work.add(chat)
    work.push("incoming_chat", {"chat_id": chat.id}, Audience(everyone=True))
    return chat.id


def show(chat_id: str) -> Callable[[Work], int]:
    """Read all events of the chat's thread; how many there are."""

    def apply(work: Work) -> int:
        thread = work.chat(chat_id).thread
        assert thread is not None
        return len(work.events_of(thread.id))

    return apply


def say(chat_id: str, text: str = "hello") -> Callable[[Work], str]:
    """Add a message to the chat."""

    def apply(work: Work) -> str:
        body = {"type": "message", "text": text, "author_id": "alice", "created_at": work.now()}
        event_id = work.append(work.chat(chat_id), body, "alice")
        work.push("incoming_event", body, Audience(everyone=True))
        return event_id

    return apply


def say_once(chat_id: str, custom_id: str) -> Callable[[Work], str]:
    """Add a message of this custom id to the chat, unless it has it."""

    def apply(work: Work) -> str:
        chat = work.chat(chat_id)
        body = {"custom_id": custom_id, "type": "message", "text": custom_id, "created_at": work.now()}
        return work.find_event(chat, "alice", custom_id) or work.append(chat, body, "alice")

    return apply


def type_in(chat_id: str) -> Callable[[Work], None]:
    """Tell that somebody types in the chat, which is not stored."""

    def apply(work: Work) -> None:
        work.chat(chat_id)
        work.push("incoming_typing_indicator", {}, Audience(everyone=True), stored=False)

    return apply


def mark(chat_id: str, event_id: str, name: str, error: Exception | None = None) -> Callable[[Work], None]:
    """Give an event and its thread a property more, and then fail if there is an error."""

    def apply(work: Work) -> None:
        chat = work.chat(chat_id)
        thread = work.thread(chat, event_id.partition("_")[0])
        body = work.event(thread, event_id)
        body["properties"] = merged(body.get("properties", {}), {"marks": {name: True}})
        work.event_changed(chat, thread, body)
        chat.set_thread_properties(thread, merged(thread.properties, {"marks": {name: True}}))
        if error is not None:
            raise error

    return apply


def add_customer(work: Work) -> str:
    """A customer without a name."""
    customer = Customer("ada", work.license_id, None, None, work.now(), {})
    work.save(customer)
    return customer.id


def rename(customer_id: str, name: str, error: Exception | None = None) -> Callable[[Work], str | None]:
    """Give the customer another name, and then fail if there is an error; the name before."""

    def apply(work: Work) -> str | None:
        customer = work.customer(customer_id)
        work.save(customer.updated({"name": name}))
        if error is not None:
            raise error
        return customer.name

    return apply


def describe(customer_id: str, name: str) -> Callable[[Work], None]:
    """Give the customer a field more."""

    def apply(work: Work) -> None:
        work.save(work.customer(customer_id).updated({name: True}))

    return apply


def reopen(chat_id: str) -> Callable[[Work], None]:
    """Close the chat's thread and begin another."""

    def apply(work: Work) -> None:
        chat = work.chat(chat_id)
        chat.close_thread(work.now())
        chat.open_thread(at=work.now(), users=[ChatUser("alice", "agent")], properties={}, active=True)

    return apply


def failing(chat_id: str, error: Exception) -> Callable[[Work], str]:
    """The same, which then fails."""

    def apply(work: Work) -> str:
        say(chat_id, "never said")(work)
        raise error

    return apply


@pytest.fixture(scope="module")
async def _on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Settings, Database]]:
    async with migrated(Settings(data_dir=tmp_path_factory.mktemp("writer"))) as opened:
        yield opened


@pytest.fixture(scope="module")
async def _on_postgresql(
    _postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Settings, Database]]:
    url = await _postgres_server.create_database()
    async with migrated(Settings(data_dir=tmp_path_factory.mktemp("writer"), database_url=url)) as opened:
        yield opened


@asynccontextmanager
async def migrated(settings: Settings) -> AsyncIterator[tuple[Settings, Database]]:
    await migrate(settings)
    async with connect(settings) as opened:
        yield settings, opened


@pytest.fixture(params=["_on_sqlite", "_on_postgresql"], ids=["sqlite", "postgresql"])
def _opened(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
async def data(_opened: tuple[Settings, Database]) -> Data:
    return await Data.of(*_opened)


@pytest.fixture
async def data_on_postgresql(_on_postgresql: tuple[Settings, Database]) -> Data:
    return await Data.of(*_on_postgresql)


@asynccontextmanager
async def running(data: Data, *, timeout_s: float = 0) -> AsyncIterator[Process]:
    """A process that writes to the database."""
    store: SqliteStore | PostgresqlStore
    if data.settings.database_url is None:
        store = SqliteStore(data.settings.data_dir / "rtm.sqlite3")
    else:
        store = PostgresqlStore(data.settings.database_url)
    await store.start()
    process = Process(store, data.license_id, timeout_s)
    task = asyncio.create_task(process.writer.run())
    try:
        yield process
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.stop()


@pytest.fixture
async def process(data: Data) -> AsyncIterator[Process]:
    async with running(data) as process:
        yield process


# Together


async def test_a_push_is_not_read_back_before_its_command_is_answered(data: Data, process: Process) -> None:
    chat_id = await process.start_chat()
    store = process.writer._store
    stored, go_on = asyncio.Event(), asyncio.Event()
    commit = store.commit

    async def commit_and_wait(changes: Changes) -> None:
        await commit(changes)
        stored.set()
        await go_on.wait()

    store.commit = commit_and_wait  # type: ignore[method-assign]
    answer = process.submit(say(chat_id, "hello"), chat=chat_id)
    await stored.wait()
    in_outbox = await Queries(data.database).pushes_after(data.license_id, 0, 10)
    assert [push.sequence for push in in_outbox] == [*process.sequences, process.sequences[-1] + 1]
    assert [push.sequence for push in process.writer.settled(in_outbox)] == process.sequences
    go_on.set()
    await answer
    assert process.writer.settled(in_outbox) == in_outbox


async def test_commands_that_arrive_together_share_a_commit(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    before = process.writer.batches

    answers = await asyncio.gather(*(process.submit(say(chat_id, str(n)), chat=chat_id) for n in range(50)))

    assert process.writer.batches == before + 1
    assert [answer.rpartition("_")[2] for answer in answers] == [str(n) for n in range(1, 51)]
    assert await data.texts(chat_id) == [str(n) for n in range(50)]
    assert process.sequences == list(range(1, 52))
    assert await data.sequences() == list(range(1, 52))


async def test_commands_that_come_one_by_one_share_no_commit(process: Process) -> None:
    chat_id = await process.start_chat()
    before = process.writer.batches
    for _ in range(3):
        await process.submit(say(chat_id), chat=chat_id)
    assert process.writer.batches == before + 3


async def test_what_each_turn_of_the_loop_brings_joins_the_batch(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_GATHERING_S", 60)
    chat_id = await process.start_chat()
    before, answers = process.writer.batches, []
    for n in range(20):
        answers.append(process.submit(say(chat_id, str(n)), chat=chat_id))
        await asyncio.sleep(0)
    await asyncio.gather(*answers)
    assert process.writer.batches == before + 1


async def test_a_stream_of_commands_does_not_keep_the_first_from_its_commit(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH", 1_000_000)
    chat_id = await process.start_chat()
    answers = [process.submit(say(chat_id), chat=chat_id)]
    async with asyncio.timeout(10):
        while not answers[0].done():
            answers.append(process.submit(say(chat_id), chat=chat_id))
            await asyncio.sleep(0)
    await asyncio.gather(*answers)


async def test_a_batch_has_a_bound(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    before = process.writer.batches
    count = MAX_BATCH + 44
    await asyncio.gather(*(process.submit(say(chat_id, str(n)), chat=chat_id) for n in range(count)))
    assert process.writer.batches == before + 2
    assert await data.texts(chat_id) == [str(n) for n in range(count)]


async def test_who_tells_very_much_is_given_several_batches_while_others_wait_for_one(
    process: Process, data: Data
) -> None:
    chat_id, other_chat_id = await process.start_chat(), await process.start_chat(data.other_license_id)
    before, text = process.writer.batches, "x" * (MAX_PUSHED_BYTES_OF_ONE // 4)
    loaded, begin = 0, process.writer._store.begin

    async def counted(commands: Sequence[Command]) -> Loaded:
        nonlocal loaded
        loaded += len(commands)
        return await begin(commands)

    process.writer._store.begin = counted  # type: ignore[method-assign]
    flood = [process.submit(say(chat_id, f"{number}{text}"), chat=chat_id) for number in range(12)]
    other = process.submit(say(other_chat_id, "unharmed"), chat=other_chat_id, license_id=data.other_license_id)

    await other
    assert [answer.done() for answer in flood] == [True] * 4 + [False] * 8
    await asyncio.gather(*flood)
    assert process.writer.batches == before + 4
    assert loaded <= 2 * len(flood), "what is needed by many is read again for each few"
    assert await data.texts(chat_id) == [f"{number}{text}" for number in range(12)]
    assert process.sequences == [1, 1, 2, 3, 4, 5, 2, *range(6, 14)]


async def test_large_chats_are_changed_in_several_batches(process: Process, data: Data) -> None:
    chat_ids = [await process.start_chat() for _ in range(12)]
    for chat_id in chat_ids:
        await process.submit(say(chat_id, "x" * 600_000), chat=chat_id)
    before = process.writer.batches
    await asyncio.gather(*(process.submit(say(chat_id), chat=chat_id) for chat_id in chat_ids))
    assert process.writer.batches == before + 2


async def test_few_threads_are_read_for_one_batch(process: Process, data: Data) -> None:
    chat_ids = [await process.start_chat() for _ in range(MAX_SHOWN + 1)]
    before = process.writer.batches
    answers = [process.submit(show(chat_id), chat=chat_id, shows=True) for chat_id in chat_ids]
    said = process.submit(say(chat_ids[0]), chat=chat_ids[0])
    assert await asyncio.gather(*answers) == [0] * len(chat_ids)
    await said
    assert process.writer.batches == before + 2


async def test_what_was_put_off_is_not_refused_with_the_batch(
    process: Process, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_id, text = await process.start_chat(), "x" * MAX_PUSHED_BYTES_OF_ONE
    commit, failures = process.writer._store.commit, iter([StoreUnavailable("no")])

    async def failing_once(changes: Changes) -> None:
        for failure in failures:
            await process.writer._store.rollback()
            raise failure
        await commit(changes)

    monkeypatch.setattr(process.writer._store, "commit", failing_once)
    refused, stored = await asyncio.gather(
        *(process.submit(say(chat_id, f"{number}{text}"), chat=chat_id) for number in range(2))
    )
    assert isinstance(refused, ServiceUnavailable)
    assert stored.endswith("_1")
    assert await data.texts(chat_id) == [f"1{text}"]


async def test_chats_of_one_batch_and_many_licenses(process: Process, data: Data) -> None:
    starting = [process.submit(start, license_id=each) for each in (data.license_id, data.other_license_id) * 40]
    chat_ids = await asyncio.gather(*starting)
    assert len(set(chat_ids)) == 80
    assert process.sequences == [n for n in range(1, 41) for _ in range(2)]
    assert await data.sequences() == list(range(1, 41))


async def test_each_is_answered_before_its_pushes_and_after_those_before(process: Process) -> None:
    chat_id = await process.start_chat()
    process.said.clear()
    answers = await asyncio.gather(*(process.submit(say(chat_id), chat=chat_id) for _ in range(3)))
    kinds = [(kind, said if kind == "answer" else said.sequence) for kind, said in process.said]
    assert kinds == [
        ("answer", answers[0]),
        ("push", 2),
        ("answer", answers[1]),
        ("push", 3),
        ("answer", answers[2]),
        ("push", 4),
    ]


async def test_times_never_repeat(process: Process) -> None:
    answers = await asyncio.gather(*(process.submit(lambda work: work.now()) for _ in range(100)))
    assert answers == sorted(set(answers))


async def test_what_is_not_stored_takes_no_place(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    await asyncio.gather(
        process.submit(type_in(chat_id), chat=chat_id, stores=False),
        process.submit(say(chat_id), chat=chat_id),
        process.submit(type_in(chat_id), chat=chat_id, stores=False),
    )
    await process.submit(type_in(chat_id), chat=chat_id, stores=False)

    assert process.sequences == [1, 0, 2, 0, 0]
    assert await data.sequences() == [1, 2]


async def test_a_chat_of_another_license_is_not_found(process: Process, data: Data) -> None:
    chat_id = await process.start_chat(data.other_license_id)
    assert isinstance(await process.submit(say(chat_id), chat=chat_id), NotFound)


async def test_a_chat_goes_on_after_a_restart(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    await process.submit(say(chat_id, "before"), chat=chat_id)
    async with running(data) as later:
        event_id = await later.submit(say(chat_id, "after"), chat=chat_id)
    assert event_id.endswith("_2")
    assert later.sequences == [3]
    assert await data.texts(chat_id) == ["before", "after"]


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("customers", "license_id, id"),
        ("event_custom_ids", "thread_id, custom_id"),
        ("all_events", "thread_id, number"),
    ],
)
async def test_no_batch_reads_a_whole_table(tmp_path: Path, table: str, key: str) -> None:
    query = sqlite.by_keys("*", table, key, 3)
    async with migrated(Settings(data_dir=tmp_path)) as (_, opened), opened.engine.connect() as connection:
        steps = list(await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", ("a", "b") * 3))
    read = {name for name in (table, "events", "new_events") for step in steps if f" {name} " in step.detail}
    assert [step.detail.split()[0] for step in steps if read & set(step.detail.split())] == ["SEARCH"] * len(read)


async def test_chats_that_are_no_longer_kept_are_read_again(
    process: Process, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bounds, "max_chats", 2)
    chat_ids = [await process.start_chat() for _ in range(5)]
    for text in ("one", "two"):
        for chat_id in chat_ids:
            await process.submit(say(chat_id, text), chat=chat_id)
    for chat_id in chat_ids:
        assert await data.texts(chat_id) == ["one", "two"]


async def test_no_more_chats_are_kept_where_nothing_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with migrated(Settings(data_dir=tmp_path)) as opened, running(await Data.of(*opened)) as process:
        chat_ids = [await process.start_chat() for _ in range(3)]
        monkeypatch.setattr(Bounds, "max_chats", 2)
        for chat_id in chat_ids:
            await process.submit(type_in(chat_id), chat=chat_id, stores=False)
        assert len(process.writer._store._chats) == 2  # type: ignore[attr-defined]


async def test_the_chats_that_are_kept_are_those_of_the_last_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrated(Settings(data_dir=tmp_path)) as opened, running(await Data.of(*opened)) as process:
        busy, idle = [await process.start_chat() for _ in range(2)]
        monkeypatch.setattr(Bounds, "max_chats", 2)
        await process.submit(type_in(busy), chat=busy, stores=False)
        await process.start_chat()
        kept = process.writer._store._chats  # type: ignore[attr-defined]
        assert busy in kept
        assert idle not in kept


async def test_the_sequences_of_more_licenses_than_are_kept_are_read_again(
    process: Process, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kept_chats, sqlite):
        monkeypatch.setattr(module, "MAX_LICENSES", 1)
    for license_id in (data.license_id, data.other_license_id) * 2:
        await process.start_chat(license_id)
    assert process.sequences == [1, 1, 2, 2]


async def test_a_chat_of_many_small_things_is_large(process: Process) -> None:
    chat_id = await process.start_chat()
    before = process.size_of(chat_id)
    await process.submit(say(chat_id, "[]" * 5000), chat=chat_id)  # a text counts as what it may be
    assert process.size_of(chat_id) - before > 5000 * 100


async def test_a_chat_is_as_large_as_what_it_takes_to_store_it(process: Process, data: Data) -> None:
    """However it has become so: it is what bounds the chats that are kept."""
    chat_id, text = await process.start_chat(), "x" * 10_000
    sizes = [process.size_of(chat_id)]
    for _ in range(EVENTS_AFTER_STATE + 1):
        await process.submit(say(chat_id, text), chat=chat_id)
        sizes.append(process.size_of(chat_id))
    async with running(data) as later:
        await later.submit(say(chat_id, ""), chat=chat_id)
        size_later = later.size_of(chat_id)

    assert 0 < sizes[0] < 10_000
    assert all(10_000 < now - before < 10_500 for before, now in pairwise(sizes[:EVENTS_AFTER_STATE]))
    assert 10_000 < sizes[EVENTS_AFTER_STATE] < 15_000, "its state has the last event, with which it was stored"
    assert sizes[-1] < size_later < sizes[-1] + 500


async def test_what_must_be_indexed_is_noted_once(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    for _ in range(4):
        await process.submit(reopen(chat_id), chat=chat_id)
    async with data.database.engine.begin() as connection:
        await connection.execute(sql(f"DELETE FROM archive_due WHERE license_id = {data.license_id}"))

    def set_property(work: Work) -> None:
        chat = work.chat(chat_id)
        chat.set_properties(merged(chat.properties, {"marks": {work.now(): True}}))

    places = []
    for _ in range(3):
        await process.submit(set_property, chat=chat_id)
        [(thread_id, place)] = await due(data)
        assert thread_id == await thread_of(data, chat_id)
        places.append(place)
    assert places == sorted(set(places)), "who has read one sees that it has changed"
    assert await due_chats(data) == [chat_id]


async def test_a_chat_that_is_opened_again_without_an_agent_is_found_by_that(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    await process.submit(reopen(chat_id), chat=chat_id)
    assert await due_chats(data) == []

    def reopen_for_nobody(work: Work) -> None:
        chat = work.chat(chat_id)
        chat.close_thread(work.now())
        chat.open_thread(at=work.now(), users=[ChatUser("ada", "customer")], properties={}, active=True)

    await process.submit(reopen_for_nobody, chat=chat_id)
    assert await due_chats(data) == [chat_id]


async def test_a_thread_that_must_be_indexed_afresh_is_until_it_has_been(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    event_id = await process.submit(say(chat_id), chat=chat_id)

    def change(work: Work) -> None:
        chat = work.chat(chat_id)
        thread = chat.active_thread()
        work.event_changed(chat, thread, work.event(thread, event_id), found_anew=True)

    await process.submit(change, chat=chat_id, event=event_id)
    await process.submit(reopen(chat_id), chat=chat_id)
    async with data.database.engine.begin() as connection:
        afresh = sql("SELECT thread_id FROM archive_due WHERE license_id = :id AND afresh")
        assert list(await connection.scalars(afresh, {"id": data.license_id})) == [event_id.partition("_")[0]]


async def due(data: Data) -> list[tuple[str, int]]:
    """The threads that must be indexed, and their places."""
    async with data.database.engine.connect() as connection:
        statement = select(tables.archive_due.c.thread_id, tables.archive_due.c.id)
        rows = await connection.execute(statement.where(tables.archive_due.c.license_id == data.license_id))
        return [tuple(row) for row in rows]


async def due_chats(data: Data) -> list[str]:
    """The chats of which all threads must be indexed."""
    async with data.database.engine.connect() as connection:
        due = tables.archive_due_chats.c
        return list(await connection.scalars(select(due.chat_id).where(due.license_id == data.license_id)))


# Refused


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("error", "answer"), [(ChatInactive(), "chat_inactive"), (RuntimeError("a bug"), "internal")], ids=["api", "bug"]
)
async def test_a_refused_command_leaves_no_trace_and_harms_nobody(
    process: Process, data: Data, place: int, error: Exception, answer: str
) -> None:
    chat_id, other_id = await process.start_chat(), await process.start_chat()
    process.said.clear()
    pending = []
    for number in range(5):
        if number == place:
            pending.append(process.submit(failing(chat_id, error), chat=chat_id))
        pending.append(process.submit(say(chat_id, str(number)), chat=chat_id))
        pending.append(process.submit(say(other_id, str(number)), chat=other_id))

    with capture_logs() as logs:
        outcomes = await asyncio.gather(*pending)

    assert [line["event"] for line in logs] == ["command_failed"] * (answer == "internal")
    refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    assert [each.type for each in refused] == [answer]
    assert outcomes.index(refused[0]) == 2 * place
    for each in (chat_id, other_id):
        assert await data.texts(each) == ["0", "1", "2", "3", "4"]
    assert process.sequences == list(range(3, 13))
    assert await data.sequences() == list(range(1, 13))
    assert sum(kind == "answer" for kind, _ in process.said) == 11  # each is answered once


@pytest.mark.parametrize("when", ["before", "amid", "after"])
async def test_events_and_threads_are_changed_once_while_the_chat_goes_on(
    process: Process, data: Data, when: str
) -> None:
    """The thread is the chat's last one all along, becomes an earlier one within the batch, or is one before it."""
    chat_id = await process.start_chat()
    event_id = await process.submit(say(chat_id), chat=chat_id)
    thread_id = event_id.partition("_")[0]
    if when == "after":
        await process.submit(reopen(chat_id), chat=chat_id)
    process.said.clear()

    pending = []
    for number in range(6):
        if number == 3 and when == "amid":
            pending.append(process.submit(reopen(chat_id), chat=chat_id))
        error = ChatInactive() if number in (1, 4) else None
        pending.append(process.submit(mark(chat_id, event_id, str(number), error), chat=chat_id, event=event_id))
    outcomes = await asyncio.gather(*pending)

    assert sum(isinstance(outcome, ChatInactive) for outcome in outcomes) == 2
    found = await Queries(data.database).thread(chat_id, thread_id)
    assert found is not None
    marks = dict.fromkeys("0235", True)
    assert found.thread.properties["marks"] == (await found.events())[0]["properties"]["marks"] == marks
    assert (found.thread.next_thread_id is None) == (when == "before")
    chat = await Queries(data.database).chat(data.license_id, chat_id)
    assert chat is not None
    assert chat.last_events["message"]["event"] == (await found.events())[0]


async def test_every_reader_knows_the_events_that_a_chats_state_does_not(process: Process, data: Data) -> None:
    ada = await process.submit(add_customer)

    def join(work: Work) -> None:
        work.chat(chat_id).add_user(ChatUser(ada, "customer"), work.now())

    def answer(work: Work) -> str:
        at = work.now()
        work.append(work.chat(chat_id), HELLO | {"author_id": ada, "created_at": at}, ada)
        return at

    chat_id = await process.start_chat()
    await process.submit(join, chat=chat_id)
    states = set()
    for _ in range(EVENTS_AFTER_STATE + 2):
        await process.submit(say(chat_id), chat=chat_id)
        written_at = await process.submit(answer, chat=chat_id)
        here = await process.submit(lambda work: work.chat(chat_id).state(), chat=chat_id)
        snapshot = await Queries(data.database).snapshot(data.license_id, "alice")
        async with running(data) as other:
            elsewhere = await other.submit(lambda work: work.chat(chat_id).state(), chat=chat_id, stores=False)
        found = await Queries(data.database).chat(data.license_id, chat_id)
        assert found is not None
        shown = orjson.loads(here)
        for seen in (elsewhere, found.state(), snapshot.chats[0].state()):
            assert orjson.loads(seen) == shown
        customer = await CustomerQueries(data.database).get(data.license_id, ada)
        assert customer is not None
        assert (customer.agent_wrote_at, customer.customer_wrote_at) == (shown["written_at"]["agent"], written_at)
        states.add(await data.stored_state(chat_id))
    assert 2 <= len(states) <= 4  # it was stored now and then


async def test_a_customer_is_changed_amid_refusals(process: Process, data: Data) -> None:
    ada = await process.submit(add_customer)
    changes = [rename(ada, "A"), rename(ada, "B", NotFound()), rename(ada, "C", ValueError()), rename(ada, "D")]

    before = [process.submit(change, customer=ada) for change in changes]

    first, refused, failed, last = await asyncio.gather(*before)
    assert (first, type(refused), type(failed), last) == (None, NotFound, InternalError, "A")
    found = await CustomerQueries(data.database).get(data.license_id, ada)
    assert found is not None
    assert found.customer.name == "D"


async def test_many_refused_commands_in_one_batch(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()
    pending = []
    for number in range(20):
        pending.append(process.submit(failing(chat_id, ChatInactive()), chat=chat_id))
        pending.append(process.submit(say(chat_id, str(number)), chat=chat_id))
    outcomes = await asyncio.gather(*pending)
    assert [isinstance(outcome, ChatInactive) for outcome in outcomes] == [True, False] * 20
    assert await data.texts(chat_id) == [str(number) for number in range(20)]


async def test_a_flood_of_commands_refused_half_way_holds_up_its_own_license_only(process: Process, data: Data) -> None:
    chat_id, other_chat_id = await process.start_chat(), await process.start_chat(data.other_license_id)
    store, begun = process.writer._store, 0
    begin = store.begin

    async def counted(commands: Sequence[Command]) -> Loaded:
        nonlocal begun
        begun += 1
        return await begin(commands)

    store.begin = counted  # type: ignore[method-assign]
    flood = []
    for number in range(128):
        flood.append(process.submit(failing(chat_id, ChatInactive()), chat=chat_id))
        if number % 32 == 0:
            flood.append(process.submit(say(chat_id, str(number)), chat=chat_id))
    other = process.submit(say(other_chat_id, "unharmed"), chat=other_chat_id, license_id=data.other_license_id)

    assert (await other).endswith("_1")
    assert begun <= 4
    assert sum(isinstance(outcome, ChatInactive) for outcome in await asyncio.gather(*flood)) == 128
    assert await data.texts(chat_id) == ["0", "32", "64", "96"]


async def test_a_refused_start_stores_no_chat(process: Process, data: Data) -> None:
    def fail(work: Work) -> None:
        start(work)
        raise ChatInactive()

    outcomes = await asyncio.gather(process.submit(fail), process.submit(start))
    assert isinstance(outcomes[0], ChatInactive)
    of_license = select(tables.chats.c.id).where(tables.chats.c.license_id == data.license_id)
    async with data.database.engine.connect() as connection:
        assert list(await connection.scalars(of_license)) == [outcomes[1]]
    assert process.sequences == [1]


@pytest.mark.parametrize("of", ["chat", "thread"])
async def test_an_id_that_is_taken_is_refused(
    process: Process, data: Data, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    chat_id = await process.start_chat()
    taken = chat_id if of == "chat" else await thread_of(data, chat_id)
    with monkeypatch.context() as patch, capture_logs():
        patch.setattr(f"rtm.model.chat.new_{of}_id", lambda: taken)
        assert isinstance(await process.submit(start), InternalError)

    await process.submit(say(chat_id, "unharmed"), chat=chat_id)
    assert await data.texts(chat_id) == ["unharmed"]
    assert process.sequences == await data.sequences() == [1, 2]


async def thread_of(data: Data, chat_id: str) -> str:
    chat = await Queries(data.database).chat(data.license_id, chat_id)
    assert chat is not None
    assert chat.thread is not None
    return chat.thread.id


async def test_an_answer_that_nobody_takes_harms_nobody(process: Process, data: Data) -> None:
    chat_id = await process.start_chat()

    def fail(outcome: Any) -> None:
        raise ConnectionResetError

    with capture_logs() as logs:
        process.writer.submit(Command(data.license_id, Needs((chat_id,)), say(chat_id), fail))
        assert (await process.submit(say(chat_id), chat=chat_id)).endswith("_2")
    assert [line["event"] for line in logs] == ["telling_failed"]


@pytest.mark.parametrize("failing", ["said", "delivered"])
async def test_what_is_stored_is_answered_whatever_goes_wrong_in_telling_of_it(
    process: Process, data: Data, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    chat_id = await process.start_chat()
    tell = process.writer._said if failing == "said" else process._deliver
    failures = iter([RuntimeError("a bug")])

    def fail_once(*told: Any) -> None:
        for error in failures:
            raise error
        tell(*told)

    if failing == "said":
        monkeypatch.setattr(process.writer, "_said", fail_once)
    else:
        process.writer.deliver_to(fail_once)
    with capture_logs() as logs:
        answers = await asyncio.gather(*(process.submit(say(chat_id, str(n)), chat=chat_id) for n in range(2)))

    assert [each.rpartition("_")[2] for each in answers] == ["1", "2"]
    assert await data.texts(chat_id) == ["0", "1"]
    assert process.sequences == ([1, 3] if failing == "delivered" else [1, 2, 3])
    assert [(line["event"], line["license_id"]) for line in logs] == [("telling_failed", data.license_id)]


# Events that wait to be filed on SQLite


@pytest.fixture
async def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Data]:
    """A file of one's own, where events are filed by the thirty."""
    monkeypatch.setattr(sqlite, "FILED_TOGETHER", 30)
    async with migrated(Settings(data_dir=tmp_path)) as opened:
        yield await Data.of(*opened)


async def numbers_of_events(data: Data) -> tuple[int, int]:
    """How many are filed, and how many wait."""
    async with data.database.engine.connect() as connection:
        filed, waiting = [
            await connection.scalar(sql(f"SELECT count(*) FROM {table}")) for table in ("events", "new_events")
        ]
    return filed, waiting


async def test_reads_that_overlap_do_not_keep_the_log_from_beginning_anew(
    alone: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LONG_LOG_BYTES", 400_000)
    path = alone.settings.data_dir / "rtm.sqlite3"
    ended = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while not ended.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM events").fetchone()
                ended.wait(0.02)
                connection.execute("COMMIT")

    sizes = []
    async with running(alone) as process:
        chat_id = await process.start_chat()
        reading = asyncio.gather(*(asyncio.to_thread(read) for _ in range(2)))
        for _ in range(150):
            await process.submit(say(chat_id, "x" * 10_000), chat=chat_id)
            sizes.append(path.with_name(f"{path.name}-wal").stat().st_size)
        ended.set()
        await reading
    assert max(sizes) < 1_000_000, "of some 7 MB that were written"


async def test_large_events_do_not_wait_for_many(alone: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "FILED_BYTES", 100_000)
    async with running(alone) as process:
        chat_ids = [await process.start_chat() for _ in range(8)]

        async def all_say(text: str) -> tuple[int, int]:
            await asyncio.gather(*(process.submit(say(each, text), chat=each) for each in chat_ids))
            return await numbers_of_events(alone)

        assert await all_say("x" * 10_000) == (0, 8)
    async with running(alone) as process:
        assert await all_say("x" * 3000) == (16, 0), "their size was forgotten"
        assert await all_say("x") == (16, 8)
        assert await all_say("x" * 13_000) == (32, 0)


async def test_events_of_many_chats_are_filed_together(alone: Data) -> None:
    async with running(alone) as process:
        chat_ids = [await process.start_chat() for _ in range(10)]
        seen = []
        for number in range(7):
            await asyncio.gather(*(process.submit(say(each, str(number)), chat=each) for each in chat_ids))
            assert [await alone.texts(each) for each in chat_ids] == [list(map(str, range(number + 1)))] * 10
            seen.append(await numbers_of_events(alone))
        assert seen == [(0, 10), (0, 20), (30, 0), (30, 10), (30, 20), (60, 0), (60, 10)]

        await process.submit(say(chat_ids[0], "with those that wait"), chat=chat_ids[0])
        assert await numbers_of_events(alone) == (60, 11)


async def test_events_that_wait_are_changed_and_found_as_others_are(alone: Data) -> None:
    async with running(alone) as process:
        chat_id, *others = [await process.start_chat() for _ in range(10)]
        first = await process.submit(say_once(chat_id, "first"), chat=chat_id, custom_id="first")
        spoken = [process.submit(say(each), chat=each) for each in others]
        second = await process.submit(say_once(chat_id, "second"), chat=chat_id, custom_id="second")
        await asyncio.gather(*spoken)
        assert await numbers_of_events(alone) == (1, 10)
        for event_id, custom_id in ((first, "first"), (second, "second")):
            await process.submit(mark(chat_id, event_id, custom_id), chat=chat_id, event=event_id)
            assert await process.submit(say_once(chat_id, custom_id), chat=chat_id, custom_id=custom_id) == event_id

    async with running(alone) as later:
        await later.submit(say(chat_id, "third"), chat=chat_id)
        assert await numbers_of_events(alone) == (1, 11)
    found = await Queries(alone.database).thread(chat_id, first.partition("_")[0])
    assert found is not None
    assert [(each["text"], each.get("properties")) for each in await found.events()] == [
        ("first", {"marks": {"first": True}}),
        ("second", {"marks": {"second": True}}),
        ("third", None),
    ]


async def test_nobody_reads_all_events_to_find_some(alone: Data) -> None:
    asked: list[tuple[str, Any]] = []
    async with running(alone) as process:
        ada = await process.submit(add_customer)
        chat_id = await process.start_chat()
        event_id = await process.submit(say(chat_id), chat=chat_id)
    sqlalchemy_event.listen(
        alone.database.engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, *_: asked.append((statement, parameters)),
    )
    async with running(alone) as process:
        store = process.writer._store
        assert isinstance(store, SqliteStore)
        store._db.set_trace_callback(lambda statement: asked.append((statement, ())))
        await process.submit(mark(chat_id, event_id, "a"), chat=chat_id, event=event_id)
        store._db.set_trace_callback(None)
        queries = Queries(alone.database)
        await queries.snapshot(alone.license_id, "alice")
        await queries.thread(chat_id, event_id.partition("_")[0])
        assert await CustomerQueries(alone.database).get(alone.license_id, ada) is not None
        about_events = [
            each for each in asked if "events" in each[0] and each[0].lstrip().startswith(("SELECT", "WITH"))
        ]
        async with alone.database.engine.connect() as connection:
            for statement, parameters in about_events:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps = [step.detail for step in plan]
                assert [step for step in steps if step.startswith(("SCAN events", "SCAN new_events"))] == [], statement
                assert sum("events" in step and step.startswith("SEARCH") for step in steps) >= 2, statement
    assert len(about_events) >= 5


# Outages


@asynccontextmanager
async def locked(opened: Database) -> AsyncIterator[None]:
    """Nobody else can write to the SQLite file, or to the licenses."""
    async with opened.engine.connect() as connection:
        if opened.dialect == "sqlite":
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await connection.exec_driver_sql("SELECT * FROM licenses FOR UPDATE")
        yield
        await connection.rollback()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores give up on a lock soon."""
    monkeypatch.setattr("rtm.store.sqlite.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("rtm.store.postgresql.COMMAND_TIMEOUT_S", 1)


async def test_what_cannot_be_stored_is_refused_as_a_whole_and_forgotten(
    impatient: None, process: Process, data: Data
) -> None:
    chat_id = await process.start_chat()
    async with locked(data.database):
        outcomes = await asyncio.gather(*(process.submit(say(chat_id, "lost"), chat=chat_id) for _ in range(5)))
    assert {outcome.type for outcome in outcomes} == {"service_unavailable"}

    event_id = await process.submit(say(chat_id, "kept"), chat=chat_id)

    assert event_id.endswith("_1")
    assert await data.texts(chat_id) == ["kept"]
    assert process.sequences == [1, 2]
    assert await data.sequences() == [1, 2]


async def test_a_connection_that_was_cut_is_made_anew(data_on_postgresql: Data) -> None:
    data = data_on_postgresql
    async with running(data) as process:
        chat_id = await process.start_chat()
        other = await asyncpg.connect(data.settings.database_url)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        await other.close()
        # The end of the connection may be seen before the command, or by it.
        outcome = await process.submit(say(chat_id, "first"), chat=chat_id)
        assert isinstance(outcome, str) or outcome.type == "service_unavailable"

        await process.submit(say(chat_id, "second"), chat=chat_id)
        assert (await data.texts(chat_id))[-1] == "second"
        sequences = await data.sequences()
        assert sequences == list(range(1, len(sequences) + 1))


async def test_what_takes_too_long_is_answered_so_and_what_had_not_begun_is_dropped(data: Data) -> None:
    async with running(data, timeout_s=0.5) as process:
        chat_id = await process.start_chat()
        async with locked(data.database):
            begun = process.submit(say(chat_id, "begun"), chat=chat_id)
            for _ in range(100):  # the batch is on its way to the database
                await asyncio.sleep(0)
            waiting = process.submit(say(chat_id, "waiting"), chat=chat_id)
            assert [(await each).type for each in (begun, waiting)] == ["request_timeout"] * 2
        await process.submit(say(chat_id, "later"), chat=chat_id)
        assert await data.texts(chat_id) == ["begun", "later"]
        assert process.sequences == [1, 2, 3]  # whoever may hear of it does


async def test_clients_are_told_of_an_outage_and_go_on_after_it(
    impatient: None, world_with: Callable[..., Awaitable[World]]
) -> None:
    world = await world_with()
    alice, bob, web = await world.agent("alice"), await world.agent("bob"), await world.web("alice")
    chat = await world.chat(alice, users=["bob"])
    unavailable = Refused("service_unavailable", "Service unavailable")

    async with locked(world.server.database):
        assert await alice.refused("send_event", chat_id=chat.id, event=HELLO) == unavailable
        assert (await web.post("send_event", {"chat_id": chat.id, "event": HELLO})).status_code == 503
        await alice.call("list_chats")

    await alice.call("send_event", chat_id=chat.id, event=HELLO)
    assert (await bob.next_push("incoming_event"))["event"]["id"] == f"{chat.thread_id}_1"
    await bob.hears_nothing_more()


async def test_a_database_may_die_and_come_back_under_its_clients(tmp_path: Path) -> None:
    with PostgresServer() as postgres, capture_logs():
        settings = Settings(data_dir=tmp_path, database_url=await postgres.create_database())
        async with Server(settings) as server, visiting(server) as world:
            alice, bob, web = await world.agent("alice"), await world.agent("bob"), await world.web("alice")
            chat = await world.chat(alice, users=["bob"])
            event = {"chat_id": chat.id, "event": HELLO}

            postgres.kill()
            assert (await alice.refused("send_event", **event)).type == "service_unavailable"
            assert (await alice.refused("list_chats")).type == "service_unavailable"
            assert (await web.post("list_chats")).status_code == 503
            await alice.call("ping")
            postgres.start()

            await alice.call("send_event", **event)
            assert (await bob.next_push("incoming_event"))["event"]["id"] == f"{chat.thread_id}_1"
            await bob.hears_nothing_more()
            await alice.call("list_chats")
            await web.call("list_chats")


async def test_a_commit_whose_answer_is_lost_is_delivered_and_found_again(
    world_with: Callable[..., Awaitable[World]], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with(database_url=postgres_url)
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])
    asked = {"chat_id": chat.id, "event": {**HELLO, "custom_id": "c1"}}
    commit = PostgresqlStore.commit

    async def cut(store: PostgresqlStore, changes: Changes) -> None:
        await commit(store, changes)
        raise StoreUnavailable("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresqlStore, "commit", cut)
        assert (await alice.refused("send_event", **asked)).type == "service_unavailable"
    event_id = (await bob.next_push("incoming_event"))["event"]["id"]
    assert await alice.call("send_event", **asked) == {"event_id": event_id}
    await bob.hears_nothing_more()


# Several processes


async def test_a_process_that_stops_amid_a_batch_holds_up_the_others_for_a_while_only(
    data_on_postgresql: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtm.store.database.IDLE_IN_TRANSACTION_TIMEOUT_MS", 200)
    data = data_on_postgresql
    async with running(data) as one, running(data) as two:
        chat_id = await one.start_chat()
        begun, go_on = asyncio.Event(), asyncio.Event()
        write = PostgresqlStore.commit

        async def commit(store: PostgresqlStore, changes: Changes) -> None:
            if not begun.is_set():
                begun.set()
                await go_on.wait()
            await write(store, changes)

        monkeypatch.setattr(PostgresqlStore, "commit", commit)
        frozen = one.submit(say(chat_id, "frozen"), chat=chat_id)
        await begun.wait()
        assert await two.submit(say(chat_id, "meanwhile"), chat=chat_id)
        go_on.set()

        assert (await frozen).type == "service_unavailable"
        await one.submit(say(chat_id, "later"), chat=chat_id)
        assert await data.texts(chat_id) == ["meanwhile", "later"]
        assert await data.sequences() == [1, 2, 3]


async def test_two_processes_number_events_and_pushes_without_gap_or_repetition(data_on_postgresql: Data) -> None:
    data = data_on_postgresql
    async with running(data) as one, running(data) as two:
        chat_id = await one.start_chat()

        async def talk(process: Process) -> list[str]:
            return [await process.submit(say(chat_id), chat=chat_id) for _ in range(50)]

        event_ids = [each for answers in await asyncio.gather(talk(one), talk(two)) for each in answers]

        assert sorted(int(each.rpartition("_")[2]) for each in event_ids) == list(range(1, 101))
        assert sorted([*one.sequences, *two.sequences]) == list(range(1, 102))
        assert one.sequences == sorted(one.sequences)
        assert two.sequences == sorted(two.sequences)
        assert len(await data.texts(chat_id)) == 100


async def test_what_another_process_has_changed_without_a_push_is_not_undone(data_on_postgresql: Data) -> None:
    data = data_on_postgresql

    def follow(work: Work) -> bool:
        return work.chat(chat_id).follow("bob")

    async with running(data) as one, running(data) as two:
        chat_id = await one.start_chat()
        await one.submit(say(chat_id, "one"), chat=chat_id)
        assert await two.submit(follow, chat=chat_id)
        await one.submit(say(chat_id, "two"), chat=chat_id)
        assert not await one.submit(follow, chat=chat_id)

    chat = await Queries(data.database).chat(data.license_id, chat_id)
    assert chat is not None
    assert list(chat.followers) == ["bob"]
    assert await data.sequences() == [1, 2, 3]


async def test_an_event_that_two_processes_change_keeps_both_changes(data_on_postgresql: Data) -> None:
    data = data_on_postgresql
    async with running(data) as one, running(data) as two:
        chat_id = await one.start_chat()
        event_id = await one.submit(say(chat_id), chat=chat_id)
        await two.submit(reopen(chat_id), chat=chat_id)

        async def change(process: Process, name: str) -> None:
            for number in range(10):
                await process.submit(mark(chat_id, event_id, f"{name}{number}"), chat=chat_id, event=event_id)

        await asyncio.gather(change(one, "one"), change(two, "two"))

    found = await Queries(data.database).thread(chat_id, event_id.partition("_")[0])
    assert found is not None
    marks = {f"{name}{number}": True for name in ("one", "two") for number in range(10)}
    assert found.thread.properties["marks"] == (await found.events())[0]["properties"]["marks"] == marks


async def test_a_customer_that_two_processes_change_keeps_both_changes(data_on_postgresql: Data) -> None:
    data = data_on_postgresql
    async with running(data) as one, running(data) as two:
        ada = await one.submit(add_customer)

        async def change(process: Process, name: str) -> None:
            for number in range(10):
                await process.submit(describe(ada, f"{name}{number}"), customer=ada)

        await asyncio.gather(change(one, "one"), change(two, "two"))

    found = await CustomerQueries(data.database).get(data.license_id, ada)
    assert found is not None
    assert found.customer.state.keys() == {f"{name}{number}" for name in ("one", "two") for number in range(10)}


async def test_an_event_that_two_processes_are_asked_for_at_once_is_stored_once(data_on_postgresql: Data) -> None:
    data = data_on_postgresql
    async with running(data) as one, running(data) as two:
        chat_id = await one.start_chat()
        asked = [str(n) for n in range(20)]

        async def ask(process: Process) -> list[str]:
            return [await process.submit(say_once(chat_id, each), chat=chat_id, custom_id=each) for each in asked]

        answers = await asyncio.gather(ask(one), ask(two))

        assert answers[0] == answers[1]
        assert await data.texts(chat_id) == asked


# Routing


def open_chat(*users: ChatUser, queued: bool = False) -> Callable[[Work], str]:
    """A chat with these users, waiting for an agent if it is queued."""

    def apply(work: Work) -> str:
        at = work.now()
        chat = Chat.start(
            work.license_id,
            at=at,
            group_ids=[0],
            users=users,
            properties={},
            thread_properties={},
            active=True,
            continuous=False,
        )
        if queued:
            chat.enqueue(at)
        return work.add(chat).id

    return apply


def routing(work: Work) -> tuple[list[str], dict[str, int]]:
    """Who waits, and who is how busy."""
    known = work.routing()
    return [chat.id for chat in known.queue], dict(+known.loads)


def take(agent_id: str) -> Callable[[Work], tuple[list[str], dict[str, int]]]:
    """Give the agent the chat that waits longest, if any does; what is known before."""

    def apply(work: Work) -> tuple[list[str], dict[str, int]]:
        known = routing(work)
        if known[0]:
            work.routing().queue[0].add_user(ChatUser(agent_id, "agent"), work.now())
            work.gave(agent_id)
        return known

    return apply


ADA = ChatUser("ada", "customer")


async def test_routing_knows_who_waits_and_who_is_busy(data: Data, process: Process) -> None:
    first = await process.submit(open_chat(replace(ADA), queued=True))
    second = await process.submit(open_chat(replace(ADA), queued=True))
    await process.submit(open_chat(replace(ADA), ChatUser("alice", "agent"), ChatUser("robin", "agent")))
    closed = await process.submit(open_chat(replace(ADA), ChatUser("alice", "agent")))
    await process.submit(lambda work: work.chat(closed).close_thread(work.now()), chat=closed)
    await process.submit(open_chat(ChatUser("alice", "agent")))  # without a customer: counts for nobody
    await process.submit(open_chat(replace(ADA), queued=True), license_id=data.other_license_id)

    # Those of one batch see what those before them did.
    known = [process.submit(apply, routing=True) for apply in (take("bob"), take("bob"), take("bob"))]

    assert [await each for each in known] == [
        ([first, second], {"alice": 1, "robin": 1}),
        ([second], {"alice": 1, "robin": 1, "bob": 1}),
        ([], {"alice": 1, "robin": 1, "bob": 2}),
    ]
    async with running(data) as other:
        queue, loads, turns = await other.submit(Work.routing, routing=True)
    assert (queue, +loads, list(turns)) == ([], {"alice": 1, "robin": 1, "bob": 2}, ["bob"])


async def test_a_chat_that_another_process_has_taken_from_the_queue_waits_no_longer(data_on_postgresql: Data) -> None:
    data = data_on_postgresql
    async with running(data) as here, running(data) as there:
        chats = [await here.submit(open_chat(replace(ADA), queued=True)) for _ in range(20)]
        taken = [process.submit(take("bob"), routing=True) for _ in range(10) for process in (here, there)]

        assert sorted(queue[0] for queue, _ in await asyncio.gather(*taken)) == sorted(chats)
        assert await here.submit(routing, routing=True) == ([], {"bob": 20})


async def test_a_command_refused_after_it_took_a_chat_leaves_it_in_the_queue(process: Process) -> None:
    chat = await process.submit(open_chat(replace(ADA), queued=True))

    def take_and_fail(work: Work) -> None:
        take("bob")(work)
        raise ChatInactive()

    spoiled = process.submit(take_and_fail, routing=True)
    after = process.submit(routing, routing=True)

    assert isinstance(await spoiled, ChatInactive)
    assert await after == ([chat], {})


async def test_when_a_chat_is_due_is_stored_by_itself(data: Data, process: Process) -> None:
    chat_id = await process.submit(open_chat(replace(ADA)))

    def due(at: str | None) -> Callable[[Work], None]:
        return lambda work: work.chat(chat_id).set_due(at)

    for at in ("2026-01-01T00:00:00.000000Z", None, "2026-01-02T00:00:00.000000Z"):
        await process.submit(due(at), chat=chat_id)
        await process.submit(say(chat_id), chat=chat_id)
        async with data.database.engine.connect() as connection:
            row = (await connection.execute(select(tables.chats).where(tables.chats.c.id == chat_id))).one()
        assert (row.due_at, row.state["due_at"]) == (at, at)
