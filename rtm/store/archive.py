"""The list of archives: threads by their creation, found by an inverted index (see `rtm.store.indexer`).

A condition is a combination of tokens, which the index answers without looking at the threads: FTS5 on SQLite, GIN over
tsvectors on PostgreSQL. Neither is left a choice of plans that is good for most values and bad for some.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.chat import Chat
from rtm.model.labels import OF_EVENTS, Kind, token
from rtm.slices import in_slices
from rtm.store import archive_fts5, archive_gin
from rtm.store.archive_search import OF_LICENSE, Clause, Place, Search, Span
from rtm.store.chat_rows import CHATS, as_chat
from rtm.store.database import Database
from rtm.store.indexer import Indexer, first_number
from rtm.store.queries import (
    MAX_PAGE_EVENTS,
    Cursor,
    Order,
    Page,
    Reach,
    ThreadWithEvents,
    fitting,
    page_of,
    with_events,
)
from rtm.store.tables import chats, customers, threads

MAX_CUSTOMERS = 100
"""Customers of one e-mail address."""
MAX_PRESENT_CHATS = 500
"""Chats that an agent is in; some dozens at most."""
CLOCKS_APART_US = 60_000_000
"""By which an event may seem older than its thread, as another process wrote it."""

# By the index of those who are in a chat with it open, not by that of all who ever were in one.
_PRESENT = text(
    "SELECT chat_id FROM chat_users"
    " WHERE license_id = :license_id AND user_id = :user_id AND present AND type = 'agent' LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a thread's labels must be like, each of these."""

    any_of: list[tuple[Kind, Collection[str]]] = field(default_factory=list)
    """At least one of the labels of this kind."""
    not_all_of: list[tuple[Kind, Collection[str]]] = field(default_factory=list)
    """Not all of them."""

    def has(self, kind: Kind, *values: str) -> None:
        """One of these labels at least."""
        self.any_of.append((kind, values))

    def lacks(self, kind: Kind, *values: str) -> None:
        """One of these labels at least is missing."""
        if values:
            self.not_all_of.append((kind, values))


@dataclass(frozen=True, slots=True)
class ArchiveFilter:
    """What `list_archives` may be asked for; times are in the protocol's form."""

    terms: Terms = field(default_factory=Terms)
    created_from: str | None = None
    created_to: str | None = None
    spans: tuple[Span, ...] = ()
    chat_ids: tuple[str, ...] | None = None
    thread_ids: tuple[str, ...] | None = None
    customer_email: str | None = None


@dataclass(frozen=True, slots=True)
class Archived:
    """A thread of a chat, and its next ones in time that the requester may see."""

    chat: Chat
    thread: ThreadWithEvents
    previous_accessible_thread_id: str | None
    next_accessible_thread_id: str | None


