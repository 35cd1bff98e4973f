"""Customers with what their chats tell of them: one, a list page by page, and those who have an open chat."""

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, Subquery, Text, cast, exists, func, or_, select

from rtm.model.customer import Customer
from rtm.model.requests.customers import SortedBy
from rtm.model.tracking import OpenChat
from rtm.store.chat_rows import after_state
from rtm.store.database import Database
from rtm.store.queries import Cursor, Order, Page, as_customer, read_page, reading
from rtm.store.tables import chat_groups, chat_users, chats, customers, threads

MAX_CHAT_IDS = 100
"""Chats that a customer is shown with, the newest; most customers have one."""


@dataclass(frozen=True, slots=True)
class CustomerWithChats:
    """A customer, the ids of their newest chats, how many there are in all, and when who wrote last."""

    customer: Customer
    chat_ids: list[str]
    chats_count: int
    threads_count: int
    agent_wrote_at: str | None
    customer_wrote_at: str | None


@dataclass(frozen=True, slots=True)
class Here:
    """The customers who have come last, each with at least one open chat, and how many there are in all."""

    customers: dict[str, Customer]
    """By id, who came last first."""
    open_chats: list[OpenChat]
    total: int


class Counted(NamedTuple):
    """A customer, and how many chats and threads they take or took part in."""

    customer: Customer
    chats_count: int
    threads_count: int


class Condition(NamedTuple):
    """What a customer must be like: `Condition("chats_count", "gte", 2)`."""

    field: str
    comparison: str
    value: Any


class CustomerQueries:
    """Reads on connections of their own, beside the writer's."""

    def __init__(self, database: Database) -> None:
        self._engine = reading(database)

    async def get(self, license_id: int, customer_id: str) -> CustomerWithChats | None:
        """One customer of the license."""
        wanted = _CUSTOMERS.where(customers.c.license_id == license_id, customers.c.id == customer_id)
        newest = (
            select(chats.c.id)
            .join(chat_users, chat_users.c.chat_id == chats.c.id)
            .where(chat_users.c.license_id == license_id, chat_users.c.user_id == customer_id)
            .order_by(chats.c.sorted_at.desc(), chats.c.id.desc())
            .limit(MAX_CHAT_IDS)
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(wanted)).one_or_none()
            return None if row is None else _shown(row, (await connection.scalars(newest)).all())

    async def counted(self, license_id: int, customer_ids: Collection[str]) -> Sequence[Counted]:
        """Those of the license's customers who have these ids."""
        wanted = _COUNTED.where(customers.c.license_id == license_id, customers.c.id.in_(customer_ids))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(wanted)).all()
        return [Counted(as_customer(row), row.chats_count, row.threads_count) for row in rows]

    async def list(
        self,
        license_id: int,
        conditions: Iterable[Condition],
        sorted_by: SortedBy,
        order: Order,
        limit: int,
        cursor: Cursor | None,
    ) -> Page[CustomerWithChats]:
        """Customers, without the ids of chats, by what is asked for; those alike in it by their creation."""
        place = _SORTED_BY[sorted_by].label("place")
        matching = [customers.c.license_id == license_id, *map(_matching, conditions)]
        async with self._engine.connect() as connection:
            rows, key = _CUSTOMERS.add_columns(place), (place, customers.c.id)
            return await read_page(connection, rows, matching, key, order, limit, cursor, _shown)

    async def here(self, license_id: int, group_ids: Collection[int] | None, limit: int) -> Here:
        """Customers with an open chat in these groups, or in any."""
        found = _open_chats(license_id, group_ids)
        came_at = func.max(found.c.sorted_at)
        last = (
            select(found.c.customer_id, came_at.label("came_at"), func.count().over().label("total"))
            .group_by(found.c.customer_id)
            .order_by(came_at.desc(), found.c.customer_id)
            .limit(limit)
            .subquery()
        )
        shown = (
            select(customers, last.c.total)
            .join(last, last.c.customer_id == customers.c.id)
            .where(customers.c.license_id == license_id)
            .order_by(last.c.came_at.desc(), customers.c.id)
        )
        async with self._engine.connect() as connection:
            rows = (await connection.execute(shown)).all()
            ids = [row.id for row in rows]
            # Of the text put together SQLite looks up no index, which it would for each id in each chat.
            theirs = found.c.customer_id.concat("").in_(ids)
            ids_of_groups = select(func.aggregate_strings(cast(chat_groups.c.group_id, Text), " "))
            in_groups = ids_of_groups.where(chat_groups.c.chat_id == found.c.chat_id).scalar_subquery()
            chats_of = select(found.c.customer_id, found.c.chat_id, in_groups).where(theirs)
            open_chats = [
                (customer_id, chat_id, frozenset(map(int, group_ids.split())))
                for customer_id, chat_id, group_ids in await connection.execute(chats_of)
            ]
        return Here({row.id: as_customer(row) for row in rows}, open_chats, rows[0].total if rows else 0)


