"""RFC 3339 with microseconds, UTC: `2026-11-21T09:30:00.000001Z`. Text in this form sorts as time does."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def now() -> str:
    """The time by this machine's clock."""
    return from_microseconds(time.time_ns() // 1000)


def from_seconds(seconds: float) -> str:
    """The time `seconds` after 1970, such as `time.time()` gives."""
    return from_microseconds(int(seconds * 1_000_000))


def from_microseconds(microseconds: int) -> str:
    """The time `microseconds` after 1970, as the protocol writes it."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_to_the_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=2)  # every event of a second shares it
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def to_seconds(timestamp: str) -> int:
    """Whole seconds since 1970 of a time in the protocol's form."""
    return int(datetime.fromisoformat(timestamp).timestamp())


def to_microseconds(timestamp: str) -> int:
    """The inverse of `from_microseconds`."""
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)


def days_after(timestamp: str, days: int) -> str:
    """The time so many days after one in the protocol's form."""
    return seconds_after(timestamp, days * 86_400)


def seconds_after(timestamp: str, seconds: float) -> str:
    """The time so many seconds after one in the protocol's form."""
    later = datetime.fromisoformat(timestamp) + timedelta(seconds=seconds)
    return later.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse(text: str) -> str:
    """Any RFC 3339 date-time in the protocol's own form. Raises ValueError."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("not an RFC 3339 date-time")
    fraction = re.sub(r"(\.\d{6})\d+", r"\1", text.upper())
    moment = datetime.fromisoformat(fraction).astimezone(UTC)
    # Not by strftime, which writes the year 999 with three digits.
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
