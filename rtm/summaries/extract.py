"""A summary without anybody's help: what customer and agent said first, and what they said last."""

from collections.abc import Iterable, Sequence

from rtm.summaries.transcript import Said

MAX_BULLET = 200
NOTHING_SAID = "• No messages were sent."


class Extract:
    """`rtm.summaries.summaries.Scribe` of no words of its own."""

    async def write(self, said: Sequence[Said]) -> str:
        """At most four bullets, each on a line of its own in Markdown."""
        first, last = _first_of_each(said, range(len(said))), _first_of_each(said, range(len(said) - 1, -1, -1))
        return "  \n".join(f"• {said[place].by}: {_cut(said[place].text)}" for place in sorted({*first, *last}))

    async def close(self) -> None:
        """There is nothing to close."""


def _first_of_each(said: Sequence[Said], places: Iterable[int]) -> Iterable[int]:
    """Where each of both sides comes first, on the way through these places."""
    found: dict[str, int] = {}
    for place in places:
        found.setdefault(said[place].by, place)
    return found.values()


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_BULLET else f"{line[: MAX_BULLET - 1].rstrip()}…"
