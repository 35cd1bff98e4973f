"""Starting, resuming and ending chats, and following them."""

from collections.abc import Iterable
from dataclasses import replace

from rtm.access.chats import check_present, check_reach, scopes_for
from rtm.access.directory import Directory
from rtm.actions.agent import structures
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.audience import Audience
from rtm.model.chat import Chat, ChatUser, EventBody, Properties, Thread, Visibility
from rtm.model.properties import merged
from rtm.model.pushes import ChatAccessUpdated, ChatUnfollowed, IncomingChat
from rtm.model.requests.chats import (
    MAX_ADDITIONAL_AGENTS,
    DeactivateChat,
    FollowChat,
    InitialChat,
    InitialUser,
    ResumeChat,
    StartChat,
    UnfollowChat,
)
from rtm.model.responses import ChatStarted, Done, NoLongerFollowed, ThreadBegun
from rtm.model.shown import TransferredFrom
from rtm.model.system_messages import system_message
from rtm.protocol.errors import ChatInactive, MissingAccess, NotFound, ValidationError
from rtm.routing.closing import archive
from rtm.store.work import Needs, Work

EVERYBODY = 0
"""The group that every agent is in."""


def listeners(context: Context, chat: Chat, visibility: Visibility = "all", of: Thread | None = None) -> Audience:
    """Who hears of any other change: users and followers, and who asked for it, though there may be neither.

    Of an earlier thread, which keeps the groups it had, only those hear who may read it, but for the users.
    """
    audience = chat.audience(visibility)
    asker_id = context.identity.agent_id
    if asker_id not in audience.agents and asker_id not in audience.readers:
        audience = replace(audience, readers=(*audience.readers, asker_id), read_by=tuple(chat.group_ids))
    if audience.readers and of is not None and of is not chat.thread:
        audience = replace(audience, read_by=tuple(of.group_ids))
    return audience


def introduce(
    directory: Directory,
    work: Work,
    chat: Chat,
    to: Audience,
    left: TransferredFrom | None = None,
    requester_id: str | None = None,
    *,
    stored: bool = True,
) -> None:
    """Show a chat to who begins to hear all of it, if anybody does, for a command that needs users and events."""
    if not (to.agents or to.readers or to.nonreaders):
        return
    thread = structures.thread(chat.thread, work.events_of(chat.thread.id)) if chat.thread else None
    told: IncomingChat = {"chat": structures.chat(chat, thread, directory, work.find_customer)}
    if requester_id is not None:
        told["requester_id"] = requester_id
    if left is not None:
        told["transferred_from"] = left
    work.push("incoming_chat", told, to, stored=stored)


def _needs_of_start(payload: StartChat) -> Needs:
    return Needs(customer_ids=_customer_ids(payload.chat), file_ids=_file_ids(payload.chat))


@action(AGENT, scopes=scopes_for("chats", "rw"), pushes=("incoming_chat",), needs=_needs_of_start)
def start_chat(context: Context, work: Work, payload: StartChat) -> ChatStarted:
    """Start a chat; its requester is its first user and has seen it all."""
    wanted = payload.chat or InitialChat()
    group_ids = _group_ids(context, wanted) or [EVERYBODY]
    users = _users(context, work, wanted.users or [], group_ids)
    _check_events(work, wanted, users)
    chat = Chat.start(
        context.identity.license_id,
        at=work.now(),
        group_ids=group_ids,
        users=users,
        properties=_with_source(context, wanted.properties or {}),
        thread_properties=_with_source(context, wanted.thread_properties),
        active=payload.active,
        continuous=payload.continuous,
    )
    work.add(chat)
    return {"chat_id": chat.id, **_begin_thread(context, work, chat, wanted)}


def _needs_of_resume(payload: ResumeChat) -> Needs:
    customer_ids, file_ids = _customer_ids(payload.chat), _file_ids(payload.chat)
    return Needs((payload.chat.id,), customer_ids, users_of_chats=True, file_ids=file_ids)


