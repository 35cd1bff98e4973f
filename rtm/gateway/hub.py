"""Who is connected to this process, and the way of a push to them.

A room holds the sessions of one license, indexed by agent and group. A push is encoded once for each version; sessions
with the same interest get the same frames. The session that asked gets frames of its own, with its `request_id`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson
import structlog

from rtm import versions
from rtm.access.directory import Directory
from rtm.bus.base import DISCONNECT, Bus, Envelope, Lost
from rtm.gateway.cork import Cork, Corked, Flusher
from rtm.gateway.fanout import Fanout
from rtm.gateway.feed import GIVE_UP_S, Feed, ReadOutbox
from rtm.gateway.interest import Interest, is_about_chat
from rtm.gateway.wire import encode_text_frame
from rtm.model.audience import Audience
from rtm.protocol.envelope import encode_push
from rtm.store.outage import Outage

log = structlog.get_logger(__name__)


ReadSequences = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""license_ids -> the place of the newest stored push of each."""


class Subscriber(Protocol):
    """A session as the hub sees it; `outlet` is its wire, or a `Backlog` while it is logging in."""

    connection_id: str
    interest: Interest
    outlet: Corked
    own_pushes: list[bytes] | None
    """Frames about what it has asked for, while that is not answered; None when they may be sent."""

    @property
    def license_id(self) -> int: ...

    @property
    def agent_id(self) -> str: ...

    @property
    def token_id(self) -> str: ...

    def directory_replaced(self, directory: Directory) -> None:
        """The license's agents or groups have changed."""

    def disconnect(self, reason: str, data: Mapping[str, Any] | None = None) -> None: ...


class Backlog(Cork):
    """Stands in for the wire of a session that is logging in, until it is known what its snapshot has shown."""

    def __init__(self, room: "Room") -> None:
        super().__init__([], 0)
        self._room = room
        self._kept: list[tuple[int, bytes]] = []
        self.write: Callable[[bytes], int] | None = None

    @property
    def pending(self) -> Cork | None:
        """Always here; not kept, as an object that refers to itself waits for the garbage collector."""
        return self

    @pending.setter
    def pending(self, place: Cork | None) -> None:
        """`then` leads nowhere else."""

    def then(self, frame: bytes) -> "Backlog":
        """Keep the frame."""
        self._kept.append((self._room.delivering, frame))
        return self

    def flush(self) -> None:
        """Nothing is written yet."""

    def behind(self, rest: bytes) -> None:
        """Nothing is written yet."""

    def failed(self, error: Exception) -> None:
        """Nothing is written yet."""

    def after(self, sequence: int) -> Iterable[bytes]:
        """What was not in the snapshot."""
        return [frame for place, frame in self._kept if place == 0 or place > sequence]


POLL_INTERVAL_S = 0.5
POLL_TIMEOUT_S = 5.0
MAX_REMEMBERED_RECIPIENTS = 50_000
"""Of all of a room's remembered audiences: the ids that name them and the sessions found, some 100 bytes each."""
MAX_REMEMBERED_REVOCATIONS = 10_000


class Hearers:
    """Sessions of one interest, the oldest first, and where their frames go."""

    __slots__ = ("_outlets", "_sessions")

    def __init__(self, sessions: Iterable[Subscriber] = ()) -> None:
        self._sessions = dict.fromkeys(sessions)
        self._outlets: list[Corked] | None = None

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: Subscriber) -> bool:
        return session in self._sessions

    def add(self, session: Subscriber) -> None:
        self._sessions[session] = None
        self._outlets = None

    def remove(self, session: Subscriber) -> None:
        del self._sessions[session]
        self._outlets = None

    def outlets(self) -> list[Corked]:
        """Kept until somebody comes or goes, for a thousand sessions are as many places in memory to look at."""
        if self._outlets is None:
            self._outlets = [session.outlet for session in self._sessions]
        return self._outlets

    def outlet_changed(self) -> None:
        """One of the sessions has another outlet."""
        self._outlets = None


Recipients = dict[Interest, Hearers]


