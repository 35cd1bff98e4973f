"""What is said, typed, thought and seen in a chat."""

from rtm.access.chats import CONVERSATION_SCOPES, check_present, check_reach, scopes_for
from rtm.actions.agent.chats import listeners
from rtm.actions.agent.threads import changeable_event, of_event
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.audience import Audience
from rtm.model.chat import Chat, Visibility
from rtm.model.pushes import (
    EventsMarkedAsSeen,
    IncomingRichMessagePostback,
    IncomingThinkingIndicator,
    IncomingTypingIndicator,
)
from rtm.model.requests.events import (
    MarkEventsAsSeen,
    SendEvent,
    SendEventPreview,
    SendRichMessagePostback,
    SendThinkingIndicator,
    SendTypingIndicator,
)
from rtm.model.responses import Done, EventSent
from rtm.model.rich_messages import toggle
from rtm.protocol.errors import AuthorizationError, ValidationError
from rtm.protocol.timestamps import to_seconds
from rtm.store.work import Needs, Work


def _of_chat(
    payload: SendEventPreview | SendTypingIndicator | SendThinkingIndicator | MarkEventsAsSeen,
) -> Needs:
    return Needs((payload.chat_id,))


def _of_event(payload: SendEvent) -> Needs:
    custom_id = payload.event.custom_id
    return Needs(
        (payload.chat_id,),
        custom_ids=() if custom_id is None else (custom_id,),
        file_ids=payload.event.file_ids,
    )


def _reachable(context: Context, work: Work, chat_id: str) -> Chat:
    """The chat, if the requester may take part in it."""
    chat = work.chat(chat_id)
    check_reach(context.identity, "chats.conversation", "rw", chat, context.group_ids)
    return chat


def _check_writable(context: Context, chat: Chat, visibility: Visibility) -> None:
    """Raises an ApiError unless it is active and the requester is a user of it who may write with this visibility."""
    chat.active_thread()
    check_present(context.identity, chat)
    if visibility == "all" and chat.users[context.identity.agent_id].visibility == "agents":
        raise AuthorizationError("Users with visibility `agents` cannot write to all")


def _writable(context: Context, work: Work, chat_id: str, visibility: Visibility) -> Chat:
    chat = _reachable(context, work, chat_id)
    _check_writable(context, chat, visibility)
    return chat


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("incoming_event",), needs=_of_event)
def send_event(context: Context, work: Work, payload: SendEvent) -> EventSent:
    """Add an event to the open thread; its author has then seen the whole chat.

    Who repeats a `custom_id` of theirs in the same thread is answered with the event that is there, open or not, and
    nothing else happens: so a client that was not answered may ask again.
    """
    event = payload.event
    author_id = context.identity.agent_id
    chat = _reachable(context, work, payload.chat_id)
    known_id = work.find_event(chat, author_id, event.custom_id)
    if known_id is not None:
        return {"event_id": known_id}
    _check_writable(context, chat, event.visibility)
    body = event.body(author_id=author_id, created_at=work.now())
    return {"event_id": work.post(chat, body, author_id)}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("incoming_rich_message_postback",), needs=of_event)
def send_rich_message_postback(context: Context, work: Work, payload: SendRichMessagePostback) -> Done:
    """Press or release a button of a rich message; told only while its thread is open."""
    _reachable(context, work, payload.chat_id)
    chat, thread, event = changeable_event(context, work, payload)
    if event["type"] != "rich_message":
        raise ValidationError("`event_id` must be the id of a rich message")
    postback, user_id = payload.postback, context.identity.agent_id
    if toggle(event, postback.id, user_id, toggled=postback.toggled):
        work.event_changed(chat, thread, event)
    if thread.active:
        told: IncomingRichMessagePostback = {
            "user_id": user_id,
            "chat_id": chat.id,
            "thread_id": thread.id,
            "event_id": event["id"],
            "postback": postback.model_dump(exclude_none=True),
        }
        work.push("incoming_rich_message_postback", told, listeners(context, chat, event["visibility"]))
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, needs=_of_chat, stores=False)
def send_event_preview(context: Context, work: Work, payload: SendEventPreview) -> Done:
    """Show the customer a part of a message that is still being written; agents are not told."""
    chat = _writable(context, work, payload.chat_id, "all")
    body = payload.event.body(author_id=context.identity.agent_id, created_at=work.now())
    del body["id"]
    work.push(
        "incoming_event_preview",
        {"chat_id": chat.id, "thread_id": chat.active_thread().id, "event": body},
        Audience(customers=tuple(chat.present_ids("customer"))),
        stored=False,
    )
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("incoming_typing_indicator",), needs=_of_chat, stores=False)
def send_typing_indicator(context: Context, work: Work, payload: SendTypingIndicator) -> Done:
    """Tell that the requester is typing, or no longer."""
    chat = _writable(context, work, payload.chat_id, payload.visibility)
    told: IncomingTypingIndicator = {
        "chat_id": chat.id,
        "thread_id": chat.active_thread().id,
        "typing_indicator": {
            "author_id": context.identity.agent_id,
            "visibility": payload.visibility,
            "timestamp": to_seconds(work.now()),
            "is_typing": payload.is_typing,
        },
    }
    work.push("incoming_typing_indicator", told, chat.audience(payload.visibility), stored=False)
    return {}


@action(AGENT, scopes=CONVERSATION_SCOPES, pushes=("incoming_thinking_indicator",), needs=_of_chat, stores=False)
def send_thinking_indicator(context: Context, work: Work, payload: SendThinkingIndicator) -> Done:
    """Tell that the requester is preparing an answer."""
    chat = _writable(context, work, payload.chat_id, payload.visibility)
    told: IncomingThinkingIndicator = {
        "chat_id": chat.id,
        "thread_id": chat.active_thread().id,
        "author_id": context.identity.agent_id,
        "sent_at": work.now(),
    }
    if payload.title is not None:
        told["title"] = payload.title
    if payload.description is not None:
        told["description"] = payload.description
    if payload.custom_id is not None:
        told["custom_id"] = payload.custom_id
    work.push("incoming_thinking_indicator", told, chat.audience(payload.visibility), stored=False)
    return {}


@action(AGENT, scopes=scopes_for("chats", "ro"), pushes=("events_marked_as_seen",), needs=_of_chat)
def mark_events_as_seen(context: Context, work: Work, payload: MarkEventsAsSeen) -> Done:
    """Remember how far the requester has read, which is not into the future.

    Nothing is new for who is no user of the chat or has read further.
    """
    chat, user_id = work.chat(payload.chat_id), context.identity.agent_id
    check_reach(context.identity, "chats", "ro", chat, context.group_ids)
    up_to = min(payload.seen_up_to, work.now())
    if chat.mark_seen(user_id, up_to):
        told: EventsMarkedAsSeen = {"user_id": user_id, "chat_id": chat.id, "seen_up_to": up_to}
        work.push("events_marked_as_seen", told, listeners(context, chat, chat.users[user_id].visibility))
    return {}
