"""The router's clock: what is due in the chats of all licenses is found and done, whichever process is there to do it.

When a chat is to be looked at is in the store, so that nothing is lost with a process. Every process looks once a
second; what two of them find at once is done once, by whoever is first in the license's order of commits.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import structlog

from rtm.access.directory import Directories, Directory
from rtm.protocol.errors import ApiError, ServiceUnavailable
from rtm.protocol.timestamps import from_microseconds
from rtm.routing import upkeep
from rtm.routing.presence import OFFLINE, Presence
from rtm.store.outage import Outage
from rtm.store.queries import DueChat, Queries
from rtm.store.work import Command, Needs, Work
from rtm.store.writer import Writer

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
TIMEOUT_S = 30.0
MAX_CHATS = 500
"""Looked at in one go; the others a moment later."""


class Timers:
    """Looks after the chats of all licenses while `run` runs.

    Agents who have lost their connection have `grace_s` to come back.
    """

    def __init__(
        self, queries: Queries, writer: Writer, directories: Directories, presence: Presence, grace_s: float
    ) -> None:
        self._queries = queries
        self._writer = writer
        self._directories = directories
        self._presence = presence
        self._grace_s = grace_s

    async def run(self) -> None:
        """Look until cancelled; what one look misses the next makes up for."""
        outage = Outage(log, "timers_failing")
        while True:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self.look()
                outage.over()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may do better
                outage.noticed(error)
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Look once. Raises what the database driver raises, and ServiceUnavailable."""
        found = await self._queries.due_chats(now(), MAX_CHATS)
        by_license: dict[int, list[DueChat]] = {}
        for chat in found:
            by_license.setdefault(chat.license_id, []).append(chat)
        await _all(self._look_at(*each) for each in by_license.items())

    async def _look_at(self, license_id: int, due: list[DueChat]) -> None:
        directory = await self._directories.get(license_id)
        here = await self._who_is_here(directory, set().union(*(chat.agent_ids for chat in due)))
        await _all(
            self._done(license_id, Needs((chat.id,)), partial(upkeep.look, chat.id, directory, here, self._grace_s))
            for chat in due
        )

    async def _who_is_here(self, directory: Directory, agent_ids: Iterable[str]) -> frozenset[str]:
        """Those of the agents who are not offline; nobody while that cannot be told."""
        agents = {agent_id: directory.agents[agent_id] for agent_id in agent_ids if agent_id in directory.agents}
        try:
            statuses = await self._presence.statuses(directory.id, agents)
        except ServiceUnavailable:
            return frozenset()
        return frozenset(agent_id for agent_id, status in statuses.items() if status != OFFLINE)

    async def _done(self, license_id: int, needs: Needs, apply: Callable[[Work], Any]) -> Any:
        """What the command gives; None for a chat that is gone. Raises ServiceUnavailable."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._writer.submit(Command(license_id, needs, apply, partial(_answer, answer)))
        outcome = await answer
        if isinstance(outcome, ServiceUnavailable):
            raise outcome
        return None if isinstance(outcome, ApiError) else outcome


def now() -> str:
    """The time in the protocol's form."""
    return from_microseconds(time.time_ns() // 1000)


async def _all(parts: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run them side by side to their ends. Raises what the first of them has raised that did."""
    for outcome in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _answer(answer: "asyncio.Future[Any]", outcome: Any) -> None:
    if not answer.done():  # nobody waits any more
        answer.set_result(outcome)
