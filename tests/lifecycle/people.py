"""Who takes part: agents of one license (tests/world.py has their groups), what their tokens allow, and their doors.

    name    groups     scopes of the token                              reads    writes   talks
    olivia             all of an owner                                  all      all      all
    alice   both       all of an administrator                          all      all      all
    bob     Sales      chats--access:rw                                 access   access   access
    carol   Support    chats--access:rw                                 access   access   access
    dave    Sales      chats--access:ro, chats.conversation--my:rw      access   -        my
    erin               chats--my:rw                                     my       my       my
    robin   Sales      all (a bot)                                      all      all      all
    rosie              all (a bot)                                      all      all      all

`all`, `access` (chats of the agent's groups, and their own) and `my` (their own) are the reference's ("Scopes",
"Accessing chat"). Everybody is in group 0. What each is given by the router is in `routing_model`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from tests.world import SALES, SUPPORT

Reach = Literal["all", "access", "my"]


@dataclass(frozen=True, slots=True)
class Person:
    """An agent and what their token allows: `None` is nothing at all."""

    groups: frozenset[int]
    scopes: tuple[str, ...] | None
    """None for all of the role."""
    reads: Reach | None
    writes: Reach | None
    talks: Reach | None
    administers: bool
    """Whether some token of theirs may reach all chats."""


def _person(
    scopes: tuple[str, ...] | None, *reaches: Reach | None, groups: tuple[int, ...] = (), administers: bool = True
) -> Person:
    reads, writes, talks = reaches
    return Person(frozenset({0, *groups}), scopes, reads, writes, talks, administers)


_OF_GROUPS = ("chats--access:rw",)
_TALKER = ("chats--access:ro", "chats.conversation--my:rw")
PEOPLE = {
    "olivia": _person(None, "all", "all", "all"),
    "alice": _person(None, "all", "all", "all", groups=(SALES, SUPPORT)),
    "bob": _person(_OF_GROUPS, "access", "access", "access", groups=(SALES,)),
    "carol": _person(_OF_GROUPS, "access", "access", "access", groups=(SUPPORT,)),
    "dave": _person(_TALKER, "access", None, "my", groups=(SALES,), administers=False),
    "erin": _person(("chats--my:rw",), "my", "my", "my", administers=False),
    "robin": _person(None, "all", "all", "all", groups=(SALES,)),
    "rosie": _person(None, "all", "all", "all"),
}
BOTS = ("robin", "rosie")


@dataclass(frozen=True, slots=True)
class Seat:
    """A person at a door: a socket of a version on one of the processes, or the Web API."""

    name: str
    version: str
    process: int = 0
    transport: Literal["rtm", "web"] = "rtm"
    pushes: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    """What `login` asks for, by version; None for all of the socket's own."""

    def __repr__(self) -> str:
        return f"<{self.name}, {self.transport} {self.version} at {self.process}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


BELLS = (Seat("rosie", "3.6", 0, "web"), Seat("rosie", "3.6", 1, "web"))
"""Who rings takes part in nothing else. All hear their chat: what was done before they rang has been told by then."""

_HEARS_THE_BELL = ("chat_properties_updated", "incoming_typing_indicator")
SEATS = (
    Seat("olivia", "3.6", 0),
    Seat("olivia", "3.7", 1),
    Seat("alice", "3.6", 1),
    Seat("alice", "3.5", 0),
    Seat("bob", "3.6", 0),
    Seat("bob", "3.6", 0, "web"),
    Seat("carol", "3.4", 1),
    Seat("carol", "3.5", 0, "web"),
    Seat("dave", "3.6", 1),
    Seat(
        "dave",
        "3.5",
        0,
        pushes=(("3.5", (*_HEARS_THE_BELL, "incoming_chat", "incoming_event")), ("3.6", ("incoming_event",))),
    ),
    Seat("erin", "3.6", 0),
    Seat("erin", "3.7", 1, pushes=(("3.7", ("all",)),)),
    Seat("robin", "3.6", 1),
    Seat("robin", "3.7", 0, "web"),
)
SOCKETS = tuple(seat for seat in SEATS if seat.transport == "rtm")
