"""The bus through Redis pub/sub, one channel for each license.

A message is what one process published about one license in one turn of its loop, so a burst costs one command:

    <process id> LF <envelope> [LF <envelope> ...]      an empty line in place of an envelope says `Lost`

JSON as orjson writes it holds no line feed. Redis returns a publisher its own messages too; the process id at their
head lets it drop them unread.

Publishing and listening each have a task and a connection. A third task sends a probe through both: the bus works when
its own probe comes back, not when its sockets are open.

Measured with 320-byte payloads, encoding included: a push costs each of two processes 30 to 40 µs of CPU alone, two
thirds of it in the kernel, 11 µs in bursts of 5, 5 µs in bursts of 20 and 3 µs in bursts of 200.
"""

import asyncio
import contextlib
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence

import structlog
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from rtm.bus.base import MALFORMED, BusUnavailable, Envelope, Lost

CALL_TIMEOUT_S = 2.0
"""The longest that Redis may take to answer anything, connecting included."""
PROBE_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 1.0
OUTGOING_BYTES = 8 << 20
"""What may wait for Redis: a quarter of the 32 MiB at which, by default, Redis cuts off a slow subscriber."""
INCOMING_MESSAGES = 64
"""What may wait for the reader; past it we stop listening, and what follows is a loss like any other."""

_PROCESS_ID_BYTES = 16
_BACKOFF = EqualJitterBackoff(cap=1.0, base=0.02)

logger = structlog.get_logger(__name__)


