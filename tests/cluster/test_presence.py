"""Who is here, over two processes: the limits on connections, and what becomes of the agents of one that dies."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from tests.cluster.conftest import Cluster, cluster_of_two
from tests.running import PATIENCE_S, ServerProcess
from tests.servers import PostgresServer, RedisServer
from tests.world import SOON_S, Client

OWNER, SMITH, JONES = "owner@example.com", "smith@example.com", "jones@example.com"
HEARTBEAT_LIMIT_S = 3.0
EVICTED = ({"reason": "connection_evicted"}, CloseCode.NORMAL_CLOSURE)
TOO_MANY = ({"reason": "too_many_connections"}, CloseCode.NORMAL_CLOSURE)


@pytest.fixture
async def strict(tmp_path: Path, postgres_url: str, redis_url: str) -> AsyncIterator[Cluster]:
    """Two processes that refuse an agent's third socket, one of which may be killed."""
    limits = ("--connections-per-agent", "2", "--connections-per-agent-policy", "refuse")
    heartbeat = ("--heartbeat-limit-s", str(HEARTBEAT_LIMIT_S))
    with cluster_of_two(tmp_path, postgres_url, redis_url, *limits, *heartbeat) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def lenient(_postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Two processes on which an agent's third socket replaces the first."""
    url = await _postgres_server.create_database()
    folder = tmp_path_factory.mktemp("lenient")
    with RedisServer() as redis, cluster_of_two(folder, url, redis.url, "--connections-per-agent", "2") as cluster:
        yield cluster
    await _postgres_server.drop_database(url)


async def statuses(agent: Client, *last: tuple[str, str]) -> list[tuple[str, str]]:
    """The statuses that are pushed to the agent, until all of these have come."""
    heard: list[tuple[str, str]] = []
    while not set(last) <= set(heard):
        push = await agent.next_push("routing_status_set")
        heard.append((push["agent_id"], push["status"]))
    return heard


async def watching(stack: AsyncExitStack, server: ServerProcess, token: str | None = None) -> Client:
    """The owner, who hears of every status from now on."""
    agent = server.agent(OWNER, token=token, pushes={"3.6": ["routing_status_set"]})
    owner = await stack.enter_async_context(agent)
    owner.noise -= {"routing_status_set"}
    return owner


async def test_who_was_on_a_killed_process_goes_offline_once_and_who_came_back_elsewhere_does_not(
    strict: Cluster,
) -> None:
    async with AsyncExitStack() as stack:
        owner = await watching(stack, strict.there, strict.here.token(OWNER))
        for agent_id in (SMITH, JONES):
            await stack.enter_async_context(strict.here.agent(agent_id))
        await statuses(owner, (SMITH, "accepting_chats"), (JONES, "accepting_chats"))
        jones = strict.here.web(JONES)
        await jones.call("set_routing_status", status="not_accepting_chats")
        await jones.close()
        assert await statuses(owner, (JONES, "not_accepting_chats")) == [(JONES, "not_accepting_chats")]

        strict.here.kill()
        killed_at = time.monotonic()
        back = await stack.enter_async_context(
            strict.there.agent(JONES, token=strict.here.token(JONES), reconnect=True)
        )
        assert back.greeting["my_profile"]["routing_status"] == "not_accepting_chats"
        assert await statuses(owner, (SMITH, "offline")) == [(SMITH, "offline")]
        assert time.monotonic() - killed_at < HEARTBEAT_LIMIT_S + SOON_S
        await owner.hears_nothing_more()

        listed = {each["agent_id"]: each["status"] for each in await owner.call("list_routing_statuses")}
        assert (listed[SMITH], listed[JONES]) == ("offline", "not_accepting_chats")


async def test_the_newest_socket_of_all_processes_is_refused_until_one_of_them_is_gone(strict: Cluster) -> None:
    token = strict.here.token(SMITH)
    async with strict.here.agent(SMITH), strict.there.agent(SMITH, token=token) as first:
        for server in (strict.here, strict.there):
            client = await Client.open(server.port)
            await client.send("login", token=f"Bearer {token}")
            assert await client.ended() == TOO_MANY
        strict.here.kill()
        await let_in(strict.there, token)
        await first.hears_nothing_more()


async def let_in(server: ServerProcess, token: str) -> None:
    """Try to log in until it is possible, and lasts."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            client = await Client.open(server.port)
            request_id = await client.send("login", token=f"Bearer {token}")
            with contextlib.suppress(ConnectionClosed):  # when it is told `too_many_connections`, or `license_expired`
                if (await client.answer(request_id))["success"]:
                    await client.call("list_chats")
                    break
            await client.close()
            await asyncio.sleep(0.2)
        await client.close()


async def test_the_oldest_socket_of_all_processes_gives_way(lenient: Cluster) -> None:
    here, there, token = lenient.here, lenient.there, lenient.here.token(SMITH)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(here.agent(SMITH))
        second, third = [await stack.enter_async_context(there.agent(SMITH, token=token)) for _ in range(2)]
        assert await first.ended() == EVICTED
        fourth = await stack.enter_async_context(here.agent(SMITH))
        assert await second.ended() == EVICTED
        for client in (third, fourth):
            await client.hears_nothing_more()


async def test_both_processes_hear_of_an_agent_who_comes_and_goes_on_both_in_one_order(lenient: Cluster) -> None:
    async with AsyncExitStack() as stack:
        owner = lenient.here.token(OWNER)
        owners = [await watching(stack, server, owner) for server in (lenient.here, lenient.there)]
        token = lenient.here.token(JONES)

        async def come_and_go(server: ServerProcess) -> None:
            for _ in range(15):
                async with server.agent(JONES, token=token, pushes={"3.6": []}):
                    pass

        await asyncio.gather(*(come_and_go(server) for server in (lenient.here, lenient.there)))
        async with lenient.here.agent(SMITH):  # after all that
            heard = [await statuses(owner, (SMITH, "accepting_chats")) for owner in owners]
        heard = [[each for each in of_owner if each[0] != OWNER] for of_owner in heard]
        assert heard[0] == heard[1]
        of_jones = [status for agent_id, status in heard[0] if agent_id == JONES]
        in_turn = itertools.cycle(["accepting_chats", "offline"])
        assert of_jones == list(itertools.islice(in_turn, len(of_jones)))


async def test_a_license_that_expires_ends_the_sockets_on_all_processes(lenient: Cluster) -> None:
    async with lenient.here.agent(SMITH) as here, lenient.there.agent(JONES, token=lenient.here.token(JONES)) as there:
        await execute(
            lenient.database_url,
            "UPDATE licenses SET expires_at = '2026-01-01T00:00:00.000000Z', directory_version = directory_version + 1",
        )
        expired_at = time.monotonic()
        for ending in await asyncio.gather(here.ended(), there.ended()):
            assert ending == ({"reason": "license_expired"}, CloseCode.NORMAL_CLOSURE)
        assert time.monotonic() - expired_at < SOON_S
    await execute(
        lenient.database_url, "UPDATE licenses SET expires_at = NULL, directory_version = directory_version + 1"
    )
    for server in (lenient.here, lenient.there):
        await let_in(server, lenient.here.token(SMITH))


async def test_a_license_that_is_removed_ends_the_sockets_on_all_processes(lenient: Cluster) -> None:
    async with lenient.here.agent(SMITH) as here, lenient.there.agent(JONES, token=lenient.here.token(JONES)) as there:
        await execute(lenient.database_url, "TRUNCATE licenses CASCADE")
        for ending in await asyncio.gather(here.ended(), there.ended()):
            assert ending == ({"reason": "license_not_found"}, CloseCode.NORMAL_CLOSURE)


async def execute(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
