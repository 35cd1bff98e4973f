"""A chat goes to other agents, to other groups or into the queue, and all who may know are told: within one command.

transfer             by somebody's wish, or by what is decided here
place                a chat whose agents are gone gets another one, or waits for one, or ends
replace_silent       a chat whose agents do not answer gets another one
assign_queued        those who wait are given to those who have room
tell_positions       those who still wait are told where
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, cast

from rtm.access.directory import Directory
from rtm.model.audience import Audience
from rtm.model.chat import Absence, Chat, ChatUser, EventBody
from rtm.model.shown import QueuePosition, TransferredFrom
from rtm.model.system_messages import Kind, system_message
from rtm.protocol.timestamps import seconds_after, to_seconds
from rtm.routing import queue
from rtm.routing.announcement import Announcement, Reason
from rtm.routing.closing import archive
from rtm.routing.restart import Return
from rtm.routing.situation import Situation
from rtm.routing.unassigned import set_unassigned, tell
from rtm.store.work import Needs, Work

AGAIN_AFTER_S = 60
"""Who has declined a chat is given it again where it has waited for so long in vain."""
AT_ONCE = 10
"""Chats in one command: each takes 2 ms where a thousand agents have room, and others wait meanwhile."""


Show = Callable[[Directory, Work, Chat, Audience, TransferredFrom, str | None], None]
"""Pushes a chat, with where it was before and who asked for it to go, to an audience that begins to hear all of it; its
users and events have been loaded."""


def needs_of(chat_ids: Iterable[str]) -> Needs:
    """What a command needs that gives these chats to others."""
    return Needs(tuple(chat_ids), users_of_chats=True, events_of_chats=True, routing=True)


class Handover:
    """What one command, which has what `needs_of` says, can do with chats.

    `requester_id` is who asked for it, if anybody did; by itself nothing is closed during the `return_`.
    """

    def __init__(
        self,
        work: Work,
        directory: Directory,
        statuses: Mapping[str, str],
        show: Show,
        *,
        requester_id: str | None = None,
        return_: Return | None = None,
    ) -> None:
        self.situation = Situation(work, directory, statuses)
        self._work = work
        self._directory = directory
        self._show = show
        self._requester_id = requester_id
        self._return = return_

    # To others

    def transfer(
        self, chat: Chat, reason: Reason, agent_id: str | None, group_ids: Sequence[int] | None = None
    ) -> None:
        """Let the agent have the chat, or let it wait for one, in the same groups or in others.

        Who begins to hear all of it, or has access only now, is shown it first. All who had access before are told,
        and who is given it, with a token for their own chats perhaps.
        """
        groups = list(dict.fromkeys(chat.group_ids if group_ids is None else group_ids))
        left: TransferredFrom = {"group_ids": chat.group_ids, "agent_ids": chat.assignees()}
        has_moved = set(groups) != set(chat.group_ids)
        newcomers = list(self._newcomers(chat, agent_id, groups))
        before = chat.key_audience()
        leaving = {user.id: chat.key_audience(user.visibility) for user in _leaving(chat, agent_id)}

        for each in leaving:
            chat.remove_user(each, declined=reason == "manual" and agent_id is None)
        if has_moved:
            chat.move(groups)
        joined = self._arrive(chat, agent_id)
        properties = set_unassigned(
            chat, unassigned=agent_id is None, last_transfer_timestamp=to_seconds(self._work.now())
        )

        for newcomer in newcomers:
            self._show(self._directory, self._work, chat, newcomer, left, self._requester_id)
        announcement = Announcement(self._work, self._directory, chat, reason, self._requester_id)
        hearers = self._with_joined(before, joined, left["group_ids"], groups)
        announcement.transferred(agent_id, hearers)
        if has_moved:
            announcement.moved(hearers)
        for each, those_who_saw_it in leaving.items():
            announcement.removed(each, those_who_saw_it)
        if joined is not None:
            announcement.added(joined, hearers)
        tell(self._work, chat, properties)

    def _newcomers(self, chat: Chat, agent_id: str | None, group_ids: list[int]) -> Iterator[Audience]:
        """Who is given the chat, and the other agents of the groups who have no access to it yet."""
        given = chat.newcomer(agent_id) if agent_id is not None else None
        if given is not None:
            yield given
        if group_ids != chat.group_ids:
            others = tuple(
                agent.id
                for agent in self._directory.agents.values()
                if agent.group_ids.isdisjoint(chat.group_ids)
                and not agent.group_ids.isdisjoint(group_ids)
                and not chat.hears(agent.id)
                and agent.id != agent_id
            )
            yield Audience(readers=others, read_by=tuple(group_ids))

    def _arrive(self, chat: Chat, agent_id: str | None) -> ChatUser | None:
        """Let the agent have the chat, or let it wait; who has come into it."""
        now, joined = self._work.now(), None
        if agent_id is None:
            if not chat.continuous:
                self._enqueue(chat, now)
        else:
            if chat.member(agent_id) is None:
                joined = ChatUser(agent_id, "agent")
                chat.add_user(joined, now)
            self._work.gave(agent_id)
            chat.wait_anew(now)
        self.situation.changed()
        return joined

    def _enqueue(self, chat: Chat, at: str) -> None:
        chat.enqueue(at)
        self.situation.changed()
        waiting = self.situation.queue()
        chat.set_queue_position(queue.positions(waiting)[chat.id])
        if len(waiting) >= self.situation.rules(chat.group_ids).queue_limit:
            chat.set_fills_queue(fills=True)

    def _with_joined(
        self, before: Audience, joined: ChatUser | None, old_groups: Iterable[int], groups: Iterable[int]
    ) -> Audience:
        """Who had access before, and who has come in, if they knew of the chat: else it is only shown to them."""
        if joined is None or (
            set(groups) != set(old_groups) and self._directory.groups_of(joined.id).isdisjoint(old_groups)
        ):
            return before
        return replace(before, agents=tuple(dict.fromkeys((*before.agents, joined.id))))

    # By itself

    def place(self, chat: Chat, because: Absence | Literal["other"]) -> bool:
        """Give a chat whose agents are gone to another one, let it wait for one, or close it.

        False if it is to be tried again, when all are back who were here before the start.
        """
        if not chat.routed or chat.queued_at is not None or chat.has_routing_flag("ignore_agents_routing"):
            return True
        gone = self._names(chat.assignees())
        if chat.continuous and not gone and chat.has_routing_flag("unassigned"):
            return True  # it waits for somebody who takes it up
        agent_id = self._find_next(chat, again=because != "other")
        if agent_id is not None:
            self.transfer(chat, "assigned", agent_id)
            added = self._names([agent_id])
            names = {"agent": added} if because == "other" else {"agent_added": added, "agent_removed": gone}
            self._work.post(chat, self._message(f"routing.assigned_{because}", names))
            return True
        names = {} if because == "other" else {"agent": gone}
        if self.situation.may_wait(chat):
            self.transfer(chat, "unassigned", None)
            self._work.post(chat, self._message(f"routing.unassigned_{because}", names))
        elif self._return is not None and self._return.concerns(chat, self._work.now()):
            return False
        else:
            self._close(chat, self._message(f"routing.archived_{because}", names))
        return True

    def give_up(self, chat: Chat) -> None:
        """Close a chat that has waited in vain."""
        self._close(chat, self._message("routing.archived_offline", {}))

    def replace_silent(self, chat: Chat, after_min: float) -> None:
        """Give a chat whose agents do not answer to another one, if there is one who has not been as silent."""
        agent_id = self._find_next(chat)
        if agent_id is not None:
            silent, declined = chat.assignees(), chat.active_thread().declined
            self.transfer(chat, "inactive", agent_id)
            chat.decline([*declined, *silent])
            names = {
                "agent_added": self._names([agent_id]),
                "agent_removed": self._names(silent),
                "duration": f"{after_min:g}",
            }
            self._work.post(chat, self._message("routing.assigned_inactive", names))

    def assign_queued(self, ready: Container[str]) -> list[str]:
        """Give those who wait to those who have room, in order, some at a time: what is told of them asks for more.

        Only chats that are `ready` are given, of which all has been loaded that is to be shown; the ids of others that
        could be.
        """
        given: list[Chat] = []
        unready: list[str] = []
        in_vain: set[tuple[frozenset[int], bool]] = set()  # nobody has more room than a moment ago
        long_ago = seconds_after(self._work.now(), -AGAIN_AFTER_S)
        for chat in self.situation.queue():
            if len(given) + len(unready) == AT_ONCE or not self.situation.with_room():
                break
            wanted = frozenset(chat.group_ids), chat.has_routing_flag("ignore_bots")
            if self.situation.is_manual(chat) or wanted in in_vain:
                continue
            again = (chat.queued_at or "") < long_ago
            agent_id = self.situation.find_agent(chat, again=again)
            if agent_id is None:
                if again or not chat.active_thread().declined:
                    in_vain.add(wanted)
            elif chat.id in ready:
                self.transfer(chat, "assigned", agent_id)
                given.append(chat)
            else:
                self.situation.keep_room(agent_id)
                unready.append(chat.id)
        return unready

    def _find_next(self, chat: Chat, *, again: bool = False) -> str | None:
        """Who is to be given the chat without anybody's wish."""
        return None if self.situation.is_manual(chat) else self.situation.find_agent(chat, again=again)

    def _close(self, chat: Chat, why: EventBody) -> None:
        archive(self._work, chat, why)
        self.situation.changed()

    def _message(self, kind: str, text_vars: dict[str, Any]) -> EventBody:
        return system_message(cast("Kind", kind), self._work.now(), **text_vars)

    def _names(self, agent_ids: Iterable[str]) -> str:
        return ", ".join(map(self._directory.name_of, agent_ids))

    # Of those who wait

    def tell_positions(self) -> None:
        """Tell the places of those who wait, as far as they have changed."""
        waiting = self.situation.queue()
        places = queue.positions(waiting)
        for chat in waiting:
            if len(waiting) <= self.situation.rules(chat.group_ids).queue_reopen_threshold:
                chat.set_fills_queue(fills=False)
        moved: dict[frozenset[int], list[Chat]] = {}
        for chat in waiting:
            if chat.set_queue_position(places[chat.id]):
                moved.setdefault(frozenset(chat.group_ids), []).append(chat)
        for group_ids, chats in moved.items():
            told: list[QueuePosition] = [
                {"chat_id": chat.id, "thread_id": chat.active_thread().id, "queue": queue.wait(places[chat.id])}
                for chat in chats
            ]
            self._work.push("queue_positions_updated", told, _listeners(chats, group_ids))


def longest_first(work: Work, chat_ids: Iterable[str]) -> list[Chat]:
    """The chats, in the order in which their threads began. Raises NotFound."""
    return sorted(map(work.chat, chat_ids), key=lambda chat: (chat.sorted_at, chat.id))


def _leaving(chat: Chat, agent_id: str | None) -> list[ChatUser]:
    """Those who have the chat and, to come in again and be seen, who is given it and only looks on."""
    assignees = chat.assignees()
    here = [chat.users[each] for each in chat.present_ids("agent")]
    return [user for user in here if (user.id in assignees) is not (user.id == agent_id)]


def _listeners(chats: Iterable[Chat], group_ids: Iterable[int]) -> Audience:
    """Who hears every change of one of these chats of the groups, and everybody of the groups."""
    listeners, groups = [chat.audience("all") for chat in chats], tuple(sorted(group_ids))
    return Audience(
        agents=tuple(dict.fromkeys(chain.from_iterable(each.agents for each in listeners))),
        readers=tuple(dict.fromkeys(chain.from_iterable(each.readers for each in listeners))),
        read_by=groups,
        groups=groups,
        customers=tuple(chain.from_iterable(each.customers for each in listeners)),
    )
