"""Properties of chats, threads and events, which integrations keep there, open or closed.

Pushes show what has been set or deleted, not all there is. What changes nothing is answered, and told to nobody.
"""

from rtm.access.chats import CONVERSATION_SCOPES, check_reach
from rtm.actions.agent.chats import listeners
from rtm.actions.agent.threads import changeable, changeable_event, of_event, of_thread
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.chat import Chat, EventBody, Properties, Thread
from rtm.model.properties import deletable, merged, without
from rtm.model.pushes import (
    ChatPropertiesDeleted,
    ChatPropertiesUpdated,
    EventPropertiesDeleted,
    EventPropertiesUpdated,
    ThreadPropertiesDeleted,
    ThreadPropertiesUpdated,
)
from rtm.model.requests.properties import (
    DeleteChatProperties,
    DeleteEventProperties,
    DeleteThreadProperties,
    UpdateChatProperties,
    UpdateEventProperties,
    UpdateThreadProperties,
)
from rtm.model.responses import Done
from rtm.store.work import Needs, Work


def _of_chat(payload: UpdateChatProperties | DeleteChatProperties) -> Needs:
    return Needs((payload.id,))


def _changeable_chat(context: Context, work: Work, chat_id: str) -> Chat:
    chat = work.chat(chat_id)
    check_reach(context.identity, "chats.conversation", "rw", chat, context.group_ids)
    return chat


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("chat_properties_updated",), needs=_of_chat)
def update_chat_properties(context: Context, work: Work, payload: UpdateChatProperties) -> Done:
    """Set properties of a chat and keep its others."""
    chat = _changeable_chat(context, work, payload.id)
    if payload.properties:
        chat.set_properties(merged(chat.properties, payload.properties))
        told: ChatPropertiesUpdated = {"chat_id": chat.id, "properties": payload.properties}
        work.push("chat_properties_updated", told, listeners(context, chat))
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("chat_properties_deleted",), needs=_of_chat)
def delete_chat_properties(context: Context, work: Work, payload: DeleteChatProperties) -> Done:
    """Delete properties of a chat, those of them that there are."""
    chat = _changeable_chat(context, work, payload.id)
    deleted = deletable(chat.properties, payload.properties)
    if deleted:
        chat.set_properties(without(chat.properties, deleted))
        told: ChatPropertiesDeleted = {"chat_id": chat.id, "properties": deleted}
        work.push("chat_properties_deleted", told, listeners(context, chat))
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("thread_properties_updated",), needs=of_thread)
def update_thread_properties(context: Context, work: Work, payload: UpdateThreadProperties) -> Done:
    """Set properties of a thread and keep its others."""
    chat, thread = changeable(context, work, payload, "chats.conversation")
    if payload.properties:
        chat.set_thread_properties(thread, merged(thread.properties, payload.properties))
        told: ThreadPropertiesUpdated = {"chat_id": chat.id, "thread_id": thread.id, "properties": payload.properties}
        work.push("thread_properties_updated", told, listeners(context, chat, of=thread))
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("thread_properties_deleted",), needs=of_thread)
def delete_thread_properties(context: Context, work: Work, payload: DeleteThreadProperties) -> Done:
    """Delete properties of a thread, those of them that there are."""
    chat, thread = changeable(context, work, payload, "chats.conversation")
    deleted = deletable(thread.properties, payload.properties)
    if deleted:
        chat.set_thread_properties(thread, without(thread.properties, deleted))
        told: ThreadPropertiesDeleted = {"chat_id": chat.id, "thread_id": thread.id, "properties": deleted}
        work.push("thread_properties_deleted", told, listeners(context, chat, of=thread))
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("event_properties_updated",), needs=of_event)
def update_event_properties(context: Context, work: Work, payload: UpdateEventProperties) -> Done:
    """Set properties of an event and keep its others; a customer is not told of what it does not see."""
    chat, thread, event = changeable_event(context, work, payload)
    if payload.properties:
        _set(work, chat, thread, event, merged(event.get("properties", {}), payload.properties))
        told: EventPropertiesUpdated = {
            "chat_id": chat.id,
            "thread_id": thread.id,
            "event_id": event["id"],
            "properties": payload.properties,
        }
        work.push("event_properties_updated", told, listeners(context, chat, event["visibility"], thread))
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("event_properties_deleted",), needs=of_event)
def delete_event_properties(context: Context, work: Work, payload: DeleteEventProperties) -> Done:
    """Delete properties of an event, those of them that there are."""
    chat, thread, event = changeable_event(context, work, payload)
    stored = event.get("properties", {})
    deleted = deletable(stored, payload.properties)
    if deleted:
        _set(work, chat, thread, event, without(stored, deleted))
        told: EventPropertiesDeleted = {
            "chat_id": chat.id,
            "thread_id": thread.id,
            "event_id": event["id"],
            "properties": deleted,
        }
        work.push("event_properties_deleted", told, listeners(context, chat, event["visibility"], thread))
    return {}


def _set(work: Work, chat: Chat, thread: Thread, event: EventBody, properties: Properties) -> None:
    """An event without properties is shown without the field."""
    # By those of `lc2` its thread is found: `rtm.model.labels.of_events`.
    found_anew = properties.get("lc2") != event.get("properties", {}).get("lc2")
    if properties:
        event["properties"] = properties
    else:
        del event["properties"]
    work.event_changed(chat, thread, event, found_anew=found_anew)
