"""What the clients of a drill have seen, with times: what `tests.faults.checker` judges by.

Times are those of `time.monotonic`, which all processes of a machine share. An event is known by its `key`, the
`custom_id` that its author gave it: the same when it is asked for again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Told(NamedTuple):
    """A push of an event."""

    at: float
    chat_id: str
    event_id: str
    key: str


class End(NamedTuple):
    """How a connection ended: by the client, or by the server with a reason, or (None) without a word."""

    at: float
    by_client: bool
    reason: str | None = None


@dataclass(slots=True, eq=False, repr=False)
class Connection:
    """One log-in of a client. `chat_ids` are the chats whose events it is to be told of, all of its time."""

    client: str
    process: str
    chat_ids: frozenset[str] = frozenset()
    logged_in_at: float | None = None
    shown: dict[str, str] = field(default_factory=dict)
    """By chat, the last event in the answer to `login`."""
    told: list[Told] = field(default_factory=list)
    end: End | None = None

    def __repr__(self) -> str:
        return f"{self.client} at {self.process}"


@dataclass(slots=True, eq=False)
class Ask:
    """One request to store an event; until it is answered it is unknown what became of it."""

    key: str
    chat_id: str
    connection: Connection
    at: float
    answered_at: float | None = None
    event_id: str | None = None
    error: str | None = None
    """The type of the error that it was answered with."""


@dataclass(slots=True)
class Fault:
    """Something that was done to the system; connections to the process named in `cuts` may end without a word."""

    what: str
    started: float
    ended: float | None = None
    cuts: str | None = None


class Stored(NamedTuple):
    """An event of the history."""

    event_id: str
    key: str


History = dict[str, list[Stored]]
"""By chat, its events in order."""


@dataclass(repr=False)
class Log:
    """All of it; in words, what it comes to."""

    started: float = field(default_factory=time.monotonic)
    asks: list[Ask] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __repr__(self) -> str:
        asked_at = [ask.at for ask in self.asks] or [0.0]
        return (
            f"{self.acknowledged} of {len(self.asks)} events acknowledged in {max(asked_at) - min(asked_at):.1f} s, "
            f"{sum(len(each.told) for each in self.connections)} pushes to {len(self.connections)} connections, "
            f"of which the server ended {len(self.ended_by_server())} with a reason; {len(self.faults)} faults"
        )

    @property
    def acknowledged(self) -> int:
        """How many events have been acknowledged."""
        return sum(ask.event_id is not None for ask in self.asks)

    @contextmanager
    def fault(self, what: str, cuts: str | None = None) -> Iterator[None]:
        """Note it while it lasts."""
        fault = Fault(what, time.monotonic(), cuts=cuts)
        self.faults.append(fault)
        yield
        fault.ended = time.monotonic()

    def ended_by_server(self) -> list[Connection]:
        """Those that the server closed with a reason: it could not keep its promises to them."""
        return [each for each in self.connections if each.end is not None and each.end.reason is not None]
