"""What a log may not show."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from rtm import logs
from rtm.settings import Limits, Settings
from rtm.store.queries import Queries
from rtm.store.sqlite import SqliteStore
from tests.world import Server, visiting

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


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> Terminal:
    """What a server writes to a file at the level of debugging."""
    stderr = Terminal(person=False)
    monkeypatch.setattr("sys.stderr", stderr)
    logs.configure("debug")
    structlog.configure(cache_logger_on_first_use=False)  # else the server's loggers would stay as they are now
    return stderr


def lines(log: Terminal) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.getvalue().splitlines()]


def test_of_several_exceptions_each_is_shown_with_its_first_line(log: Terminal) -> None:
    error = RuntimeError(f"three\n{SECRET}")
    error.__cause__ = ExceptionGroup("several", [ValueError(f"one\nDETAIL: {SECRET}"), KeyError("two")])
    error.__cause__.__context__ = error  # a circle
    structlog.get_logger("rtm.test").error("failed", exc_info=error, reason=f"four\n{SECRET}")
    logging.getLogger("asyncio").error("five\n%s", SECRET, exc_info=error)

    ours, theirs = lines(log)
    for line in ours, theirs:
        shown = [text for text in line["exception"].splitlines() if not text.startswith((" ", "Traceback"))]
        assert shown == [
            "ExceptionGroup: several (2 sub-exceptions)",
            "ValueError: one",
            "KeyError: 'two'",
            "",
            "which led to:",
            "",
            "RuntimeError: three",
        ]
    assert (ours["reason"], theirs["event"]) == ("four", "five")
    assert SECRET not in log.getvalue()


def test_a_flood_of_lines_is_cut_and_counted() -> None:
    now = 0.0
    bound = logs.Bound(clock=lambda: now)

    def admitted(event: str, method: str = "info") -> dict[str, Any] | None:
        try:
            return dict(bound.process(None, method, {"event": event}))
        except structlog.DropEvent:
            return None

    first = [admitted("refused") for _ in range(logs.BURST + 50)]
    assert first == [{"event": "refused"}] * logs.BURST + [None] * 50
    assert admitted("another") == {"event": "another"}
    assert admitted("refused", "debug") == {"event": "refused"}
    now += 1 / logs.RATE
    assert admitted("refused") == {"event": "refused", "left_out": 50}
    assert admitted("refused") is None
    now += 2 * logs.BURST / logs.RATE
    assert [admitted("refused") is None for _ in range(logs.BURST + 1)] == [False] * logs.BURST + [True]


def test_a_flood_of_a_librarys_lines_is_cut_too(log: Terminal) -> None:
    for number in range(logs.BURST + 50):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request %s", number)
    assert len(lines(log)) == logs.BURST


async def test_no_token_and_no_text_is_logged(log: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation with requests that fail in every way, at the level that shows most."""
    said = "nobody-but-us-should-read-this"
    event = {"type": "message", "text": said}

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"as from a database\nDETAIL: {said}")

    settings = Settings(data_dir=tmp_path, limits=Limits(pending_requests=1))
    async with Server(settings) as server, visiting(server) as world:
        alice, web = await world.agent("alice"), await world.web("alice")
        token = await world.token("alice")
        guest = await world.socket()
        assert (await guest.refused("login", token="Bearer dal:" + SECRET)).type == "authentication"
        await guest.send("login", token="Bearer fra:" + SECRET)
        assert (await guest.ended())[0]["reason"] == "misdirected_connection"
        chat = await world.chat(alice, users=["bob"], texts=[said])
        await alice.call("send_event", chat_id=chat.id, event=event)
        await alice.call("update_session", token=token)
        for web_or_socket in (alice, web):
            for payload in (
                {"chat_id": chat.id, "event": {"type": said, "text": said}},
                {"chat_id": said, "event": event},
                {"chat_id": chat.id, said: said, "event": {**event, "custom_id": [said]}},
            ):
                await web_or_socket.refused("send_event", **payload)
        await web.refused(said)
        await alice.answer(await alice.send(said, "1"))
        for frame in (said, f'"{said}"', f'{{"action": ["{said}"]}}', f'{{"action": "{said}", "payload": "{said}"}}'):
            await alice.connection.send(frame)
        for _ in range(3):
            await alice.send("list_chats")
        await web.request("POST", f"/v3.6/agent/action/send_event?token={SECRET}", content=said)
        await web.request("POST", f"/v3.6/agent/{SECRET}")
        await web.request("GET", f"/v3.6/agent/action/{SECRET}")
        await web.post("list_chats", authorization=f"Basic {SECRET}")
        await web.post("list_chats", authorization=token + SECRET)
        await alice.call("deactivate_chat", id=chat.id)
        assert (await alice.refused("send_event", chat_id=chat.id, event=event)).type == "chat_inactive"
        monkeypatch.setattr(Queries, "list_chats", fail)
        monkeypatch.setattr(SqliteStore, "commit", fail)
        for web_or_socket in (alice, web):
            assert (await web_or_socket.refused("list_chats")).type == "internal"
            assert (await web_or_socket.refused("start_chat")).type == "internal"

    told = lines(log)
    refused = next(line for line in told if line["event"] == "request_refused" and line["error"] == "chat_inactive")
    assert (refused["level"], refused["transport"], refused["action"]) == ("info", "rtm", "send_event")
    assert (refused["license_id"], refused["request_id"][:11]) == (world.license_id, "send_event-")
    assert {line["event"] for line in told} >= {"request_done", "request_failed", "handler_failed", "batch_failed"}
    assert {line["action"] for line in told if line["event"] == "request_done"} >= {"login", "send_event"}
    written = log.getvalue()
    for secret in (said, SECRET, token.removeprefix("Bearer ")):
        assert secret not in written
