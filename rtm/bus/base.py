"""The envelope of a push, and the bus that carries it to every process that has someone to tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson

from rtm.model.audience import Audience


class Origin(NamedTuple):
    """The connection whose request caused a push: it gets the push with its `request_id`, nobody else does."""

    connection_id: str
    request_id: str


_audience = lru_cache(maxsize=256)(Audience)
"""The same few chats are talked in, and what is worked out of their audiences is kept with them."""


@dataclass(slots=True)
class Envelope:
    """A push on its way: its payload is JSON in 3.6's vocabulary."""

    license_id: int
    name: str
    payload: bytes
    audience: Audience
    sequence: int = 0
    """Its place among the license's stored pushes, from 1 and without gaps; 0 for one that is not stored."""
    origin: Origin | None = field(default=None, compare=False)
    _encoded: bytes | None = field(default=None, init=False, compare=False, repr=False)

    @classmethod
    def ephemeral(
        cls, license_id: int, name: str, payload: Any, audience: Audience, origin: Origin | None = None
    ) -> "Envelope":
        """A push that is not stored."""
        return cls(license_id, name, orjson.dumps(payload), audience, origin=origin)

    def encode(self) -> bytes:
        """One JSON object, the form of the outbox and of the bus: made for the one and used for both."""
        if self._encoded is None:
            self._encoded = self._encode()
        return self._encoded

    def _encode(self) -> bytes:
        document: dict[str, Any] = {
            "license_id": self.license_id,
            "name": self.name,
            "sequence": self.sequence,
            "audience": self.audience.encoded,
            "payload": orjson.Fragment(self.payload),
        }
        if self.origin is not None:
            document["origin"] = {
                "connection_id": self.origin.connection_id,
                "request_id": self.origin.request_id,
            }
        return orjson.dumps(document)

    @classmethod
    def decode(cls, data: bytes | str) -> "Envelope":
        """The inverse of `encode`. Raises one of MALFORMED for anything else."""
        document = orjson.loads(data)
        audience = document["audience"]
        origin = document.get("origin")
        if not (isinstance(document["license_id"], int) and isinstance(document["sequence"], int)):
            raise TypeError("license_id and sequence must be numbers")
        decoded = cls(
            document["license_id"],
            document["name"],
            orjson.dumps(document["payload"]),
            _audience(
                tuple(audience["agents"]),
                tuple(audience["groups"]),
                tuple(audience["customers"]),
                audience["everyone"],
                tuple(audience.get("readers", ())),
                tuple(audience.get("nonreaders", ())),
                tuple(audience.get("read_by", ())),
                audience.get("scope"),
            ),
            document["sequence"],
            Origin(**origin) if origin else None,
        )
        hash((decoded.name, decoded.origin))  # who is to be told is found by these, and by the audience
        return decoded


DISCONNECT = "disconnect"
"""No push, but a word from one hub to the others: end the connections `connection_ids`, and say why, `reason`.

Like all that is not stored it may be lost; who depends on it says it again.
"""

MALFORMED = (ValueError, KeyError, TypeError)
"""What `Envelope.decode` raises."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Envelopes of a license may have been missed: turn to the outbox."""

    license_id: int


Take = Callable[[Envelope | Lost], None]
"""Is called from the event loop, while bytes are read: it may not wait, and should not raise."""


@dataclass(slots=True)
class Traffic:
    """What a bus has done since the process began."""

    published: int = 0
    """Envelopes handed to it and sent."""
    dropped: int = 0
    """Envelopes that never left, since too many waited."""
    heard: int = 0
    """Envelopes of other processes."""
    lost: int = 0
    """How often `Lost` was told."""
    reconnects: int = 0


class Bus(Protocol):
    """Carries envelopes to every *other* process that has someone to tell; a process hears nothing of its own.

    Order: as each process published them; those of two processes may swap, and so may those before and after a server
    was replaced, if it wakes up again; `sequence` decides.
    Loss: at most once. At `Lost`, or at a gap in `sequence`, the reader turns to the outbox and drops what it has had;
    an envelope without a sequence (typing, previews, multicast) may be lost.
    Away: while the bus cannot be reached nothing blocks or raises; `Lost` comes when it is back.
    """

    traffic: Traffic

    @property
    def healthy(self) -> bool:
        """Whether what is published now is heard now, as far as the bus can tell."""
        ...

    def listen(self, take: Take) -> None:
        """Tell what other processes publish about the licenses subscribed to; to be called before `start`."""

    async def start(self) -> None:
        """Connect. Raises BusUnavailable when it cannot be reached at the start."""

    async def stop(self) -> None:
        """Send what is queued, within a second, and disconnect."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Queue what is committed and return at once; what is queued within one turn of the loop travels together.

        The queue is bounded: past it the oldest are dropped, and the others hear `Lost`.
        """

    async def subscribe(self, license_id: int) -> None:
        """Return once in force: all that is published from now on is heard, or reported as `Lost`."""

    async def unsubscribe(self, license_id: int) -> None:
        """Hear no more of the license."""


class BusUnavailable(Exception):
    """The bus cannot be reached."""
