"""How often something may be done within a minute, over all processes.

A process counts for itself, without asking anybody, and adds up what it hears of the others: each time it has used a
hundredth of a limit it tells so (`rtm.access.tally`), and is told how many all of them have used. So a request costs
no more than a subtraction, no license is ever refused early, and a single process counts exactly.

What the others do is known a little late. The sum over P processes exceeds a limit by at most P - 1 hundredths of it,
and what these serve while their last news are under way, which is some milliseconds. While there is no news (Redis is
away) each process serves on, by its own count and the last that it was told: at most the limit each.

Minutes begin at a second of their own for each key, so that not everybody who waits for the next one comes at once.
"""

import math
import time
import zlib
from collections.abc import Callable
from typing import Protocol

from rtm.protocol.errors import TooManyRequests

WINDOW_S = 60
MAX_KEYS = 50_000
"""How many keys a quota keeps in mind; past it, it forgets the oldest. Twice as many may be there: 20 MB."""

Key = int | bytes | str


class Count:
    """What a process knows about one key in one minute."""

    __slots__ = ("ends_at", "left", "told", "untold")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.told = 0
        """What all processes had used by the last news."""
        self.untold = 0
        """What was given out here since then, in portions."""
        self.left = 0
        """How much of the last portion is not used yet."""

    @property
    def used(self) -> int:
        """What all processes have used, as far as is known here."""
        return self.told + self.untold - self.left

    def hear(self, total: int, limit: int, sent: int) -> None:
        """News: all processes have used `total`, with `sent` of it by this one."""
        self.told = max(total, self.told + sent)  # Redis may have come back empty: what is known is not forgotten
        self.untold -= sent
        excess = max(0, min(self.left, self.told + self.untold - limit))
        self.left -= excess
        self.untold -= excess


class Shared(Protocol):
    """Tells the other processes."""

    def tell(self, quota: "Quota", key: Key, count: Count) -> None:
        """Say soon what is untold of this count, and hear what all have used. Returns at once."""


class Quota:
    """At most `limit` a minute for each key; 0 is no limit. Without `shared` the process counts for itself alone."""

    def __init__(
        self, limit: int, what: str, *, shared: Shared | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.limit = limit
        self.what = what
        """What is counted, as clients are told."""
        self._portion = max(1, limit // 100)
        self._shared = shared
        self._clock = clock
        self._counts: dict[Key, Count] = {}
        self._older: dict[Key, Count] = {}
        self._kept_since = clock()

    def spend(self, key: Key) -> None:
        """Count one. Raises TooManyRequests."""
        count = self._counts.get(key)
        if count is None or count.left == 0 or self._clock() >= count.ends_at:
            if not self.limit:
                return
            count = self._renewed(key)
        count.left -= 1

    def check(self, key: Key) -> None:
        """Raises TooManyRequests if there is nothing left to spend; counts nothing."""
        if self.limit and self.used(key) >= self.limit:
            raise self._exceeded(self._count(key, self._clock()))

    def used(self, key: Key) -> int:
        """How many were counted in this minute, as far as is known here."""
        count = self._counts.get(key) or self._older.get(key)
        return 0 if count is None or self.is_over(count) else count.used

    def is_over(self, count: Count) -> bool:
        """Whether the minute of this count has passed."""
        return self._clock() >= count.ends_at

    def headers(self, key: Key) -> dict[str, str]:
        """The state of the quota as HTTP headers, in the form of draft-ietf-httpapi-ratelimit-headers-06."""
        if not self.limit:
            return {}
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(max(0, self.limit - self.used(key))),
            "RateLimit-Reset": str(self._seconds_left(end_of_minute(key, self._clock()))),
        }

    def _renewed(self, key: Key) -> Count:
        """The key's count, with a new portion. Raises TooManyRequests."""
        count = self._count(key, self._clock())
        if count.left == 0:
            if count.untold and self._shared is not None:
                self._shared.tell(self, key, count)
            portion = min(self._portion, self.limit - count.told - count.untold)
            if portion <= 0:
                raise self._exceeded(count)
            count.untold += portion
            count.left = portion
        return count

    def _count(self, key: Key, now: float) -> Count:
        if now - self._kept_since >= WINDOW_S or len(self._counts) >= MAX_KEYS:
            self._older, self._counts, self._kept_since = self._counts, {}, now
        count = self._counts.get(key) or self._older.pop(key, None)
        if count is None or now >= count.ends_at:
            count = Count(end_of_minute(key, now))
        self._counts[key] = count
        return count

    def _exceeded(self, count: Count) -> TooManyRequests:
        return TooManyRequests(self.what, f"{self.limit} in {WINDOW_S} s", self._seconds_left(count.ends_at))

    def _seconds_left(self, ends_at: float) -> int:
        return max(1, math.ceil(ends_at - self._clock()))


def end_of_minute(key: Key, now: float) -> float:
    """When the key's minute ends: the same in all processes, as far as their clocks agree."""
    start = zlib.crc32(str(key).encode()) % WINDOW_S
    return now - (now - start) % WINDOW_S + WINDOW_S
