"""The router's clock: what is due in the chats of all licenses is found and done, whichever process is there to do it.

When a chat is to be looked at is in the store, so that nothing is lost with a process. Every process looks once a
second; what two of them find at once is done once, by whoever is first in the license's order of commits.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import structlog

from rtm.access.directory import Directories, Directory
from rtm.model.chat import Absence
from rtm.outage import Outage, again_and_again
from rtm.protocol.errors import LicenseNotFound, NotFound, ServiceUnavailable
from rtm.protocol.timestamps import now
from rtm.routing import attendance, followers, upkeep
from rtm.routing.handover import AT_ONCE, Show, needs_of
from rtm.routing.presence import Presence
from rtm.routing.restart import Return
from rtm.store.queries import DueChat, Queries
from rtm.store.work import Needs, Work
from rtm.store.writer import Writer

_T = TypeVar("_T")

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
SWEEP_INTERVAL_S = 30.0
TIMEOUT_S = 60.0
MAX_CHATS = 500
"""Of a license looked at in one go, and found by one query; the others a moment later."""
DUE_OF_LICENSE = 100
"""Looked at before those of other licenses that have become due meanwhile."""
CHATS_AT_ONCE = 50
"""Of a license: what others ask for comes in between."""
MAX_AGENTS = 1000
"""In one query."""
LICENSES_AT_ONCE = 8
GATHERING_S = 0.1
"""Who leaves seldom leaves alone: time for the others."""


class Timers:
    """Looks after the chats of all licenses while `run` and `sweep_up` run.

    Agents who have lost their connection have `grace_s` to come back. `poke(license_id)` is called now and then for
    licenses with chats in the queue: the word that somebody has room may be lost with its process.
    """

    def __init__(
        self,
        queries: Queries,
        writer: Writer,
        directories: Directories,
        presence: Presence,
        show: Show,
        return_: Return,
        poke: Callable[[int], None],
        grace_s: float,
    ) -> None:
        self._queries = queries
        self._writer = writer
        self._directories = directories
        self._presence = presence
        self._show = show
        self._poke = poke
        self._grace_s = grace_s
        self._return = return_
        self._gone: dict[int, dict[str, Absence]] = {}
        """Agents who have just left, by license, and why."""
        self._restricted: dict[int, set[str]] = {}
        """Agents who may see fewer chats than before, by license."""
        self._followed: dict[int, dict[str, None]] = {}
        """What they follow, or did, and is still to be looked at, by license."""
        self._suspected: set[int] = set()
        """Licenses of which agents may be gone."""
        self._woken = asyncio.Event()

    # What it is told

    def agent_gone(self, license_id: int, agent_id: str, because: Absence) -> None:
        """The agent's last connection has ended, or its account."""
        self._gone.setdefault(license_id, {})[agent_id] = because
        self._woken.set()

    def agents_may_be_gone(self, license_id: int) -> None:
        """A process that had connections of the license's agents has died."""
        self._suspected.add(license_id)
        self._woken.set()

    def agent_restricted(self, license_id: int, agent_id: str) -> None:
        """The agent may see fewer chats than when it followed them."""
        self._restricted.setdefault(license_id, set()).add(agent_id)
        self._woken.set()

    def directory_replaced(self, before: Directory, after: Directory | None) -> None:
        """Agents of a license may have been deleted or suspended, or may see less."""
        for agent in before.agents.values():
            now = after.agents.get(agent.id) if after is not None else agent
            if now is None or (agent.in_good_standing and not now.in_good_standing):
                self.agent_gone(before.id, agent.id, "deleted" if now is None else "remotely_signed_out")
        for agent_id in followers.with_less_access(before, after) if after is not None else ():
            self.agent_restricted(before.id, agent_id)

    # What it does

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        await again_and_again(
            self.look,
            Outage(log, "timers_failing"),
            every_s=INTERVAL_S,
            timeout_s=TIMEOUT_S,
            woken=self._woken,
            gathering_s=GATHERING_S,
        )

    async def sweep_up(self) -> None:
        """Find what nobody has told, until cancelled."""
        await again_and_again(self.sweep, Outage(log, "sweep_failing"), every_s=SWEEP_INTERVAL_S, timeout_s=TIMEOUT_S)

    async def look(self) -> None:
        """Note who has just left, and do what is due; what fails keeps nothing else from being tried.

        Raises what drivers raise, and ApiError.
        """
        failed: list[Exception] = []
        for part in (self._miss_gone, self._miss_suspected, self._do_due, self._restrict_all):
            try:
                await part()
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)
        if failed:
            raise failed[0]

    async def _miss_gone(self) -> None:
        async def miss(license_id: int, _: object) -> None:
            left = self._gone.pop(license_id, {})
            try:
                await self._miss(license_id, left, left)
            except BaseException:
                self._gone[license_id] = left | self._gone.get(license_id, {})
                raise

        await self._for_licenses(dict(self._gone), miss)

    async def _miss_suspected(self) -> None:
        if not self._suspected:
            return
        suspected, self._suspected = self._suspected, set()
        try:
            await self._miss_offline(suspected)
        except BaseException:
            self._suspected |= suspected
            raise

    async def _do_due(self) -> None:
        """Some of each license at a time: where thousands are due, others are not kept waiting for all of them."""
        for _ in range(MAX_CHATS // DUE_OF_LICENSE):
            found = await self._queries.due_chats(now(), DUE_OF_LICENSE, MAX_CHATS)
            by_license: dict[int, list[DueChat]] = {}
            for chat in found:
                by_license.setdefault(chat.license_id, []).append(chat)
            await self._for_licenses(by_license, self._look_at)
            if len(found) < MAX_CHATS and all(len(due) < DUE_OF_LICENSE for due in by_license.values()):
                return
        self._woken.set()

    async def _restrict_all(self) -> None:
        await self._for_licenses(dict.fromkeys([*self._restricted, *self._followed]), self._restrict)
        if self._followed:
            self._woken.set()

    async def sweep(self) -> None:
        """Find agents whose process was killed, and queues that nobody works on. Raises the same."""
        await self._miss_offline(None)
        for license_id in await self._queries.licenses_with_queues():
            self._poke(license_id)

    async def _miss_offline(self, license_ids: Collection[int] | None) -> None:
        """Miss those who have chats and are offline, of these licenses or of all."""
        busy = await self._queries.busy_agents(license_ids)
        await self._for_licenses(busy, lambda license_id, agent_ids: self._miss(license_id, agent_ids, {}))

    async def _look_at(self, license_id: int, due: list[DueChat]) -> None:
        directory = await self._directories.get(license_id)
        here = await self._who_is_here(directory, set().union(*(chat.agent_ids for chat in due)))
        look = partial(upkeep.look, directory, here, self._grace_s)
        left_to_do = await self._for_each(license_id, [chat.id for chat in due], look)
        if left_to_do:
            statuses = await self._presence.settled_statuses(license_id, directory.agents)
            for start in range(0, len(left_to_do), AT_ONCE):
                part = left_to_do[start : start + AT_ONCE]
                settle = partial(attendance.settle, directory, statuses, self._grace_s, self._show, self._return, part)
                await self._writer.perform(license_id, needs_of(part), settle)

    async def _who_is_here(self, directory: Directory, agent_ids: Iterable[str]) -> frozenset[str]:
        """Those of the agents who are there; nobody while that cannot be told."""
        agents = {agent_id: directory.agents[agent_id] for agent_id in agent_ids if agent_id in directory.agents}
        try:
            statuses = await self._presence.settled_statuses(directory.id, agents)
        except ServiceUnavailable:
            return frozenset()
        return frozenset(agent.id for agent in agents.values() if attendance.attends(agent, statuses))

    async def _miss(self, license_id: int, agent_ids: Collection[str], left: Mapping[str, Absence]) -> None:
        """Note in the chats of the agents that they are gone, if they are; why is known of those who have `left`."""
        directory = await self._directories.get(license_id)
        gone = list(set(agent_ids) - await self._who_is_here(directory, agent_ids))
        for start in range(0, len(gone), MAX_AGENTS):
            chat_ids = await self._queries.chats_with(license_id, gone[start : start + MAX_AGENTS])
            if chat_ids:
                statuses = await self._presence.settled_statuses(license_id, directory.agents)
                miss = partial(attendance.miss, directory, statuses, left, self._grace_s)
                await self._for_each(license_id, chat_ids, miss)

    async def _restrict(self, license_id: int, _: object) -> None:
        """End some of what agents follow and may not see any more."""
        agent_ids = self._restricted.pop(license_id, set())
        try:
            directory = await self._directories.get(license_id)
            chat_ids = await self._queries.chats_followed_by(license_id, agent_ids) if agent_ids else []
        except BaseException:
            self._restricted.setdefault(license_id, set()).update(agent_ids)
            raise
        followed = self._followed.setdefault(license_id, {})
        followed.update(dict.fromkeys(chat_ids))

        def unfollow(chat_id: str, work: Work) -> bool:
            followers.unfollow_strangers(directory, work, work.chat(chat_id))
            return False

        some = list(islice(followed, MAX_CHATS))
        for start in range(0, len(some), CHATS_AT_ONCE):
            part = some[start : start + CHATS_AT_ONCE]
            await self._for_each(license_id, part, unfollow)
            for chat_id in part:  # only now: they are not to be forgotten for a database that is away
                del followed[chat_id]
        if not followed:
            self._followed.pop(license_id, None)

    async def _for_each(self, license_id: int, chat_ids: Sequence[str], do: Callable[[str, Work], bool]) -> list[str]:
        """Run a command for each of the chats that there are; ids of those for which it gives True. Raises ApiError."""

        async def perform(chat_id: str) -> bool:
            try:
                return bool(await self._writer.perform(license_id, Needs((chat_id,)), partial(do, chat_id)))
            except NotFound:
                return False

        more: list[bool] = []
        for start in range(0, len(chat_ids), CHATS_AT_ONCE):
            more += await _all(perform(chat_id) for chat_id in chat_ids[start : start + CHATS_AT_ONCE])
        return [chat_id for chat_id, is_left in zip(chat_ids, more, strict=True) if is_left]

    async def _for_licenses(
        self, found: Mapping[int, _T], work: Callable[[int, _T], Coroutine[Any, Any, None]]
    ) -> None:
        """Work for each license with what was found of it, for some at once. Raises what fails first."""
        slots = asyncio.Semaphore(LICENSES_AT_ONCE)

        async def of_license(license_id: int, of_it: _T) -> None:
            async with slots:
                try:
                    await work(license_id, of_it)
                except LicenseNotFound:
                    for known in (self._gone, self._restricted, self._followed):
                        known.pop(license_id, None)

        await _all(of_license(*each) for each in found.items())


async def _all(parts: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What they give, run side by side to their ends. Raises what the first of them has raised that did."""
    outcomes = await asyncio.gather(*parts, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes
