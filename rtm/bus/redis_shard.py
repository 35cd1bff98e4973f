"""A Redis server that carries channels, and what this process says and hears there."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import structlog
from hiredis import ReplyError
from redis.backoff import EqualJitterBackoff
from redis.exceptions import RedisError

from rtm.bus.base import Envelope, Traffic
from rtm.bus.redis_connection import RedisConnection, connect
from rtm.bus.redis_places import Address
from rtm.redis_client import RedisUrl

CALL_TIMEOUT_S = 2.0
"""The longest that Redis may take to answer anything, connecting included."""
PROBE_INTERVAL_S = 1.0
HOLD_S = 0.002
"""How long a push waits for others if there has been a flush as short a time ago: most of what a lone one costs is a
write and a read, which those that come at 500 a second or more share."""
LONG_HOLD_S = 0.016
"""The same where pushes come every OFTEN_S or faster: then a dozen and more share them."""
OFTEN_S = 0.00125
LATE_S = 0.001
"""How much longer they may wait for the next push to take them along, which saves a turn of the loop."""
OUTGOING_BYTES = 8 << 20
"""What may wait for a server: a quarter of the 32 MiB at which, by default, Redis cuts off a slow subscriber."""

_BACKOFF = EqualJitterBackoff(cap=1.0, base=0.02)
_NOT_THE_PLACE = ("MOVED", "READONLY")
"""How a server refuses that has lost a slot, or has become a replica."""
_NOT_YET = "LOADING"
"""How a server refuses that reads its data."""
_CUT_OFF = ("CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS")
"""How a server refuses that misses others of its Cluster, its master or its replicas: they may go on without it."""

logger = structlog.get_logger(__name__)


class Hearer(Protocol):
    """Who listens to the shards."""

    process_id: bytes
    """What the messages of this process begin with."""
    traffic: Traffic

    def wanted_of(self, shard: "Shard") -> Iterable[bytes]:
        """The channels to be heard there."""

    def probe_channel_of(self, shard: "Shard") -> bytes:
        """A channel of this process only, carried there. Raises ConnectionError if the shard carries none."""

    def heard(self, channel: bytes, message: bytes) -> None:
        """What another process has published."""

    def missed(self, channel: bytes) -> None:
        """Something may have been published that was not heard."""

    def unpublished(self, license_id: int) -> None:
        """Something of this license was perhaps not published."""

    def misplaced(self) -> None:
        """Some channel may have another place now."""


class Shard:
    """Its connection is made anew whenever it ends; what may have been missed meanwhile is told to the hearer."""

    def __init__(self, url: RedisUrl, address: Address, hearer: Hearer) -> None:
        prefix = b"S" if url.topology == "cluster" else b""
        self._publish, self._subscribe, self._unsubscribe = (
            prefix + command for command in (b"PUBLISH", b"SUBSCRIBE", b"UNSUBSCRIBE")
        )
        self.address = address
        self._url = url
        self._hearer = hearer
        self._connection: RedisConnection | None = None
        self._ended = asyncio.Event()
        self._attempts = 0
        self._probe = b""
        self._probe_heard_at = 0.0
        self._hears_probe = False
        self._is_cut_off = False
        self._channels: set[bytes] = set()
        """What is heard here, or will be once confirmed."""
        self._leaving: Counter[bytes] = Counter()
        """What we have asked to hear no more, and how often, until confirmed."""
        self._outgoing: deque[Envelope] = deque()
        self._outgoing_bytes = 0
        self.unsent: set[int] = set()
        """Licenses of which something was dropped, or perhaps not published: told with the next flush, a probe's at the
        latest."""
        self._flushing: asyncio.Handle | None = None
        self._flushes_now = False
        self._hold_s = HOLD_S
        self._flushed_at = 0.0
        self._flush_at = 0.0

    # The connection

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        while True:
            if self._connection is None:
                # Also between connections that end as soon as they are made: only a probe heard ends the series.
                await asyncio.sleep(_BACKOFF.compute(self._attempts))
                self._attempts += 1
                try:
                    await self.connect()
                except (OSError, RedisError) as error:
                    say = logger.info if self._attempts == 1 else logger.debug
                    say("bus_away", server=self.address, reason=str(error) or "it does not answer")
                    self._hearer.misplaced()
                    continue
                self._hearer.traffic.reconnects += 1
            await self._ended.wait()

    async def connect(self) -> None:
        """Connect, and ask for all that is wanted. Raises OSError, RedisError."""
        loop = asyncio.get_running_loop()
        probe = self._hearer.probe_channel_of(self)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            connection = await connect(self._url, self.address, self)
            try:
                await _can_write(connection, probe)
            except BaseException:
                connection.abort("it is not the place")
                raise
        self._connection = connection
        self._ended.clear()
        self._probe, self._probe_heard_at = probe, loop.time()
        for channel in (probe, *self._hearer.wanted_of(self)):
            self.hear(channel, again=True)
        self.probe()

    def closed(self, connection: RedisConnection, reason: str) -> None:
        if connection is not self._connection:
            return
        logger.warning("bus_lost", server=self.address, reason=reason)
        self._connection = None
        self._hears_probe = False
        self._channels.clear()
        self._leaving.clear()
        self._ended.set()
        self._hearer.misplaced()

    def abort(self, reason: str) -> None:
        """End the connection; `run` makes another."""
        if self._connection is not None:
            self._connection.abort(reason)

    def close(self) -> None:
        """End the connection for good, with what waits for it."""
        for license_id in {*self.unsent, *(envelope.license_id for envelope in self._outgoing)}:
            self._hearer.unpublished(license_id)
        self._hearer.traffic.dropped += len(self._outgoing)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort("closed")

    async def drain(self) -> None:
        """Send what waits; return when the server has taken it. Raises OSError."""
        if self._connection is not None:
            self._send(self._connection)
            await self._connection.answer("PING")

    # The probe

    def probe(self) -> None:
        """Send a probe, unless the last one has not come back in time; to be called every PROBE_INTERVAL_S."""
        connection = self._connection
        if connection is None:
            return
        if asyncio.get_running_loop().time() > self._probe_heard_at + PROBE_INTERVAL_S + CALL_TIMEOUT_S:
            connection.abort("the probe did not come back")
            return
        # A server that is no master any more, or cut off from the others, returns the probe too, but not what others
        # publish. It refuses to write; here there is nothing to delete.
        connection.ask(self._written, b"DEL", self._probe)
        connection.ask(self._probed, self._publish, self._probe, self._hearer.process_id)
        self._flush()

    def _written(self, answer: Any) -> None:
        self._is_cut_off = _refused(answer, _CUT_OFF)
        if self._is_cut_off:
            self._hearer.misplaced()
        elif _refused(answer, _NOT_THE_PLACE):
            self.abort(str(answer))

    def _probed(self, answer: Any) -> None:
        if isinstance(answer, ReplyError):
            logger.warning("bus_refused", server=self.address, reason=str(answer))
            if _refused(answer, _NOT_THE_PLACE):
                self.abort(str(answer))

    @property
    def works(self) -> bool:
        """What is published is heard, as far as its own probe can tell."""
        return self._hears_probe and not self._is_cut_off

    # What is heard

    def hears(self, channel: bytes) -> bool:
        return channel in self._channels

    def hear(self, channel: bytes, *, again: bool = False) -> "asyncio.Future[None] | None":
        """Ask for the channel; done when it is in force or the connection is gone, None if there is no connection.

        With `again`, what was published before it came into force counts as missed.
        """
        if self._connection is None:
            return None
        self._channels.add(channel)
        confirmed = asyncio.get_running_loop().create_future()
        self._connection.subscribe(partial(self._subscribed, channel, again, confirmed), self._subscribe, channel)
        return confirmed

    def _subscribed(self, channel: bytes, again: bool, confirmed: "asyncio.Future[None]", answer: Any) -> None:
        if isinstance(answer, ReplyError):
            logger.warning("bus_refused", server=self.address, reason=str(answer))
            self._channels.discard(channel)
            self._hearer.misplaced()
        elif again and not isinstance(answer, Exception):
            self._hearer.missed(channel)
        _release(confirmed)

    def leave(self, channel: bytes) -> "asyncio.Future[None] | None":
        """Ask to hear the channel no more; done when that is in force, None if it is already."""
        if self._connection is None or channel not in self._channels:
            return None
        self._channels.discard(channel)
        self._leaving[channel] += 1
        confirmed = asyncio.get_running_loop().create_future()
        self._connection.subscribe(partial(self._left, channel, confirmed), self._unsubscribe, channel)
        return confirmed

    def _left(self, channel: bytes, confirmed: "asyncio.Future[None]", _answer: Any) -> None:
        self._leaving[channel] -= 1
        if self._leaving[channel] <= 0:
            del self._leaving[channel]
        _release(confirmed)

    def unsubscribed(self, channel: bytes) -> None:
        if channel in self._leaving or channel not in self._channels:
            return
        self._channels.discard(channel)
        if channel == self._probe:
            self.abort("the slot of the probe has moved")
        self._hearer.misplaced()

    def heard(self, channel: bytes, message: bytes) -> None:
        if not message.startswith(self._hearer.process_id):
            self._hearer.heard(channel, message)
        elif channel == self._probe:
            if not self._hears_probe:
                logger.info("bus_works", server=self.address)
            self._hears_probe = True
            self._probe_heard_at = asyncio.get_running_loop().time()
            self._attempts = 0

    # What is published

    def publish(self, envelope: Envelope) -> None:
        """Queue it; what is queued within one turn of the loop leaves together, and is encoded only then."""
        self._outgoing.append(envelope)
        self._outgoing_bytes += _size(envelope)
        if self._outgoing_bytes > OUTGOING_BYTES:
            self._drop_oldest()
        self._flush_soon()

    def _flush_soon(self) -> None:
        """At the end of this turn of the loop, or when others have had time to come."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._flushing is None and now < self._flushed_at + self._hold_s:
            self._flush_at = now + self._hold_s
            self._flushing = loop.call_later(self._hold_s + LATE_S, self._flush)
        elif not self._flushes_now and now >= self._flush_at:
            self._flushes_now = True
            loop.call_soon(self._flush)

    def _drop_oldest(self) -> None:
        while self._outgoing_bytes > OUTGOING_BYTES:
            dropped = self._outgoing.popleft()
            self._outgoing_bytes -= _size(dropped)
            self._hearer.traffic.dropped += 1
            self.unsent.add(dropped.license_id)

    def writable(self) -> None:
        self._flush()

    def _flush(self) -> None:
        self._flushes_now, self._flush_at = False, 0.0
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._connection is not None and self._connection.takes_more:
            self._send(self._connection)

    def _send(self, connection: RedisConnection) -> None:
        outgoing, unsent = self._outgoing, self.unsent
        if not outgoing and not unsent:
            return
        self._outgoing, self._outgoing_bytes, self.unsent = deque(), 0, set()
        self._flushed(len(outgoing))
        batches = {license_id: [b""] for license_id in unsent}
        for envelope in outgoing:
            batches.setdefault(envelope.license_id, []).append(envelope.encode())
        for license_id, batch in batches.items():
            message = b"\n".join((self._hearer.process_id, *batch))
            connection.ask(partial(self._published, license_id), self._publish, channel_of(license_id), message)
        self._hearer.traffic.published += len(outgoing)

    def _flushed(self, pushes: int) -> None:
        now = asyncio.get_running_loop().time()
        self._hold_s = LONG_HOLD_S if now - self._flushed_at < pushes * OFTEN_S else HOLD_S
        self._flushed_at = now

    def _published(self, license_id: int, answer: Any) -> None:
        if isinstance(answer, Exception):
            self._hearer.unpublished(license_id)  # which may have another home by now
            if _refused(answer, _NOT_THE_PLACE):
                self._hearer.misplaced()

    def hand_over(self, home_of: "Callable[[int], Shard | None]") -> None:
        """Give what waits to the shards that carry it now."""
        for license_id in list(self.unsent):
            home = home_of(license_id)
            if home is not None and home is not self:
                self.unsent.remove(license_id)
                home.unsent.add(license_id)
        waiting, self._outgoing = self._outgoing, deque()
        for envelope in waiting:
            home = home_of(envelope.license_id)
            if home is None or home is self:
                self._outgoing.append(envelope)
            else:
                self._outgoing_bytes -= _size(envelope)
                home.publish(envelope)


def _size(envelope: Envelope) -> int:
    """About as many bytes as it will take."""
    return len(envelope.payload) + 200


def channel_of(license_id: int) -> bytes:
    """The braces keep a license's channel and keys on one shard of a Cluster."""
    return b"rtm:push:{%d}" % license_id


async def _can_write(connection: RedisConnection, key: bytes) -> None:
    """Raises ConnectionError where nobody else's publications may arrive: see `Shard.probe`."""
    try:
        await connection.answer("DEL", key)
    except ReplyError as refusal:
        if _refused(refusal, (*_NOT_THE_PLACE, _NOT_YET)):
            raise ConnectionError(str(refusal)) from refusal


def _refused(answer: Any, reasons: tuple[str, ...]) -> bool:
    return isinstance(answer, ReplyError) and str(answer).startswith(reasons)


def _release(confirmed: "asyncio.Future[None]") -> None:
    if not confirmed.done():
        confirmed.set_result(None)