class Room:
    """The sessions of one license on this process."""

    def __init__(self, license_id: int, read_outbox: ReadOutbox, flusher: Flusher, fanout: Fanout) -> None:
        self.delivering = 0
        """The place of the push that is being delivered."""
        self._flusher = flusher
        self._everyone: Recipients = {}
        self._recipients: dict[Audience, Recipients] = {}
        self._remembered = 0
        self.feed = Feed(license_id, fanout.measured(self._deliver), read_outbox, self._give_up)
        self.sessions: dict[Subscriber, frozenset[int]] = {}
        self._by_connection: dict[str, Subscriber] = {}
        self._by_agent: dict[str, list[Subscriber]] = {}
        self._by_group: dict[int, dict[Subscriber, None]] = {}
        self._catching_up: list[tuple[int, Subscriber, Corked]] = []

    def of_agent(self, agent_id: str) -> Sequence[Subscriber]:
        """The agent's sessions, the oldest first."""
        return self._by_agent.get(agent_id, ())

    def disconnect_some(self, connection_ids: Sequence[str], reason: str) -> list[str]:
        """End these sessions; the ids that are not here."""
        elsewhere = []
        for connection_id in connection_ids:
            session = self._by_connection.get(connection_id)
            if session is None:
                elsewhere.append(connection_id)
            else:
                session.disconnect(reason)
        return elsewhere

    def add(self, session: Subscriber, group_ids: frozenset[int]) -> None:
        """Keep pushes for the session from now on; `release` lets them go."""
        session.outlet = Backlog(self)
        self._by_connection[session.connection_id] = session
        self._by_agent.setdefault(session.agent_id, []).append(session)
        self._everyone.setdefault(session.interest, Hearers()).add(session)
        self._set_groups(session, group_ids)

    def remove(self, session: Subscriber) -> None:
        """Deliver nothing more to the session."""
        del self._by_connection[session.connection_id]
        of_agent = self._by_agent[session.agent_id]
        of_agent.remove(session)
        if not of_agent:
            del self._by_agent[session.agent_id]
        self._set_groups(session, frozenset())
        self._forget_interest(session)
        del self.sessions[session]

    def release(self, session: Subscriber, wire: Corked, sequence: int) -> None:
        """Send on `wire` what came after this place in the sequence, now and from now on."""
        assert self.feed.delivered is not None  # since before the session's snapshot was read: see `Hub.join`
        if self.feed.delivered < sequence:  # the snapshot was ahead of the bus
            self._catching_up.append((sequence, session, wire))
            self.feed.expect(sequence)
            return
        backlog = session.outlet
        session.outlet = wire
        self._everyone[session.interest].outlet_changed()
        self._forget_recipients()
        if isinstance(backlog, Backlog):
            for frame in backlog.after(sequence):
                self._flusher.send_all((wire,), frame)

    def regroup(self, directory: Directory) -> None:
        """Agents have come into groups or left them."""
        for session, group_ids in list(self.sessions.items()):
            session.directory_replaced(directory)  # which ends some
            if session in self.sessions and (current := directory.agents[session.agent_id].group_ids) != group_ids:
                self._set_groups(session, current)

    def disconnect(self, reason: str) -> None:
        """End every session; the room ends with the last of them."""
        for session in list(self.sessions):
            session.disconnect(reason)

    def _give_up(self) -> None:
        self.disconnect("internal_error")

    def set_interest(self, session: Subscriber, interest: Interest) -> None:
        """The session wants, or may see, other pushes from now on."""
        self._forget_interest(session)
        session.interest = interest
        self._everyone.setdefault(interest, Hearers()).add(session)
        self._forget_recipients()

    def _forget_interest(self, session: Subscriber) -> None:
        of_interest = self._everyone[session.interest]
        of_interest.remove(session)
        if not of_interest:
            del self._everyone[session.interest]

    def _set_groups(self, session: Subscriber, group_ids: frozenset[int]) -> None:
        self._forget_recipients()
        before = self.sessions.get(session, frozenset())
        for group_id in before - group_ids:
            del self._by_group[group_id][session]
        for group_id in group_ids - before:
            self._by_group.setdefault(group_id, {})[session] = None
        self.sessions[session] = group_ids

    def _recipients_of(self, envelope: Envelope) -> Recipients:
        """Who is to be told, by interest; remembered while nobody comes or goes: a chat's audience seldom changes."""
        audience = envelope.audience
        if audience.everyone or 0 in audience.groups:
            return self._everyone
        recipients = self._recipients.get(audience)
        if recipients is None:
            recipients = {}
            found = 0
            for session in self._look_up(audience):
                recipients.setdefault(session.interest, Hearers()).add(session)
                found += 1
            if envelope.sequence:  # the audience of what is not stored may be anyone's whim, as in `multicast`
                self._remember(audience, recipients, found)
        return recipients

    def _remember(self, audience: Audience, recipients: Recipients, found: int) -> None:
        self._remembered += len(audience.agents) + len(audience.groups) + len(audience.customers) + found
        if self._remembered > MAX_REMEMBERED_RECIPIENTS:
            self._forget_recipients()
        else:
            self._recipients[audience] = recipients

    def _forget_recipients(self) -> None:
        self._recipients.clear()
        self._remembered = 0

    def _look_up(self, audience: Audience) -> Iterable[Subscriber]:
        for agent_id in audience.agents:
            yield from self._by_agent.get(agent_id, ())
        for group_id in audience.groups:
            yield from self._by_group.get(group_id, ())

    def _deliver(self, envelope: Envelope) -> None:
        self.delivering = envelope.sequence
        asker = self._by_connection.get(envelope.origin.connection_id) if envelope.origin is not None else None
        encoded: dict[str, bytes] = {}
        for interest, hearers in self._recipients_of(envelope).items():
            wanted = interest.versions(envelope.name)
            if not wanted:
                continue
            if interest.own_chats_only and is_about_chat(envelope.name):
                hearers = Hearers(each for each in hearers if each.agent_id in envelope.audience.agents)
            try:
                outlets = hearers.outlets()
                if asker is not None and asker in hearers:
                    self._answer(envelope, asker, wanted)
                    outlets = [outlet for outlet in outlets if outlet is not asker.outlet]
                for version in wanted:
                    self._flusher.send_all(outlets, _encode(envelope, version, encoded))
            except Exception:
                log.exception("push_failed", license_id=envelope.license_id, push=envelope.name, versions=wanted)
                if envelope.sequence:
                    _end_soon(hearers)
        if self._catching_up:
            self._release_caught_up()

    def _answer(self, envelope: Envelope, asker: Subscriber, wanted: Sequence[str]) -> None:
        assert envelope.origin is not None
        request_id: str | None = envelope.origin.request_id
        for version in wanted:
            frame = encode_text_frame(encode_push(version, envelope.name, _payload(envelope, version), request_id))
            if asker.own_pushes is None:
                self._flusher.send_all((asker.outlet,), frame)
            else:
                asker.own_pushes.append(frame)
            request_id = None  # who takes a push in two versions is told once that it is theirs

    def _release_caught_up(self) -> None:
        waiting, self._catching_up = self._catching_up, []
        for sequence, session, wire in waiting:
            if session in self.sessions:
                self.release(session, wire, sequence)


