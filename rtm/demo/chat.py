"""The demo license's chat."""

from datetime import UTC, datetime, timedelta

from rtm.model.chat import Chat, ChatUser, NewEvent
from rtm.model.events import Message
from rtm.protocol.timestamps import parse
from rtm.settings import Settings
from rtm.store.database import DatabaseError, StoreUnavailable
from rtm.store.pools import write_store
from rtm.store.work import Command, Needs
from rtm.store.writer import Changes


def conversation(license_id: int, customer_id: str) -> tuple[Chat, list[NewEvent]]:
    """A customer's chat with Agent Smith and its events: one thread of yesterday, and one of now that is open."""
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
    moment = datetime.now(UTC) - timedelta(minutes=2)  # a chat left for longer would be closed before anybody looks
    chat.open_thread(at=later(0), users=both(), properties={}, active=True)
    history.append(say(customer_id, "It is here. May I send one of the two lamps back?"))
    return chat, history


async def store(settings: Settings, chat: Chat, history: list[NewEvent]) -> None:
    """Write a chat that is not in the database yet. Raises DatabaseError."""
    store = write_store(settings)
    try:
        await store.start()
        await store.begin([Command(chat.license_id, Needs(), apply=lambda _: None, done=lambda _: None)])
        await store.commit(Changes(new_chats=[chat], events=history))
    except StoreUnavailable as error:
        raise DatabaseError(f"cannot write to the database: {error}") from error
    finally:
        await store.stop()
