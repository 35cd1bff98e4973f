"""A process is frozen (SIGSTOP) beyond the heartbeat, or the ping timeout, and goes on: all statuses are right then."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from tests.cluster.conftest import Cluster, cluster_of_two
from tests.running import ServerProcess
from tests.world import STABLE, Client, Web

OWNER, SMITH, JONES = "owner@example.com", "smith@example.com", "jones@example.com"
HELLO = {"type": "message", "text": "Hello"}
ONLINE, OFFLINE = "accepting_chats", "offline"
PATIENCE_S = 30


@contextmanager
def frozen(server: ServerProcess) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


class Watcher:
    """Notes what is pushed to a client, which pings."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.said: dict[str, list[str]] = {}
        """By agent: the statuses it was said to have."""
        self.events: list[str] = []
        self.ended = False

    async def listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.client.connection:
                frame = orjson.loads(message)
                if frame["action"] == "routing_status_set":
                    self.said.setdefault(frame["payload"]["agent_id"], []).append(frame["payload"]["status"])
                elif frame["action"] == "incoming_event":
                    self.events.append(frame["payload"]["event"]["id"])
        self.ended = True

    async def ping(self, interval_s: float) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.client.send("ping")
                await asyncio.sleep(interval_s)

    async def said_last(self, agent_id: str, status: str) -> None:
        await until(lambda: self.said.get(agent_id, [""])[-1] == status)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Scene:
    """Smith and Jones on the process that is frozen, the owner on the other."""

    def __init__(self, cluster: Cluster, stack: AsyncExitStack, ping_interval_s: float) -> None:
        self._cluster = cluster
        self._stack = stack
        self._ping_interval_s = ping_interval_s

    async def watcher(self, server: ServerProcess, agent_id: str) -> Watcher:
        token = self._cluster.here.token(agent_id)
        watcher = Watcher(await self._stack.enter_async_context(server.agent(agent_id, token=token)))
        tasks = [asyncio.create_task(work) for work in (watcher.listen(), watcher.ping(self._ping_interval_s))]
        self._stack.callback(lambda: [task.cancel() for task in tasks])
        return watcher

    async def web(self, server: ServerProcess, agent_id: str) -> Web:
        web = Web(server.port, STABLE, f"Bearer {self._cluster.here.token(agent_id)}")
        self._stack.push_async_callback(web.close)
        return web


async def freeze(cluster: Cluster, *, frozen_s: float, ping_interval_s: float) -> bool:
    """Freeze it for so long, in which its agents go offline and one of them comes back elsewhere.

    Whether its sockets were dropped: a ping timeout that is over may be seen before the pings that wait to be read.
    """
    async with AsyncExitStack() as stack:
        scene = Scene(cluster, stack, ping_interval_s)
        owner = await scene.watcher(cluster.there, OWNER)
        smith, _ = [await scene.watcher(cluster.here, agent_id) for agent_id in (SMITH, JONES)]
        for agent_id in (SMITH, JONES):
            await owner.said_last(agent_id, ONLINE)
        chat_id = smith.client.greeting["chats_summary"][0]["id"]
        web = await scene.web(cluster.there, SMITH)

        with frozen(cluster.here):
            due = asyncio.get_running_loop().time() + frozen_s
            for agent_id in (SMITH, JONES):
                await owner.said_last(agent_id, OFFLINE)
            elsewhere = await scene.watcher(cluster.there, JONES)
            await owner.said_last(JONES, ONLINE)
            said = (await web.call("send_event", chat_id=chat_id, event=HELLO))["event_id"]
            await asyncio.sleep(due - asyncio.get_running_loop().time())

        await until(lambda: smith.ended or said in smith.events)
        dropped = smith.ended
        if dropped:
            await owner.said_last(SMITH, OFFLINE)
            # Between its return and the drop Smith may have been there.
            assert owner.said[SMITH] in ([ONLINE, OFFLINE], [ONLINE, OFFLINE, ONLINE, OFFLINE])
        else:
            await owner.said_last(SMITH, ONLINE)
            for agent_id in (SMITH, JONES):
                await smith.said_last(agent_id, ONLINE)
            assert owner.said[SMITH] == [ONLINE, OFFLINE, ONLINE]
        assert owner.said[JONES] == [ONLINE, OFFLINE, ONLINE]
        assert not elsewhere.ended
        for server in (cluster.here, cluster.there):
            listed = await (await scene.web(server, OWNER)).call("list_routing_statuses")
            now = {each["agent_id"]: each["status"] for each in listed}
            assert (now[SMITH], now[JONES]) == (OFFLINE if dropped else ONLINE, ONLINE)
        return dropped


@pytest.mark.timeout(300)
async def test_its_agents_go_offline_and_come_back_with_it(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    settings = ("--heartbeat-limit-s", "3", "--ping-timeout-s", "10")
    with cluster_of_two(tmp_path, postgres_url, redis_url, *settings) as cluster:
        assert not await freeze(cluster, frozen_s=4, ping_interval_s=0.5)
        await freeze(cluster, frozen_s=11, ping_interval_s=0.5)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_frozen_for_30_s_with_the_default_settings(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    with cluster_of_two(tmp_path, postgres_url, redis_url) as cluster:
        await freeze(cluster, frozen_s=30, ping_interval_s=10)
