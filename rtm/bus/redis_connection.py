"""One connection to one Redis server, over which everything is published and heard.

RESP 3 tells what is pushed from what was asked, so one connection does for both: a publisher hears its own messages
anyway, and reads them together with the answers. It is an `asyncio.Protocol` around hiredis' reader, since most of what
a lone push costs is system calls and turns of the loop: no task waits for bytes, none for the answer to a PUBLISH.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from hiredis import ProtocolError, PushNotification, Reader, ReplyError, pack_command

from rtm.bus.redis_places import Address
from rtm.redis_client import RedisUrl

Answered = Callable[[Any], None]
"""Takes what the server answers: a ReplyError if it refuses, a ConnectionError if the connection ends before."""

_MESSAGES = (b"message", b"smessage")


def _pack(*command: bytes | str) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # declared for one argument
    return packed


_FENCE = _pack("HELLO", "3")
"""A question that changes nothing, and that a server answers also while it loads its data or misses its master."""


class Owner(Protocol):
    """Who has opened a connection is told these."""

    def heard(self, channel: bytes, message: bytes) -> None:
        """A message on a channel subscribed to."""

    def unsubscribed(self, channel: bytes) -> None:
        """A sharded subscription has ended: as asked, or because another server has the channel's slot now."""

    def writable(self) -> None:
        """`takes_more` is true again."""

    def closed(self, connection: "RedisConnection", reason: str) -> None:
        """It has ended."""


async def connect(url: RedisUrl, address: Address, owner: Owner) -> "RedisConnection":
    """A connection that is logged in. Raises OSError, RedisError; lasts as long as the caller waits."""
    loop = asyncio.get_running_loop()

    def make() -> RedisConnection:
        return RedisConnection(owner)

    if address is None:
        _, connection = await loop.create_unix_connection(make, url.options["path"])
    else:
        _, connection = await loop.create_connection(make, *address, ssl=url.tls_context())
    try:
        await connection.log_in(url)
    except BaseException:
        connection.abort("it did not let us in")
        raise
    return connection


class RedisConnection(asyncio.Protocol):
    """Made by `connect`. What is asked is answered in its order."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = Reader()
        self._transport = cast(asyncio.Transport, None)
        self._asked: deque[tuple[Answered, bool]] = deque()
        """With each, whether it is a fence: see `subscribe`."""
        self._refusal: ReplyError | None = None
        self._reason = "Redis closed the connection"
        self.takes_more = True
        """False while the server reads slower than we write."""

    async def log_in(self, url: RedisUrl) -> None:
        """Raises ConnectionError."""
        options = url.options
        login = ("AUTH", options.get("username", "default"), options["password"]) if "password" in options else ()
        try:
            await self.answer("HELLO", "3", *login, "SETNAME", options.get("client_name", "rtm"))
        except ReplyError as error:
            raise ConnectionError(str(error)) from error

    async def answer(self, *command: bytes | str) -> Any:
        """What the server answers. Raises ReplyError, ConnectionError."""
        future = asyncio.get_running_loop().create_future()

        def answered(answer: Any) -> None:
            if future.done():
                return
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self.ask(answered, *command)
        return await future

    def ask(self, answered: Answered, *command: bytes | str) -> None:
        """Send a command that is answered."""
        self._asked.append((answered, False))
        self._transport.write(_pack(*command))

    def subscribe(self, answered: Answered, *command: bytes) -> None:
        """Send a command that is answered only if it is refused: a HELLO after it, its fence, tells either way."""
        self._asked.append((answered, True))
        self._transport.write(_pack(*command) + _FENCE)

    def abort(self, reason: str) -> None:
        """End at once."""
        self._reason = reason
        self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        reason = str(error) if error else self._reason
        while self._asked:
            answered, _ = self._asked.popleft()
            answered(ConnectionError(reason))
        self._owner.closed(self, reason)

    def pause_writing(self) -> None:
        self.takes_more = False

    def resume_writing(self) -> None:
        self.takes_more = True
        self._owner.writable()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (item := self._reader.gets()) is not False:
                if type(item) is not PushNotification:
                    self._take_answer(item)
                elif item[0] in _MESSAGES:
                    self._owner.heard(item[1], item[2])
                elif item[0] == b"sunsubscribe":
                    self._owner.unsubscribed(item[1])
        except (ProtocolError, IndexError) as error:
            self.abort(f"it does not speak the protocol of Redis: {error!r}")

    def _take_answer(self, answer: Any) -> None:
        answered, is_fence = self._asked[0]
        if is_fence and self._refusal is None and isinstance(answer, ReplyError):
            self._refusal = answer  # the fence itself is not refused
            return
        self._asked.popleft()
        if is_fence:
            answer, self._refusal = self._refusal or answer, None
        answered(answer)
