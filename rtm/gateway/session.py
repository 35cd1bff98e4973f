"""One client on a socket, from the handshake to the good-bye.

    CONNECTED ── login ──> JOINING ── answered ──> LOGGED_IN
        │                     │                        │
        └──── timeout, logout, eviction, revoked token, slow reader, the client's close ────> ENDED

Whoever is refused stays connected and may try again until the time to log in is over; whoever is disconnected is told
why first (`agent_disconnected`). Source: the public reference, "Access" and "agent_disconnected".
"""

import asyncio
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from time import perf_counter
from typing import Any

import orjson
import structlog
from websockets.frames import CloseCode

from rtm import versions
from rtm.access.directory import Directory
from rtm.access.identity import Identity
from rtm.actions.context import Services
from rtm.actions.dispatch import Caller, Dispatcher
from rtm.actions.lane import Lane
from rtm.actions.outcomes import Outcomes
from rtm.actions.registry import AGENT, RTM
from rtm.bus.base import Envelope, Origin
from rtm.gateway import interest
from rtm.gateway.cork import Corked
from rtm.gateway.hub import Hub
from rtm.gateway.interest import Interest
from rtm.gateway.room import Room, Subscriber
from rtm.gateway.wire import Wire
from rtm.model.chat import Absence
from rtm.model.pushes import Reason
from rtm.model.requests.sessions import Login, MonitoringLevel
from rtm.model.tracking import View, Whereabouts
from rtm.protocol.envelope import (
    MalformedRequest,
    Request,
    decode_request,
    encode_disconnected,
    encode_error,
    encode_push,
    encode_response,
)
from rtm.protocol.errors import (
    ApiError,
    AuthenticationError,
    InternalError,
    PendingRequestsLimitReached,
    ServiceUnavailable,
)
from rtm.protocol.timestamps import to_seconds
from rtm.routing.presence import OFFLINE, Change, Member, TooManyConnections, hearers

log = structlog.get_logger(__name__)


_SENT_AWAY: set[Reason] = {"access_token_revoked", "agent_disconnected_by_server", "agent_logged_out_remotely"}
"""Reasons for which nobody comes back soon."""


class State(Enum):
    """Where in its life a session is."""

    CONNECTED = auto()
    JOINING = auto()
    LOGGED_IN = auto()
    ENDED = auto()


class Gateway:
    """What the sessions of one process share."""

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        services: Services,
        outcomes: Outcomes,
        agent_gone: Callable[[int, str, Absence], None],
    ) -> None:
        self._agent_gone = agent_gone
        """Told license_id, agent_id and why, when somebody's last connection is gone."""
        self.hub = hub
        self.dispatcher = dispatcher
        self.outcomes = outcomes
        self.services = services
        self.limits = services.settings.limits
        self.unauthorized: Counter[str | None] = Counter()
        """Connections that have not logged in, by IP address."""
        self.disconnects: Counter[str] = Counter()
        """How often sessions were ended from here, by the reason they were told; `stopping` at a stop."""
        self.wall_clock = time.time
        self._farewells: set[asyncio.Task[None]] = set()

    def disconnected(self, session: "Session", reason: str) -> None:
        """The session is told why it ends."""
        self.disconnects[reason] += 1
        license_id = session.license_id if session.identity is not None else None
        log.info("disconnected", reason=reason, license_id=license_id, connection_id=session.connection_id)

    def left(self, session: "Session", default_status: str, because: Absence | None = None) -> None:
        """Count the session out when its changes are done, the last of them; tell if its agent went offline."""
        assert session.identity is not None
        leaving = self._leave(session.lane, session.connection_id, session.identity, default_status, because)
        task = asyncio.get_running_loop().create_task(leaving)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _leave(
        self, lane: Lane, connection_id: str, identity: Identity, default_status: str, because: Absence | None
    ) -> None:
        # A status that its agent still chooses would else last until the next log-in.
        await lane.emptied(self.limits.request_timeout_s or math.inf)
        member = Member(identity.license_id, identity.agent_id, default_status, is_bot=identity.kind == "bot")
        try:
            change = await self.services.presence.leave(member, connection_id)
        except Exception:
            log.exception("presence_failed", license_id=identity.license_id)
            return
        if change.before != change.after and not change.told:
            status = {"agent_id": identity.agent_id, "status": change.after}
            audience = hearers(of_bot=member.is_bot)
            envelope = Envelope.ephemeral(identity.license_id, "routing_status_set", status, audience)
            self.services.publish([envelope])
        if because is not None and change.after == OFFLINE:
            self._agent_gone(identity.license_id, identity.agent_id, because)

    async def finish(self) -> None:
        """Wait for those who are being counted out."""
        if self._farewells:
            await asyncio.wait(self._farewells)


