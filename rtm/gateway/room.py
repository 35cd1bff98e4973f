"""The sessions of one license on this process, and the last part of a push's way to them.

They are indexed by agent and group. A push is encoded once for each version; sessions with the same interest get the
same frames. The session that asked gets frames of its own, with its `request_id`.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import orjson
import structlog

from rtm import versions
from rtm.access.directory import Directory
from rtm.bus.base import Envelope, Origin
from rtm.gateway.cork import Cork, Corked, Flusher
from rtm.gateway.customer_statistics import CUSTOMER_STATISTICS_UPDATED, CustomerStatistics, ReadCounted
from rtm.gateway.fanout import Fanout
from rtm.gateway.feed import Feed, ReadOutbox
from rtm.gateway.groups_status import GROUPS_STATUS_UPDATED, ROUTING_STATUS_SET, GroupsStatus, ReadStatuses
from rtm.gateway.interest import Interest, subject_of
from rtm.gateway.tracking import Trackers
from rtm.gateway.wire import encode_text_frame
from rtm.model.audience import Audience
from rtm.model.pushes import CustomerStatisticsUpdated, Reason
from rtm.model.requests.sessions import MonitoringLevel
from rtm.model.tracking import LEVEL
from rtm.protocol.envelope import encode_push

log = structlog.get_logger(__name__)


class Subscriber(Protocol):
    """A session as the hub sees it; `outlet` is its wire, or a `Backlog` while it is logging in."""

    connection_id: str
    interest: Interest
    monitoring_level: MonitoringLevel
    outlet: Corked

    @property
    def license_id(self) -> int: ...

    @property
    def agent_id(self) -> str: ...

    @property
    def token_id(self) -> str: ...

    def directory_replaced(self, directory: Directory) -> None:
        """The license's agents or groups have changed."""

    def disconnect(self, reason: Reason, data: Mapping[str, Any] | None = None) -> None: ...


class Backlog(Cork):
    """Stands in for the wire of a session that is logging in, until it is known what its snapshot has shown."""

    def __init__(self, room: "Room") -> None:
        super().__init__([], 0)
        self._room = room
        self._kept: list[tuple[int, bytes]] = []
        self.fileno: int | None = None

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

    def behind(self, rest: memoryview) -> None:
        """Nothing is written yet."""

    def failed(self, error: Exception) -> None:
        """Nothing is written yet."""

    def after(self, sequence: int) -> Iterable[bytes]:
        """What was not in the snapshot."""
        return [frame for place, frame in self._kept if place == 0 or place > sequence]


