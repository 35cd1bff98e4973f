"""What a list of archives asks its index for, whichever database has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rtm.model.labels import Kind, Moment, token

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
    created_from: int | None = None
    """Their least number."""
    created_to: int | None = None
    """The number that theirs are less than."""
    before: int | None = None
    """The same, as the spans imply it."""
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Those that are among these, by `chat_id` and `thread_id`."""

    @property
    def values(self) -> dict[str, object]:
        """What is bound in the conditions, and the license."""
        bounds = {"created_from": self.created_from, "created_to": self.created_to, "before": self.before}
        values: dict[str, object] = {name: number for name, number in bounds.items() if number is not None}
        values["license_id"] = self.license_id
        for place, span in enumerate(self.spans):
            values |= {f"kind_{place}": span.kind, f"from_{place}": span.from_ or "", f"to_{place}": span.to or "~"}
        return values

    def created(self, number: str) -> list[str]:
        """When they were created, as conditions on the number."""
        from_ = [] if self.created_from is None else [f"{number} >= :created_from"]
        return from_ if self.created_to is None else [*from_, f"{number} < :created_to"]

    def bounds(self, number: str) -> list[str]:
        """The same, with what the spans imply."""
        return self.created(number) if self.before is None else [*self.created(number), f"{number} < :before"]

    def moments(self) -> list[str]:
        """Statements that read the numbers of threads with such an event, one for each span."""
        return [
            f"SELECT number FROM archive_moments WHERE license_id = :license_id AND kind = :kind_{place}"  # noqa: S608
            f" AND at >= :from_{place} AND at <= :to_{place}"
            for place in range(len(self.spans))
        ]

    @property
    def implied(self) -> tuple[Clause, ...]:
        """What is true of threads with such events, so that an index of tokens finds fewer."""
        kinds: set[Kind] = {"form_type" if span.kind == "form" else "greeting" for span in self.spans}
        return tuple(Clause("words", (token(self.license_id, kind),)) for kind in sorted(kinds))


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
