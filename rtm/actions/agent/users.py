"""Who takes part in a chat."""

from rtm.access.chats import check_present, check_reach, scopes_for
from rtm.access.identity import Identity
from rtm.actions.agent import structures
from rtm.actions.agent.chats import EVERYBODY, check_agent, introduce
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.chat import Chat, ChatUser, EventBody, Visibility
from rtm.model.pushes import UserAddedToChat, UserRemovedFromChat
from rtm.model.requests.chats import AddUserToChat, RemoveUserFromChat
from rtm.model.responses import Done
from rtm.model.system_messages import system_message
from rtm.routing.unassigned import set_unassigned, tell
from rtm.store.work import Needs, Work


def _needs_of_adding(payload: AddUserToChat) -> Needs:
    if payload.user_type == "customer":
        return Needs((payload.chat_id,), (payload.user_id,))
    return Needs((payload.chat_id,), users_of_chats=True, events_of_chats=True)


@action(
    AGENT,
    scopes=scopes_for("chats", "rw"),
    pushes=(
        "user_added_to_chat",
        "incoming_chat",
        "incoming_event",
        "chat_properties_updated",
        "thread_properties_updated",
    ),
    needs=_needs_of_adding,
)
def add_user_to_chat(context: Context, work: Work, payload: AddUserToChat) -> Done:
    """Let an agent with access, or the one customer, into the open thread; a customer sees no agent hidden from it.

    An agent is shown the chat, as one that comes in, wherever it has not heard all of it as a follower.

    Who reaches all chats may join one of any group, and so may a bot that somebody speaks as. The chat is told in words
    as well, but for its first agent.
    """
    chat = _changeable(context, work, payload, _who_adds(context.identity, payload.user_id))
    first = payload.user_type == "agent" and not any(user.type == "agent" for user in chat.users.values())
    if payload.user_type == "customer":
        work.customer(payload.user_id)
    else:
        check_agent(context, payload.user_id, _groups_to_share(context.identity, payload.user_id, chat))
    user = ChatUser(payload.user_id, payload.user_type, payload.visibility)
    newcomer = chat.newcomer(user.id)
    chat.add_user(user, work.now())
    if user.type == "agent" and newcomer is not None:
        introduce(context.directory, work, chat, newcomer, requester_id=context.identity.agent_id)
    told: UserAddedToChat = {
        "chat_id": chat.id,
        "thread_id": chat.active_thread().id,
        "user": structures.user(user, context.directory, work.find_customer),
        "reason": "manual",
        "requester_id": context.identity.agent_id,
    }
    work.push("user_added_to_chat", told, chat.key_audience(user.visibility))
    if user.type == "customer":
        chat.active_thread().customer_visit = work.customer(user.id).came_from
    elif user.visibility == "all":
        tell(work, chat, set_unassigned(chat, unassigned=False))
    if not first:
        work.post(chat, _arrival(context, work, user))
    return {}


def _who_adds(identity: Identity, agent_id: str) -> Identity:
    """Who must have access: for a bot that somebody adds by speaking as it (3.5 and 3.4) whose token it is."""
    return identity.holder if identity.holder is not None and agent_id == identity.agent_id else identity


def _groups_to_share(identity: Identity, agent_id: str, chat: Chat) -> list[int]:
    """Of which an agent who is to be added must be in one; who reaches all chats may join any, as may such a bot."""
    joins = agent_id == identity.agent_id
    return [EVERYBODY] if joins and (identity.holder or "chats--all:rw" in identity.scopes) else chat.group_ids


def _arrival(context: Context, work: Work, user: ChatUser) -> EventBody:
    requester = context.directory.name_of(context.identity.agent_id)
    if user.type == "customer":
        customer = work.customer(user.id).name or "Customer"
        return system_message("customer_added", work.now(), initiator=requester, customer=customer)
    if user.id == context.identity.agent_id:
        return system_message("agent_joined", work.now(), visibility=user.visibility, agent=requester)
    agent = context.directory.name_of(user.id)
    return system_message("agent_added", work.now(), visibility=user.visibility, initiator=requester, agent=agent)


def _needs_of_removing(payload: RemoveUserFromChat) -> Needs:
    return Needs((payload.chat_id,))


@action(
    AGENT,
    scopes=scopes_for("chats", "rw"),
    pushes=("user_removed_from_chat", "incoming_event"),
    needs=_needs_of_removing,
)
def remove_user_from_chat(context: Context, work: Work, payload: RemoveUserFromChat) -> Done:
    """Let an agent go, who hears of it too; those who stay are told in words as well."""
    chat = _changeable(context, work, payload, context.identity)
    user = chat.member(payload.user_id)
    visibility = user.visibility if user is not None else "all"
    audience = chat.key_audience(visibility)
    chat.remove_user(payload.user_id, declined=True)
    told: UserRemovedFromChat = {
        "chat_id": chat.id,
        "thread_id": chat.active_thread().id,
        "user_id": payload.user_id,
        "reason": "manual",
        "requester_id": context.identity.agent_id,
    }
    work.push("user_removed_from_chat", told, audience)
    work.post(chat, _departure(context, work, payload.user_id, visibility))
    return {}


def _departure(context: Context, work: Work, agent_id: str, visibility: Visibility) -> EventBody:
    agent = context.directory.name_of(agent_id)
    if agent_id == context.identity.agent_id:
        return system_message("agent_left", work.now(), visibility=visibility, agent=agent)
    requester = context.directory.name_of(context.identity.agent_id)
    return system_message("agent_removed", work.now(), visibility=visibility, initiator=requester, agent=agent)


def _changeable(context: Context, work: Work, payload: AddUserToChat | RemoveUserFromChat, requester: Identity) -> Chat:
    """The chat, if it is active and the requester may change who takes part."""
    chat = work.chat(payload.chat_id)
    check_reach(requester, "chats", "rw", chat, context.directory.groups_of(requester.agent_id))
    chat.active_thread()
    if not payload.ignore_requester_presence:
        check_present(requester, chat)
    return chat