MAX_REMEMBERED_RECIPIENTS = 50_000
"""Of all of a room's remembered audiences: the ids that name them and the sessions found, some 100 bytes each."""


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

    def __init__(
        self,
        license_id: int,
        read_outbox: ReadOutbox,
        read_statuses: ReadStatuses,
        read_counted: ReadCounted,
        flusher: Flusher,
        fanout: Fanout,
    ) -> None:
        self.license_id = license_id
        self.delivering = 0
        """The place of the push that is being delivered."""
        self._flusher = flusher
        self._everyone: Recipients = {}
        self._recipients: dict[Audience, Recipients] = {}
        self._remembered = 0
        self.feed = Feed(license_id, fanout.measured(self._deliver), read_outbox, self._give_up)
        self.groups_status = GroupsStatus(license_id, read_statuses, self._tell_groups)
        self.trackers: Trackers[Subscriber] = Trackers(self._tell)
        self.customer_statistics = CustomerStatistics(
            license_id, read_counted, self._hears_statistics, self._tell_statistics
        )
        self.sessions: dict[Subscriber, frozenset[int]] = {}
        self._by_connection: dict[str, Subscriber] = {}
        self._by_agent: dict[str, list[Subscriber]] = {}
        self._by_group: dict[int, dict[Subscriber, None]] = {}
        self._catching_up: list[tuple[int, Subscriber, Corked]] = []
        self._held: dict[Subscriber, list[bytes]] = {}
        """Frames for sessions with a change that is not answered yet, from the first that tells of it."""

    def of_agent(self, agent_id: str) -> Sequence[Subscriber]:
        """The agent's sessions, the oldest first."""
        return self._by_agent.get(agent_id, ())

    def disconnect_some(self, connection_ids: Sequence[str], reason: Reason) -> list[str]:
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
        self.trackers.forget(session)
        self._held.pop(session, None)
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

    def hold(self, session: Subscriber) -> None:
        """The session asks for a change: what tells of it comes by Redis, and may be faster than the answer.

        From the first of that on nothing that is not stored is sent: what others have changed since does not pass it.
        """
        self._held[session] = []

    def let_go(self, session: Subscriber) -> Sequence[bytes]:
        """The change is answered: the frames that have been held back."""
        return self._held.pop(session, ())

    def regroup(self, directory: Directory) -> None:
        """Agents have come into groups or left them."""
        for session, group_ids in list(self.sessions.items()):
            session.directory_replaced(directory)  # which ends some
            if session in self.sessions and (current := directory.agents[session.agent_id].group_ids) != group_ids:
                self._set_groups(session, current)

    def disconnect(self, reason: Reason) -> None:
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
        if session in self.trackers and LEVEL in self.trackers[session]:
            self.trackers[session][LEVEL].regroup(group_ids)

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
        named = audience.agents, audience.groups, audience.customers, audience.readers, audience.nonreaders
        self._remembered += sum(map(len, named)) + found
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
        for agent_ids, reads in ((audience.readers, True), (audience.nonreaders, False)):
            for agent_id in agent_ids:
                for session in self._by_agent.get(agent_id, ()):
                    if self._reads(session, audience.read_by) is reads:
                        yield session
        for group_id in audience.groups:
            yield from self._by_group.get(group_id, ())

    def _reads(self, session: Subscriber, group_ids: Iterable[int]) -> bool:
        """Whether it may read a chat of these groups that its agent is not in."""
        interest = session.interest
        return interest.reads_all_chats or (
            not interest.own_chats_only and not self.sessions[session].isdisjoint(group_ids)
        )

    def _with_trackers(self, envelope: Envelope) -> Recipients:
        """The same for what is told of a customer: also those who track them."""
        recipients = self._recipients_of(envelope)
        if envelope.audience.everyone:
            return recipients
        recipients = {interest: Hearers(hearers) for interest, hearers in recipients.items()}
        payload = orjson.loads(envelope.payload)
        for session in self.trackers.of(payload.get("customer_id") or payload.get("id")):
            recipients.setdefault(session.interest, Hearers()).add(session)
        return recipients

    def _deliver(self, envelope: Envelope) -> None:
        self.delivering = envelope.sequence
        if self.trackers and subject_of(envelope.name) == "customer":
            self._send(envelope, self._with_trackers(envelope))
        else:
            self._send(envelope, self._recipients_of(envelope))
        if self.trackers:
            self.trackers.heard(envelope)
        self.customer_statistics.heard(envelope)
        if envelope.name == ROUTING_STATUS_SET:
            self.groups_status.heard(envelope)
        if self._catching_up:
            self._release_caught_up()

    def _send(self, envelope: Envelope, recipients: Recipients) -> None:
        asker = self._by_connection.get(envelope.origin.connection_id) if envelope.origin is not None else None
        turned: dict[str, bytes] = {}
        encoded: dict[str, bytes] = {}
        for interest, hearers in recipients.items():
            wanted = interest.versions(envelope.name)
            if not wanted or not interest.may_see(envelope.audience):
                continue
            if interest.own_chats_only and subject_of(envelope.name) == "chat":
                members = (*envelope.audience.agents, *envelope.audience.nonreaders)
                hearers = Hearers(each for each in hearers if each.agent_id in members)
            try:
                # What is not stored, nor follows from what is, which has its place, waits behind what is held back.
                apart = [] if self.delivering or not self._held else self._holding(hearers, asker)
                for each in apart:
                    self._held[each] += (_encode(envelope, version, turned, encoded) for version in wanted)
                if asker is not None and asker in hearers:
                    self._answer(envelope, asker, wanted, turned)
                    apart.append(asker)
                outlets = hearers.outlets()
                if apart:
                    passed_over = {each.outlet for each in apart}
                    outlets = [outlet for outlet in outlets if outlet not in passed_over]
                for version in wanted if outlets else ():
                    self._flusher.send_all(outlets, _encode(envelope, version, turned, encoded))
            except Exception:
                log.exception("push_failed", license_id=envelope.license_id, push=envelope.name, versions=wanted)
                if envelope.sequence:
                    _end_soon(hearers)

    def _holding(self, hearers: Hearers, asker: Subscriber | None) -> list[Subscriber]:
        """Those who hear this and for whom something is held back."""
        return [each for each, frames in self._held.items() if frames and each in hearers and each is not asker]

    def _tell(self, push: str, payload: Any, sessions: Iterable[Subscriber]) -> None:
        """Tell these sessions what follows from the push that is being delivered."""
        recipients: Recipients = {}
        for session in sessions:
            recipients.setdefault(session.interest, Hearers()).add(session)
        self._send(Envelope.ephemeral(self.license_id, push, payload, Audience()), recipients)

    def _hears_statistics(self, customer_id: str, agent_ids: Collection[str]) -> bool:
        """Whether one of these agents, or of those who track the customer, wants to be told here."""
        of_agents = (self._by_agent.get(agent_id, ()) for agent_id in agent_ids)
        hearers = chain(*of_agents, self.trackers.of(customer_id))
        return any(each.interest.versions(CUSTOMER_STATISTICS_UPDATED) for each in hearers)

    def _tell_statistics(self, told: CustomerStatisticsUpdated, agent_ids: Collection[str]) -> None:
        audience = Audience(agents=tuple(agent_ids))
        self.feed.offer(Envelope.ephemeral(self.license_id, CUSTOMER_STATISTICS_UPDATED, told, audience))

    def _tell_groups(self, changed: Mapping[int, str], origin: Origin | None) -> None:
        """Tell every agent of those of its groups that are among these."""
        concerned: dict[frozenset[int], dict[str, None]] = {}
        for session, group_ids in self.sessions.items():
            if not group_ids.isdisjoint(changed):
                concerned.setdefault(group_ids.intersection(changed), {})[session.agent_id] = None
        for group_ids, agent_ids in concerned.items():
            told = {"groups": [{"id": group_id, "status": changed[group_id]} for group_id in sorted(group_ids)]}
            audience = Audience(agents=tuple(agent_ids))
            self.feed.offer(Envelope.ephemeral(self.license_id, GROUPS_STATUS_UPDATED, told, audience, origin))

    def _answer(self, envelope: Envelope, asker: Subscriber, wanted: Sequence[str], turned: dict[str, bytes]) -> None:
        assert envelope.origin is not None
        request_id: str | None = envelope.origin.request_id
        held = None if envelope.sequence else self._held.get(asker)  # what is stored was answered before
        for version in wanted:
            payload = _payload(envelope, version, turned)
            frame = encode_text_frame(encode_push(version, envelope.name, payload, request_id))
            if held is None:
                self._flusher.send_all((asker.outlet,), frame)
            else:
                held.append(frame)
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


def _encode(envelope: Envelope, version: str, turned: dict[str, bytes], encoded: dict[str, bytes]) -> bytes:
    frame = encoded.get(version)
    if frame is None:
        push = encode_push(version, envelope.name, _payload(envelope, version, turned))
        frame = encoded[version] = encode_text_frame(push)
    return frame


def _payload(envelope: Envelope, version: str, turned: dict[str, bytes]) -> bytes:
    if not versions.changes_push(version, envelope.name):
        return envelope.payload
    payload = turned.get(version)
    if payload is None:
        shown = versions.push_for(version, envelope.name, orjson.loads(envelope.payload))
        payload = turned[version] = orjson.dumps(shown)
    return payload
