"""Gives chats that wait to agents that have room, on whichever process notices that something has changed.

A poke is a word that a license may have something to route; those that come while one is worked on are one. What is
done is one command, decided in its transaction: if another process has done it, nothing is left to do. A poke that is
lost with its process is made up for when the chat is due for a look.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import orjson
import structlog

from rtm.access.directory import Directories, Directory
from rtm.bus.base import Envelope
from rtm.protocol.errors import LicenseNotFound
from rtm.routing.handover import AT_ONCE, Handover, Show, longest_first, needs_of
from rtm.routing.presence import Presence
from rtm.routing.restart import Return
from rtm.store.queries import Queries
from rtm.store.work import Work
from rtm.store.writer import Writer

log = structlog.get_logger(__name__)

RETRY_S = 1.0
MAX_RETRIES = 15
"""Redis may have been away for some seconds, and as many go by until statuses are settled."""

_MAKES_ROOM = frozenset({"chat_deactivated", "chat_transferred", "user_added_to_chat", "user_removed_from_chat"})
"""Pushes after which an agent may have room, or others wait in other places."""
_LEAVES_ALONE = "user_removed_from_chat"
"""The push after which a chat may have no agent."""


class Router:
    """Told by `poke` and `committed`; works until `stop`."""

    def __init__(
        self,
        queries: Queries,
        writer: Writer,
        directories: Directories,
        presence: Presence,
        show: Show,
        return_: Return,
    ) -> None:
        self._queries = queries
        self._writer = writer
        self._directories = directories
        self._presence = presence
        self._show = show
        self._return = return_
        self._poked: dict[int, dict[str, None]] = {}
        """By license, chats that may have no agent, in the order in which that was heard."""
        self._working: dict[int, asyncio.Task[None]] = {}

    def poke(self, license_id: int, chat_ids: Iterable[str] = ()) -> None:
        """An agent of the license may have room, and these chats may have no agent."""
        self._poked.setdefault(license_id, {}).update(dict.fromkeys(chat_ids))
        if license_id not in self._working:
            task = asyncio.get_running_loop().create_task(self._work(license_id))
            self._working[license_id] = task

    def committed(self, envelopes: Sequence[Envelope]) -> None:
        """What a command has changed, by its pushes."""
        for envelope in envelopes:
            if envelope.name in _MAKES_ROOM:
                left = (orjson.loads(envelope.payload)["chat_id"],) if envelope.name == _LEAVES_ALONE else ()
                self.poke(envelope.license_id, left)

    def directory_replaced(self, before: Directory, after: Directory | None) -> None:
        """The license's agents, groups or rules have changed."""
        if after is not None:
            self.poke(after.id)

    async def stop(self) -> None:
        """Leave what has been begun."""
        for task in self._working.values():
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _work(self, license_id: int) -> None:
        failures = 0
        try:
            while license_id in self._poked:
                chat_ids = self._poked.pop(license_id)
                try:
                    await self._route(license_id, chat_ids)
                    failures = 0
                except Exception as error:  # noqa: BLE001 - whatever it is, the next time may do better
                    failures += 1
                    if failures > MAX_RETRIES:
                        log.warning("routing_failed", license_id=license_id, reason=str(error))
                        return
                    await asyncio.sleep(RETRY_S)
                    self.poke(license_id, chat_ids)
        finally:
            self._working.pop(license_id, None)

    async def _route(self, license_id: int, chat_ids: Iterable[str]) -> None:
        """Raises what the database driver raises, and ServiceUnavailable."""
        if not chat_ids and not await self._queries.anybody_waits(license_id):
            return
        try:
            directory = await self._directories.get(license_id)
        except LicenseNotFound:
            return
        statuses = await self._presence.settled_statuses(license_id, directory.agents)

        rest, ready = list(chat_ids), list[str]()
        while True:
            part, rest = ([], rest) if ready else (rest[:AT_ONCE], rest[AT_ONCE:])
            apply = partial(_route, directory, statuses, self._show, self._return, part, ready)
            ready = await self._writer.perform(license_id, needs_of([*part, *ready]), apply)
            if not ready and not rest:
                return


def _route(
    directory: Directory,
    statuses: Mapping[str, str],
    show: Show,
    return_: Return,
    chat_ids: Iterable[str],
    ready: Collection[str],
    work: Work,
) -> list[str]:
    """The command: these chats may have no agent, those that are `ready` may be given; others that could be, too."""
    handover = Handover(work, directory, statuses, show, return_=return_)
    for chat in longest_first(work, chat_ids):
        if not chat.assignees() and not handover.place(chat, "other"):
            chat.set_due(return_.over_at)
    unready = handover.assign_queued(ready)
    if not unready:
        handover.tell_positions()
    return unready
