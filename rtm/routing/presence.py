"""Who is connected, in which state, and the routing status that follows. Source: the public reference, "Status".

An agent's session lasts from its first connection to its last. In it the status is what `set_routing_status` chose,
else the default of the agent's settings; without a session an agent is offline, unless a status is chosen for it all
the same. When all its connections are away, an agent that accepts chats no longer does, until one comes back or a
status is chosen anew. A bot's status does not depend on connections: it is what was chosen, else its default.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from rtm.bus.base import Origin
from rtm.model.audience import Audience
from rtm.settings import Limits

ACCEPTING_CHATS = "accepting_chats"
NOT_ACCEPTING_CHATS = "not_accepting_chats"
OFFLINE = "offline"
PATIENCE_S = 5.0
"""How long a request waits for statuses that are being written again: less than it has in all."""

_LIMITS = Limits()
_HEARERS = {
    "agent": Audience(everyone=True, scope="agents--all:ro"),
    "bot": Audience(everyone=True, scope="agents-bot--all:ro"),
}


def hearers(*, of_bot: bool) -> Audience:
    """Who hears of an agent's status, or of a bot's."""
    return _HEARERS["bot" if of_bot else "agent"]


class Agent(Protocol):
    """What presence has to know of an agent."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> str:
        """`agent` or `bot`."""
        ...

    @property
    def default_status(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Member:
    """An agent or a bot of a license, with what its status depends on."""

    license_id: int
    agent_id: str
    default_status: str
    is_bot: bool

    @classmethod
    def of(cls, license_id: int, agent: Agent) -> Self:
        """The agent as a member of its license."""
        return cls(license_id, agent.id, agent.default_status, is_bot=agent.kind == "bot")


@dataclass(frozen=True, slots=True)
class Change:
    """An agent's status before and after; often the same."""

    before: str
    after: str
    told: bool = False
    """Whether `routing_status_set` has been seen to; else it is for the caller to push, if the two differ."""


Evict = Callable[[int, Sequence[str]], None]
"""license_id, ids of connections, here or elsewhere, that are too many and are to be disconnected."""


Buried = Callable[[int], None]
"""license_id, that a dead process had connections of, which are gone now."""


def nobody_listens(*_: object) -> None:
    """For who has not said whom to call."""


class TooManyConnections(Exception):
    """The agent has as many connections as it may have, and the newest is the one that is refused."""


class Presence(Protocol):
    """Connections and statuses of all processes of one system.

    Each change is atomic, and of two changes of one agent the second sees what the first left. When a process dies its
    connections leave within `heartbeat_limit_s` of the settings, and the pushes that follow are sent by then.

    The push `routing_status_set` is not stored: it may be lost with the bus, and never comes twice for one change.
    `origin` is the connection whose request it is, which gets it with its `request_id`.
    """

    def listen(self, evict: Evict, buried: Buried) -> None:
        """Call these from now on."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """This process's connections stop counting."""

    async def join(
        self, member: Member, connection_id: str, *, away: bool, reconnect: bool, origin: Origin | None = None
    ) -> Change:
        """A connection has logged in. The first one begins a session, with `reconnect` in its last chosen status.

        Raises TooManyConnections past `limits.connections_per_agent`, if that is the policy; the connection has not
        joined then.
        """
        ...

    async def leave(self, member: Member, connection_id: str) -> Change:
        """A connection is gone; the last one ends the session. One that never joined changes nothing."""
        ...

    async def set_away(self, member: Member, connection_id: str, away: bool, origin: Origin | None = None) -> Change:
        """The user of a connection left its desk, or came back."""
        ...

    async def set_status(self, member: Member, status: str, origin: Origin | None = None) -> Change:
        """Choose a status, for an agent until its session ends, for a bot for good. Raises ServiceUnavailable."""
        ...

    async def statuses(self, license_id: int, agents: Mapping[str, Agent], *, patience_s: float = 0) -> dict[str, str]:
        """The status of each of `agents`, in their order. Raises ServiceUnavailable.

        Where they have been forgotten and all processes are to write them again, that is waited for, `patience_s` at
        most; else who is not written yet is offline.
        """
        ...

    async def settled_statuses(self, license_id: int, agents: Mapping[str, Agent]) -> dict[str, str]:
        """The same, for decisions that cannot be taken back.

        Raises ServiceUnavailable also while, after an outage, some processes may not have told yet who is with them.
        """
        ...


@dataclass(slots=True)
class State:
    """What is known of an agent."""

    chosen: str | None = None
    last: str | None = None
    """What was chosen when the session before ended."""
    in_session: bool = False
    defies_away: bool = False
    """A status was chosen after the last change of connections."""
    connections: int = 0
    away: int = 0
    """How many of the connections are."""

    def status(self, default_status: str, is_bot: bool) -> str:
        """The routing status."""
        if is_bot:
            return self.chosen or default_status
        if not self.connections:
            return self.chosen or OFFLINE
        status = self.chosen or default_status
        if status == ACCEPTING_CHATS and self.away == self.connections and not self.defies_away:
            return NOT_ACCEPTING_CHATS
        return status


@dataclass(slots=True)
class Connection:
    """One that has joined."""

    joined_at: float
    """By this process's wall clock."""
    away: bool


class MemoryPresence:
    """The presence of a server that is one process."""

    def __init__(self, limits: Limits = _LIMITS) -> None:
        self._limits = limits
        self._evict: Evict = nobody_listens
        self._states: dict[tuple[int, str], State] = {}
        self._connections: dict[tuple[int, str], dict[str, Connection]] = {}  # by id, the oldest first

    def listen(self, evict: Evict, buried: Buried) -> None:
        self._evict = evict

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def join(
        self, member: Member, connection_id: str, *, away: bool, reconnect: bool, origin: Origin | None = None
    ) -> Change:
        key = member.license_id, member.agent_id
        connections = self._connections.get(key, {})
        limit = self._limits.connections_per_agent
        if self._limits.connections_per_agent_policy == "refuse" and 0 < limit <= len(connections):
            raise TooManyConnections
        state = self._states.setdefault(key, State())
        before = state.status(member.default_status, member.is_bot)
        connections = self._connections.setdefault(key, connections)
        connections[connection_id] = Connection(time.time(), away)
        self._recount(key, state)
        if not state.in_session and not member.is_bot:
            state.in_session = True
            state.chosen = (state.chosen or state.last) if reconnect else None
        change = Change(before, state.status(member.default_status, member.is_bot))
        if 0 < limit < len(connections):  # those that were evicted before and have not left yet are named again
            self._evict(member.license_id, list(connections)[: len(connections) - limit])
        return change

    async def leave(self, member: Member, connection_id: str) -> Change:
        key = member.license_id, member.agent_id
        state = self._states.get(key, State())
        before = state.status(member.default_status, member.is_bot)
        if self.knows(member.license_id, member.agent_id, connection_id):
            del self._connections[key][connection_id]
            self._recount(key, state)
            if not state.connections and state.in_session:
                state.in_session = False
                state.last, state.chosen = state.chosen, None
        return Change(before, state.status(member.default_status, member.is_bot))

    async def set_away(self, member: Member, connection_id: str, away: bool, origin: Origin | None = None) -> Change:
        key = member.license_id, member.agent_id
        state = self._states.get(key, State())
        before = state.status(member.default_status, member.is_bot)
        if self.knows(member.license_id, member.agent_id, connection_id):
            self._connections[key][connection_id].away = away
            self._recount(key, state)
        return Change(before, state.status(member.default_status, member.is_bot))

    async def set_status(self, member: Member, status: str, origin: Origin | None = None) -> Change:
        state = self._states.setdefault((member.license_id, member.agent_id), State())
        before = state.status(member.default_status, member.is_bot)
        state.chosen = status
        state.defies_away = True
        return Change(before, state.status(member.default_status, member.is_bot))

    async def statuses(self, license_id: int, agents: Mapping[str, Agent], *, patience_s: float = 0) -> dict[str, str]:
        nothing = State()
        return {
            agent_id: self._states.get((license_id, agent_id), nothing).status(
                agent.default_status, agent.kind == "bot"
            )
            for agent_id, agent in agents.items()
        }

    settled_statuses = statuses

    def knows(self, license_id: int, agent_id: str, connection_id: str) -> bool:
        """Whether the connection has joined, and not left."""
        return connection_id in self._connections.get((license_id, agent_id), ())

    def connections(self, license_id: int, agent_id: str) -> Mapping[str, Connection]:
        """The agent's connections by id, the oldest first."""
        return self._connections.get((license_id, agent_id), {})

    def _recount(self, key: tuple[int, str], state: State) -> None:
        connections = self._connections[key]
        state.connections = len(connections)
        state.away = sum(connection.away for connection in connections.values())
        state.defies_away = False
        if not connections:
            del self._connections[key]