@action(
    AGENT, scopes=scopes_for("chats", "rw"), pushes=("incoming_chat", "chat_access_updated"), needs=_needs_of_resume
)
def resume_chat(context: Context, work: Work, payload: ResumeChat) -> ThreadBegun:
    """Open a new thread in a chat whose last one is closed; all agents have access to it unless groups are named.

    If some of those who had access to it have lost it, they hear so.
    """
    wanted = payload.chat
    chat = work.chat(wanted.id)
    check_reach(context.identity, "chats", "rw", chat, context.group_ids)
    if chat.active:
        raise ValidationError("Chat is already active")
    group_ids = _group_ids(context, wanted) or [EVERYBODY]
    users = _users(context, work, wanted.users or [], group_ids)
    named = {user.id for user in users}
    customer = [user for user in chat.users.values() if user.type == "customer" and user.id not in named]
    if customer and any(user.type == "customer" for user in users):
        raise ValidationError("`chat.users` must not name a second customer")
    _check_events(work, wanted, users)
    if wanted.properties:
        chat.set_properties(merged(chat.properties, wanted.properties, "chat.properties"))
    before = chat.key_audience()
    is_closed_to_some = EVERYBODY not in group_ids and not set(chat.group_ids).issubset(group_ids)
    chat.group_ids = group_ids  # nothing is refused from here on
    if payload.continuous is not None:
        chat.continuous = payload.continuous
    chat.open_thread(
        at=work.now(),
        users=[*customer, *users],
        properties=_with_source(context, wanted.thread_properties),
        active=payload.active,
    )
    begun = _begin_thread(context, work, chat, wanted)
    if is_closed_to_some:
        told: ChatAccessUpdated = {"id": chat.id, "access": structures.access(group_ids)}
        work.push("chat_access_updated", told, before)
    return begun


def _with_source(context: Context, properties: Properties) -> Properties:
    """The same, with the application that the requester uses, if it is known."""
    client_id = context.identity.client_id
    if client_id is None:
        return properties
    return {**properties, "source": {**properties.get("source", {}), "client_id": client_id}}


def _begin_thread(context: Context, work: Work, chat: Chat, wanted: InitialChat) -> ThreadBegun:
    """Add the initial events, tell who may know, and answer."""
    assert chat.thread is not None
    bodies: list[EventBody] = []
    event_ids: list[str] = []
    for event in wanted.initial_events:
        author_id = event.author_id or context.identity.agent_id
        event_id = work.find_event(chat, author_id, event.custom_id)
        if event_id is None:
            body = event.body(author_id=author_id, created_at=work.now())
            event_id = work.append(chat, body, author_id)
            bodies.append(body)
        event_ids.append(event_id)
    for customer_id in chat.present_ids("customer"):
        customer = work.find_customer(customer_id)
        chat.thread.customer_visit = customer.came_from if customer is not None else None
    requester = chat.users.get(context.identity.agent_id)
    if requester is not None:
        requester.events_seen_up_to = bodies[-1]["created_at"] if bodies else chat.thread.created_at
    shown = structures.chat(chat, structures.thread(chat.thread, bodies), context.directory, work.find_customer)
    told: IncomingChat = {"requester_id": context.identity.agent_id, "chat": shown}
    # Of an inactive chat nobody is a listener yet; who asked for it is told all the same.
    work.push("incoming_chat", told, replace(listeners(context, chat), groups=tuple(chat.group_ids)))
    answer: ThreadBegun = {"thread_id": chat.thread.id}
    if bodies:
        answer["event_ids"] = event_ids
    return answer


def _check_events(work: Work, wanted: InitialChat, users: Iterable[ChatUser]) -> None:
    """Raises ValidationError unless all initial events can be added: by the requester or by users of the chat."""
    allowed = {None, *(user.id for user in users)}
    for index, event in enumerate(wanted.initial_events):
        if event.author_id not in allowed:
            raise ValidationError(f"`chat.thread.events[{index}].author_id` must be one of `chat.users`")
        if event.type == "file":
            work.file_at(event.url)


def _group_ids(context: Context, wanted: InitialChat) -> list[int] | None:
    """The groups asked for, which must exist and be within the requester's reach."""
    if wanted.access is None:
        return None
    group_ids = list(dict.fromkeys(wanted.access.group_ids))
    for group_id in group_ids:
        if group_id not in context.directory.groups:
            raise ValidationError(f"`chat.access.group_ids` must name existing groups; there is no group {group_id}")
    if "chats--all:rw" not in context.identity.scopes and context.group_ids.isdisjoint(group_ids):
        raise MissingAccess("Requester is in none of `chat.access.group_ids`")
    return group_ids


