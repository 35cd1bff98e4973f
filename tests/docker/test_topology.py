"""What `docker/compose.yaml` starts, from the same environment variables, without containers."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from tests.docker.compose import services, started_with
from tests.docker.front import Front
from tests.running import PATIENCE_S, ServerProcess, run, serving
from tests.servers import PostgresServer, RedisServer
from tests.world import Client

SMITH, JONES = "smith@example.com", "jones@example.com"
OURS = ("rtm", "caddy:2.11")
LIMIT = 3
"""Sockets of one address that have not logged in."""


@dataclass
class Topology:
    """The front, and the gateways behind it."""

    front: Front
    gateways: list[ServerProcess]
    demo: dict[str, Any]

    def token(self, agent_id: str) -> str:
        return next(str(agent["access_token"]) for agent in self.demo["agents"] if agent["id"] == agent_id)

    async def connect(self, source: str = "127.0.0.1", **headers: str) -> Client:
        """A socket through the front, from this address."""
        url = f"{self.front.url.replace('https', 'wss')}/v3.6/agent/rtm/ws"
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1, "proxy": None}
        return Client(
            await connect(
                url,
                ssl=self.front.trust,
                additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
                host="127.0.0.1",
                local_addr=(source, 0),
                **options,
            )
        )

    @contextlib.asynccontextmanager
    async def agent(self, agent_id: str) -> AsyncIterator[Client]:
        """An agent, logged in through the front."""
        client = await self.connect()
        try:
            client.greeting = await client.call("login", token=f"Bearer {self.token(agent_id)}")
            yield client
        finally:
            await client.close()


@pytest.fixture(scope="module")
def password_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the script that makes the secrets, which are not made anew when it runs again."""
    folder = tmp_path_factory.mktemp("secrets")
    shell, options, script = services()["secrets"]["entrypoint"]
    script = "chown() { :; }\n" + script.replace("/secrets", str(folder))
    written = []
    for _ in range(2):
        subprocess.run([shell, options, script], check=True)
        written.append((folder / "pgpass").read_text())
    assert written[0] == written[1]
    assert written[0] == f"*:*:*:*:{(folder / 'postgres-password').read_text()}\n"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    return folder / "pgpass"


@pytest.fixture(scope="module")
async def postgres(password_file: Path) -> AsyncIterator[PostgresServer]:
    """With the database, the user and the password that the image would make."""
    with PostgresServer() as server:
        owner = await asyncpg.connect(host="127.0.0.1", port=server.port, user="postgres", database="postgres")
        password = password_file.with_name("postgres-password").read_text()
        await owner.execute(f"CREATE ROLE rtm LOGIN PASSWORD '{password}'")
        await owner.execute("CREATE DATABASE rtm OWNER rtm")
        (server.folder / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        await owner.execute("SELECT pg_reload_conf()")
        await owner.close()
        yield server


@pytest.fixture(scope="module")
def topology(
    postgres: PostgresServer, password_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Topology]:
    folder = tmp_path_factory.mktemp("gateways")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        places = {
            "@postgres/": f"@127.0.0.1:{postgres.port}/",
            "redis:6379": f"127.0.0.1:{redis.port}",
            "/secrets/pgpass": str(password_file),
            "10.0.0.0/8": "127.0.0.0/8",
        }
        told = {name: started_with(service, places) for name, service in services().items() if service["image"] in OURS}
        migrated = run(services()["migrate"]["command"], **told["migrate"])
        assert migrated.returncode == 0, migrated.stderr
        limits = {"RTM_LIMITS__UNAUTHORIZED_CONNECTIONS_PER_ADDRESS": str(LIMIT), "RTM_DRAIN_S": "1"}
        names = told["front"]["GATEWAYS"].split()
        gateways = [
            stack.enter_context(serving(folder / name, log=None, **told[name.partition(":")[0]], **limits))
            for name in names
        ]
        addresses = " ".join(gateway.address for gateway in gateways)
        front = stack.enter_context(Front({**told["front"], "GATEWAYS": addresses}))
        demo = json.loads((folder / names[0] / "demo.json").read_bytes())
        yield Topology(front, gateways, demo)


async def test_the_web_api_is_served_over_http_2(topology: Topology) -> None:
    async with httpx2.AsyncClient(base_url=topology.front.url, verify=topology.front.trust, http2=True) as web:
        headers = {"Authorization": f"Bearer {topology.token(SMITH)}"}
        for _ in range(4):
            answer = await web.post("/v3.6/agent/action/list_chats", json={}, headers=headers)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        assert (await web.get("/metrics")).status_code == 404


async def test_sockets_are_passed_on_to_both_gateways(topology: Topology) -> None:
    async with contextlib.AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(topology.agent(JONES)) for _ in range(4)]
        assert all(connections(gateway) for gateway in topology.gateways)
        smith = await stack.enter_async_context(topology.agent(SMITH))
        chat = {"users": [{"id": JONES, "type": "agent"}]}
        chat_id = (await smith.call("start_chat", chat=chat, continuous=True))["chat_id"]
        for agent in agents:
            assert (await agent.next_push("incoming_chat"))["chat"]["id"] == chat_id


