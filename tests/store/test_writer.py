"""Group commit: what arrives together is stored together, in order, and a failure harms only whom it must."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert, select

from rtm.access.founding import license_row
from rtm.bus.base import Audience, Envelope
from rtm.model.chat import Chat, ChatUser
from rtm.protocol.errors import ApiError, ChatInactive, NotFound
from rtm.settings import Settings
from rtm.store import database, sqlite, tables
from rtm.store.postgresql import PostgresqlStore
from rtm.store.queries import Queries
from rtm.store.sqlite import SqliteStore
from rtm.store.work import Command, Needs, Work
from rtm.store.writer import MAX_BATCH, Writer
from tests.world import Refused, World

LICENSE, OTHER_LICENSE = 7, 8
HELLO = {"type": "message", "text": "hello"}


@dataclass
class Process:
    """A writer at work, and what it has said, in order."""

    writer: Writer
    said: list[tuple[str, Any]] = field(default_factory=list)

    def submit(
        self,
        apply: Callable[[Work], Any],
        *,
        chat: str | None = None,
        stores: bool = True,
        license_id: int = LICENSE,
    ) -> "asyncio.Future[Any]":
        """Queue a command; what it is answered."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(outcome: Any) -> None:
            self.said.append(("answer", outcome))
            answer.set_result(outcome)

        needs = Needs((chat,) if chat else ())
        self.writer.submit(Command(license_id, needs, apply, done, stores=stores))
        return answer

    def deliver(self, envelopes: Sequence[Envelope]) -> None:
        self.said += [("push", envelope) for envelope in envelopes]

    @property
    def sequences(self) -> list[int]:
        """The places of the pushes that were delivered."""
        return [said.sequence for kind, said in self.said if kind == "push"]

    async def start_chat(self, license_id: int = LICENSE) -> str:
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


def say(chat_id: str, text: str = "hello") -> Callable[[Work], str]:
    """Add a message to the chat."""

    def apply(work: Work) -> str:
        body = {"type": "message", "text": text, "author_id": "alice", "created_at": work.now()}
        event_id = work.append(work.chat(chat_id), body)
        work.push("incoming_event", body, Audience(everyone=True))
        return event_id

    return apply


def failing(chat_id: str, error: Exception) -> Callable[[Work], str]:
    """The same, which then fails."""

    def apply(work: Work) -> str:
        say(chat_id, "never said")(work)
        raise error

    return apply


@pytest.fixture
async def data(either_database: Settings) -> AsyncIterator[database.Database]:
    """A database with two licenses."""
    await database.migrate(either_database)
    async with database.connect(either_database) as data:
        async with data.engine.begin() as connection:
            await connection.execute(insert(tables.licenses), [license_row(LICENSE), license_row(OTHER_LICENSE)])
        yield data


@asynccontextmanager
async def running(settings: Settings, *, timeout_s: float = 0) -> AsyncIterator[Process]:
    """A process that writes to the database."""
    store: SqliteStore | PostgresqlStore
    if settings.database_url is None:
        store = SqliteStore(settings.data_dir / "rtm.sqlite3")
    else:
        store = PostgresqlStore(settings.database_url)
    await store.start()
    process = Process(Writer(store, lambda envelopes: process.deliver(envelopes), timeout_s))
    task = asyncio.create_task(process.writer.run())
    try:
        yield process
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.stop()


@pytest.fixture
async def process(data: database.Database, either_database: Settings) -> AsyncIterator[Process]:
    async with running(either_database) as process:
        yield process


async def texts(data: database.Database, chat_id: str) -> list[str]:
    """What was said in the chat, as it is stored."""
    queries = Queries(data)
    chat = await queries.chat(LICENSE, chat_id)
    assert chat is not None
    assert chat.thread is not None
    thread = await queries.thread(chat_id, chat.thread.id)
    assert thread is not None
    assert chat.thread.events_count == len(thread.events)
    return [event["text"] for event in thread.events]


async def stored_sequences(data: database.Database) -> list[int]:
    statement = select(tables.outbox.c.sequence).order_by(tables.outbox.c.sequence)
    async with data.engine.connect() as connection:
        return list(await connection.scalars(statement.where(tables.outbox.c.license_id == LICENSE)))


# Together


async def test_commands_that_arrive_together_share_a_commit(process: Process, data: database.Database) -> None:
    chat_id = await process.start_chat()
    before = process.writer.batches

    answers = await asyncio.gather(*(process.submit(say(chat_id, str(n)), chat=chat_id) for n in range(50)))

    assert process.writer.batches == before + 1
    assert [answer.rpartition("_")[2] for answer in answers] == [str(n) for n in range(1, 51)]
    assert await texts(data, chat_id) == [str(n) for n in range(50)]
    assert process.sequences == list(range(1, 52))
    assert await stored_sequences(data) == list(range(1, 52))


