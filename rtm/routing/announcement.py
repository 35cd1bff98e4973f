"""What is told when a chat changes hands."""

from dataclasses import dataclass
from typing import Literal

from rtm.access.directory import Directory
from rtm.model.audience import Audience
from rtm.model.chat import Chat, ChatUser
from rtm.model.pushes import ChatAccessUpdated, ChatTransferred, UserAddedToChat, UserRemovedFromChat
from rtm.routing import queue
from rtm.store.work import Work

Reason = Literal["manual", "inactive", "assigned", "unassigned", "other"]


@dataclass(frozen=True, slots=True)
class Announcement:
    """Of one chat as it is now, for one reason; `requester_id` is who asked for it, if anybody did."""

    work: Work
    directory: Directory
    chat: Chat
    reason: Reason
    requester_id: str | None

    def transferred(self, agent_id: str | None, to: Audience) -> None:
        """The agent has it now; none if it waits for one."""
        thread = self.chat.active_thread()
        told: ChatTransferred = {
            "chat_id": self.chat.id,
            "thread_id": thread.id,
            "reason": self.reason,
            "transferred_to": {"group_ids": self.chat.group_ids},
        }
        if agent_id is not None:
            told["transferred_to"]["agent_ids"] = [agent_id]
        if thread.queued_at is not None:
            told["queue"] = queue.shown(thread)
        self._push("chat_transferred", told, to)

    def moved(self, to: Audience) -> None:
        """Other groups have access."""
        told: ChatAccessUpdated = {"id": self.chat.id, "access": {"group_ids": self.chat.group_ids}}
        self.work.push("chat_access_updated", told, to)

    def removed(self, agent_id: str, to: Audience) -> None:
        """The agent takes part no longer."""
        told: UserRemovedFromChat = {
            "chat_id": self.chat.id,
            "thread_id": self.chat.active_thread().id,
            "user_id": agent_id,
            "reason": self.reason,
        }
        self._push("user_removed_from_chat", told, to)

    def added(self, user: ChatUser, to: Audience) -> None:
        """The agent takes part."""
        told: UserAddedToChat = {
            "chat_id": self.chat.id,
            "thread_id": self.chat.active_thread().id,
            "user": self.directory.shown(user),
            "reason": self.reason,
        }
        self._push("user_added_to_chat", told, to)

    def _push(self, name: str, told: ChatTransferred | UserRemovedFromChat | UserAddedToChat, to: Audience) -> None:
        """With who asked for it."""
        if self.requester_id is not None:
            told["requester_id"] = self.requester_id
        self.work.push(name, told, to)