def connections(gateway: ServerProcess) -> int:
    """How many it has accepted."""
    process = psutil.Process(gateway.process.pid)
    on_port = [each.status for each in process.net_connections("tcp") if each.laddr.port == gateway.port]
    return on_port.count(psutil.CONN_ESTABLISHED)


async def test_a_client_counts_by_its_own_address_whatever_it_claims(topology: Topology) -> None:
    """The limit is a gateway's own, and there are two."""
    async with contextlib.AsyncExitStack() as stack:

        async def first_answers(source: str, count: int) -> list[str]:
            clients = [await topology.connect(source, X_Forwarded_For=f"203.0.113.{number}") for number in range(count)]
            for client in clients:
                stack.push_async_callback(client.close)
            return [await first_answer(client) for client in clients]

        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            assert await first_answers(source, LIMIT) == ["login"] * LIMIT
        assert "agent_disconnected" in await first_answers("127.0.0.5", 2 * LIMIT + 1)


async def first_answer(client: Client) -> str:
    """What comes first to one who tries to log in."""
    with contextlib.suppress(ConnectionClosed):
        await client.send("login", token="Bearer none")
    frame = await client.next()
    if frame["action"] == "agent_disconnected":
        assert frame["payload"] == {"reason": "too_many_unauthorized_connections"}
    return str(frame["action"])


async def test_nobody_is_turned_away_when_a_gateway_stops(topology: Topology) -> None:
    """The last test, as it is the end of one."""
    stopping = topology.gateways[1]
    async with contextlib.AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(topology.agent(SMITH)) for _ in range(8)]
        moving = connections(stopping)
        stopping.process.terminate()
        asking = asyncio.create_task(asked_all_along(topology, stopping))
        comings_back = [asyncio.create_task(come_back(topology, agent)) for agent in agents]
        assert await asking
        back, staying = await asyncio.wait(comings_back, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for each in staying:
            each.cancel()
        await asyncio.wait(comings_back)
        assert 0 < len(back) <= moving
        assert [each.exception() for each in back] == [None] * len(back)
    assert stopping.process.returncode == 0


async def come_back(topology: Topology, client: Client) -> None:
    """When the socket is told to go, log in again, at once."""
    assert await client.ended() == ({"reason": "internal_error"}, CloseCode.GOING_AWAY)
    async with topology.agent(SMITH) as again:
        await again.hears_nothing_more()


async def asked_all_along(topology: Topology, stopping: ServerProcess) -> int:
    """Ask over the Web API until the gateway has ended; how often."""
    headers = {"Authorization": f"Bearer {topology.token(SMITH)}"}
    count = 0
    async with httpx2.AsyncClient(base_url=topology.front.url, verify=topology.front.trust, http2=True) as web:
        while stopping.process.poll() is None:
            answer = await web.post("/v3.6/agent/action/list_chats", json={}, headers=headers)
            assert answer.status_code == 200, answer.text
            count += 1
    return count