class Session:
    """A client of the Agent Chat API on a socket."""

    __slots__ = (
        "_address",
        "_caller",
        "_default_status",
        "_gateway",
        "_last_ping",
        "_leaves_because",
        "_pending",
        "_state",
        "_stopping",
        "_timer",
        "_wire",
        "connection_id",
        "interest",
        "lane",
        "monitoring_level",
        "organization_id",
        "outlet",
    )

    _wire: Wire
    interest: Interest
    outlet: Corked

    def __init__(self, gateway: Gateway, version: str, organization_id: str | None) -> None:
        self._gateway = gateway
        self.lane = Lane()
        self._caller = Caller(AGENT, RTM, version, session=self, lane=self.lane)
        self._state = State.CONNECTED
        self._address: str | None = None
        self._default_status = ""
        self._last_ping = 0.0
        self._leaves_because: Absence = "disconnected"
        self._pending = 0
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self.connection_id = secrets.token_hex(8)
        self.monitoring_level: MonitoringLevel = "my"
        self.organization_id = organization_id

    # For the wire

    @property
    def handshake_headers(self) -> Mapping[str, str]:
        """Until when an ageing version is served."""
        return versions.lifecycle(self._caller.version)

    def opened(self, wire: Wire, path: str, query: str, address: str | None) -> None:
        """Give the client its time to log in."""
        self._wire = wire
        self._address = address
        limits = self._gateway.limits
        unauthorized = self._gateway.unauthorized
        unauthorized[address] += 1
        if 0 < limits.unauthorized_connections_per_address < unauthorized[address]:
            self.disconnect("too_many_unauthorized_connections")
        elif limits.login_timeout_s:
            self._set_timer(limits.login_timeout_s, self._time_is_up)

    def received(self, message: bytes) -> None:
        """Run a request; its answer comes through `_reply`."""
        began = perf_counter()
        try:
            request = decode_request(message)
        except MalformedRequest as malformed:
            self._answer(malformed.request, began, malformed.error)
            return
        if self._stopping:
            self._answer(request, began, ServiceUnavailable("Server is stopping"))
            return
        # A ping is answered at once: a client with many open questions is still there.
        if 0 < self._gateway.limits.pending_requests <= self._pending and request.action != "ping":
            self._answer(request, began, PendingRequestsLimitReached())
            return
        self._pending += 1
        self._gateway.dispatcher.dispatch(self._caller, request, partial(self._reply, request, began))

    def _reply(self, request: Request, began: float, outcome: Any) -> None:
        self._pending -= 1
        self._answer(request, began, outcome)
        if self._stopping and not self._pending:
            self._go_away()

    def _answer(self, request: Request, began: float, outcome: Any) -> None:
        frame, told = _encode_answer(request, outcome)
        self._wire.send(frame)
        self._gateway.outcomes.answered(self._caller, request.action, told, began, request_id=request.request_id)

    def pinged(self) -> None:
        """The client is there; by action or by control frame."""
        self._last_ping = asyncio.get_running_loop().time()

    def closed(self) -> None:
        """Leave no trace."""
        was, self._state = self._state, State.ENDED
        if self._timer is not None:
            self._timer.cancel()
        if was is State.CONNECTED:
            self._forget_address()
        else:
            self._gateway.hub.leave(self)
            self._gateway.left(self, self._default_status, None if self._stopping else self._leaves_because)
        # What waits for an answer still refers to the session: let it keep no more alive than it must.
        self._caller.session = None

    def shutdown(self) -> None:
        """The server stops: begin nothing new, and end when what has begun is answered."""
        self._stopping = True
        if not self._pending:
            self._go_away()

    # For actions and the hub

    @property
    def address(self) -> str | None:
        """The client's IP address, if it is known."""
        return self._address

    @property
    def identity(self) -> Identity | None:
        """Who has logged in."""
        return self._caller.identity

    @property
    def license_id(self) -> int:
        """The license of who has logged in."""
        return self._logged_in.license_id

    @property
    def agent_id(self) -> str:
        """The id of who has logged in."""
        return self._logged_in.agent_id

    @property
    def token_id(self) -> str:
        """What the session depends on."""
        return self._logged_in.token_id

    @property
    def group_ids(self) -> frozenset[int]:
        """The groups of who has logged in, by now."""
        room = self._room()
        return room.sessions.get(self, frozenset()) if room is not None else frozenset()

    @property
    def _logged_in(self) -> Identity:
        assert self._caller.identity is not None
        return self._caller.identity

    async def join(self, identity: Identity, directory: Directory, login: Login, origin: Origin | None) -> Change:
        """Log in: from now on pushes are kept for it, in order. Raises ApiError when it is one too many."""
        if self._state is not State.CONNECTED:
            raise AuthenticationError()
        self._state = State.JOINING
        self._forget_address()
        agent = directory.agents[identity.agent_id]
        self._default_status = agent.default_status
        self._caller.identity = identity
        self._caller.directory = directory
        self.interest = interest.of_session(self._caller.version, login.pushes, identity.scopes)
        room = await self._gateway.hub.join(self, agent.group_ids)
        self.monitoring_level = _level(login.customer_monitoring_level, self, room.of_agent(agent.id))
        try:
            change = await self._gateway.services.presence.join(
                Member.of(identity.license_id, agent),
                self.connection_id,
                away=login.away,
                reconnect=login.reconnect,
                origin=origin,
            )
        except TooManyConnections:
            self.disconnect("too_many_connections")
            raise AuthenticationError("Too many connections") from None
        return change

    def caught_up(self, sequence: int) -> None:
        """The client has been told all up to this place in the license's sequence; send what came after."""
        room = self._room()
        if self._state is State.JOINING and room is not None:
            self._state = State.LOGGED_IN
            self._wire.trust()
            self.pinged()
            self._set_timer(0, self._look_after)
            room.release(self, self._wire, sequence)

    def directory_replaced(self, directory: Directory) -> None:
        """The license's agents or groups have changed; it is over for who may no longer work, or has another role."""
        self._caller.directory = directory
        agent = directory.agents.get(self.agent_id)
        if agent is None or not agent.in_good_standing:
            self.disconnect("agent_disconnected_by_server")
        elif agent.role != self._logged_in.role:
            self.disconnect("role_permissions_changed")
        elif self._state is State.LOGGED_IN:
            self._look_after()  # the license may expire at another time

    def change_begins(self) -> None:
        """Keep its own pushes back: they come by Redis, and may be faster than the answer."""
        room = self._room()
        if self._state is State.LOGGED_IN and room is not None:  # before, all pushes are kept back
            room.hold(self)

    def change_answered(self) -> None:
        """Let them go."""
        room = self._room()
        for frame in room.let_go(self) if room is not None else ():
            self._wire.send_encoded(frame)

    def renew(self, identity: Identity) -> None:
        """Live as long as this token from now on."""
        if self._state is State.LOGGED_IN:
            self._gateway.hub.forget_token(self)
            self._caller.identity = identity
            self._gateway.hub.remember_token(self)
            room = self._room()
            if room is not None and self in room.sessions:  # the token was not revoked meanwhile
                room.set_interest(self, self.interest.within(identity.scopes))
                self._set_timer(0, self._look_after)

    # What it hears of customers

    def track(self, view_id: str, group_ids: Collection[int] | None, limit: int) -> View:
        """Tell the client of the customers of these groups as well; the view is to be read. Raises LimitReached."""
        room = self._room()
        if room is None or self not in room.sessions:
            return View(Whereabouts(), group_ids, limit)  # for nobody
        return room.trackers.track(self, view_id, group_ids, limit)

    def untrack(self, view_id: str) -> bool:
        """Tell of them no longer; False for an id that is not there."""
        room = self._room()
        return room is not None and room.trackers.untrack(self, view_id)

    def tell(self, push: str, payload: Any) -> None:
        """Send a push on this connection alone, if it is wanted."""
        for version in self.interest.versions(push):
            self._wire.send(encode_push(version, push, orjson.dumps(versions.push_for(version, push, payload))))

    def leave(self) -> None:
        """Log out and close, once what is queued is sent."""
        self._leaves_because = "signed_out"
        self._wire.close(CloseCode.NORMAL_CLOSURE)

    def disconnect(
        self, reason: Reason, data: Mapping[str, Any] | None = None, *, code: int = CloseCode.NORMAL_CLOSURE
    ) -> None:
        """Tell the client why (`agent_disconnected`) and close."""
        if not self._ended:
            self._gateway.disconnected(self, "stopping" if self._stopping else reason)
        if reason in _SENT_AWAY:
            self._leaves_because = "remotely_signed_out"
        version = self._caller.version
        shown = versions.push_for(version, "agent_disconnected", {"reason": reason})["reason"]
        self._wire.send(encode_disconnected(version, shown, data))
        self._wire.close(code, shown)

    # Its own affairs

    def _go_away(self) -> None:
        # Of the contract's reasons, this one asks the client to come back.
        self.disconnect("internal_error", code=CloseCode.GOING_AWAY)

    @property
    def _ended(self) -> bool:
        return self._state is State.ENDED

    def _room(self) -> Room | None:
        return self._gateway.hub.room(self.license_id) if self.identity is not None else None

    def _forget_address(self) -> None:
        unauthorized = self._gateway.unauthorized
        unauthorized[self._address] -= 1
        if not unauthorized[self._address]:
            del unauthorized[self._address]

    def _set_timer(self, delay_s: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, call)

    def _time_is_up(self) -> None:
        self.disconnect("connection_timeout")

    def _look_after(self) -> None:
        """End the session when its time has come; else look again when the next of its times is due."""
        due: dict[Reason, float | None] = {"connection_timeout": self._silent_for_too_long(), **self._expiries()}
        for reason, delay_s in due.items():
            if delay_s is not None and delay_s <= 0:
                self.disconnect(reason)
                return
        delays = [delay_s for delay_s in due.values() if delay_s is not None]
        if delays:
            # A timer may fire a little early: never look twice in one millisecond.
            self._set_timer(max(min(delays), 0.001), self._look_after)

    def _silent_for_too_long(self) -> float | None:
        """Seconds until the next ping must have come."""
        timeout_s = self._gateway.limits.ping_timeout_s
        return self._last_ping + timeout_s - asyncio.get_running_loop().time() if timeout_s else None

    def _expiries(self) -> dict[Reason, float | None]:
        """Seconds until the token and the license expire, by what the client is then told."""
        now = self._gateway.wall_clock()
        token_expires_at = self._logged_in.expires_at
        license_expires_at = self._caller.directory.expires_at if self._caller.directory else None
        return {
            "access_token_expired": None if token_expires_at is None else token_expires_at - now,
            "license_expired": None if license_expires_at is None else to_seconds(license_expires_at) - now,
        }


def _level(wanted: MonitoringLevel | None, newest: Session, of_agent: Sequence[Subscriber]) -> MonitoringLevel:
    """What is asked for, else what the agent's last session here has."""
    if wanted is None:
        before = [session for session in of_agent if session is not newest]
        return before[-1].monitoring_level if before else "my"
    return "online" if wanted == "highest_available" else wanted


def _encode_answer(request: Request, outcome: Any) -> tuple[bytes, Any]:
    """The frame, and what it tells: an answer of ours that cannot be encoded is an error."""
    if not isinstance(outcome, ApiError):
        try:
            return encode_response(request.request_id, request.action, outcome), outcome
        except TypeError:
            log.exception("answer_not_encodable", action=request.action)
            outcome = InternalError()
    error = outcome.at(RTM)
    return encode_error(request.request_id, request.action, error), error
