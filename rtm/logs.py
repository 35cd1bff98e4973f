"""What is logged, and in which form: lines with colours on a terminal, JSON objects anywhere else.

A line is one event, with what it is about as its fields: `license_id`, `request_id`, `action`. Tokens and what people
write are never logged: no local variables, of an exception or other text only the first line. However hard somebody
tries, lines of one kind come at most `BURST` at once and then one a second; the next one says how many were left out.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from time import monotonic
from typing import IO, Any

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

BURST = 100
RATE = 1.0
"""Lines of one kind a second, once the burst is spent."""
MAX_TEXT = 300
"""Characters of one field."""


def configure(level: str) -> None:
    """Log to stderr what is at least as important as `level`; of libraries, only warnings."""
    bound = Bound()
    common: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            bound.process,
            *common,
            _shorten,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(bound.filter)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, _shorten],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers()],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("rtm").setLevel(level.upper())


class Bound:
    """How fast lines of one kind may come: ours are told apart by event, a library's by logger. Debugging is free."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def process(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Drop the line, or say how many like it were."""
        if method != "debug":
            left_out = self._left_out_before(event["event"])
            if left_out is None:
                raise structlog.DropEvent
            if left_out:
                event["left_out"] = left_out
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """The same for the record of a library; ours have a dict for a message, and have been here."""
        if isinstance(record.msg, dict):
            return True
        left_out = self._left_out_before(record.name)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} left out before)", None
        return left_out is not None

    def _left_out_before(self, name: str) -> int | None:
        """How many lines of the kind were left out since the last one; None if this one is."""
        now = self._clock()
        kind = self._kinds.setdefault(name, _Kind(now))
        kind.allowed = min(BURST, kind.allowed + (now - kind.looked_at) * RATE)
        kind.looked_at = now
        if kind.allowed < 1:
            kind.left_out += 1
            return None
        kind.allowed -= 1
        left_out, kind.left_out = kind.left_out, 0
        return left_out


class _Kind:
    __slots__ = ("allowed", "left_out", "looked_at")

    def __init__(self, now: float) -> None:
        self.allowed: float = BURST
        self.looked_at = now
        self.left_out = 0


def _shorten(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Of each text keep the first line: what a database adds to it (`DETAIL`) may be what somebody wrote."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _first_line(value)
    return event


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:MAX_TEXT]


def _renderers() -> list[Any]:
    if sys.stderr.isatty():
        return [structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
    return [
        structlog.processors.ExceptionRenderer(lambda info: "".join(_traceback(info[1]))),
        structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
    ]


def _write_traceback(stream: IO[str], info: ExcInfo) -> None:
    stream.writelines(["\n", *_traceback(info[1])])


def _traceback(error: BaseException | None, *told: BaseException) -> Iterator[str]:
    """As Python's, with the first line of each message; `told` are those that it led to."""
    if error is None:
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and before not in told:
        yield from _traceback(before, error, *told)
        yield "\nwhich led to:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__qualname__}: {_first_line(str(error))}\n"
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _traceback(part, error, *told)
