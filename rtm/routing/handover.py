"""A chat goes to other agents, to other groups or into the queue, and all who may know are told: within one command.

    transfer             by somebody's wish, or by what is decided here
    place                a chat whose agents are gone gets another one, or waits for one, or ends
    assign_queued        those who wait are given to those who have room
    tell_positions       those who still wait are told where

Routing statuses come from outside the transaction and may be a moment old; loads, queue and turns are as the batch has
left them, so that nobody is given more than its limit.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, Self, cast

from rtm.access.directory import AgentRecord, Directory
from rtm.model.audience import Audience
from rtm.model.chat import Absence, Chat, ChatUser, EventBody
from rtm.model.properties import with_routing
from rtm.model.pushes import (
    ChatAccessUpdated,
    ChatPropertiesUpdated,
    ChatTransferred,
    ThreadPropertiesUpdated,
    UserAddedToChat,
    UserRemovedFromChat,
)
from rtm.model.shown import QueuePosition, TransferredFrom
from rtm.model.system_messages import Kind, system_message
from rtm.protocol import timestamps
from rtm.protocol.timestamps import seconds_after, to_seconds
from rtm.routing import queue
from rtm.routing.assignment import Candidate, choose
from rtm.routing.introductions import Introduction
from rtm.routing.presence import ACCEPTING_CHATS
from rtm.routing.rules import Rules
from rtm.routing.upkeep import archive, rules_of
from rtm.store.work import Routing, Work

AGAIN_AFTER_S = 60
"""Who has declined a chat is given it again where it has waited for so long in vain."""
AT_ONCE = 10
"""Chats in one command: each takes 2 ms where a thousand agents have room, and others wait meanwhile."""

Reason = Literal["manual", "inactive", "assigned", "unassigned", "other"]


@dataclass(frozen=True, slots=True)
class Return:
    """The time after a start in which those who were connected before may come back, as after a lost connection."""

    began_at: str
    over_at: str

    @classmethod
    def begins(cls, grace_s: float) -> Self:
        """This process starts now."""
        began_at = timestamps.now()
        return cls(began_at, seconds_after(began_at, grace_s))

    def concerns(self, chat: Chat, now: str) -> bool:
        """Whether the chat is older, so that its open thread is not to be closed yet for want of agents."""
        return now < self.over_at and chat.active_thread().created_at < self.began_at


class Handover:
    """What one command, which needs routing, can do with chats.

    `requester_id` is who asked for it, if anybody did; by itself nothing is closed during the `return_`.
    """

    def __init__(
        self,
        work: Work,
        directory: Directory,
        statuses: Mapping[str, str],
        requester_id: str | None = None,
        return_: Return | None = None,
    ) -> None:
        self._work = work
        self._directory = directory
        self._requester_id = requester_id
        self._return = return_
        self.introductions: list[Introduction] = []
        """Who has been given a chat here and is still to be shown it."""
        self._accepting = [
            agent
            for agent in directory.agents.values()
            if agent.in_good_standing and statuses.get(agent.id) == ACCEPTING_CHATS
        ]
        self._routing: Routing | None = None
        self._free: list[AgentRecord] | None = None
        self._rules_of: dict[tuple[int, ...], Rules] = {}

    # Who could have it

    def find_agent(self, chat: Chat, group_ids: Sequence[int] | None = None, *, again: bool = False) -> str | None:
        """Who of the groups, by default the chat's, is to be given the chat, which they do not have.

        Those who have declined it are given it `again` where nobody else can be, or not at all.
        """
        had, declined = set(chat.assignees()), chat.active_thread().declined
        found = self._choose(chat, group_ids, had.union(declined))
        return self._choose(chat, group_ids, had) if again and declined and found is None else found

    def _choose(self, chat: Chat, group_ids: Sequence[int] | None, but: Container[str]) -> str | None:
        group_ids = chat.group_ids if group_ids is None else group_ids
        wanted, rules = frozenset(group_ids), self._rules(group_ids)
        chat_is_for_bots = not chat.has_routing_flag("ignore_bots")
        return choose(
            (
                self._candidate(agent, wanted, rules)
                for agent in self._with_room()
                if agent.id not in but and (agent.kind == "agent" or chat_is_for_bots)
            ),
            chat.recent_agent_id if rules.prefer_recent_agent else None,
        )

    def _candidate(self, agent: AgentRecord, group_ids: frozenset[int], rules: Rules) -> Candidate:
        groups = [
            self._directory.groups[each] for each in group_ids & agent.group_ids if each in self._directory.groups
        ]
        known = self._known()
        # A bot takes part where it is named only: it is in group 0 without anybody having wished so.
        default = "normal" if agent.kind == "agent" else "none"
        return Candidate(
            agent_id=agent.id,
            priorities=tuple(group.priorities.get(agent.id, default) for group in groups),
            load=known.loads[agent.id],
            limit=min(agent.max_chats_count, rules.max_agent_active_chats),
            given_at=known.turns.get(agent.id, ""),
        )

    def _rules(self, group_ids: Sequence[int]) -> Rules:
        key = tuple(group_ids)
        if key not in self._rules_of:
            self._rules_of[key] = rules_of(self._directory, key)
        return self._rules_of[key]

    def _known(self) -> Routing:
        if self._routing is None:
            self._routing = self._work.routing()
        return self._routing

    def _with_room(self) -> list[AgentRecord]:
        """Those who accept chats and may have more; where chats wait they are few, however many agents there are."""
        if self._free is None:
            loads, most = self._known().loads, self._rules(()).max_agent_active_chats
            self._free = [each for each in self._accepting if loads[each.id] < min(each.max_chats_count, most)]
        return self._free

    def _changed(self) -> None:
        self._routing = self._free = None

    def least_busy(self, agent_ids: Iterable[str]) -> str | None:
        """Who of the agents has the fewest chats; those who accept chats first."""
        accepting = {agent.id for agent in self._accepting}
        known = self._known()
        return min(
            agent_ids,
            key=lambda each: (each not in accepting, known.loads[each], known.turns.get(each, ""), each),
            default=None,
        )

    def may_wait(self, chat: Chat, group_ids: Sequence[int] | None = None) -> bool:
        """Whether the chat may wait for an agent of the groups, by default its own."""
        rules = self._rules(chat.group_ids if group_ids is None else group_ids)
        return chat.continuous or chat.queued_at is not None or (rules.queue_enabled and self._queue_is_open(rules))

    def _queue_is_open(self, rules: Rules) -> bool:
        """One that was full takes chats again when enough have left it."""
        waiting = self._known().queue
        if any(chat.active_thread().fills_queue for chat in waiting):
            return len(waiting) <= min(rules.queue_reopen_threshold, rules.queue_limit - 1)
        return len(waiting) < rules.queue_limit

    # What becomes of it

    def transfer(
        self,
        chat: Chat,
        reason: Reason,
        agent_id: str | None,
        group_ids: Sequence[int] | None = None,
        introduce: Callable[[TransferredFrom], None] | None = None,
    ) -> None:
        """Let the agent have the chat, or let it wait for one, in the same groups or in others.

        All who had access before are told, and who is given it, with a token for their own chats perhaps. `introduce`
        shows the chat to who begins to hear all of it, and to those who have access only now; without it who is given
        the chat is left to be shown it (`introductions`).
        """
        now, before = self._work.now(), chat.key_audience()
        left: TransferredFrom = {"group_ids": chat.group_ids, "agent_ids": chat.assignees()}
        leaving = _leaving(chat, agent_id)
        groups = list(chat.group_ids if group_ids is None else dict.fromkeys(group_ids))
        old_groups = set(chat.group_ids)
        has_moved = set(groups) != old_groups
        newcomer = chat.newcomer(agent_id) if agent_id is not None else None
        hidden_from = {user.id: chat.key_audience(user.visibility) for user in leaving}
        for user in leaving:
            chat.remove_user(user.id, declined=reason == "manual" and agent_id is None)
        if has_moved:
            chat.move(groups)
        joined = ChatUser(agent_id, "agent") if agent_id is not None and chat.member(agent_id) is None else None
        if joined is not None:
            chat.add_user(joined, now)
            if introduce is None and newcomer is not None:
                self.introductions.append(Introduction(chat.id, joined.id, newcomer, left))
            if not has_moved or not self._directory.agents[joined.id].group_ids.isdisjoint(old_groups):
                before = replace(before, agents=tuple(dict.fromkeys((*before.agents, joined.id))))
        self._changed()
        if agent_id is not None:
            self._work.gave(agent_id)
            chat.wait_anew(now)
        elif not chat.continuous:
            self._enqueue(chat, now)
        properties = set_unassigned(chat, unassigned=agent_id is None, last_transfer_timestamp=to_seconds(now))
        if introduce is not None:
            introduce(left)
        self._tell_transfer(chat, reason, agent_id, before)
        if has_moved:
            access: ChatAccessUpdated = {"id": chat.id, "access": {"group_ids": groups}}
            self._work.push("chat_access_updated", access, before)
        for user in leaving:
            self._tell_removed(chat, user.id, reason, hidden_from[user.id])
        if joined is not None:
            self._tell_added(chat, joined, reason, before)
        tell(self._work, chat, properties)

    def _enqueue(self, chat: Chat, at: str) -> None:
        chat.enqueue(at)
        self._changed()
        waiting = self._queue()
        chat.set_queue_position(queue.positions(waiting)[chat.id])
        if len(waiting) >= self._rules(chat.group_ids).queue_limit:
            chat.set_fills_queue(fills=True)

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
        if self.may_wait(chat):
            self.transfer(chat, "unassigned", None)
            self._work.post(chat, self._message(f"routing.unassigned_{because}", names))
        elif self._return is not None and self._return.concerns(chat, self._work.now()):
            return False
        else:
            archive(self._work, chat, self._message(f"routing.archived_{because}", names))
            self._changed()
        return True

    def give_up(self, chat: Chat) -> None:
        """Close a chat that has waited in vain."""
        archive(self._work, chat, self._message("routing.archived_offline", {}))
        self._changed()

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

    def _message(self, kind: str, text_vars: dict[str, Any]) -> EventBody:
        return system_message(cast("Kind", kind), self._work.now(), **text_vars)

    def _names(self, agent_ids: Iterable[str]) -> str:
        return ", ".join(map(self._directory.name_of, agent_ids))

    def assign_queued(self) -> None:
        """Give those who wait to those who have room, in order, some at a time: what is told of them asks for more."""
        given, long_ago = 0, seconds_after(self._work.now(), -AGAIN_AFTER_S)
        in_vain: set[tuple[frozenset[int], bool]] = set()  # nobody has more room than a moment ago
        for chat in self._queue():
            if given == AT_ONCE or not self._with_room():
                break
            wanted = frozenset(chat.group_ids), chat.has_routing_flag("ignore_bots")
            if self._is_manual(chat) or wanted in in_vain:
                continue
            again = (chat.queued_at or "") < long_ago
            agent_id = self.find_agent(chat, again=again)
            if agent_id is not None:
                self.transfer(chat, "assigned", agent_id)
                given += 1
            elif again or not chat.active_thread().declined:
                in_vain.add(wanted)

    def _find_next(self, chat: Chat, *, again: bool = False) -> str | None:
        """Who is to be given the chat without anybody's wish."""
        return None if self._is_manual(chat) else self.find_agent(chat, again=again)

    def _is_manual(self, chat: Chat) -> bool:
        return self._rules(chat.group_ids).manual_routing or chat.has_routing_flag("ignore_agents_routing")

    # What is told

    def tell_positions(self) -> None:
        """Tell the places of those who wait, as far as they have changed."""
        waiting = self._queue()
        places = queue.positions(waiting)
        for chat in waiting:
            if len(waiting) <= self._rules(chat.group_ids).queue_reopen_threshold:
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
            listeners = [chat.audience("all") for chat in chats]
            audience = Audience(
                agents=tuple(dict.fromkeys(chain.from_iterable(each.agents for each in listeners))),
                readers=tuple(dict.fromkeys(chain.from_iterable(each.readers for each in listeners))),
                read_by=tuple(sorted(group_ids)),
                groups=tuple(sorted(group_ids)),
                customers=tuple(chain.from_iterable(each.customers for each in listeners)),
            )
            self._work.push("queue_positions_updated", told, audience)

    def _queue(self) -> list[Chat]:
        return queue.in_order(self._known().queue, lambda chat: self._rules(chat.group_ids).queue_routing_priority)

    def _tell_transfer(self, chat: Chat, reason: Reason, agent_id: str | None, to: Audience) -> None:
        thread = chat.active_thread()
        told: ChatTransferred = {
            "chat_id": chat.id,
            "thread_id": thread.id,
            "reason": reason,
            "transferred_to": {"group_ids": chat.group_ids},
        }
        if agent_id is not None:
            told["transferred_to"]["agent_ids"] = [agent_id]
        if self._requester_id is not None:
            told["requester_id"] = self._requester_id
        if thread.queued_at is not None:
            told["queue"] = queue.shown(thread)
        self._work.push("chat_transferred", told, to)

    def _tell_removed(self, chat: Chat, agent_id: str, reason: Reason, to: Audience) -> None:
        told: UserRemovedFromChat = {
            "chat_id": chat.id,
            "thread_id": chat.active_thread().id,
            "user_id": agent_id,
            "reason": reason,
        }
        if self._requester_id is not None:
            told["requester_id"] = self._requester_id
        self._work.push("user_removed_from_chat", told, to)

    def _tell_added(self, chat: Chat, user: ChatUser, reason: Reason, to: Audience) -> None:
        told: UserAddedToChat = {
            "chat_id": chat.id,
            "thread_id": chat.active_thread().id,
            "user": self._directory.shown(user),
            "reason": reason,
        }
        if self._requester_id is not None:
            told["requester_id"] = self._requester_id
        self._work.push("user_added_to_chat", told, to)


def longest_first(work: Work, chat_ids: Iterable[str]) -> list[Chat]:
    """The chats, in the order in which their threads began. Raises NotFound."""
    return sorted(map(work.chat, chat_ids), key=lambda chat: (chat.sorted_at, chat.id))


def _leaving(chat: Chat, agent_id: str | None) -> list[ChatUser]:
    """Those who have the chat and, to come in again and be seen, who is given it and only looks on."""
    assignees = chat.assignees()
    here = [chat.users[each] for each in chat.present_ids("agent")]
    return [user for user in here if (user.id in assignees) is not (user.id == agent_id)]


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
