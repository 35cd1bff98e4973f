"""The servers that the other tests stand on."""

import asyncpg
import pytest
import redis.asyncio

from tests.servers import RedisServer


@pytest.mark.parametrize("time", ["first", "second"])
async def test_each_test_has_a_database_of_its_own(postgres_url: str, time: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.execute("CREATE TABLE left_behind (id int)")
    await connection.close()


@pytest.mark.parametrize("time", ["first", "second"])
async def test_each_test_has_an_empty_redis(redis_url: str, time: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


async def test_a_killed_redis_comes_back_empty_on_its_port(redis_server: RedisServer) -> None:
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        await client.set("kept", "in memory")
    redis_server.kill()
    redis_server.start()
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        assert await client.dbsize() == 0
