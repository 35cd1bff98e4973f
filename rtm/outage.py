"""What fails and works again: it is spoken of when that begins and when it is over, not at every attempt in between."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import NoReturn

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from structlog.typing import FilteringBoundLogger


class Unavailable(Exception):
    """What is needed does not answer or refuses; trying again later may help."""


UNAVAILABLE = (Unavailable, DBAPIError, PoolTimeoutError, OSError, TimeoutError)
"""What is raised while the database does not answer."""


class Outage:
    """Logs `event` as a warning when something begins to fail, and `<event>_over` when it works again.

    What is not `foreseen` is logged with its traceback.
    """

    def __init__(
        self, log: FilteringBoundLogger, event: str, foreseen: tuple[type[Exception], ...] = UNAVAILABLE
    ) -> None:
        self._log = log
        self._event = event
        self._foreseen = foreseen
        self._began_at: float | None = None

    @property
    def lasts(self) -> bool:
        """It has failed, and not worked since."""
        return self._began_at is not None

    def noticed(self, error: BaseException) -> None:
        """It fails."""
        if self._began_at is None:
            self._began_at = monotonic()
            unforeseen = None if isinstance(error, self._foreseen) else error
            self._log.warning(self._event, reason=reason(error), exc_info=unforeseen)

    def over(self) -> None:
        """It works."""
        if self._began_at is not None:
            lasted_s = round(monotonic() - self._began_at, 1)
            self._began_at = None
            self._log.info(f"{self._event}_over", lasted_s=lasted_s)


async def again_and_again(
    work: Callable[[], Awaitable[None]],
    outage: Outage,
    *,
    every_s: float,
    timeout_s: float | None = None,
    woken: asyncio.Event | None = None,
    gathering_s: float = 0.0,
) -> NoReturn:
    """Work at these intervals until cancelled; what fails one time the next makes up for.

    Earlier when `woken`, unless it fails, and then `gathering_s` later, for what else it may be woken for.
    """
    woken = woken or asyncio.Event()
    while True:
        woken.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await work()
            outage.over()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is another time
            outage.noticed(error)
            await asyncio.sleep(every_s)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await woken.wait()
                await asyncio.sleep(gathering_s)


def reason(error: BaseException) -> str:
    """The first line of what the driver says."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig.__cause__ or error.orig
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).partition("\n")[0] or type(error).__name__