def _open_chats(license_id: int, group_ids: Collection[int] | None) -> Subquery:
    """customer_id, chat_id, sorted_at"""
    statement = (
        select(chat_users.c.user_id.label("customer_id"), chats.c.id.label("chat_id"), chats.c.sorted_at)
        .join(chats, chats.c.id == chat_users.c.chat_id)
        .where(chat_users.c.type == "customer", chat_users.c.present)
        # The router looks after the open chats of customers, and of those there is an index. SQLite would rather
        # take that of licenses, and read all chats that this one ever had; of a sum it cannot.
        .where(chats.c.id.in_(select(chats.c.id).where(chats.c.due_at > "")), chats.c.license_id + 0 == license_id)
    )
    if group_ids is not None:
        statement = statement.where(
            exists().where(chat_groups.c.chat_id == chats.c.id, chat_groups.c.group_id.in_(list(group_ids)))
        )
    return statement.subquery()


def _shown(row: Row[Any], chat_ids: Sequence[str] = ()) -> CustomerWithChats:
    return CustomerWithChats(
        as_customer(row),
        list(chat_ids),
        row.chats_count,
        row.threads_count,
        row.agent_wrote_at,
        row.customer_wrote_at,
    )


def _of_chats(what: ColumnElement[Any]) -> Select[Any]:
    """Something of the chats that a customer takes or took part in."""
    theirs = chat_users.c.license_id == customers.c.license_id, chat_users.c.user_id == customers.c.id
    return select(what).select_from(chat_users).where(*theirs).correlate(customers)


def _wrote_at(writer: str) -> ColumnElement[str | None]:
    author = chat_users.alias()
    since = (
        select(func.max(after_state.c.body["created_at"].as_string()))
        .join(author, author.c.user_id == after_state.c.body["author_id"].as_string())
        .where(author.c.chat_id == chats.c.id, author.c.type == writer)
        .correlate(chats)
        .scalar_subquery()
    )
    latest = func.max(func.coalesce(since, chats.c.state["written_at", writer].as_string()))
    return _of_chats(latest).join(chats, chats.c.id == chat_users.c.chat_id).scalar_subquery()


_chats_count = _of_chats(func.count()).scalar_subquery()
_threads_count = _of_chats(func.count()).join(threads, threads.c.chat_id == chat_users.c.chat_id).scalar_subquery()
_visits_count = func.coalesce(customers.c.state["statistics", "visits_count"].as_integer(), 0)

_COUNTED = select(customers, _chats_count.label("chats_count"), _threads_count.label("threads_count"))
_CUSTOMERS = _COUNTED.add_columns(
    _wrote_at("agent").label("agent_wrote_at"),
    _wrote_at("customer").label("customer_wrote_at"),
)

_FIELDS: dict[str, ColumnElement[Any]] = {
    "customer_id": customers.c.id,
    "name": customers.c.name,
    "email": customers.c.email,
    "country": customers.c.state["visit", "geolocation", "country"].as_string(),
    "created_at": customers.c.created_at,
    "chats_count": _chats_count,
    "threads_count": _threads_count,
    "visits_count": _visits_count,
    "agent_last_event_created_at": _wrote_at("agent"),
    "customer_last_event_created_at": _wrote_at("customer"),
}

_COMPARISONS: dict[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    "values": lambda field, values: field.in_(values),
    "exclude_values": lambda field, values: or_(field.is_(None), field.not_in(values)),
    "lte": operator.le,
    "lt": operator.lt,
    "gte": operator.ge,
    "gt": operator.gt,
    "eq": operator.eq,
}


def _matching(condition: Condition) -> ColumnElement[bool]:
    if condition.field == "chat_group_ids":
        in_groups = (
            exists(_of_chats(chat_users.c.chat_id))
            .where(chat_groups.c.chat_id == chat_users.c.chat_id)
            .where(chat_groups.c.group_id.in_(condition.value))
        )
        return in_groups if condition.comparison == "values" else ~in_groups
    return _COMPARISONS[condition.comparison](_FIELDS[condition.field], condition.value)


def _then_by_creation(first: ColumnElement[Any]) -> ColumnElement[str]:
    """As one text, for the place in a list; `first` has always the same length, and null comes before the rest."""
    return func.coalesce(first, "0000-00-00T00:00:00.000000Z").concat(customers.c.created_at)


def _digits(count: ColumnElement[int]) -> ColumnElement[str]:
    return cast(count + 10**9, Text)


_SORTED_BY: dict[SortedBy, ColumnElement[str]] = {
    "created_at": customers.c.created_at,
    "threads_count": _then_by_creation(_digits(_threads_count)),
    "visits_count": _then_by_creation(_digits(_visits_count)),
    "agent_last_event": _then_by_creation(_wrote_at("agent")),
    "customer_last_event": _then_by_creation(_wrote_at("customer")),
}
