"""A database that is away is spoken of when that begins and when it is over, not at every attempt in between."""

from time import monotonic

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from structlog.typing import FilteringBoundLogger


class StoreUnavailable(Exception):
    """The database does not answer or refuses to write; trying again later may help.

    `message` is what clients are told beyond that, where they or their operator can do something about it.
    """

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(reason)
        self.message = message


UNAVAILABLE = (StoreUnavailable, DBAPIError, PoolTimeoutError, OSError, TimeoutError)
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


def reason(error: BaseException) -> str:
    """The first line of what the driver says."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig.__cause__ or error.orig
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).partition("\n")[0] or type(error).__name__
