"""What processes tell each other about their quotas: counters in Redis.

    rtm:quota:{<key>}:<what>:<end of the minute>     how many all processes have used

One task does all the telling. What becomes due while it waits for Redis is told together when the answer is there: so
news are as fast as Redis, and no faster. When it does not answer, it is asked again a second later.
"""

import asyncio
import random
from contextlib import aclosing
from itertools import islice

import structlog

from rtm.access.quota import WINDOW_S, Count, Key, Quota
from rtm.redis_client import RedisUrl

TIMEOUT_S = 2.0
RETRY_S = 1.0
_CONNECTIONS = 4
_AT_ONCE = 100
_ADD = """
    local total = redis.call('INCRBY', KEYS[1], ARGV[1])
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return total
"""

log = structlog.get_logger(__name__)


class Tally:
    """See `rtm.access.quota.Shared`."""

    def __init__(self, url: str) -> None:
        self._client = RedisUrl.parse(url).client(timeout_s=TIMEOUT_S, max_connections=_CONNECTIONS)
        self._add = self._client.register_script(_ADD)
        self._due: dict[tuple[Quota, Key], Count] = {}
        self._something_due = asyncio.Event()
        self._silent = False

    def tell(self, quota: Quota, key: Key, count: Count) -> None:
        """Say soon what is untold of this count, and hear what all have used. Returns at once."""
        self._due[quota, key] = count
        self._something_due.set()

    async def run(self) -> None:
        """Tell what is due, until cancelled."""
        async with aclosing(self._client):  # which connects when it is asked: that may fail, and is done again
            while True:
                await self._something_due.wait()
                if not all(await asyncio.gather(*(self._tell(*each) for each in self._next()))):
                    await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311 - nothing secret

    def _next(self) -> list[tuple[Quota, Key, Count]]:
        keys = list(islice(self._due, _AT_ONCE))
        if len(keys) == len(self._due):
            self._something_due.clear()
        return [(quota, key, self._due.pop((quota, key))) for quota, key in keys]

    async def _tell(self, quota: Quota, key: Key, count: Count) -> bool:
        """Whether Redis has answered."""
        used = count.untold - count.left
        if used == 0 or quota.is_over(count):
            return True
        counter = f"rtm:quota:{{{key!s}}}:{quota.what}:{count.ends_at:.0f}"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                total = int(await self._add([counter], [used, WINDOW_S]))
        except Exception as error:  # noqa: BLE001 - whatever it is: each process goes on by its own count
            if not self._silent:
                log.warning("quotas_not_shared", error=str(error) or type(error).__name__)
            self._silent = True
            self._due.setdefault((quota, key), count)
            self._something_due.set()
            return False
        self._silent = False
        count.hear(total, quota.limit, used)
        return True
