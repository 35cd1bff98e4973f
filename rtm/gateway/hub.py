"""Who is connected to this process: the rooms of the licenses, and the bus to the other processes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import orjson
import structlog

from rtm.access.directory import Directory
from rtm.bus.base import DISCONNECT, Bus, Envelope, Lost
from rtm.gateway.cork import Flusher
from rtm.gateway.customer_statistics import ReadCounted
from rtm.gateway.fanout import Fanout
from rtm.gateway.feed import GIVE_UP_S, ReadOutbox
from rtm.gateway.groups_status import ReadStatuses
from rtm.gateway.room import Room, Subscriber
from rtm.model.audience import Audience
from rtm.outage import Outage, again_and_again

log = structlog.get_logger(__name__)

ReadSequences = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""license_ids -> the place of the newest stored push of each."""

POLL_INTERVAL_S = 0.5
POLL_TIMEOUT_S = 5.0
MAX_REMEMBERED_REVOCATIONS = 10_000


class Hub:
    """The rooms of this process, and the bus to the others."""

    def __init__(
        self,
        bus: Bus,
        read_outbox: ReadOutbox,
        read_sequences: ReadSequences,
        read_statuses: ReadStatuses,
        read_counted: ReadCounted,
        flusher: Flusher,
        settled_s: float,
    ) -> None:
        """`settled_s` after an outage of the bus every process has written its agents' statuses again."""
        self._bus = bus
        bus.listen(self._take)
        self._may_miss = asyncio.Event()
        self._read_outbox = read_outbox
        self._read_sequences = read_sequences
        self._read_statuses = read_statuses
        self._read_counted = read_counted
        self._flusher = flusher
        self._settled_s = settled_s
        self.fanout = Fanout()
        self._rooms: dict[int, Room] = {}
        self._repaired_before = 0
        self._subscribing: dict[int, asyncio.Task[None]] = {}
        self._by_token: dict[str, dict[Subscriber, None]] = {}
        self._revoked: dict[str, None] = {}
        """Tokens revoked of late, the oldest first."""
        self.passed_at = time.time()
        """Every room has delivered what was stored before; told by `poll`."""
        self._looked: Mapping[int, int] = {}
        self._looked_at = self.passed_at

    def _take(self, received: Envelope | Lost) -> None:
        """Deliver what another process publishes."""
        room = self._rooms.get(received.license_id)
        if room is None:
            return
        if isinstance(received, Lost):
            self._may_miss.set()
            room.groups_status.missed(self._settled_s)
            return
        try:
            if received.name == DISCONNECT:
                room.disconnect_some(**orjson.loads(received.payload))
            else:
                room.feed.offer(received)
        except Exception:
            log.exception("bus_item_failed", license_id=received.license_id)
            self._may_miss.set()

    async def poll(self) -> None:
        """Find what the bus does not tell, until cancelled: look how far each room's license has come.

        At once when the bus may have lost something: for all rooms in one query, for it has lost it for most of them.
        While the bus is away all is heard this way. It goes on while the bus is there: another process may be cut off
        from it and cannot say so, and one that falls silent is noticed seconds later only. A look costs 0.4 ms of CPU,
        with 1,000 rooms 1.7 ms. Who hears neither bus nor database for GIVE_UP_S has nothing to tell its clients.
        """
        found_at = time.monotonic()

        async def look() -> None:
            nonlocal found_at
            try:
                await self._look()
                found_at = time.monotonic()
            finally:
                if not self._bus.healthy and time.monotonic() - found_at > GIVE_UP_S:
                    for room in list(self._rooms.values()):
                        room.disconnect("internal_error")

        await again_and_again(
            look,
            Outage(log, "poll_failing"),
            every_s=POLL_INTERVAL_S,
            timeout_s=POLL_TIMEOUT_S,
            woken=self._may_miss,
        )

    async def _look(self) -> None:
        now = time.time()
        sequences = await self._read_sequences(self._rooms.keys()) if self._rooms else {}
        for license_id, sequence in sequences.items():
            if license_id in self._rooms:
                self._rooms[license_id].feed.expect(sequence)
        # A busy room is always a little behind, so what counts is how far an earlier look has found the others.
        if all(room.feed.has_passed(self._looked.get(license_id, 0)) for license_id, room in self._rooms.items()):
            self.passed_at, self._looked_at, self._looked = self._looked_at, now, sequences

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Deliver what was committed here, or is not stored, here and everywhere else."""
        for envelope in envelopes:
            room = self._rooms.get(envelope.license_id)
            if room is not None:
                room.feed.offer(envelope)
        self._bus.publish(envelopes)

    def evict(self, license_id: int, connection_ids: Sequence[str]) -> None:
        """End these sessions of the license, here or on other processes: their agent has too many."""
        word: dict[str, Any] = {"connection_ids": connection_ids, "reason": "connection_evicted"}
        room = self._rooms.get(license_id)
        if room is not None:
            word["connection_ids"] = room.disconnect_some(**word)
        if word["connection_ids"]:
            self._bus.publish([Envelope.ephemeral(license_id, DISCONNECT, word, Audience())])

    async def join(self, session: Subscriber, group_ids: frozenset[int]) -> Room:
        """Take the session in; returns when nothing that happens from now on can be missed."""
        license_id = session.license_id
        room = self._rooms.get(license_id)
        if room is None:
            room = self._rooms[license_id] = Room(
                license_id,
                self._read_outbox,
                self._read_statuses,
                self._read_counted,
                self._flusher,
                self.fanout,
            )
            self._follow_room(license_id)
        elif room.feed.delivered is None and license_id not in self._subscribing:
            self._follow_room(license_id)  # the first attempt failed, and those who waited for it with it
        room.add(session, group_ids)
        self.remember_token(session)
        subscribing = self._subscribing.get(license_id)
        if subscribing is not None:
            await asyncio.shield(subscribing)
        return room

    def leave(self, session: Subscriber) -> None:
        """The session has ended."""
        room = self._rooms[session.license_id]
        room.remove(session)
        self.forget_token(session)
        if not room.sessions:
            room.feed.stop()
            room.groups_status.stop()
            room.customer_statistics.stop()
            self._repaired_before += room.feed.gaps_repaired
            del self._rooms[session.license_id]
            self._follow_room(session.license_id)

    def remember_token(self, session: Subscriber) -> None:
        """The session lives as long as its `token_id`."""
        self._by_token.setdefault(session.token_id, {})[session] = None
        if session.token_id in self._revoked:  # since it was looked at
            session.disconnect("access_token_revoked")

    def forget_token(self, session: Subscriber) -> None:
        """The session no longer depends on its `token_id`."""
        of_token = self._by_token.get(session.token_id, {})
        of_token.pop(session, None)
        if not of_token:
            self._by_token.pop(session.token_id, None)

    def room(self, license_id: int) -> Room | None:
        """The license's room, if somebody of it is connected here."""
        return self._rooms.get(license_id)

    @property
    def rooms(self) -> Collection[Room]:
        """Those of all licenses that somebody is connected of."""
        return self._rooms.values()

    @property
    def gaps_repaired(self) -> int:
        """How many pushes were read from the outbox since the start, in rooms that are and that were."""
        return self._repaired_before + sum(room.feed.gaps_repaired for room in self._rooms.values())

    def token_revoked(self, token_id: str) -> None:
        """End the sessions that began with the token."""
        self._revoked[token_id] = None
        if len(self._revoked) > MAX_REMEMBERED_REVOCATIONS:
            del self._revoked[next(iter(self._revoked))]
        for session in list(self._by_token.get(token_id, {})):
            session.disconnect("access_token_revoked")

    def directory_replaced(self, before: Directory, after: Directory | None) -> None:
        """A license's agents or groups have changed, or the license is gone."""
        room = self._rooms.get(before.id)
        if room is None:
            return
        if after is not None:
            room.regroup(after)
            room.groups_status.read_again()
        else:
            room.disconnect("license_not_found")

    def _follow_room(self, license_id: int) -> None:
        """Hear of the license on the bus while it has a room; one step after the other, in the order they came."""
        before = self._subscribing.get(license_id)

        async def follow() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                room = self._rooms.get(license_id)
                if room is not None:
                    await self._bus.subscribe(license_id)
                    # Not at the first snapshot that is shown: one that was read earlier may be shown later.
                    room.feed.start_at((await self._read_sequences([license_id]))[license_id])
                    await room.groups_status.read()
                else:
                    await self._bus.unsubscribe(license_id)
            finally:
                if self._subscribing.get(license_id) is task:
                    del self._subscribing[license_id]

        task = asyncio.get_running_loop().create_task(follow())
        self._subscribing[license_id] = task
