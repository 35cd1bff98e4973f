"""The clients of a drill: they write at a fixed rate, are told, come back after every cut, and note it all.

    Client     stays logged in: at its home process, or while that is away at another
    Talker     a client that asks for events to be stored, a fixed number a second
    Visitor    a client that logs out and in again all the time

Costs little, so that the servers have the machine: plain protocols on the sans-I/O core of `websockets`, a decoding
for each message and a line in the log.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

import orjson
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from tests.faults.checker import UNKNOWN
from tests.faults.log import Ask, Connection, End, Log, Told

PING_INTERVAL_S = 10
ANSWER_S = 20
"""The server's own limit on a request is 15 s."""
SILENCE_S = 25
"""After which a client gives up a server that it has pinged."""
CLOSE_S = 5
BACKOFF_S = (0.02, 0.5)
MAX_UNANSWERED = 100
"""Of one talker, which then falls behind its rate: the server takes 128 of one connection."""


@dataclass(slots=True)
class Door:
    """Where a process is reached; `port` is None while nobody should try."""

    name: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """An agent or bot."""

    id: str
    token: str


class Socket(asyncio.Protocol):
    """A websocket; `heard` gets each message, `ended` the reason in the close frame, or None where there was none."""

    def __init__(self, url: str, heard: Callable[[bytes], None], ended: Callable[[str | None], None]) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._heard = heard
        self._ended = ended
        self._reason: str | None = None
        self._heard_at = time.monotonic()
        self._transport: asyncio.Transport
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, port: int, heard: Callable[[bytes], None], ended: Callable[[str | None], None]) -> Self:
        """Raises OSError, WebSocketException or TimeoutError."""
        url = f"ws://127.0.0.1:{port}/v3.6/agent/rtm/ws"
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_S):
            transport, socket = await loop.create_connection(lambda: cls(url, heard, ended), "127.0.0.1", port)
            try:
                await socket.opened
            except BaseException:
                transport.abort()
                raise
        return socket

    def send(self, message: bytes) -> None:
        """Nothing, if the connection is gone."""
        if not self._transport.is_closing():
            self._transport.write(Frame(Opcode.TEXT, message).serialize(mask=True))

    def ping(self) -> None:
        """Show that the client is there."""
        if not self._transport.is_closing():
            self._transport.write(Frame(Opcode.PING, b"").serialize(mask=True))

    @property
    def silent(self) -> bool:
        """The server has said nothing for long."""
        return time.monotonic() - self._heard_at > SILENCE_S

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    def close(self) -> None:
        """Begin the closing handshake; the server has a moment to answer it."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(1000)
            self._flush()
            asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.TEXT:
                    self._heard(bytes(event.data))
                elif event.opcode is Opcode.CLOSE:
                    self._reason = Close.parse(bytes(event.data)).reason or None
            elif isinstance(event, Response) and not self.opened.done():
                refused = self._protocol.handshake_exc
                self.opened.set_exception(refused) if refused is not None else self.opened.set_result(None)
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionResetError("closed before it was opened"))
        self._ended(self._reason)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


class Client:
    """An agent that is logged in at `doors[0]`, its home, or somewhere else while nobody is at home."""

    listens = True
    """Whether it is told of events."""

    def __init__(self, log: Log, name: str, person: Person, doors: Sequence[Door], chat_ids: Iterable[str]) -> None:
        self.name = name
        self.log = log
        self.doors = doors
        self.chat_ids = frozenset(chat_ids)
        self.connection: Connection | None = None
        """While it is logged in."""
        self.logged_in = asyncio.Event()
        self._person = person
        self._socket: Socket | None = None
        self._left = False
        self._gone = asyncio.Event()
        self._login: asyncio.Future[bool] | None = None

    async def run(self) -> None:
        """Log in, and again whenever the connection has ended, until cancelled."""
        attempt = 0
        try:
            while True:
                door = self._door(attempt)
                if door.port is not None and await self._visit(door, door.port):
                    attempt = 0
                    await self._stay()
                else:
                    attempt += 1
                low, high = BACKOFF_S
                await asyncio.sleep(random.uniform(low, min(high, low * 2 ** min(attempt + 1, 10))))
        finally:
            self.leave()

    def _door(self, attempt: int) -> Door:
        """Home first; who is turned away there tries the others in turn."""
        open_doors = [door for door in self.doors if door.port is not None] or self.doors
        return open_doors[attempt % len(open_doors)]

    async def _visit(self, door: Door, port: int) -> bool:
        """Log in there; whether that went well."""
        connection = Connection(self.name, door.name, self.chat_ids if self.listens else frozenset())
        self.log.connections.append(connection)
        self._gone.clear()
        self._left = False
        self._login = asyncio.get_running_loop().create_future()
        pushes = ["incoming_event"] if self.listens else []
        login = {"token": f"Bearer {self._person.token}", "pushes": {"3.6": pushes}}
        try:
            self._socket = await Socket.open(port, partial(self._heard, connection), partial(self._ended, connection))
            self._socket.send(orjson.dumps({"action": "login", "request_id": "login", "payload": login}))
            async with asyncio.timeout(ANSWER_S):
                welcome = await self._login
        except (OSError, WebSocketException, TimeoutError):
            welcome = False
        if not welcome:
            self.leave()
            if self._socket is not None:
                await self._gone.wait()
        return welcome

    async def _stay(self) -> None:
        """Until the connection ends."""
        await self._gone.wait()

    def _heard(self, connection: Connection, message: bytes) -> None:
        now = time.monotonic()
        frame = orjson.loads(message)
        if frame["type"] == "response":
            if frame["request_id"] == "login":
                self._greeted(connection, now, frame)
            else:
                self.answered(frame, now)
        elif frame["action"] == "incoming_event":
            payload = frame["payload"]
            event = payload["event"]
            connection.told.append(Told(now, payload["chat_id"], event["id"], event.get("custom_id", "")))

    def _greeted(self, connection: Connection, now: float, frame: dict[str, Any]) -> None:
        if not frame["success"]:
            self._let_in(False)
            return
        connection.logged_in_at = now
        for chat in frame["payload"]["chats_summary"]:
            last = chat.get("last_event_per_type", {}).get("message")
            if last is not None and chat["id"] in self.chat_ids:
                connection.shown[chat["id"]] = last["event"]["id"]
        self.connection = connection
        self.logged_in.set()
        self._let_in(True)

    def _let_in(self, welcome: bool) -> None:
        if self._login is not None and not self._login.done():
            self._login.set_result(welcome)

    def answered(self, frame: dict[str, Any], now: float) -> None:
        """The answer to a request of its own."""

    def _ended(self, connection: Connection, reason: str | None) -> None:
        connection.end = End(time.monotonic(), self._left, None if self._left else reason)
        self.logged_in.clear()
        self.connection = None
        self._socket = None
        self._let_in(False)
        self._gone.set()

    def send(self, message: bytes) -> None:
        """Nothing, while it is not connected."""
        if self._socket is not None:
            self._socket.send(message)

    def look_after(self) -> None:
        """Ping, or give up a server that does not even answer pings."""
        if self._socket is None:
            return
        if self._socket.silent:
            self._left = True
            self._socket.abort()
        else:
            self._socket.ping()

    def leave(self) -> None:
        """Hang up; who is still running comes back."""
        self._left = True
        if self._socket is not None:
            self._socket.close()

    @property
    def at_home(self) -> bool:
        """Whether it is logged in where it belongs."""
        return self.connection is not None and self.connection.process == self.doors[0].name


class Visitor(Client):
    """Logs in, stays for a moment and leaves: what is stored meanwhile is shown or told, each time."""

    STAY_S = (0.1, 0.5)

    async def _stay(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(*self.STAY_S)):
                await self._gone.wait()
        self.leave()
        await self._gone.wait()


class Talker(Client):
    """Asks for `per_second` events to be stored in its chats in turn, whatever has become of those before.

    What was not answered, or with an error that leaves it open, it asks for again with the same `custom_id` if
    `repeats`. While it is not logged in, or the server owes it MAX_UNANSWERED answers, it skips its turns.
    """

    def __init__(self, *of_client: Any, per_second: float, listens: bool, repeats: bool) -> None:
        super().__init__(*of_client)
        self.listens = listens
        self._interval_s = 1 / per_second
        self._repeats = repeats
        self._unanswered: dict[str, Ask] = {}
        self._open: dict[str, str] = {}
        """What is to be asked for again: the chat by key."""
        self._numbers = itertools.count(1)
        self.skipped = 0

    async def talk(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for chat_id in itertools.cycle(sorted(self.chat_ids)):
            due = max(due + self._interval_s, loop.time() - 1)
            await asyncio.sleep(due - loop.time())
            if self.connection is None or len(self._unanswered) >= MAX_UNANSWERED:
                self.skipped += 1
            elif self._open:
                key = next(iter(self._open))
                self._ask(self.connection, key, self._open.pop(key))
            else:
                self._ask(self.connection, f"{self.name}-{next(self._numbers)}", chat_id)

    def _ask(self, connection: Connection, key: str, chat_id: str) -> None:
        event = {"type": "message", "text": key, "custom_id": key}
        request = {"action": "send_event", "request_id": key, "payload": {"chat_id": chat_id, "event": event}}
        ask = self._unanswered[key] = Ask(key, chat_id, connection, time.monotonic())
        self.log.asks.append(ask)
        self.send(orjson.dumps(request))

    def answered(self, frame: dict[str, Any], now: float) -> None:
        ask = self._unanswered.pop(frame["request_id"])
        ask.answered_at = now
        if frame["success"]:
            ask.event_id = frame["payload"]["event_id"]
        else:
            ask.error = frame["payload"]["error"]["type"]
            if ask.error in UNKNOWN:
                self._may_repeat(ask)

    def _ended(self, connection: Connection, reason: str | None) -> None:
        super()._ended(connection, reason)
        for ask in self._unanswered.values():
            self._may_repeat(ask)
        self._unanswered.clear()

    def _may_repeat(self, ask: Ask) -> None:
        if self._repeats:
            self._open[ask.key] = ask.chat_id

    @property
    def quiet(self) -> bool:
        """Everything that can still be answered has been."""
        return not self._unanswered
