"""The demo license's chat."""

from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.chat import Chat, ChatUser, NewEvent
from rtm.model.events import Message
from rtm.protocol.timestamps import parse
from rtm.store.tables import chat_groups, chat_users, chats, events, threads


def conversation(license_id: int, customer_id: str) -> tuple[Chat, list[NewEvent]]:
    """A customer's chat with Agent Smith and its events: one thread of yesterday, and one that is open."""
    moment = datetime.now(UTC) - timedelta(days=1)

    def later(seconds: int) -> str:
        nonlocal moment
        moment += timedelta(seconds=seconds)
        return parse(moment.isoformat())

    def both() -> list[ChatUser]:
        return [ChatUser(customer_id, "customer"), ChatUser("smith@example.com", "agent")]

    chat = Chat.start(
        license_id,
        at=later(0),
        group_ids=[0],
        users=both(),
        properties={},
        thread_properties={},
        active=True,
        continuous=False,
    )

    def say(author_id: str, words: str) -> NewEvent:
        body = Message(type="message", text=words).body(author_id=author_id, created_at=later(30))
        return chat.append(body, author_id)

    history = [
        say(customer_id, "Hello! Where is my order?"),
        say("smith@example.com", "Good morning, Ada. It left our warehouse today and arrives tomorrow."),
        say(customer_id, "Great, thank you."),
    ]
    chat.close_thread(later(0))
    later(23 * 3600)
    chat.open_thread(at=later(0), users=both(), properties={}, active=True)
    history.append(say(customer_id, "It is here. May I send one of the two lamps back?"))
    return chat, history


async def store(connection: AsyncConnection, chat: Chat, history: list[NewEvent]) -> None:
    """Write the rows of a chat that is not in the database yet."""
    all_threads = [*chat.changed_threads.values(), chat.active_thread()]
    await connection.execute(
        insert(chats),
        {
            "id": chat.id,
            "license_id": chat.license_id,
            "active": chat.active,
            "last_thread_id": all_threads[-1].id,
            "sorted_at": chat.sorted_at,
            "properties": chat.properties,
            "state": orjson.loads(chat.state()),
        },
    )
    await connection.execute(
        insert(threads),
        [
            {
                "id": thread.id,
                "chat_id": chat.id,
                "license_id": chat.license_id,
                "active": thread.active,
                "created_at": thread.created_at,
                "state": orjson.loads(orjson.dumps(thread)),
            }
            for thread in all_threads
        ],
    )
    await connection.execute(
        insert(chat_groups),
        [{"chat_id": chat.id, "group_id": each, "license_id": chat.license_id} for each in chat.group_ids],
    )
    await connection.execute(
        insert(chat_users),
        [
            {
                "chat_id": chat.id,
                "user_id": user.id,
                "license_id": chat.license_id,
                "type": user.type,
                "present": user.present,
                "follows": False,
            }
            for user in chat.users.values()
        ],
    )
    await connection.execute(
        insert(events),
        [{"thread_id": event.thread_id, "number": event.number, "body": event.body} for event in history],
    )
