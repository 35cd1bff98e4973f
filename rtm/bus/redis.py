"""The bus through Redis pub/sub, one channel for each license.

A message is what one process published about one license in one flush, so a burst costs one command:

    <process id> LF <envelope> [LF <envelope> ...]      an empty line in place of an envelope says `Lost`

JSON as orjson writes it holds no line feed. Redis returns a publisher its own messages too; the process id at their
head lets it drop them unread.

On one server, or the master that Sentinels know, it is ordinary pub/sub. On a Cluster it is sharded (Redis 7), and a
license's channel is with the server that has its slot. There is one connection to each server (redis_shard.py,
redis_connection.py), and the bus works when a probe through each of them comes back. Where the channels are
(redis_places.py) is looked up every PLACES_INTERVAL_S, and at once when a server fails or says that it is another's.

What a push of 300 bytes costs in Python is 6 µs to publish, the envelope's encoding and the echo included, and 4 µs to
hear. The rest is the kernel's: a write and two wake-ups with a read to publish, one to hear. From 500 a second on a
push waits up to HOLD_S for others to share them, from 800 on up to LONG_HOLD_S. `python -m bench bus` measures both
sides: less than half of what redis-py's streams cost with a connection for each direction, one at a time and in bursts.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError

from rtm.bus.base import MALFORMED, BusUnavailable, Envelope, Lost, Take, Traffic
from rtm.bus.redis_places import Address, places_of
from rtm.bus.redis_shard import CALL_TIMEOUT_S, PROBE_INTERVAL_S, Shard, channel_of
from rtm.redis_client import RedisUrl, cancelled

STOP_TIMEOUT_S = 1.0
PLACES_INTERVAL_S = 5.0
"""A look costs 4 ms of CPU on a Cluster, and nothing to speak of elsewhere."""

_PROCESS_ID_BYTES = 16
_PROBE_CHANNELS = 100_000  # enough that a server with one of the 16,384 slots has one of them
_LOOKUP_PAUSE_S = 0.2
_WORK_PAUSE_S = 1.0

Work = Callable[[], Coroutine[Any, Any, None]]

logger = structlog.get_logger(__name__)


class RedisBus:
    """See `rtm.bus.base.Bus`; `url` is one of those of `rtm.redis_client`."""

    def __init__(self, url: str) -> None:
        self.process_id = secrets.token_hex(_PROCESS_ID_BYTES // 2).encode()
        self.traffic = Traffic()
        self._take: Take = lambda _: None
        self._url = RedisUrl.parse(url)
        self._places = places_of(self._url, CALL_TIMEOUT_S)
        self._misplaced = asyncio.Event()
        self._astray = False
        """Where the channels are could not be looked up the last time."""
        self._shards: dict[Address, Shard] = {}
        self._homes: dict[int, Shard] = {}
        """Where a license is published, until places change."""
        self._unsent: set[int] = set()
        """Licenses of which something was not published, as nobody carries their channel."""
        self._licenses: dict[bytes, int] = {}
        """What is to be heard, by channel."""
        self._tasks: dict[Address | str, asyncio.Task[None]] = {}

    @property
    def healthy(self) -> bool:
        return bool(self._shards) and all(shard.works for shard in self._shards.values())

    def listen(self, take: Take) -> None:
        self._take = take

    async def start(self) -> None:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._places.find()
            self._shards = {address: Shard(self._url, address, self) for address in self._places.all}
            connecting = (shard.connect() for shard in self._shards.values())
            failures = [error for error in await asyncio.gather(*connecting, return_exceptions=True) if error]
            if len(failures) == len(self._shards):
                raise failures[0]
        except (RedisError, OSError) as error:
            await self._disconnect()
            raise BusUnavailable(str(error) or "Redis did not answer") from error
        works: dict[Address | str, Work] = {address: shard.run for address, shard in self._shards.items()}
        works |= {"probe": self._probe, "follow": self._follow}
        self._tasks = {name: asyncio.create_task(_for_good(work)) for name, work in works.items()}

    async def stop(self) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):  # what one server refuses the others may take
                    await asyncio.gather(*(each.drain() for each in self._shards.values()), return_exceptions=True)
        finally:
            await self._disconnect()

    async def _disconnect(self) -> None:
        await cancelled(self._tasks.values())
        for shard in self._shards.values():
            shard.close()
        await self._places.close()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            for shard in list(self._shards.values()):
                shard.probe()

    # Where the channels are

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLACES_INTERVAL_S):
                    await self._misplaced.wait()
            self._misplaced.clear()
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    await self._places.find()
            except (RedisError, OSError) as error:
                say = logger.debug if self._astray else logger.warning
                say("bus_places_unknown", reason=str(error) or "Redis did not answer")
                self._astray = True
            else:
                self._astray = False
            self._settle()
            await asyncio.sleep(_LOOKUP_PAUSE_S)

    def _settle(self) -> None:
        """Make the shards those that there are, and move to them what is elsewhere."""
        before = self._shards
        self._shards = {address: before.get(address) or Shard(self._url, address, self) for address in self._places.all}
        for address in self._shards.keys() - before.keys():
            self._tasks[address] = asyncio.create_task(_for_good(self._shards[address].run))
        self._homes.clear()
        for shard in before.values():
            shard.hand_over(self._home_of)
        for address in before.keys() - self._shards.keys():
            self._tasks.pop(address).cancel()
            before[address].close()
        unsent, self._unsent = self._unsent, set()
        for license_id in unsent:
            self.unpublished(license_id)
        for channel in self._licenses:
            home = self._shard_of(channel)
            if home is not None and not home.hears(channel):
                home.hear(channel, again=True)

    def _shard_of(self, channel: bytes) -> Shard | None:
        try:
            return self._shards.get(self._places.of(channel))
        except LookupError:
            return None

    def _home_of(self, license_id: int) -> Shard | None:
        home = self._homes.get(license_id)
        if home is None and (home := self._shard_of(channel_of(license_id))) is not None:
            self._homes[license_id] = home
        return home

    # What the shards ask and tell

    def probe_channel_of(self, shard: Shard) -> bytes:
        for number in range(_PROBE_CHANNELS):
            channel = b"rtm:probe:{%d}:%s" % (number, self.process_id)
            if self._shard_of(channel) is shard:
                return channel
        raise ConnectionError("it carries no channel")

    def wanted_of(self, shard: Shard) -> Iterable[bytes]:
        return [channel for channel in self._licenses if self._shard_of(channel) is shard]

    def heard(self, channel: bytes, message: bytes) -> None:
        license_id = self._licenses.get(channel)
        if license_id is None:
            return
        head, separator, body = message.partition(b"\n")
        if len(head) != _PROCESS_ID_BYTES or not separator:
            logger.warning("bus_message_malformed", license_id=license_id, size=len(message))
            return
        for line in body.split(b"\n"):
            if line:
                self._take_envelope(license_id, line)
            else:
                self._lose(license_id)

    def _take_envelope(self, license_id: int, line: bytes) -> None:
        try:
            envelope = Envelope.decode(line)
        except MALFORMED as error:
            logger.warning("bus_message_malformed", license_id=license_id, size=len(line), error=repr(error))
            return
        self.traffic.heard += 1
        self._take(envelope)

    def _lose(self, license_id: int) -> None:
        self.traffic.lost += 1
        self._take(Lost(license_id))

    def missed(self, channel: bytes) -> None:
        license_id = self._licenses.get(channel)
        if license_id is not None:
            self._lose(license_id)

    def unpublished(self, license_id: int) -> None:
        home = self._home_of(license_id)
        (self._unsent if home is None else home.unsent).add(license_id)

    def misplaced(self) -> None:
        self._misplaced.set()

    # The bus

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            home = self._home_of(envelope.license_id)
            if home is not None:
                home.publish(envelope)
            else:  # nobody carries its slot
                self.traffic.dropped += 1
                self._unsent.add(envelope.license_id)

    async def subscribe(self, license_id: int) -> None:
        channel = channel_of(license_id)
        self._licenses[channel] = license_id
        home = self._shard_of(channel)
        if home is not None:
            await _confirmed(home, home.hear(channel))

    async def unsubscribe(self, license_id: int) -> None:
        channel = channel_of(license_id)
        self._licenses.pop(channel, None)
        home = self._shard_of(channel)
        if home is not None:
            await _confirmed(home, home.leave(channel))


async def _for_good(work: Work) -> None:
    """Begin it again if it ends by what nobody has foreseen, until cancelled."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("bus_work_failed", work=work.__qualname__)
            await asyncio.sleep(_WORK_PAUSE_S)


async def _confirmed(shard: Shard, confirmed: "asyncio.Future[None] | None") -> None:
    """Wait for the server; one that does not answer loses its connection, and the next one begins with a loss."""
    if confirmed is not None:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await confirmed
        except TimeoutError:
            shard.abort("it did not answer")
