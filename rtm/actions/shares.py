"""How many queries of a license run at once, over all its connections and at both doors."""

import asyncio
from weakref import WeakValueDictionary

QUERIES_AT_ONCE = 4
"""Each takes a connection to the database, of which handlers have 15: those of one license leave most to the others."""


class Shares:
    """What each license has its queries run within; only those who ask at the moment are remembered."""

    def __init__(self) -> None:
        self._in_use: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, license_id: int) -> asyncio.Semaphore:
        """Entered by a query of the license while it runs."""
        return self._in_use.setdefault(license_id, asyncio.Semaphore(QUERIES_AT_ONCE))