async def test_a_command_alone_waits_for_nobody(process: Process) -> None:
    chat_id = await process.start_chat()
    before = process.writer.batches
    for _ in range(3):
        await process.submit(say(chat_id), chat=chat_id)
    assert process.writer.batches == before + 3


async def test_a_batch_has_a_bound(process: Process, data: database.Database) -> None:
    chat_id = await process.start_chat()
    before = process.writer.batches
    count = MAX_BATCH + 44
    await asyncio.gather(*(process.submit(say(chat_id, str(n)), chat=chat_id) for n in range(count)))
    assert process.writer.batches == before + 2
    assert await texts(data, chat_id) == [str(n) for n in range(count)]


async def test_chats_of_one_batch_and_many_licenses(process: Process, data: database.Database) -> None:
    starting = [process.submit(start, license_id=each) for each in (LICENSE, OTHER_LICENSE) * 40]
    chat_ids = await asyncio.gather(*starting)
    assert len(set(chat_ids)) == 80
    assert process.sequences == [n for n in range(1, 41) for _ in range(2)]
    assert await stored_sequences(data) == list(range(1, 41))


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


async def test_what_is_not_stored_takes_no_place(process: Process, data: database.Database) -> None:
    chat_id = await process.start_chat()

    def type_(work: Work) -> None:
        work.chat(chat_id)
        work.push("incoming_typing_indicator", {}, Audience(everyone=True), stored=False)

    await asyncio.gather(
        process.submit(type_, chat=chat_id, stores=False),
        process.submit(say(chat_id), chat=chat_id),
        process.submit(type_, chat=chat_id, stores=False),
    )
    await process.submit(type_, chat=chat_id, stores=False)

    assert process.sequences == [1, 0, 2, 0, 0]
    assert await stored_sequences(data) == [1, 2]


async def test_a_chat_of_another_license_is_not_found(process: Process) -> None:
    chat_id = await process.start_chat(OTHER_LICENSE)
    assert isinstance(await process.submit(say(chat_id), chat=chat_id), NotFound)


async def test_a_chat_goes_on_after_a_restart(
    process: Process, data: database.Database, either_database: Settings
) -> None:
    chat_id = await process.start_chat()
    await process.submit(say(chat_id, "before"), chat=chat_id)
    async with running(either_database) as later:
        event_id = await later.submit(say(chat_id, "after"), chat=chat_id)
    assert event_id.endswith("_2")
    assert later.sequences == [3]
    assert await texts(data, chat_id) == ["before", "after"]


async def test_chats_that_are_no_longer_kept_are_read_again(
    process: Process, data: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "KEPT_CHATS", 2)
    chat_ids = [await process.start_chat() for _ in range(5)]
    for text in ("one", "two"):
        for chat_id in chat_ids:
            await process.submit(say(chat_id, text), chat=chat_id)
    for chat_id in chat_ids:
        assert await texts(data, chat_id) == ["one", "two"]


# Refused


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("error", "answer"), [(ChatInactive(), "chat_inactive"), (RuntimeError("a bug"), "internal")], ids=["api", "bug"]
)
async def test_a_refused_command_leaves_no_trace_and_harms_nobody(
    process: Process, data: database.Database, place: int, error: Exception, answer: str
) -> None:
    chat_id, other_id = await process.start_chat(), await process.start_chat()
    process.said.clear()
    pending = []
    for number in range(5):
        if number == place:
            pending.append(process.submit(failing(chat_id, error), chat=chat_id))
        pending.append(process.submit(say(chat_id, str(number)), chat=chat_id))
        pending.append(process.submit(say(other_id, str(number)), chat=other_id))

    outcomes = await asyncio.gather(*pending)

    refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    assert [each.type for each in refused] == [answer]
    assert outcomes.index(refused[0]) == 2 * place
    for each in (chat_id, other_id):
        assert await texts(data, each) == ["0", "1", "2", "3", "4"]
    assert process.sequences == list(range(3, 13))
    assert await stored_sequences(data) == list(range(1, 13))
    assert sum(kind == "answer" for kind, _ in process.said) == 11  # each is answered once


async def test_many_refused_commands_in_one_batch(process: Process, data: database.Database) -> None:
    chat_id = await process.start_chat()
    pending = []
    for number in range(20):
        pending.append(process.submit(failing(chat_id, ChatInactive()), chat=chat_id))
        pending.append(process.submit(say(chat_id, str(number)), chat=chat_id))
    outcomes = await asyncio.gather(*pending)
    assert [isinstance(outcome, ChatInactive) for outcome in outcomes] == [True, False] * 20
    assert await texts(data, chat_id) == [str(number) for number in range(20)]


