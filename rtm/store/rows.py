"""Rows of the tables that a batch writes, the same for both databases; JSON columns as text."""

from collections.abc import Iterable
from dataclasses import fields
from typing import NamedTuple, Self

import orjson

from rtm.bus.base import Envelope
from rtm.model.chat import ChangedEvent, Chat, NewEvent
from rtm.model.customer import Customer, CustomerBan
from rtm.model.files import StoredFile
from rtm.store.work import Turn
from rtm.store.writer import Changes

Row = tuple[object, ...]

FILE = ", ".join(each.name for each in fields(StoredFile))
"""The columns of a file, in the order of StoredFile."""

DUE_ALREADY = """ ON CONFLICT (thread_id) DO UPDATE
    SET id = excluded.id, afresh = archive_due.afresh OR excluded.afresh
"""
"""Of rows of `archive_due`: what is noted again comes last, and whoever has read it sees that it has changed."""
DUE_AGAIN = """ ON CONFLICT (license_id, chat_id) DO UPDATE SET again = archive_due_chats.before < excluded.before"""
"""Of rows of `archive_due_chats`: those that have been begun."""


def json(value: object) -> str:
    """A JSON column's text."""
    return orjson.dumps(value).decode()


def decoded_size(text: str) -> int:
    """Bytes of memory that a JSON text takes when it is decoded, about: an object or list is some 100, if it is empty.

    In what is short they are not counted: that would take longer, and they cannot be many.
    """
    return len(text) if len(text) < 512 else len(text) + 100 * (text.count("{") + text.count("["))


class ChatRow(NamedTuple):
    """A row of `chats`."""

    id: str
    license_id: int
    active: bool
    last_thread_id: str | None
    sorted_at: str
    queued_at: str | None
    due_at: str | None
    properties: str
    state: str

    @classmethod
    def of(cls, chat: Chat) -> Self:
        """A chat as it is."""
        return cls(
            chat.id,
            chat.license_id,
            chat.active,
            chat.thread.id if chat.thread else None,
            chat.sorted_at,
            chat.queued_at,
            chat.due_at,
            json(chat.properties),
            chat.state().decode(),
        )

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return decoded_size(self.properties) + decoded_size(self.state)


def of_chats(changes: Changes) -> dict[str, ChatRow]:
    """By id, the new ones and those of which the state is due."""
    due = (chat for chat in changes.changed_chats if chat.state_due)
    return {chat.id: ChatRow.of(chat) for chat in (*changes.new_chats, *due)}


def to_chat(chat_id: str, license_id: int, *documents: str) -> Chat:
    """A chat of its properties, its state and the events after that, as JSON."""
    return Chat.load(chat_id, license_id, *map(orjson.loads, documents))


def of_event(event: NewEvent | ChangedEvent) -> tuple[str, int, str]:
    """thread_id, number, body"""
    return (event.thread_id, event.number, json(event.body))


def of_custom_ids(events: Iterable[NewEvent]) -> list[Row]:
    """thread_id, custom_id, author_id, number; of those that have one."""
    return [
        (event.thread_id, custom_id, event.author_id, event.number)
        for event in events
        if (custom_id := event.body.get("custom_id")) is not None
    ]


def of_customer(customer: Customer) -> Row:
    """license_id, id, name, email, created_at, state"""
    return (
        customer.license_id,
        customer.id,
        customer.name,
        customer.email,
        customer.created_at,
        json(customer.state),
    )


def of_ban(ban: CustomerBan) -> Row:
    """license_id, customer_id, ip, agent_id, created_at, expires_at"""
    return (ban.license_id, ban.customer_id, ban.ip, ban.agent_id, ban.created_at, ban.expires_at)


def of_envelope(envelope: Envelope, at: str) -> Row:
    """license_id, sequence, created_at, envelope"""
    return (envelope.license_id, envelope.sequence, at, envelope.encode().decode())


def of_threads(chats: Iterable[Chat]) -> list[Row]:
    """id, chat_id, license_id, active, created_at, state; of those that changed."""
    return [
        (thread.id, chat.id, chat.license_id, thread.active, thread.created_at, json(thread))
        for chat in chats
        for thread in chat.unsaved.threads.values()
    ]


def of_archive_due(chats: Iterable[Chat]) -> list[Row]:
    """license_id, thread_id, afresh"""
    return [(chat.license_id, thread_id, afresh) for chat in chats for thread_id, afresh in chat.unsaved.labels.items()]


def of_archive_due_chats(chats: Iterable[Chat]) -> list[Row]:
    """license_id, chat_id; of those whose properties changed and that have earlier threads, found by them as well."""
    return [
        (chat.license_id, chat.id)
        for chat in chats
        if chat.unsaved.properties and chat.thread and chat.thread.previous_thread_id
    ]


def of_groups(chats: Iterable[Chat]) -> list[Row]:
    """chat_id, group_id, license_id"""
    return [(chat.id, group_id, chat.license_id) for chat in chats for group_id in dict.fromkeys(chat.group_ids)]


def of_users(chats: Iterable[Chat]) -> list[Row]:
    """chat_id, user_id, license_id, type, present, follows; of those who came, left, followed or unfollowed."""
    return [
        (
            chat.id,
            user_id,
            chat.license_id,
            _type(chat, user_id),
            chat.member(user_id) is not None,
            user_id in chat.followers,
        )
        for chat in chats
        for user_id in chat.unsaved.users
    ]


def _type(chat: Chat, user_id: str) -> str:
    user = chat.users.get(user_id)
    return user.type if user is not None else "agent"  # a follower


def of_turn(turn: Turn) -> Row:
    """license_id, agent_id, given_at"""
    return (turn.license_id, turn.agent_id, turn.given_at)
