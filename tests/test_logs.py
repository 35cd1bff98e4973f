"""What a log may not show."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from rtm import logs

SECRET = "dal:not-for-the-log"


class Terminal(io.StringIO):
    """A stderr with a person before it, or a file."""

    def __init__(self, person: bool) -> None:
        super().__init__()
        self._person = person

    def isatty(self) -> bool:
        return self._person


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, of_rtm = root.handlers[:], root.level, logging.getLogger("rtm").level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("rtm").setLevel(of_rtm)


@pytest.mark.parametrize("person", [True, False])
@pytest.mark.usefixtures("logging_as_before")
def test_a_traceback_shows_no_local_variables(monkeypatch: pytest.MonkeyPatch, person: bool) -> None:
    stderr = Terminal(person)
    monkeypatch.setattr("sys.stderr", stderr)
    logs.configure("info")

    def fail(token: str) -> None:
        raise RuntimeError(f"a token of {len(token)} characters")

    try:
        fail(SECRET)
    except RuntimeError:
        structlog.get_logger("rtm.test").exception("failed")

    assert "a token of 19 characters" in stderr.getvalue()
    assert SECRET not in stderr.getvalue()