async def test_a_refused_start_stores_no_chat(process: Process, data: database.Database) -> None:
    def fail(work: Work) -> None:
        start(work)
        raise ChatInactive()

    outcomes = await asyncio.gather(process.submit(fail), process.submit(start))
    assert isinstance(outcomes[0], ChatInactive)
    async with data.engine.connect() as connection:
        assert list(await connection.scalars(select(tables.chats.c.id))) == [outcomes[1]]
    assert process.sequences == [1]


async def test_an_answer_that_nobody_takes_harms_nobody(process: Process) -> None:
    chat_id = await process.start_chat()

    def fail(outcome: Any) -> None:
        raise ConnectionResetError

    process.writer.submit(Command(LICENSE, Needs((chat_id,)), say(chat_id), fail))
    assert (await process.submit(say(chat_id), chat=chat_id)).endswith("_2")


# Outages


@asynccontextmanager
async def locked(data: database.Database) -> AsyncIterator[None]:
    """Nobody else can write to the SQLite file, or to the licenses."""
    async with data.engine.connect() as connection:
        if data.dialect == "sqlite":
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await connection.exec_driver_sql("SELECT * FROM licenses FOR UPDATE")
        yield
        await connection.rollback()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores give up on a lock soon."""
    monkeypatch.setattr("rtm.store.sqlite.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("rtm.store.postgresql.COMMAND_TIMEOUT_S", 0.2)


async def test_what_cannot_be_stored_is_refused_as_a_whole_and_forgotten(
    impatient: None, process: Process, data: database.Database
) -> None:
    chat_id = await process.start_chat()
    async with locked(data):
        outcomes = await asyncio.gather(*(process.submit(say(chat_id, "lost"), chat=chat_id) for _ in range(5)))
    assert {outcome.type for outcome in outcomes} == {"service_unavailable"}

    event_id = await process.submit(say(chat_id, "kept"), chat=chat_id)

    assert event_id.endswith("_1")
    assert await texts(data, chat_id) == ["kept"]
    assert process.sequences == [1, 2]
    assert await stored_sequences(data) == [1, 2]


async def test_a_connection_that_was_cut_is_made_anew(postgres_url: str, tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres_url)
    await database.migrate(settings)
    async with AsyncExitStack() as stack:
        data = await stack.enter_async_context(database.connect(settings))
        async with data.engine.begin() as connection:
            await connection.execute(insert(tables.licenses), license_row(LICENSE))
        process = await stack.enter_async_context(running(settings))
        chat_id = await process.start_chat()

        other = await asyncpg.connect(postgres_url)
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await other.close()
        # The end of the connection may be seen before the command, or by it.
        outcome = await process.submit(say(chat_id, "first"), chat=chat_id)
        assert isinstance(outcome, str) or outcome.type == "service_unavailable"

        await process.submit(say(chat_id, "second"), chat=chat_id)
        assert (await texts(data, chat_id))[-1] == "second"
        sequences = await stored_sequences(data)
        assert sequences == list(range(1, len(sequences) + 1))


async def test_what_takes_too_long_is_answered_so_and_what_had_not_begun_is_dropped(
    data: database.Database, either_database: Settings
) -> None:
    async with running(either_database, timeout_s=0.1) as process:
        chat_id = await process.start_chat()
        async with locked(data):
            begun = process.submit(say(chat_id, "begun"), chat=chat_id)
            for _ in range(100):  # the batch is on its way to the database
                await asyncio.sleep(0)
            waiting = process.submit(say(chat_id, "waiting"), chat=chat_id)
            assert [(await each).type for each in (begun, waiting)] == ["request_timeout"] * 2
        await process.submit(say(chat_id, "later"), chat=chat_id)
        assert await texts(data, chat_id) == ["begun", "later"]
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


# Several processes


async def test_two_processes_number_events_and_pushes_without_gap_or_repetition(
    postgres_url: str, tmp_path: Any
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres_url)
    await database.migrate(settings)
    async with AsyncExitStack() as stack:
        data = await stack.enter_async_context(database.connect(settings))
        async with data.engine.begin() as connection:
            await connection.execute(insert(tables.licenses), license_row(LICENSE))
        one, two = [await stack.enter_async_context(running(settings)) for _ in range(2)]
        chat_id = await one.start_chat()

        async def talk(process: Process) -> list[str]:
            return [await process.submit(say(chat_id), chat=chat_id) for _ in range(50)]

        event_ids = [each for answers in await asyncio.gather(talk(one), talk(two)) for each in answers]

        assert sorted(int(each.rpartition("_")[2]) for each in event_ids) == list(range(1, 101))
        assert sorted([*one.sequences, *two.sequences]) == list(range(1, 102))
        assert one.sequences == sorted(one.sequences)
        assert two.sequences == sorted(two.sequences)
        assert len(await texts(data, chat_id)) == 100
