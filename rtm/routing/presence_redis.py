"""The presence of many processes, in Redis.

    rtm:presence:{<license>}:states      hash: agent -> what `rtm.routing.presence.State` holds, as JSON
    rtm:presence:{<license>}:processes   sorted set: process -> the time until which its connections count

A process writes how many connections an agent has with it, never a difference, so that a write that was lost is made
good by the next; it also renews, every third of HEARTBEAT_S, its place among the processes of each license it serves,
and writes everything again where it finds itself forgotten: it was frozen, or Redis came back empty. Each change is
one call of presence.lua.

While Redis is away connections come and go, and their agents' statuses are those of this process alone; statuses that
were chosen are gone with a Redis that comes back empty.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from rtm.protocol.errors import ServiceUnavailable
from rtm.redis_client import RedisUrl
from rtm.routing.presence import Agent, Change, MemoryPresence, State

HEARTBEAT_S = 10.0
"""How long a process that says nothing more still counts."""
CALL_TIMEOUT_S = 2.0
"""The longest that Redis may take to answer, waiting for a connection included."""
_CONNECTIONS = 8

_CHANGE = files("rtm.routing").joinpath("presence.lua").read_text()
_RENEW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
"""
_READ = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', now), '+inf'), redis.call('HGETALL', KEYS[1])}
"""

logger = structlog.get_logger(__name__)


class RedisPresence:
    """See `rtm.routing.presence.Presence`."""

    def __init__(self, url: str) -> None:
        self._client = RedisUrl.parse(url).client(timeout_s=CALL_TIMEOUT_S, max_connections=_CONNECTIONS)
        self._change = self._client.register_script(_CHANGE)
        self._read = self._client.register_script(_READ)
        self._process_id = secrets.token_hex(8)
        self._revision = 0
        self._here = MemoryPresence()
        self._own: dict[int, dict[str, bool]] = {}  # license: agent with connections here: is it a bot
        self._unsure: dict[tuple[int, str], bool] = {}  # what Redis may not know
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._renewing = asyncio.create_task(self._renew_all())

    async def stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        with contextlib.suppress(ServiceUnavailable):
            async with _answered(), self._client.pipeline(transaction=False) as pipeline:
                for license_id in self._own:
                    pipeline.zrem(_keys(license_id)[1], self._process_id)
                await pipeline.execute()
        await self._client.aclose()

    async def join(
        self,
        license_id: int,
        agent_id: str,
        connection_id: str,
        *,
        default_status: str,
        is_bot: bool,
        away: bool,
        reconnect: bool,
    ) -> Change:
        here = await self._here.join(
            license_id,
            agent_id,
            connection_id,
            default_status=default_status,
            is_bot=is_bot,
            away=away,
            reconnect=reconnect,
        )
        self._own.setdefault(license_id, {})[agent_id] = is_bot
        return await self._count(license_id, agent_id, default_status, is_bot, restore=reconnect) or here

    async def leave(
        self, license_id: int, agent_id: str, connection_id: str, *, default_status: str, is_bot: bool
    ) -> Change:
        known = self._here.knows(license_id, agent_id, connection_id)
        here = await self._here.leave(license_id, agent_id, connection_id, default_status=default_status, is_bot=is_bot)
        if not known:
            return here
        if self._here.count(license_id, agent_id) == (0, 0):
            del self._own[license_id][agent_id]
            if not self._own[license_id]:
                del self._own[license_id]
        return await self._count(license_id, agent_id, default_status, is_bot) or here

    async def set_away(
        self, license_id: int, agent_id: str, connection_id: str, away: bool, *, default_status: str, is_bot: bool
    ) -> Change:
        here = await self._here.set_away(
            license_id, agent_id, connection_id, away, default_status=default_status, is_bot=is_bot
        )
        if not self._here.knows(license_id, agent_id, connection_id):
            return here
        return await self._count(license_id, agent_id, default_status, is_bot) or here

    async def set_status(
        self, license_id: int, agent_id: str, status: str, *, default_status: str, is_bot: bool
    ) -> Change:
        async with _answered():
            before, after, _ = await self._call("choose", license_id, agent_id, default_status, is_bot, status)
        await self._here.set_status(license_id, agent_id, status, default_status=default_status, is_bot=is_bot)
        return Change(before, after)

    async def statuses(self, license_id: int, agents: Mapping[str, Agent]) -> dict[str, str]:
        async with _answered():
            live, fields = await self._read(keys=_keys(license_id))
        live = {process_id.decode() for process_id in live}
        states = dict(zip(fields[::2], fields[1::2], strict=True))
        return {
            agent_id: _state(states.get(agent_id.encode())).status(agent.default_status, agent.kind == "bot", live)
            for agent_id, agent in agents.items()
        }

    async def _count(
        self, license_id: int, agent_id: str, default_status: str, is_bot: bool, *, restore: bool = True
    ) -> Change | None:
        """Write what is here of the agent; None if Redis may not have heard."""
        self._revision += 1
        counted = (*self._here.count(license_id, agent_id), self._revision, int(restore))
        try:
            async with _answered():
                before, after, forgotten = await self._call(
                    "count", license_id, agent_id, default_status, is_bot, *counted
                )
        except ServiceUnavailable:
            self._unsure[license_id, agent_id] = is_bot
            return None
        if forgotten:
            self._doubt(license_id)
            self._unsure.pop((license_id, agent_id), None)
        return Change(before, after)

    async def _call(
        self, operation: str, license_id: int, agent_id: str, default_status: str, is_bot: bool, *rest: str | int
    ) -> tuple[str, str, int]:
        lifetime_ms = int(HEARTBEAT_S * 1000)
        arguments = [operation, agent_id, default_status, int(is_bot), self._process_id, lifetime_ms, *rest]
        before, after, forgotten = await self._change(keys=_keys(license_id), args=arguments)
        return before.decode(), after.decode(), forgotten

    async def _renew_all(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S / 3)
            try:
                await self._renew_once()
            except ServiceUnavailable as error:
                logger.warning("presence_away", error=str(error.__cause__))

    async def _renew_once(self) -> None:
        licenses = list(self._own)
        async with _answered(), self._client.pipeline(transaction=False) as pipeline:
            for license_id in licenses:
                key = _keys(license_id)[1]
                pipeline.eval(_RENEW, 1, key, self._process_id, int(HEARTBEAT_S * 1000))
            forgotten = await pipeline.execute()
        for license_id, was_forgotten in zip(licenses, forgotten, strict=True):
            if was_forgotten:
                self._doubt(license_id)
        unsure, self._unsure = self._unsure, {}
        for (license_id, agent_id), is_bot in unsure.items():
            await self._count(license_id, agent_id, "", is_bot)

    def _doubt(self, license_id: int) -> None:
        """Write all agents of the license again at the next renewal."""
        for agent_id, is_bot in self._own.get(license_id, {}).items():
            self._unsure[license_id, agent_id] = is_bot


def _keys(license_id: int) -> list[str]:
    """The braces keep a license's keys on one shard of a cluster."""
    return [f"rtm:presence:{{{license_id}}}:states", f"rtm:presence:{{{license_id}}}:processes"]


def _state(document: bytes | None) -> State:
    if document is None:
        return State()
    state: dict[str, Any] = orjson.loads(document)
    return State(
        chosen=state.get("chosen"),
        last=state.get("last"),
        in_session=state.get("in_session", False),
        defies_away=state.get("defies_away", False),
        processes={process_id: (count, away) for process_id, (count, away, _) in state["processes"].items()},
    )


@contextlib.asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Raise ServiceUnavailable when Redis does not answer within CALL_TIMEOUT_S."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except (RedisError, TimeoutError) as error:
        raise ServiceUnavailable("Presence is not available") from error
