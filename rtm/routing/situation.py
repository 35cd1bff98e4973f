"""Who waits on a license, and who could be given what, for one command that needs routing.

Routing statuses come from outside the transaction and may be a moment old; loads, queue and turns are as the batch has
left them, so that nobody is given more than its limit.
"""

from collections.abc import Container, Iterable, Mapping, Sequence

from rtm.access.directory import AgentRecord, Directory
from rtm.model.chat import Chat
from rtm.routing import queue
from rtm.routing.assignment import Candidate, choose
from rtm.routing.presence import ACCEPTING_CHATS
from rtm.routing.rules import Rules, rules_of
from rtm.store.work import Routing, Work


class Situation:
    """What is known of the license; `changed` is called when a chat has been given to somebody, queued or closed."""

    def __init__(self, work: Work, directory: Directory, statuses: Mapping[str, str]) -> None:
        self._work = work
        self._directory = directory
        self._accepting = [
            agent
            for agent in directory.agents.values()
            if agent.in_good_standing and statuses.get(agent.id) == ACCEPTING_CHATS
        ]
        self._routing: Routing | None = None
        self._free: list[AgentRecord] | None = None
        self._rules_of: dict[tuple[int, ...], Rules] = {}

    def changed(self) -> None:
        """Who waits, or who has room, is to be found anew."""
        self._routing = self._free = None

    def keep_room(self, agent_id: str) -> None:
        """The agent is to be given one more chat, in another command."""
        self._known().loads[agent_id] += 1
        self._free = None

    # By which rules

    def rules(self, group_ids: Sequence[int]) -> Rules:
        """Those for chats of these groups."""
        key = tuple(group_ids)
        if key not in self._rules_of:
            self._rules_of[key] = rules_of(self._directory, key)
        return self._rules_of[key]

    def is_manual(self, chat: Chat) -> bool:
        """Whether the chat is given to nobody without somebody's wish."""
        return self.rules(chat.group_ids).manual_routing or chat.has_routing_flag("ignore_agents_routing")

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
        wanted, rules = frozenset(group_ids), self.rules(group_ids)
        chat_is_for_bots = not chat.has_routing_flag("ignore_bots")
        return choose(
            (
                self._candidate(agent, wanted, rules)
                for agent in self.with_room()
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

    def with_room(self) -> list[AgentRecord]:
        """Those who accept chats and may have more; where chats wait they are few, however many agents there are."""
        if self._free is None:
            loads, most = self._known().loads, self.rules(()).max_agent_active_chats
            self._free = [each for each in self._accepting if loads[each.id] < min(each.max_chats_count, most)]
        return self._free

    def least_busy(self, agent_ids: Iterable[str]) -> str | None:
        """Who of the agents has the fewest chats; those who accept chats first."""
        accepting = {agent.id for agent in self._accepting}
        known = self._known()
        return min(
            agent_ids,
            key=lambda each: (each not in accepting, known.loads[each], known.turns.get(each, ""), each),
            default=None,
        )

    # Who waits

    def queue(self) -> list[Chat]:
        """The chats that wait, the next one first."""
        return queue.in_order(self._known().queue, lambda chat: self.rules(chat.group_ids).queue_routing_priority)

    def may_wait(self, chat: Chat, group_ids: Sequence[int] | None = None) -> bool:
        """Whether the chat may wait for an agent of the groups, by default its own."""
        rules = self.rules(chat.group_ids if group_ids is None else group_ids)
        return chat.continuous or chat.queued_at is not None or (rules.queue_enabled and self._queue_is_open(rules))

    def _queue_is_open(self, rules: Rules) -> bool:
        """One that was full takes chats again when enough have left it."""
        waiting = self._known().queue
        if any(chat.active_thread().fills_queue for chat in waiting):
            return len(waiting) <= min(rules.queue_reopen_threshold, rules.queue_limit - 1)
        return len(waiting) < rules.queue_limit

    def _known(self) -> Routing:
        if self._routing is None:
            self._routing = self._work.routing()
        return self._routing
