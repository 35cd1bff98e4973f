"""A Redis that keeps its connections and says nothing: who logs in meanwhile does not wait for it in turn."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

import rtm.bus.redis
from rtm.routing import presence_redis
from tests.faults.proxy import Proxy
from tests.servers import RedisServer
from tests.world import World

CALL_TIMEOUT_S = 1.0
LOGINS = 64


@pytest.mark.parametrize("licenses", [1, 8])
async def test_many_log_in_while_redis_is_silent(
    world_with: Callable[..., Awaitable[World]],
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    licenses: int,
) -> None:
    for module in (presence_redis, rtm.bus.redis):
        monkeypatch.setattr(module, "CALL_TIMEOUT_S", CALL_TIMEOUT_S)
    async with Proxy(redis_server.port) as proxy:
        world = await world_with({"logins_per_minute": 0}, redis_url=f"redis://127.0.0.1:{proxy.port}")
        worlds = [world, *[await world.server.world() for _ in range(licenses - 1)]]
        tokens = itertools.cycle([await each.token("alice") for each in worlds])
        clients = [await world.socket() for _ in range(LOGINS)]
        proxy.silence()
        began = monotonic()
        await asyncio.gather(*(client.call("login", token=next(tokens)) for client in clients))
        assert monotonic() - began < LOGINS / 8 * CALL_TIMEOUT_S
