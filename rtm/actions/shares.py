"""How much of a license is done at once, over all its connections and at both doors, so that others have their turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

QUERIES_AT_ONCE = 4
"""Each takes a connection to the database, of which handlers have 15: those of one license leave most to the others."""
IMAGES_AT_ONCE = 2
"""Each takes a process of its own, and may take a gigabyte."""


class Shares:
    """What each license has something of its own run within; only those who ask at the moment are remembered."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._in_use: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, license_id: int) -> asyncio.Semaphore:
        """Entered by what is the license's while it runs."""
        return self._in_use.setdefault(license_id, asyncio.Semaphore(self._at_once))


class Decoding:
    """What an image is looked at within: one of a license at once, as one that is made for it takes seconds."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(IMAGES_AT_ONCE)
        self._shares = Shares(1)

    @asynccontextmanager
    async def of(self, license_id: int) -> AsyncIterator[None]:
        """Wait for the license's turn."""
        async with self._shares.of(license_id), self._places:
            yield
