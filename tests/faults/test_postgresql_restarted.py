"""PostgreSQL is restarted under load, or falls silent: nothing is lost or done twice, nobody hangs, and all goes on."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from websockets.frames import CloseCode

from tests.faults.conftest import Plotted
from tests.faults.drill import EVENTS_PER_S, Cast, Drill, Pair
from tests.faults.proxy import Proxy
from tests.servers import PostgresServer
from tests.world import SOON_S, World

BETWEEN_S = 1.0
OUTAGES_S = (0.0, 3.0)
LATE_S = 5.0
"""After the acknowledgement, or after the return of PostgreSQL for what was acknowledged before."""
HELLO = {"type": "message", "text": "hello"}


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of one's own, to end and start again."""
    with PostgresServer() as server:
        yield server


@pytest.mark.timeout(300)
async def test_postgresql_restarted(
    tmp_path: Path,
    postgres_server: PostgresServer,
    redis_url: str,
    plotted: Plotted,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = await postgres_server.create_database()
    async with (
        Pair(tmp_path, "--database-url", url, "--redis-url", redis_url).running() as pair,
        Drill.prepared(pair.doors, Cast.of_demo(pair.credentials), repeats=True) as drill,
    ):
        plotted(drill.log, f"PostgreSQL killed twice and shut down twice, {EVENTS_PER_S} events/s")
        async with drill.load():
            for outage_s in OUTAGES_S:
                for end in (postgres_server.kill, postgres_server.shut_down):
                    await asyncio.sleep(BETWEEN_S)
                    with drill.log.fault("PostgreSQL away"):
                        await asyncio.to_thread(end)
                        await asyncio.sleep(outage_s)
                        await asyncio.to_thread(postgres_server.start)
            await asyncio.sleep(BETWEEN_S)
        await drill.judge(late_s=LATE_S)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] == "error" or "exception" in line] == []


async def test_postgresql_silent(
    world_with: Callable[..., Awaitable[World]], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its connections and says nothing, as behind a network that drops what is sent."""
    monkeypatch.setattr("rtm.store.postgresql.COMMAND_TIMEOUT_S", 1)
    monkeypatch.setattr("rtm.store.pools.STATEMENT_TIMEOUT_S", 1)
    monkeypatch.setattr("rtm.access.watch._TIMEOUT_S", 1)
    address, _, database = postgres_url.rpartition("/")
    host, _, port = address.rpartition(":")
    async with Proxy(int(port)) as proxy:
        world = await world_with(database_url=f"{host}:{proxy.port}/{database}", limits={"request_timeout_s": 2})
        alice, bob = await world.agents("alice", "bob")
        chat = await world.chat(alice, users=["bob"])
        dave, revoked = await world.token("dave"), await world.mint("erin")
        erin = await world.agent("erin", token=f"Bearer {revoked.token}")

        proxy.silence()
        newcomer = await world.socket()
        asked = [
            await alice.send("send_event", chat_id=chat.id, event={**HELLO, "custom_id": "c1"}),
            await alice.send("set_routing_status", status="not_accepting_chats"),
            await alice.send("send_event", chat_id=chat.id, event={**HELLO, "custom_id": "c2"}),
            await alice.send("list_chats"),
        ]
        answers = [(await alice.answer(each))["payload"] for each in asked]
        refused = await newcomer.refused("login", token=dave)
        proxy.mend()

        types = {each["error"]["type"] for each in answers if "error" in each} | {refused.type}
        assert types <= {"service_unavailable", "request_timeout"}
        assert "error" in answers[0]
        assert "error" in answers[3]
        async with asyncio.timeout(SOON_S):
            while (await alice.answer(await alice.send("list_chats")))["success"] is False:
                await asyncio.sleep(0.05)
            for custom_id in ("c1", "c2"):
                await alice.call("send_event", chat_id=chat.id, event={**HELLO, "custom_id": custom_id})
            await newcomer.call("login", token=dave)
            await world.revoke(revoked)
            assert (await erin.ended())[1] == CloseCode.NORMAL_CLOSURE
        heard = {(await bob.next_push("incoming_event"))["event"]["custom_id"] for _ in range(2)}
        assert heard == {"c1", "c2"}
        await bob.hears_nothing_more()
