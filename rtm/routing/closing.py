"""How a chat ends, whoever ends it."""

from rtm.model.chat import Chat, EventBody
from rtm.model.pushes import ChatDeactivated
from rtm.store.work import Work


def archive(work: Work, chat: Chat, why: EventBody, agent_id: str | None = None) -> None:
    """Close the open thread, for the agent if one asks for it; the event `why` is its last."""
    work.post(chat, why)
    audience = chat.key_audience()
    thread = chat.close_thread(why["created_at"])
    told: ChatDeactivated = {"chat_id": chat.id, "thread_id": thread.id}
    if agent_id is not None:
        chat.unpin()
        told["user_id"] = agent_id
    work.push("chat_deactivated", told, audience)
