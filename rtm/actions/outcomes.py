"""What became of the requests of a process: counted and timed by action, and a line in the log for each that failed.

Both doors report here when an answer leaves. Only names of the catalogue become labels, since the rest are a client's
own. Those done, and those that failed by our fault, are timed: quick refusals in any number would hide slow answers.

A request costs 1.1 µs of it.
"""

import logging
from http import HTTPStatus
from time import perf_counter
from typing import Any

import structlog
from prometheus_client import Histogram

from rtm.actions import registry
from rtm.actions.dispatch import Caller
from rtm.protocol.errors import ApiError

log = structlog.get_logger(__name__)

UNKNOWN = "unknown"
DONE = "ok"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class Outcomes:
    """`counts` has how often a transport, action and outcome met; an outcome is `ok` or an error's type."""

    def __init__(self) -> None:
        self.seconds = Histogram(
            "rtm_request_seconds",
            "Time from a request to its answer; requests that were refused are left out.",
            ("transport", "action"),
            buckets=_BUCKETS_S,
            registry=None,
        )
        self.counts: dict[tuple[str, str, str], int] = {}
        self._observers: dict[tuple[str, str], Any] = {}
        self._tells_all = logging.getLogger(__name__).isEnabledFor(logging.DEBUG)

    def answered(
        self, caller: Caller, action: str, outcome: Any, began: float, *, request_id: str | None = None
    ) -> None:
        """The answer to a request that came at `began`, by `time.perf_counter`, is on its way."""
        error = outcome if isinstance(outcome, ApiError) else None
        key = (caller.transport, action, DONE if error is None else error.type)
        if key in self.counts:
            self.counts[key] += 1
        else:
            action = self._count_first(caller, action, key[2])
        seconds = perf_counter() - began
        if error is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._observers[caller.transport, action](seconds)
        if error is not None or self._tells_all:
            _tell(caller, action, error, seconds, request_id)

    def _count_first(self, caller: Caller, action: str, outcome: str) -> str:
        """Count what has not met before; the action's label."""
        label = action if registry.is_known(caller.api, action) else UNKNOWN
        key = (caller.transport, label, outcome)
        self.counts[key] = self.counts.get(key, 0) + 1
        self._observers[caller.transport, label] = self.seconds.labels(caller.transport, label).observe
        return label


def _tell(caller: Caller, action: str, error: ApiError | None, seconds: float, request_id: str | None) -> None:
    """Never what was sent or answered: an error's message may repeat some of it."""
    about: dict[str, Any] = {
        "transport": caller.transport,
        "action": action,
        "request_id": request_id,
        "license_id": caller.identity.license_id if caller.identity is not None else None,
        "ms": round(seconds * 1000, 3),
    }
    if error is None:
        log.debug("request_done", **about)
    elif error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        log.info("request_refused", error=error.type, **about)
    else:
        log.warning("request_failed", error=error.type, **about)
