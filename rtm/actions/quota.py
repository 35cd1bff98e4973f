"""How many requests a license may make, counted by `limits` over a window of a minute."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from rtm.protocol.errors import TooManyRequests

WINDOW_S = 60


class Quota:
    """A license's requests per minute in this process; shared by all its tokens and connections.

    Requests are leased from the limiter a hundredth of the limit at a time, so that one of them costs a subtraction;
    a license may thus be refused up to 1 % early, at the end of a window.
    """

    def __init__(self, requests_per_minute: int) -> None:
        self._limit = requests_per_minute
        self._lease = max(1, requests_per_minute // 100)
        self._item = RateLimitItemPerMinute(max(1, requests_per_minute))
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._leased: dict[int, int] = {}

    def spend(self, license_id: int) -> None:
        """Count one request. Raises TooManyRequests."""
        if not self._limit:
            return
        left = self._leased.get(license_id, 0)
        if left == 0:
            key = str(license_id)
            if not self._limiter.hit(self._item, key, cost=self._lease):
                reset_at = self._limiter.get_window_stats(self._item, key).reset_time
                raise TooManyRequests(self._limit, WINDOW_S, max(1, math.ceil(reset_at - time.time())))
            left = self._lease
        self._leased[license_id] = left - 1
