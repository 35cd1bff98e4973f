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
from tests.world import Client, Server, Web, visiting

SECRET = "dal:not-for-the-log"
SAID = "nobody-but-us-should-read-this"
EVENT = {"type": "message", "text": SAID}


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


async def test_a_flood_of_bad_requests_is_a_few_lines(log: Terminal, tmp_path: Path) -> None:
    async with Server(Settings(data_dir=tmp_path)) as server, visiting(server) as world:
        alice = await world.agent("alice")
        for _ in range(5 * logs.BURST):
            await alice.send("no_such_action")
            await alice.connection.send("nonsense")
        await alice.call("ping")
    refused = [line for line in lines(log) if line["event"] == "request_refused"]
    assert logs.BURST <= len(refused) < 2 * logs.BURST
    assert {line["action"] for line in refused} == {"unknown"}


async def test_no_token_and_no_text_is_logged(log: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation with requests that fail in every way, at the level that shows most."""

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"as from a database\nDETAIL: {SAID}")

    settings = Settings(data_dir=tmp_path, limits=Limits(pending_requests=1))
    async with Server(settings) as server, visiting(server) as world:
        alice, web = await world.agent("alice"), await world.web("alice")
        chat = await world.chat(alice, users=["bob"], texts=[SAID])
        token = await world.token("alice")
        await alice.call("update_session", token=token)
        await fail_to_log_in(await world.socket())
        await fail_on_a_socket(alice, chat.id)
        await fail_over_http(web, chat.id)
        await web.post("list_chats", authorization=token + SECRET)
        await alice.call("deactivate_chat", id=chat.id)
        assert (await alice.refused("send_event", chat_id=chat.id, event=EVENT)).type == "chat_inactive"
        monkeypatch.setattr(Queries, "list_chats", fail)
        monkeypatch.setattr(SqliteStore, "commit", fail)
        for web_or_socket in (alice, web):
            assert (await web_or_socket.refused("list_chats")).type == "internal"
            assert (await web_or_socket.refused("start_chat")).type == "internal"

    told = lines(log)
    refused = next(line for line in told if line["event"] == "request_refused" and line["error"] == "chat_inactive")
    assert (refused["level"], refused["transport"], refused["action"]) == ("info", "rtm", "send_event")
    assert (refused["license_id"], refused["request_id"][:11]) == (world.license_id, "send_event-")
    assert "from-a-proxy" in [line.get("request_id") for line in told]
    assert {line["event"] for line in told} >= {"request_done", "request_failed", "handler_failed", "batch_failed"}
    assert {line["action"] for line in told if line["event"] == "request_done"} >= {"login", "start_chat"}
    for secret in (SAID, SECRET, token.removeprefix("Bearer ")):
        assert secret not in log.getvalue()


async def fail_to_log_in(guest: Client) -> None:
    assert (await guest.refused("login", token="Bearer dal:" + SECRET)).type == "authentication"
    await guest.send("login", token="Bearer fra:" + SECRET)
    assert (await guest.ended())[0]["reason"] == "misdirected_connection"


async def fail_on_a_socket(agent: Client, chat_id: str) -> None:
    for payload in wrong_payloads(chat_id):
        await agent.refused("send_event", **payload)
    await agent.answer(await agent.send(SAID, "1"))
    for frame in (SAID, f'"{SAID}"', f'{{"action": ["{SAID}"]}}', f'{{"action": "{SAID}", "payload": "{SAID}"}}'):
        await agent.connection.send(frame)
    for request in [await agent.send("list_chats") for _ in range(3)]:  # one of which may wait at once
        await agent.answer(request)


async def fail_over_http(web: Web, chat_id: str) -> None:
    for payload in wrong_payloads(chat_id):
        await web.refused("send_event", **payload)
    await web.refused(SAID)
    await web.post(SAID, x_request_id="from-a-proxy")
    await web.request("POST", f"/v3.6/agent/action/send_event?token={SECRET}", content=SAID)
    await web.request("POST", f"/v3.6/agent/{SECRET}")
    await web.request("GET", f"/v3.6/agent/action/{SECRET}")
    await web.post("list_chats", authorization=f"Basic {SECRET}")


def wrong_payloads(chat_id: str) -> list[dict[str, Any]]:
    return [
        {"chat_id": chat_id, "event": {"type": SAID, "text": SAID}},
        {"chat_id": SAID, "event": EVENT},
        {"chat_id": chat_id, SAID: SAID, "event": {**EVENT, "custom_id": [SAID]}},
    ]