def _end_soon(sessions: Iterable[Subscriber]) -> None:
    """End sessions that have missed a push; not at once, as it is still on its way to others of the room."""
    loop = asyncio.get_running_loop()
    for session in sessions:
        loop.call_soon(session.disconnect, "internal_error")


def _encode(envelope: Envelope, version: str, encoded: dict[str, bytes]) -> bytes:
    frame = encoded.get(version)
    if frame is None:
        push = encode_push(version, envelope.name, _payload(envelope, version))
        frame = encoded[version] = encode_text_frame(push)
    return frame


def _payload(envelope: Envelope, version: str) -> bytes:
    if not versions.changes_push(version, envelope.name):
        return envelope.payload
    return orjson.dumps(versions.push_for(version, envelope.name, orjson.loads(envelope.payload)))


class Hub:
    """The rooms of this process, and the bus to the others."""

    def __init__(self, bus: Bus, read_outbox: ReadOutbox, read_sequences: ReadSequences, flusher: Flusher) -> None:
        self._bus = bus
        bus.listen(self._take)
        self._may_miss = asyncio.Event()
        self._read_outbox = read_outbox
        self._read_sequences = read_sequences
        self._flusher = flusher
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
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        outage = Outage(log, "poll_failing")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._may_miss.wait()
            self._may_miss.clear()
            try:
                async with asyncio.timeout(POLL_TIMEOUT_S):
                    await self._look()
                looked_at = loop.time()
                outage.over()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may do better
                outage.noticed(error)
                if not self._bus.healthy and loop.time() - looked_at > GIVE_UP_S:
                    for room in list(self._rooms.values()):
                        room.disconnect("internal_error")

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
            room = self._rooms[license_id] = Room(license_id, self._read_outbox, self._flusher, self.fanout)
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
                else:
                    await self._bus.unsubscribe(license_id)
            finally:
                if self._subscribing.get(license_id) is task:
                    del self._subscribing[license_id]

        task = asyncio.get_running_loop().create_task(follow())
        self._subscribing[license_id] = task
