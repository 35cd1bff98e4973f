"""Whose chats a token reaches: the reference's table "Accessing chat".

    reach     no access, absent   access, absent   no access, present   access, present
    all              yes                yes                yes                 yes
    access            -                 yes                yes                 yes
    my                -                  -                 yes                 yes

Access is a group in common with the chat, or with the thread that is asked for, which keeps those it had; everybody is
in group 0. Conversation data, which has scopes of its own, are events and all properties ("Accessing parts of chat").
"""

from collections.abc import Collection
from typing import Literal

from rtm.access.identity import Identity
from rtm.model.chat import Chat
from rtm.protocol.errors import AuthorizationError, MissingAccess
from rtm.store.queries import Reach

Right = Literal["ro", "rw"]
Resource = Literal["chats", "chats.conversation"]


def scopes_for(resource: Resource, right: Right) -> tuple[str, ...]:
    """The scopes of which an action on chats needs one, the widest first."""
    return tuple(f"{resource}--{reach}:{right}" for reach in ("all", "access", "my"))


CONVERSATION_SCOPES = (*scopes_for("chats", "rw"), *scopes_for("chats.conversation", "rw"))
"""Of these an action that changes conversation data needs one."""


def reaches(identity: Identity, resource: Resource, right: Right, chat: Chat, group_ids: Collection[int]) -> bool:
    """Whether the holder, an agent of these groups, may see (`ro`) or change (`rw`) the chat."""
    return reaches_thread(identity, resource, right, chat, chat.group_ids, group_ids)


def reaches_thread(
    identity: Identity,
    resource: Resource,
    right: Right,
    chat: Chat,
    groups_of_thread: Collection[int],
    group_ids: Collection[int],
) -> bool:
    """The same for one of the chat's threads, of which an earlier one keeps the groups it had."""
    if f"{resource}--all:{right}" in identity.scopes:
        return True
    if f"{resource}--access:{right}" in identity.scopes and not set(group_ids).isdisjoint(groups_of_thread):
        return True
    return f"{resource}--my:{right}" in identity.scopes and chat.member(identity.agent_id) is not None


def check_reach(identity: Identity, resource: Resource, right: Right, chat: Chat, group_ids: Collection[int]) -> None:
    """Raises MissingAccess."""
    if not reaches(identity, resource, right, chat, group_ids):
        raise MissingAccess("Requester has no access to the chat")


def check_reach_of_thread(
    identity: Identity,
    resource: Resource,
    right: Right,
    chat: Chat,
    groups_of_thread: Collection[int],
    group_ids: Collection[int],
) -> None:
    """Raises MissingAccess."""
    if not reaches_thread(identity, resource, right, chat, groups_of_thread, group_ids):
        raise MissingAccess("Requester has no access to the thread")


def check_access(identity: Identity, chat: Chat, group_ids: Collection[int]) -> None:
    """What takes no scope is still for those whom the chat concerns, or who may read all. Raises MissingAccess."""
    concerns = chat.member(identity.agent_id) is not None or not set(group_ids).isdisjoint(chat.group_ids)
    if not concerns and "chats--all:ro" not in identity.scopes:
        raise MissingAccess("Requester has no access to the chat")


def check_present(identity: Identity, chat: Chat) -> None:
    """Raises AuthorizationError unless the requester is a user of the chat."""
    if chat.member(identity.agent_id) is None:
        raise AuthorizationError("Requester is not a user of the chat")


def readable(identity: Identity, group_ids: frozenset[int]) -> Reach:
    """The chats that lists may show to the holder."""
    if "chats--all:ro" in identity.scopes:
        return Reach(identity.agent_id, None)
    if "chats--access:ro" in identity.scopes:
        return Reach(identity.agent_id, group_ids)
    return Reach(identity.agent_id, frozenset())
