"""The push `groups_status_updated`, which each process works out of the statuses of agents that it hears.

Nobody publishes it: all processes hear of an agent's status in the same order, and each tells its own sessions. What
the bus has lost is made good by reading all statuses once more.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

import orjson
import structlog

from rtm.access.directory import Directory
from rtm.bus.base import Envelope, Origin
from rtm.routing.group_statuses import GroupStatuses

log = structlog.get_logger(__name__)

ROUTING_STATUS_SET = "routing_status_set"
GROUPS_STATUS_UPDATED = "groups_status_updated"

ReadStatuses = Callable[[int], Awaitable[tuple[Directory, Mapping[str, str]]]]
"""license_id -> the license's directory and the routing statuses of its agents and bots."""


class GroupsStatus:
    """Calls `tell` with the groups of a license that have another status than before."""

    def __init__(
        self, license_id: int, read: ReadStatuses, tell: Callable[[Mapping[int, str], Origin | None], None]
    ) -> None:
        self._license_id = license_id
        self._read = read
        self._tell = tell
        self._statuses: GroupStatuses | None = None
        self._reading: asyncio.Task[None] | None = None
        self._stale = False
        """What is being read may be out of date already."""
        self._timer: asyncio.TimerHandle | None = None
        self._heard: dict[str, str] | None = None
        """What is heard of agents while their statuses are being read, and is as new or newer."""
        self._untold: set[str] = set()
        """Agents heard of while no statuses are known."""

    async def read(self) -> None:
        """Begin. Without an answer nothing is told until the next time."""
        heard = self._heard = {}
        try:
            directory, of_agents = await self._read(self._license_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody's log-in is to fail for it
            log.warning("statuses_unknown", license_id=self._license_id, reason=str(error))
            if self._heard is heard:
                self._heard = None
            return
        if self._heard is not heard:  # whoever has begun later knows better
            return
        self._heard = None
        groups_of = {agent_id: agent.group_ids for agent_id, agent in directory.agents.items()}
        now = GroupStatuses(directory.groups, groups_of, {**of_agents, **heard})
        before, self._statuses = self._statuses, now
        if before is not None:
            changed = {id_ for id_, status in now.all().items() if status != before.of(id_)}
        else:
            changed = {id_ for agent_id in self._untold for id_ in groups_of.get(agent_id, ())}
            self._untold.clear()
        self._tell_all({id_: now.of(id_) for id_ in changed}, None)

    def read_again(self) -> None:
        """The license's agents or groups have changed, or statuses may have; one reading at a time."""
        self._stale = True
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_on())

    async def _read_on(self) -> None:
        try:
            while self._stale:
                self._stale = False
                await self.read()
        finally:
            self._reading = None

    def missed(self, settled_s: float) -> None:
        """Something may not have been heard; by this time every process has written anew what Redis may have lost."""
        if self._timer is not None:
            self._timer.cancel()
        # Not all licenses at once.
        delay_s = settled_s * random.uniform(1, 1.5)  # noqa: S311 - nothing secret
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.read_again)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()

    def heard(self, envelope: Envelope) -> None:
        """An agent has another status: `routing_status_set`."""
        told = orjson.loads(envelope.payload)
        if self._heard is not None:
            self._heard[told["agent_id"]] = told["status"]
        if self._statuses is not None:
            self._tell_all(self._statuses.agent_changed(told["agent_id"], told["status"]), envelope.origin)
            return
        self._untold.add(told["agent_id"])
        if self._heard is None:
            self.read_again()

    def _tell_all(self, changed: Mapping[int, str], origin: Origin | None) -> None:
        if changed:
            self._tell(changed, origin)
