"""Threads of any age and their events, as commands change them; tags and summaries of threads."""

from rtm.access.chats import Resource, check_reach_of_thread, scopes_for
from rtm.actions.agent.chats import listeners
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.chat import Chat, EventBody, Thread
from rtm.model.pushes import ThreadTagged, ThreadUntagged
from rtm.model.requests.properties import OfEvent, OfThread, RequestThreadSummary, TagThread, UntagThread
from rtm.model.responses import Done
from rtm.protocol.errors import NotFound, ValidationError
from rtm.store.work import Needs, Work
from rtm.summaries.summaries import Wanted, is_final


def of_thread(payload: OfThread) -> Needs:
    """What a command about a thread needs."""
    return Needs((payload.chat_id,), thread_ids=(payload.thread_id,))


def of_event(payload: OfEvent) -> Needs:
    """What a command about an event needs."""
    return Needs((payload.chat_id,), thread_ids=(payload.thread_id,), event_ids=(payload.event_id,))


def changeable(context: Context, work: Work, payload: OfThread, resource: Resource = "chats") -> tuple[Chat, Thread]:
    """The thread, if the requester may change it. Raises NotFound, MissingAccess."""
    chat = work.chat(payload.chat_id)
    thread = work.thread(chat, payload.thread_id)
    check_reach_of_thread(context.identity, resource, "rw", chat, thread.group_ids, context.group_ids)
    return chat, thread


def changeable_event(context: Context, work: Work, payload: OfEvent) -> tuple[Chat, Thread, EventBody]:
    """The event, if the requester may change it. Raises NotFound, MissingAccess."""
    chat, thread = changeable(context, work, payload, "chats.conversation")
    return chat, thread, work.event(thread, payload.event_id)


@action(AGENT, scopes=scopes_for("chats", "rw"), pushes=("thread_tagged",), needs=of_thread)
def tag_thread(context: Context, work: Work, payload: TagThread) -> Done:
    """Put a tag of the license on a thread; nothing new for one that has it. Customers are not told."""
    chat, thread = changeable(context, work, payload)
    group_ids = context.directory.tags.get(payload.tag)
    if group_ids is None:
        raise NotFound("Tag not found")
    if group_ids.isdisjoint(thread.group_ids):
        raise ValidationError("`tag` must have a group in common with the thread")
    if chat.tag(thread, payload.tag):
        _tell(context, work, "thread_tagged", chat, thread, payload.tag)
    return {}


@action(AGENT, scopes=scopes_for("chats", "rw"), pushes=("thread_untagged",), needs=of_thread)
def untag_thread(context: Context, work: Work, payload: UntagThread) -> Done:
    """Take a tag from a thread, also one that the license no longer has; nothing new for a thread without it."""
    chat, thread = changeable(context, work, payload)
    if chat.untag(thread, payload.tag):
        _tell(context, work, "thread_untagged", chat, thread, payload.tag)
    return {}


def _tell(context: Context, work: Work, push: str, chat: Chat, thread: Thread, tag: str) -> None:
    told: ThreadTagged | ThreadUntagged = {"chat_id": chat.id, "thread_id": thread.id, "tag": tag}
    work.push(push, told, listeners(context, chat, "agents", thread))


@action(
    AGENT, scopes=("chats--all:rw", "chats--access:rw"), pushes=("thread_summary_set",), needs=of_thread, stores=False
)
def request_thread_summary(context: Context, work: Work, payload: RequestThreadSummary) -> Done:
    """Have a summary made, which comes as a push: of an open thread whenever asked for, of a closed one once."""
    chat, thread = changeable(context, work, payload)
    if is_final(thread):
        raise ValidationError("`thread_id` is of a closed thread that has its summary")
    wanted = Wanted(work.license_id, chat.id, thread.id, context.identity.agent_id, context.origin)
    context.after_reply.append(lambda: context.services.summaries.request(wanted))
    return {}
