"""What a handler is given besides its payload."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rtm.access.directory import Directories, Directory
from rtm.access.identity import Identity
from rtm.access.tokens import Authenticator
from rtm.actions.pages import PageIds
from rtm.actions.shares import Decoding
from rtm.bus.base import Envelope, Origin
from rtm.model.audience import Audience
from rtm.model.pushes import Reason
from rtm.model.tracking import View
from rtm.routing.presence import Change, Presence
from rtm.settings import Settings
from rtm.store.archive import Archive
from rtm.store.customers import CustomerQueries
from rtm.store.files import Files
from rtm.store.queries import Queries
from rtm.store.writer import Writer
from rtm.summaries.summaries import Summaries

if TYPE_CHECKING:
    from rtm.model.requests.sessions import Login, MonitoringLevel


_LOGINS_AT_ONCE = 8


class SocketSession(Protocol):
    """The side of a socket's session that actions use."""

    connection_id: str
    organization_id: str | None
    """What the connection was opened for, if it was said."""
    monitoring_level: "MonitoringLevel"
    """Of which customers the client wants to hear."""

    @property
    def identity(self) -> Identity | None:
        """Who has logged in."""

    @property
    def address(self) -> str | None:
        """The client's IP address, if it is known."""

    @property
    def group_ids(self) -> frozenset[int]:
        """The groups of who has logged in, by now."""

    def pinged(self) -> None:
        """The client is there."""

    async def join(self, identity: Identity, directory: Directory, login: "Login", origin: Origin | None) -> Change:
        """Log in: from now on pushes are kept for it, in order. Raises ApiError when it is one too many."""

    def caught_up(self, sequence: int) -> None:
        """The client has been told all up to this place in the license's sequence; send what came after."""

    def renew(self, identity: Identity) -> None:
        """Live as long as this token from now on."""

    def track(self, view_id: str, group_ids: Collection[int] | None, limit: int) -> View:
        """Tell the client of the customers of these groups as well; the view is to be read. Raises LimitReached."""

    def untrack(self, view_id: str) -> bool:
        """Tell of them no longer; False for an id that is not there."""

    def tell(self, push: str, payload: Any) -> None:
        """Send a push on this connection alone, if it is wanted."""

    def change_begins(self) -> None:
        """Keep its own pushes back: they come by Redis, and may be faster than the answer."""

    def change_answered(self) -> None:
        """Let them go."""

    def leave(self) -> None:
        """Log out and close, once what is queued is sent."""

    def disconnect(self, reason: Reason, data: Mapping[str, Any] | None = None) -> None:
        """Tell the client why (`agent_disconnected`) and close."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the server that handlers use, put together by `app`."""

    settings: Settings
    authenticator: Authenticator
    directories: Directories
    queries: Queries
    customers: CustomerQueries
    archive: Archive
    writer: Writer
    page_ids: PageIds
    presence: Presence
    summaries: Summaries
    files: Files
    publish: Callable[[Sequence[Envelope]], None]
    """Deliver pushes that are not stored, here and on every other process."""
    poke: Callable[[int], None]
    """Tell the router that an agent of this license may have room."""
    unfollow: Callable[[int, str], None]
    """Tell the router that an agent of this license follows what it may not see."""
    logins: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LOGINS_AT_ONCE))
    """Held while somebody logs in: of thousands who come at once most had better wait before than half-way."""
    decoding: Decoding = field(default_factory=Decoding)
    """Held while an image is looked at."""


class Context:
    """Who asks, through which door, and what the server offers to answer with."""

    __slots__ = (
        "after_reply",
        "directory",
        "identity",
        "origin",
        "services",
        "session",
        "statuses",
        "transport",
        "version",
    )

    # Without a value before the log-in: there is nobody yet, and only what declares `before_login` runs.
    identity: Identity
    directory: Directory

    def __init__(
        self,
        services: Services,
        *,
        version: str,
        transport: str,
        session: SocketSession | None,
        identity: Identity | None,
        directory: Directory | None,
        request_id: str | None,
    ) -> None:
        self.services = services
        self.version = version
        self.transport = transport
        self.session = session
        self.origin = Origin(session.connection_id, request_id) if session and request_id is not None else None
        """The connection that hears its own pushes by request id."""
        self.after_reply: list[Callable[[], None]] = []
        """What is done when the answer has been queued."""
        self.statuses: Mapping[str, str] = {}
        """The agents' routing statuses, for a command declared to need them."""
        if identity is not None and directory is not None:
            self.log_in(identity, directory)

    @property
    def group_ids(self) -> frozenset[int]:
        """The requester's groups; everybody is in group 0."""
        return self.directory.groups_of(self.identity.agent_id)

    def log_in(self, identity: Identity, directory: Directory) -> None:
        """Say who it is that asked to log in."""
        self.identity = identity
        self.directory = directory

    def ids(self) -> dict[str, Any]:
        """What the log is told of the request."""
        identity = getattr(self, "identity", None)
        return {
            "license_id": identity.license_id if identity is not None else None,
            "request_id": self.origin.request_id if self.origin is not None else None,
        }

    def require_session(self) -> SocketSession:
        """The session of an action that only sockets have."""
        assert self.session is not None
        return self.session

    def publish(self, name: str, payload: Any, to: Audience) -> None:
        """Push what is not stored, after the answer."""
        envelope = Envelope.ephemeral(self.identity.license_id, name, payload, to, self.origin)
        self.after_reply.append(lambda: self.services.publish([envelope]))
