"""What a list of archives asks its index for, whichever database has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rtm.model.labels import Moment

Column = Literal["labels", "words"]
COLUMNS: tuple[Column, ...] = ("labels", "words")
OF_LICENSE = "license_id = :license_id"


@dataclass(frozen=True, slots=True)
class Clause:
    """At least one of these tokens, or if negated not all of them, in a column of `archive`."""

    column: Column
    tokens: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """An event of this kind happened within these times, of which one may be missing."""

    kind: Moment
    from_: str | None
    to: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """Threads of a license for which all of this is true."""

    license_id: int
    clauses: tuple[Clause, ...] = ()
    spans: tuple[Span, ...] = ()
    first: int | None = None
    """Their least number."""
    end: int | None = None
    """The number that theirs are less than."""
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Those that are among these, by `chat_id` and `thread_id`."""

    @property
    def values(self) -> dict[str, object]:
        """What is bound in the conditions, and the license."""
        values: dict[str, object] = {"license_id": self.license_id, "first": self.first, "end": self.end}
        for place, span in enumerate(self.spans):
            values |= {f"kind_{place}": span.kind, f"from_{place}": span.from_ or "", f"to_{place}": span.to or "~"}
        return {name: value for name, value in values.items() if value is not None}

    def bounds(self, number: str) -> list[str]:
        """Conditions on the number alone."""
        first = [] if self.first is None else [f"{number} >= :first"]
        return first if self.end is None else [*first, f"{number} < :end"]

    def moments(self) -> list[str]:
        """Statements that read the numbers of threads with such an event, one for each span."""
        return [
            f"SELECT number FROM archive_moments WHERE license_id = :license_id AND kind = :kind_{place}"  # noqa: S608
            f" AND at >= :from_{place} AND at <= :to_{place}"
            for place in range(len(self.spans))
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the list numbers are read, in which direction, and how many."""

    after: int | None
    descending: bool
    count: int

    def then(self, number: str) -> list[str]:
        """The condition that a number comes after it; none at the beginning of the list."""
        return [] if self.after is None else [f"{number} {'<' if self.descending else '>'} :after"]

    def order(self, number: str) -> str:
        """In which they are read."""
        return f"ORDER BY {number} {'DESC' if self.descending else 'ASC'}"

    def first(self, number: str) -> str:
        """What ends the statement that reads them."""
        return f"{self.order(number)} LIMIT :count"

    @property
    def values(self) -> dict[str, object]:
        """What is bound in these; SQLite takes a limit that it sees for a reason to go through all in order."""
        return {"count": self.count} if self.after is None else {"count": self.count, "after": self.after}