class Archive:
    """Reads the list, on connections of its own."""

    def __init__(self, database: Database, indexer: Indexer) -> None:
        self._engine = database.engine
        self._index = archive_gin if database.dialect == "postgresql" else archive_fts5
        self._indexer = indexer

    async def _indexed(
        self, connection: AsyncConnection, license_id: int, numbers: Sequence[int], reached: Clause | None
    ) -> dict[int, Row[Any]]:
        """What the index has of these numbers, with their neighbours: none of another license, whatever tokens say."""
        if not numbers:
            return {}
        is_reached, values = self._index.has_any("p.labels", reached) if reached else ("true", {})
        neighbours = f"""
            SELECT number, thread_id, chat_id, events_count,
                (SELECT p.thread_id FROM archive p WHERE p.chat_id = a.chat_id AND p.number < a.number AND {is_reached}
                    ORDER BY p.number DESC LIMIT 1) AS previous,
                (SELECT p.thread_id FROM archive p WHERE p.chat_id = a.chat_id AND p.number > a.number AND {is_reached}
                    ORDER BY p.number LIMIT 1) AS next
            FROM archive a WHERE number IN ({", ".join(map(str, numbers))}) AND {OF_LICENSE}
        """  # noqa: S608 - nothing but our own text and integers
        of_license = await connection.execute(text(neighbours), {**values, "license_id": license_id})
        return {row.number: row for row in of_license}

    async def _archived(self, connection: AsyncConnection, indexed: Sequence[Row[Any]]) -> list[Archived]:
        """These threads, in that order."""
        if not indexed:
            return []
        of_threads = select(threads).where(threads.c.id.in_([row.thread_id for row in indexed]))
        with_their_events = await with_events(connection, await in_slices(await connection.execute(of_threads)))
        of_chats = CHATS.where(chats.c.id.in_({row.chat_id for row in indexed}))
        chats_by_id = {chat.id: chat for chat in await in_slices(map(as_chat, await connection.execute(of_chats)))}
        threads_by_id = {each.thread.id: each for each in with_their_events}
        return [
            Archived(chats_by_id[row.chat_id], threads_by_id[row.thread_id], row.previous, row.next) for row in indexed
        ]

    async def list(
        self, license_id: int, reach: Reach, wanted: ArchiveFilter, order: Order, limit: int, cursor: Cursor | None
    ) -> Page[Archived]:
        """Threads by their creation, with all their events."""
        await self._indexer.catch_up(license_id)
        async with self._engine.connect() as connection:
            reached = await _reached(connection, license_id, reach)
            clauses = list(_clauses(license_id, wanted.terms))
            if reached is not None:
                clauses.append(reached)
            if wanted.customer_email is not None:
                clauses.append(await _of_customers(connection, license_id, wanted.customer_email))
            if not all(clause.tokens for clause in clauses):
                return Page([], None, None, 0)
            backwards = cursor is not None and cursor.backwards
            # One more than is shown, to know whether there is another page.
            place = Place(int(cursor.id) if cursor else None, (order == "desc") != backwards, limit + 1)
            numbers, found = await self._index.read(connection, _search(license_id, clauses, wanted), place)
            indexed = await self._indexed(connection, license_id, numbers[:limit], reached)
            events = (indexed[number].events_count if number in indexed else 0 for number in numbers)
            limit = fitting(events, MAX_PAGE_EVENTS, limit)
            page = page_of(numbers, limit, cursor, lambda number: ("", str(number)), found)
            rows = await self._archived(connection, [indexed[number] for number in page.rows if number in indexed])
            return Page(rows, page.next, page.previous, page.found)


def _clauses(license_id: int, terms: Terms) -> Iterable[Clause]:
    for negated, groups in ((False, terms.any_of), (True, terms.not_all_of)):
        for kind, values in groups:
            tokens = tuple(token(license_id, kind, value) for value in values)
            yield Clause("words" if kind in OF_EVENTS else "labels", tokens, negated)


async def _reached(connection: AsyncConnection, license_id: int, reach: Reach) -> Clause | None:
    """What threads within reach have: their groups, or a chat that the requester is in."""
    if reach.group_ids is None:
        return None
    me = {"license_id": license_id, "user_id": reach.user_id, "limit": MAX_PRESENT_CHATS}
    mine = await connection.scalars(_PRESENT, me)
    tokens = [token(license_id, "group", str(group_id)) for group_id in sorted(reach.group_ids)]
    return Clause("labels", (*tokens, *(token(license_id, "chat", chat_id) for chat_id in mine)))


async def _of_customers(connection: AsyncConnection, license_id: int, email: str) -> Clause:
    with_email = customers.c.license_id == license_id, func.lower(customers.c.email) == email.lower()
    found = await connection.scalars(select(customers.c.id).where(*with_email).limit(MAX_CUSTOMERS))
    return Clause("labels", tuple(token(license_id, "customer", customer_id) for customer_id in found))


def _search(license_id: int, clauses: Sequence[Clause], wanted: ArchiveFilter) -> Search:
    created_from, created_to = wanted.created_from, wanted.created_to
    # By the time of an event that is asked for the thread was there.
    ends = [first_number(span.to) + CLOCKS_APART_US * 1024 for span in wanted.spans if span.to is not None]
    by_column = {"chat_id": wanted.chat_ids, "thread_id": wanted.thread_ids}
    return Search(
        license_id,
        # Each once, also for PostgreSQL, which takes them to be independent when it tells how much they find.
        tuple(dict.fromkeys(clauses)),
        spans=wanted.spans,
        created_from=None if created_from is None else _within(first_number(created_from)),
        created_to=None if created_to is None else _within(first_number(created_to) + 1024),
        before=_within(min(ends)) if ends else None,
        ids={column: ids for column, ids in by_column.items() if ids is not None},
    )


def _within(number: int) -> int:
    return max(-(2**63), min(2**63 - 1, number))
