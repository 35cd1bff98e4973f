"""Who takes part in a chat."""

from rtm.access.chats import check_present, check_reach, scopes_for
from rtm.actions.agent import structures
from rtm.actions.agent.chats import check_agent, key_change
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.chat import Chat, ChatUser
from rtm.model.pushes import UserAddedToChat, UserRemovedFromChat
from rtm.model.requests.chats import AddUserToChat, RemoveUserFromChat
from rtm.model.responses import Done
from rtm.store.work import Needs, Work


def _needs_of_adding(payload: AddUserToChat) -> Needs:
    return Needs((payload.chat_id,), (payload.user_id,) if payload.user_type == "customer" else ())


@action(AGENT, scopes=scopes_for("chats", "rw"), pushes=("user_added_to_chat",), needs=_needs_of_adding)
def add_user_to_chat(context: Context, work: Work, payload: AddUserToChat) -> Done:
    """Let an agent with access, or the one customer, into the open thread; a customer sees no agent hidden from it."""
    chat = _changeable(context, work, payload)
    if payload.user_type == "customer":
        work.customer(payload.user_id)
    else:
        check_agent(context, payload.user_id, chat.group_ids)
    user = ChatUser(payload.user_id, payload.user_type, payload.visibility)
    chat.add_user(user)
    told: UserAddedToChat = {
        "chat_id": chat.id,
        "thread_id": chat.active_thread().id,
        "user": structures.user(user, context.directory, work.find_customer),
        "reason": "manual",
        "requester_id": context.identity.agent_id,
    }
    work.push("user_added_to_chat", told, key_change(chat, user.visibility))
    return {}


def _needs_of_removing(payload: RemoveUserFromChat) -> Needs:
    return Needs((payload.chat_id,))


@action(AGENT, scopes=scopes_for("chats", "rw"), pushes=("user_removed_from_chat",), needs=_needs_of_removing)
def remove_user_from_chat(context: Context, work: Work, payload: RemoveUserFromChat) -> Done:
    """Let an agent go; who is removed hears of it too."""
    chat = _changeable(context, work, payload)
    user = chat.member(payload.user_id)
    audience = key_change(chat, user.visibility if user is not None else "all")
    chat.remove_user(payload.user_id)
    told: UserRemovedFromChat = {
        "chat_id": chat.id,
        "thread_id": chat.active_thread().id,
        "user_id": payload.user_id,
        "reason": "manual",
        "requester_id": context.identity.agent_id,
    }
    work.push("user_removed_from_chat", told, audience)
    return {}


def _changeable(context: Context, work: Work, payload: AddUserToChat | RemoveUserFromChat) -> Chat:
    """The chat, if it is active and the requester may change who takes part."""
    chat = work.chat(payload.chat_id)
    check_reach(context.identity, "chats", "rw", chat, context.group_ids)
    chat.active_thread()
    if not payload.ignore_requester_presence:
        check_present(context.identity, chat)
    return chat
