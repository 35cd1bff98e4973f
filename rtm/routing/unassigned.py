"""Properties of a chat and of its thread say whether an agent has it."""

from rtm.model.chat import Chat
from rtm.model.properties import with_routing
from rtm.model.pushes import ChatPropertiesUpdated, ThreadPropertiesUpdated
from rtm.store.work import Work

Told = list[tuple[str, ChatPropertiesUpdated | ThreadPropertiesUpdated]]
"""Pushes to all who hear of the chat."""


def set_unassigned(chat: Chat, *, unassigned: bool, **of_thread: int) -> Told:
    """Let the properties of chat and thread say whether an agent has it; what is to be told of it.

    `of_thread` are more properties of the thread's.
    """
    thread, told = chat.active_thread(), Told()
    has_changed = chat.has_routing_flag("unassigned") is not unassigned
    new = of_thread | ({"unassigned": unassigned} if has_changed else {})
    if new:
        chat.set_thread_properties(thread, with_routing(thread.properties, **new))
        updated: ThreadPropertiesUpdated = {
            "chat_id": chat.id,
            "thread_id": thread.id,
            "properties": {"routing": new},
        }
        told.append(("thread_properties_updated", updated))
    if has_changed:
        values = {"unassigned": True, "pinned": True} if unassigned else {"unassigned": False}
        chat.set_properties(with_routing(chat.properties, **values))
        told.append(("chat_properties_updated", {"chat_id": chat.id, "properties": {"routing": values}}))
    return told


def tell(work: Work, chat: Chat, told: Told) -> None:
    """Push these to all who hear of the chat."""
    for name, payload in told:
        work.push(name, payload, chat.audience("all"))
