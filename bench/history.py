"""A year's history of one license, written into a database as the server would have: chats, threads, events, the index.

What is filtered by is common here and rare there: words, agents and countries by Zipf's law, a tag on half of the
threads and one on a ten-thousandth, forms, greetings, properties.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from rtm.model.chat import Chat, ChatUser, NewEvent
from rtm.model.customer import Customer
from rtm.model.labels import Facts
from rtm.protocol.timestamps import from_microseconds
from rtm.settings import Settings
from rtm.store.database import Database, connect
from rtm.store.indexer import Indexer, Source, number
from rtm.store.pools import write_store
from rtm.store.work import Command, Needs
from rtm.store.writer import Changes

LICENSE_ID = 1
"""The demo license."""
CHATS_IN_BATCH = 100
THREADS_OF_CHAT = (1, 2, 3, 4)
EVENTS_OF_THREAD = 10
YEAR_US = 365 * 24 * 3600 * 1_000_000
BEGAN_US = 1_735_689_600_000_000  # 2025
COUNTRIES = ("PL", "US", "DE", "GB", "FR", "BR", "JP", "IN", "CA", "AU")


def _zipf(count: int) -> list[float]:
    """Cumulated weights: each place half as likely as the one half as far."""
    return list(accumulate(1 / place for place in range(1, count + 1)))


_COUNTRY_WEIGHTS = _zipf(len(COUNTRIES))


@dataclass
class History:
    """What is written, and what can be asked for."""

    threads: int
    agent_ids: Sequence[str]
    bot_ids: Sequence[str]
    seed: int = 4
    vocabulary: list[str] = field(default_factory=list)
    customer_ids: list[str] = field(default_factory=list)
    chat_ids: list[str] = field(default_factory=list)
    thread_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.vocabulary = [self._word() for _ in range(5000)]
        self._word_weights = _zipf(len(self.vocabulary))
        self._agent_weights = _zipf(len(self.agent_ids))

    def _word(self) -> str:
        return "".join(self._random.choices("abcdefghijklmnoprstuvwyz", k=self._random.randint(3, 10)))

    def batches(self) -> Iterator[tuple[Changes, list[Source]]]:
        """What is stored together, and the rows of the index."""
        places = sorted(self._random.sample(range(YEAR_US), self.threads))
        while places:
            changes, sources = Changes(at=from_microseconds(BEGAN_US)), list[Source]()
            for _ in range(CHATS_IN_BATCH):
                count = min(len(places), self._random.choice(THREADS_OF_CHAT))
                if count:
                    self._add_chat(changes, sources, [places.pop() for _ in range(count)])
            yield changes, sources

    def _add_chat(self, changes: Changes, sources: list[Source], places: list[int]) -> None:
        draw = self._random
        if not self.customer_ids or draw.random() < 0.6:
            customer = self._customer()
            changes.customers.append(customer)
            self.customer_ids.append(customer.id)
            self._country = customer.state["visit"]["geolocation"]["country_code"]
        customer_id = self.customer_ids[-1]
        chat: Chat | None = None
        for place in sorted(places):
            at_us = BEGAN_US + place
            agent_id = draw.choices(self.agent_ids, cum_weights=self._agent_weights)[0]
            users = [ChatUser(customer_id, "customer"), ChatUser(agent_id, "agent")]
            if draw.random() < 0.1:
                users.append(ChatUser(draw.choice(self.bot_ids), "agent"))
            if chat is None:
                chat = Chat.start(
                    LICENSE_ID,
                    at=from_microseconds(at_us),
                    group_ids=[min(int(draw.expovariate(0.3)), 19)],
                    users=users,
                    properties={"source": {"client_id": draw.choice("abc")}},
                    thread_properties=self._properties(),
                    active=True,
                    continuous=False,
                )
                self.chat_ids.append(chat.id)
            else:
                chat.open_thread(at=from_microseconds(at_us), users=users, properties=self._properties(), active=True)
            self._add_thread(changes, sources, chat, at_us, customer_id, agent_id)
        if chat is not None:
            changes.new_chats.append(chat)

    def _add_thread(
        self, changes: Changes, sources: list[Source], chat: Chat, at_us: int, customer_id: str, agent_id: str
    ) -> None:
        draw, thread = self._random, chat.thread
        assert thread is not None
        for tag, share in (("half", 0.5), ("tenth", 0.1), ("rare", 0.0001)):
            if draw.random() < share:
                thread.tags.append(tag)
        added: list[NewEvent] = []
        for place in range(draw.randint(EVENTS_OF_THREAD // 2, EVENTS_OF_THREAD * 3 // 2)):
            author_id = customer_id if place % 2 == 0 else agent_id
            body = self._body(author_id, from_microseconds(at_us + (place + 1) * 20_000_000), place)
            added.append(chat.append(body, author_id))
        changes.events += added
        chat.close_thread(at=added[-1].body["created_at"])
        self.thread_ids.append(thread.id)
        user_types = {user.id: user.type for user in chat.users.values()}
        facts = Facts(
            license_id=LICENSE_ID,
            chat_id=chat.id,
            group_ids=thread.group_ids,
            agent_ids=[each for each in thread.user_ids if user_types[each] == "agent"],
            customer_ids=[customer_id],
            countries=[self._country],
            tags=thread.tags,
            properties=(thread.properties, chat.properties),
        )
        place = number(thread.created_at, thread.id)
        new_events = [(event.number, event.body) for event in added]
        sources.append(Source(thread.id, thread.created_at, facts, place, 0, "", "", new_events))

    def _body(self, author_id: str, at: str, place: int) -> dict[str, Any]:
        draw = self._random
        body: dict[str, Any] = {"id": "", "created_at": at, "author_id": author_id, "visibility": "all"}
        if place == 0 and draw.random() < 0.3:
            answers = [{"id": f"answer{draw.randint(1, 9)}", "label": self._sentence(3)}]
            fields = [{"type": "checkbox", "id": "1", "label": self._sentence(4), "answers": answers}]
            properties = {"lc2": {"form_type": draw.choice(("prechat", "postchat"))}}
            return body | {"type": "filled_form", "form_id": "1", "fields": fields, "properties": properties}
        if draw.random() < 0.02:
            return body | {"type": "file", "name": "a.pdf", "url": "https://example.com/a", "content_type": "text/html"}
        return body | {"type": "message", "text": self._sentence(draw.randint(4, 16))}

    def _sentence(self, length: int) -> str:
        return " ".join(self._random.choices(self.vocabulary, cum_weights=self._word_weights, k=length))

    def _properties(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {"rating": {"score": self._random.randint(0, 1)}}
        if self._random.random() < 0.1:
            found["lc2"] = {"greeting_id": self._random.randint(1, 20)}
        return found

    def _customer(self) -> Customer:
        id_ = str(UUID(int=self._random.getrandbits(128), version=4))
        country = self._random.choices(COUNTRIES, cum_weights=_COUNTRY_WEIGHTS)[0]
        state = {"visit": {"geolocation": {"country_code": country}}}
        return Customer(id_, LICENSE_ID, "Customer", f"{id_[:8]}@example.net", from_microseconds(BEGAN_US), state)


async def write(settings: Settings, history: History, tick: Callable[[str], None]) -> None:
    """Write it all. Raises what the drivers raise."""
    command = Command(LICENSE_ID, Needs(), apply=lambda _: None, done=lambda _: None)
    async with connect(settings) as database:
        is_sqlite = database.dialect == "sqlite"
        store = write_store(settings)
        indexer = Indexer(database, store)
        await store.start()
        try:
            remake = [] if is_sqlite else await _drop_inverted_indexes(database)
            written = 0
            for changes, sources in history.batches():
                await store.begin([command])
                await store.commit(changes)
                await indexer.write(sources)
                written += len(sources)
                tick(f"{database.dialect}: {written:,} of {history.threads:,} threads")
            tick(f"{database.dialect}: indexes")
            async with _alone(database).connect() as connection:
                for statement in remake:
                    await connection.execute(text(statement))
                for due in ("archive_due", "archive_due_chats"):
                    await connection.execute(text(f"DELETE FROM {due}"))
                await connection.execute(text("ANALYZE" if is_sqlite else "VACUUM ANALYZE"))
        finally:
            await store.stop()


def _alone(database: Database) -> AsyncEngine:
    return database.engine.execution_options(isolation_level="AUTOCOMMIT")


async def _drop_inverted_indexes(database: Database) -> list[str]:
    """They are made much faster at the end; the statements that make them."""
    wanted = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'archive' AND indexdef LIKE '%USING gin%'"
    async with _alone(database).connect() as connection:
        found = (await connection.execute(text(wanted))).all()
        for name, _ in found:
            await connection.execute(text(f"DROP INDEX {name}"))
    return [definition for _, definition in found]
