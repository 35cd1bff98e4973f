"""Who is connected, in which state, and the routing status that follows. Source: the public reference, "Status".

An agent's session lasts from its first connection to its last. In it the status is what `set_routing_status` chose,
else the default of the agent's settings; without a session an agent is offline, unless a status is chosen for it all
the same. When all its connections are away, an agent that accepts chats no longer does, until one comes back or a
status is chosen anew. A bot's status does not depend on connections: it is what was chosen, else its default.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Protocol

ACCEPTING_CHATS = "accepting_chats"
NOT_ACCEPTING_CHATS = "not_accepting_chats"
OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Change:
    """An agent's status before and after; often the same."""

    before: str
    after: str


class Agent(Protocol):
    """What presence has to know of an agent."""

    @property
    def kind(self) -> str:
        """`agent` or `bot`."""
        ...

    @property
    def default_status(self) -> str: ...


class Presence(Protocol):
    """Connections and statuses of all processes of one system.

    Each change is atomic, and of two changes of one agent the second sees what the first left. The connections of a
    process that died stop counting after `HEARTBEAT_S` of `rtm.routing.presence_redis`, and nobody is told.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """This process's connections stop counting."""

    async def join(
        self,
        license_id: int,
        agent_id: str,
        connection_id: str,
        *,
        default_status: str,
        is_bot: bool,
        away: bool,
        reconnect: bool,
    ) -> Change:
        """A connection has logged in. The first one begins a session, with `reconnect` in its last chosen status."""
        ...

    async def leave(
        self, license_id: int, agent_id: str, connection_id: str, *, default_status: str, is_bot: bool
    ) -> Change:
        """A connection is gone; the last one ends the session. One that never joined changes nothing."""
        ...

    async def set_away(
        self, license_id: int, agent_id: str, connection_id: str, away: bool, *, default_status: str, is_bot: bool
    ) -> Change:
        """The user of a connection left its desk, or came back."""
        ...

    async def set_status(
        self, license_id: int, agent_id: str, status: str, *, default_status: str, is_bot: bool
    ) -> Change:
        """Choose a status, for an agent until its session ends, for a bot for good. Raises ServiceUnavailable."""
        ...

    async def statuses(self, license_id: int, agents: Mapping[str, Agent]) -> dict[str, str]:
        """The status of each of `agents`, in their order. Raises ServiceUnavailable."""
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
    processes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By process: connections, and how many of them are away."""

    def status(self, default_status: str, is_bot: bool, live: Container[str]) -> str:
        """The routing status, if of all processes only `live` ones count."""
        if is_bot:
            return self.chosen or default_status
        connections = away = 0
        for process_id, (count, count_away) in self.processes.items():
            if process_id in live:
                connections += count
                away += count_away
        if not connections:
            # A session that nobody ended died with its process.
            return OFFLINE if self.in_session or self.chosen is None else self.chosen
        status = self.chosen or default_status
        if status == ACCEPTING_CHATS and away == connections and not self.defies_away:
            return NOT_ACCEPTING_CHATS
        return status


class MemoryPresence:
    """The presence of a server that is one process."""

    _PROCESS_ID = "this"
    _LIVE = frozenset((_PROCESS_ID,))

    def __init__(self) -> None:
        self._states: dict[tuple[int, str], State] = {}
        self._connections: dict[tuple[int, str], dict[str, bool]] = {}  # connection id: away

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def join(
        self,
        license_id: int,
        agent_id: str,
        connection_id: str,
        *,
        default_status: str,
        is_bot: bool,
        away: bool,
        reconnect: bool,
    ) -> Change:
        state = self._states.setdefault((license_id, agent_id), State())
        before = state.status(default_status, is_bot, self._LIVE)
        self._connections.setdefault((license_id, agent_id), {})[connection_id] = away
        self._recount(license_id, agent_id)
        if not state.in_session and not is_bot:
            state.in_session = True
            state.chosen = (state.chosen or state.last) if reconnect else None
        return Change(before, state.status(default_status, is_bot, self._LIVE))

    async def leave(
        self, license_id: int, agent_id: str, connection_id: str, *, default_status: str, is_bot: bool
    ) -> Change:
        state = self._states.get((license_id, agent_id), State())
        before = state.status(default_status, is_bot, self._LIVE)
        if self.knows(license_id, agent_id, connection_id):
            del self._connections[license_id, agent_id][connection_id]
            if not self._recount(license_id, agent_id) and state.in_session:
                state.in_session = False
                state.last, state.chosen = state.chosen, None
        return Change(before, state.status(default_status, is_bot, self._LIVE))

    async def set_away(
        self, license_id: int, agent_id: str, connection_id: str, away: bool, *, default_status: str, is_bot: bool
    ) -> Change:
        state = self._states.get((license_id, agent_id), State())
        before = state.status(default_status, is_bot, self._LIVE)
        if self.knows(license_id, agent_id, connection_id):
            self._connections[license_id, agent_id][connection_id] = away
            self._recount(license_id, agent_id)
        return Change(before, state.status(default_status, is_bot, self._LIVE))

    async def set_status(
        self, license_id: int, agent_id: str, status: str, *, default_status: str, is_bot: bool
    ) -> Change:
        state = self._states.setdefault((license_id, agent_id), State())
        before = state.status(default_status, is_bot, self._LIVE)
        state.chosen = status
        state.defies_away = True
        return Change(before, state.status(default_status, is_bot, self._LIVE))

    async def statuses(self, license_id: int, agents: Mapping[str, Agent]) -> dict[str, str]:
        nothing = State()
        return {
            agent_id: self._states.get((license_id, agent_id), nothing).status(
                agent.default_status, agent.kind == "bot", self._LIVE
            )
            for agent_id, agent in agents.items()
        }

    def knows(self, license_id: int, agent_id: str, connection_id: str) -> bool:
        """Whether the connection has joined, and not left."""
        return connection_id in self._connections.get((license_id, agent_id), ())

    def count(self, license_id: int, agent_id: str) -> tuple[int, int]:
        """The agent's connections, and how many of them are away."""
        connections = self._connections.get((license_id, agent_id), {})
        return len(connections), sum(connections.values())

    def _recount(self, license_id: int, agent_id: str) -> int:
        connections, away = self.count(license_id, agent_id)
        state = self._states[license_id, agent_id]
        state.processes[self._PROCESS_ID] = connections, away
        state.defies_away = False
        if not connections:
            del self._connections[license_id, agent_id]
        return connections
