"""The statuses of groups, which follow from those of their agents.

A group accepts chats if one of its agents or bots does; if none does, it does not accept them as long as one is there;
else it is offline.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from rtm.routing.presence import ACCEPTING_CHATS, NOT_ACCEPTING_CHATS, OFFLINE


class GroupStatuses:
    """The statuses of a license's groups; a change of an agent costs as much as the agent has groups."""

    def __init__(
        self, group_ids: Iterable[int], groups_of: Mapping[str, frozenset[int]], of_agents: Mapping[str, str]
    ) -> None:
        """`groups_of` and `of_agents` have, by agent, its groups and its status."""
        self._groups_of = groups_of
        self._of_agents = {agent_id: of_agents.get(agent_id, OFFLINE) for agent_id in groups_of}
        self._counts: dict[int, Counter[str]] = {group_id: Counter() for group_id in group_ids}
        for agent_id, status in self._of_agents.items():
            self._count(agent_id, status, 1)

    def of(self, group_id: int) -> str:
        """The status of a group."""
        counts = self._counts.get(group_id, Counter())
        for status in (ACCEPTING_CHATS, NOT_ACCEPTING_CHATS):
            if counts[status] > 0:
                return status
        return OFFLINE

    def all(self) -> dict[int, str]:
        """The status of every group."""
        return {group_id: self.of(group_id) for group_id in self._counts}

    def agent_changed(self, agent_id: str, status: str) -> dict[int, str]:
        """The agent has this status now; the groups that have another one for it."""
        if agent_id not in self._of_agents:
            return {}
        group_ids = self._groups_of[agent_id]
        before = {group_id: self.of(group_id) for group_id in group_ids}
        self._count(agent_id, self._of_agents[agent_id], -1)
        self._of_agents[agent_id] = status
        self._count(agent_id, status, 1)
        return {group_id: self.of(group_id) for group_id in group_ids if self.of(group_id) != before[group_id]}

    def _count(self, agent_id: str, status: str, step: int) -> None:
        for group_id in self._groups_of[agent_id]:
            self._counts.setdefault(group_id, Counter())[status] += step