class RedisBus:
    """See `rtm.bus.base.Bus`; `url` is `redis://`, `rediss://` or `unix://`."""

    def __init__(self, url: str) -> None:
        # RESP 2, since redis-py formats a log line for each push of RESP 3. None of its retries, since a message sent
        # again may be heard twice. None of its time limits, since they stand on `asyncio.wait_for`, which in Python
        # 3.11 can lose a cancellation.
        pool = ConnectionPool.from_url(url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None)
        process_id = secrets.token_hex(_PROCESS_ID_BYTES // 2).encode()
        self._publisher = _Publisher(pool, process_id)
        self._listener = _Listener(pool, process_id)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def healthy(self) -> bool:
        return self._listener.hears_probe

    async def start(self) -> None:
        try:
            await self._publisher.connect()
            await self._listener.connect()
        except RedisError as error:
            await self._disconnect()
            raise BusUnavailable(str(error)) from error
        work = (self._publisher.run(), self._listener.run(), self._probe())
        self._tasks = [asyncio.create_task(task) for task in work]

    async def stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._publisher.sent.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self._publisher.disconnect()
        await self._listener.disconnect()

    async def _probe(self) -> None:
        while True:
            self._publisher.send_probe()
            await asyncio.sleep(PROBE_INTERVAL_S)

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self._publisher.add(envelope.license_id, envelope.encode())

    async def subscribe(self, license_id: int) -> None:
        await self._listener.subscribe(license_id)

    async def unsubscribe(self, license_id: int) -> None:
        await self._listener.unsubscribe(license_id)

    async def received(self) -> AsyncIterator[Envelope | Lost]:
        while True:
            arrived = await self._listener.arrived.get()
            if isinstance(arrived, Lost):
                yield arrived
            else:
                for item in _decode(*arrived):
                    yield item


def _decode(license_id: int, message: bytes) -> Iterator[Envelope | Lost]:
    head, separator, body = message.partition(b"\n")
    if len(head) != _PROCESS_ID_BYTES or not separator:
        logger.warning("bus_message_malformed", license_id=license_id, size=len(message))
        return
    for line in body.split(b"\n"):
        if not line:
            yield Lost(license_id)
            continue
        try:
            yield Envelope.decode(line)
        except MALFORMED as error:
            logger.warning("bus_message_malformed", license_id=license_id, size=len(line), error=repr(error))


class _Publisher:
    """Sends what waits, in one write; what it could not send it announces as `Lost` once it can."""

    def __init__(self, pool: ConnectionPool, process_id: bytes) -> None:
        self._pool = pool
        self._process_id = process_id
        self._connection: Connection | None = None
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._outgoing_bytes = 0
        self._unsaid: set[int] = set()  # licenses of which something was dropped, or perhaps not heard
        self._probe_due = False
        self._waiting = asyncio.Event()
        self.sent = asyncio.Event()
        """Nothing waits."""
        self.sent.set()

    def add(self, license_id: int, envelope: bytes) -> None:
        self._outgoing.append((license_id, envelope))
        self._outgoing_bytes += len(envelope)
        while self._outgoing_bytes > OUTGOING_BYTES:
            dropped_license_id, dropped = self._outgoing.popleft()
            self._outgoing_bytes -= len(dropped)
            self._unsaid.add(dropped_license_id)
        self.sent.clear()
        self._waiting.set()

    def send_probe(self) -> None:
        self._probe_due = True
        self._waiting.set()

    async def connect(self) -> Connection:
        self._connection = await _connect(self._pool)
        return self._connection

    async def run(self) -> None:
        retry = _endless_retry()
        while True:
            await self._waiting.wait()
            await retry.call_with_retry(self._send, self._failed)

    async def _send(self) -> None:
        connection = self._connection
        if connection is None or await connection.can_read():  # nothing was asked: what can be read is its end
            await self.disconnect()
            connection = await self.connect()
        self._waiting.clear()
        batches = self._take()
        commands = [
            (b"PUBLISH", _channel(license_id), b"\n".join((self._process_id, *envelopes)))
            for license_id, envelopes in batches.items()
        ]
        if self._probe_due:
            self._probe_due = False
            commands.append((b"PUBLISH", _probe_channel(self._process_id), self._process_id))
        try:
            async with _time_limit():
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                for _ in commands:
                    await connection.read_response(timeout=math.inf)
        except RedisError:
            self._unsaid.update(batches)
            raise
        if not self._outgoing:
            self.sent.set()

    def _take(self) -> dict[int, list[bytes]]:
        """All that waits, by license, in order."""
        batches: dict[int, list[bytes]] = {license_id: [b""] for license_id in self._unsaid}
        for license_id, envelope in self._outgoing:
            batches.setdefault(license_id, []).append(envelope)
        self._outgoing.clear()
        self._outgoing_bytes = 0
        self._unsaid.clear()
        return batches

    async def _failed(self, error: Exception) -> None:
        if self._connection is not None:
            logger.warning("bus_publishing_failed", error=str(error))
        await self.disconnect()

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


class _Listener:
    """Hears the channels of the licenses subscribed to, and says `Lost` whenever it was away."""

    def __init__(self, pool: ConnectionPool, process_id: bytes) -> None:
        self._pool = pool
        self._process_id = process_id
        self._probe_channel = _probe_channel(process_id)
        self._connection: Connection | None = None
        self._licenses: dict[bytes, int] = {}  # by channel
        # Redis confirms in the order in which it was asked.
        self._unconfirmed: deque[asyncio.Future[None]] = deque()
        self._deadline = asyncio.timeout(None)
        self._was_away = False
        self.hears_probe = False
        self.arrived: asyncio.Queue[tuple[int, bytes] | Lost] = asyncio.Queue(INCOMING_MESSAGES)

    async def run(self) -> None:
        retry = _endless_retry()
        while True:
            connection = self._connection
            if connection is None:
                await asyncio.sleep(_BACKOFF.compute(1))  # also when connections end as soon as they are made
                connection = await retry.call_with_retry(self.connect, self._could_not_connect)
            try:
                await self._listen(connection)
            except (RedisError, TimeoutError) as error:
                logger.warning("bus_lost", error=str(error) or "the probe did not come back")
            self._was_away = True
            await self.disconnect()

    async def connect(self) -> Connection:
        """Connect and subscribe to everything wanted, also to what comes to be wanted meanwhile."""
        connection = await _connect(self._pool)
        try:
            subscribed: set[bytes] = set()
            async with _time_limit():
                while missing := {self._probe_channel, *self._licenses} - subscribed:
                    await connection.send_command(b"SUBSCRIBE", *missing, check_health=False)
                    subscribed |= missing
                    unconfirmed = len(missing)
                    while unconfirmed:  # a message in between is one of those that `Lost` stands for
                        kind, _, _ = await connection.read_response(timeout=math.inf)
                        unconfirmed -= kind == b"subscribe"
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        return connection

    async def _could_not_connect(self, error: Exception) -> None:
        logger.info("bus_away", error=str(error))

    async def _listen(self, connection: Connection) -> None:
        async with asyncio.timeout(PROBE_INTERVAL_S + CALL_TIMEOUT_S) as self._deadline:
            if self._was_away:
                await self.arrived.put(Lost())
            while True:
                kind, channel, data = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
                if kind == b"message":
                    await self._take(channel, data)
                elif self._unconfirmed:
                    _release(self._unconfirmed.popleft())

    async def _take(self, channel: bytes, data: bytes) -> None:
        if not data.startswith(self._process_id):
            license_id = self._licenses.get(channel)
            if license_id is not None:
                await self.arrived.put((license_id, data))
        elif channel == self._probe_channel:
            self.hears_probe = True
            self._deadline.reschedule(asyncio.get_running_loop().time() + PROBE_INTERVAL_S + CALL_TIMEOUT_S)

    async def subscribe(self, license_id: int) -> None:
        channel = _channel(license_id)
        self._licenses[channel] = license_id
        await self._ask(b"SUBSCRIBE", channel)

    async def unsubscribe(self, license_id: int) -> None:
        channel = _channel(license_id)
        if self._licenses.pop(channel, None) is not None:
            await self._ask(b"UNSUBSCRIBE", channel)

    async def _ask(self, command: bytes, channel: bytes) -> None:
        """Return once confirmed, or when the connection is gone: the next begins with all channels and `Lost`."""
        connection = self._connection
        if connection is None:
            return
        confirmed = asyncio.get_running_loop().create_future()
        self._unconfirmed.append(confirmed)
        try:
            async with _time_limit():
                await connection.send_command(command, channel, check_health=False)
                await confirmed
        except RedisError:
            if connection is self._connection:
                self._deadline.reschedule(0)

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.hears_probe = False
        while self._unconfirmed:
            _release(self._unconfirmed.popleft())
        if connection is not None:
            await connection.disconnect(nowait=True)


def _channel(license_id: int) -> bytes:
    """The braces keep a license's channel and keys on one shard of a cluster."""
    return b"rtm:push:{%d}" % license_id


def _probe_channel(process_id: bytes) -> bytes:
    return b"rtm:probe:" + process_id


async def _connect(pool: ConnectionPool) -> Connection:
    connection: Connection = pool.make_connection()  # type: ignore[no-untyped-call]
    async with _time_limit():
        await connection.connect()  # type: ignore[no-untyped-call]
    return connection


def _endless_retry() -> Retry:
    return Retry(_BACKOFF, retries=-1, supported_errors=(RedisError,))


@contextlib.asynccontextmanager
async def _time_limit() -> AsyncIterator[None]:
    """Raise redis-py's TimeoutError past CALL_TIMEOUT_S."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except TimeoutError:
        raise RedisTimeoutError(f"Redis did not answer within {CALL_TIMEOUT_S} s") from None


def _release(confirmed: "asyncio.Future[None]") -> None:
    if not confirmed.done():
        confirmed.set_result(None)