def _users(context: Context, work: Work, wanted: Iterable[InitialUser], group_ids: Iterable[int]) -> list[ChatUser]:
    """The requester and the users asked for. Raises NotFound, MissingAccess."""
    users = {context.identity.agent_id: ChatUser(context.identity.agent_id, "agent")}
    for user in wanted:
        if user.type == "customer":
            work.customer(user.id)
        else:
            check_agent(context, user.id, group_ids)
        users.setdefault(user.id, ChatUser(user.id, user.type))
    if sum(user.type == "agent" for user in users.values()) > 1 + MAX_ADDITIONAL_AGENTS:
        raise ValidationError(f"`chat.users` must have at most {MAX_ADDITIONAL_AGENTS} additional agents")
    return list(users.values())


def check_agent(context: Context, agent_id: str, group_ids: Iterable[int]) -> None:
    """Raises NotFound for who is no agent of the license, MissingAccess for who is in none of the groups."""
    agent = context.directory.agents.get(agent_id)
    if agent is None or agent.suspended or agent.awaiting_approval:
        raise NotFound("Agent not found")
    if agent.group_ids.isdisjoint(group_ids):
        raise MissingAccess("Agent has no access to the chat")


def _customer_ids(wanted: InitialChat | None) -> tuple[str, ...]:
    return tuple(user.id for user in (wanted and wanted.users) or [] if user.type == "customer")


def _file_ids(wanted: InitialChat | None) -> tuple[str, ...]:
    return tuple(file_id for event in (wanted and wanted.initial_events) or [] for file_id in event.file_ids)


def _by_id(payload: DeactivateChat | FollowChat | UnfollowChat) -> Needs:
    return Needs((payload.id,))


@action(AGENT, scopes=scopes_for("chats", "rw"), pushes=("incoming_event", "chat_deactivated"), needs=_by_id)
def deactivate_chat(context: Context, work: Work, payload: DeactivateChat) -> Done:
    """Close the open thread; its last event tells so."""
    chat = work.chat(payload.id)
    check_reach(context.identity, "chats", "rw", chat, context.group_ids)
    if not chat.active:
        raise ChatInactive()
    if not payload.ignore_requester_presence:
        check_present(context.identity, chat)
    agent = context.directory.name_of(context.identity.agent_id)
    archive(work, chat, system_message("manual_archived_agent", work.now(), agent=agent), context.identity.agent_id)
    return {}


def _with_users(payload: FollowChat) -> Needs:
    return Needs((payload.id,), users_of_chats=True, events_of_chats=True)


@action(AGENT, scopes=scopes_for("chats", "ro"), pushes=("incoming_chat",), needs=_with_users)
def follow_chat(context: Context, work: Work, payload: FollowChat) -> Done:
    """Hear every change of the chat until it is activated again; nothing new for members and followers."""
    chat = work.chat(payload.id)
    check_reach(context.identity, "chats", "ro", chat, context.group_ids)
    if chat.follow(context.identity.agent_id):
        follower = Audience(readers=(context.identity.agent_id,), read_by=tuple(chat.group_ids))
        # Not stored: it shows what is stored already, to one agent, and may be long.
        introduce(context.directory, work, chat, follower, stored=False)
    return {}


@action(AGENT, pushes=("chat_unfollowed",), needs=_by_id)
def unfollow_chat(context: Context, work: Work, payload: UnfollowChat) -> NoLongerFollowed:
    """Hear key changes only; a member cannot."""
    chat = work.chat(payload.id)
    if chat.member(context.identity.agent_id) is not None:
        raise ValidationError("Chat members cannot unfollow the chat")
    if chat.unfollow(context.identity.agent_id):
        told: ChatUnfollowed = {"chat_id": chat.id}
        work.push("chat_unfollowed", told, Audience(agents=(context.identity.agent_id,)))
    return {"chat_id": chat.id} if context.transport == "rtm" else {}
