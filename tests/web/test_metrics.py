"""What Prometheus is told, and who is."""

import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from rtm.actions import registry
from rtm.actions.registry import AGENT
from rtm.web import metrics
from rtm.web.metrics import Metrics
from tests.servers import RedisServer
from tests.world import Client, Refused, Web, World

WorldWith = Callable[..., Awaitable[World]]
TOKEN = "a-token-for-prometheus"
HELLO = {"type": "message", "text": "hello"}
DASHBOARD = Path(__file__).parents[2] / "docker/grafana/rtm.json"


class Told:
    """One scrape."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in families for sample in family.samples]
        self.names = {sample.name for sample in self.samples} | {
            f"{family.name}_total" for family in families if family.type == "counter"
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )


async def scrape(web: Web) -> Told:
    answer = await web.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return Told(answer.text)


@pytest.mark.parametrize("authorization", ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"])
async def test_who_does_not_show_the_token_is_told_nothing(world_with: WorldWith, authorization: str) -> None:
    web = await (await world_with(metrics_token=TOKEN)).web("alice")
    answer = await web.request("GET", "/metrics", headers={"Authorization": authorization.encode()})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["type"] == "authentication"


async def test_without_a_token_there_is_nothing(world: World) -> None:
    web = await world.web("alice")
    assert (await web.request("GET", "/metrics")).status_code == 404


async def test_what_happens_is_counted(world_with: WorldWith) -> None:
    world = await world_with(metrics_token=TOKEN)
    alice, bob = await world.agents("alice", "bob")
    web = await world.web("alice")
    chat = await world.chat(alice, users=["bob"])
    before = await scrape(web)
    for _ in range(3):
        await alice.call("send_event", chat_id=chat.id, event=HELLO)
        await bob.next_push("incoming_event")
    await web.call("send_event", chat_id=chat.id, event=HELLO)
    await bob.next_push("incoming_event")
    told = await scrape(web)

    def since(name: str, **labels: str) -> float:
        return told(name, **labels) - before(name, **labels)

    assert told("rtm_sockets", state="logged_in") == 2
    assert told("rtm_licenses") == 1
    assert told("rtm_logins_total", outcome="ok") == 2
    assert since("rtm_requests_total", transport="rtm", action="send_event", outcome="ok") == 3
    assert since("rtm_requests_total", transport="web", action="send_event", outcome="ok") == 1
    assert since("rtm_request_seconds_count", action="send_event") == 4
    assert since("rtm_pushes_total", push="incoming_event") == 4
    assert since("rtm_fanout_seconds_count") >= 4
    assert since("rtm_batch_commands_sum") == 4
    assert since("rtm_commit_seconds_count") == since("rtm_batch_commands_count")
    assert since("rtm_writes_total") >= since("rtm_cork_frames_count") > 0
    assert since("rtm_cork_frames_sum") >= since("rtm_cork_frames_count") == since("rtm_cork_frames_bucket", le="3")
    assert told("process_open_fds") > 0
    assert told("rtm_tasks") > 0


async def test_an_answer_that_cannot_be_encoded_is_counted_as_what_is_told(
    world_with: WorldWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def list_chats(*_: Any) -> Any:
        return object()

    world = await world_with(metrics_token=TOKEN)
    alice, web = await world.agent("alice"), await world.web("alice")
    declared = registry._catalogue[AGENT, "list_chats"]
    monkeypatch.setitem(registry._catalogue, (AGENT, "list_chats"), replace(declared, handler=list_chats))
    clients: list[Client | Web] = [alice, web]
    for client in clients:
        assert await client.refused("list_chats") == Refused("internal", "Internal server error")
    told = await scrape(web)
    for transport in ("rtm", "web"):
        assert told("rtm_requests_total", transport=transport, action="list_chats") == 1
        assert told("rtm_requests_total", transport=transport, action="list_chats", outcome="internal") == 1


async def test_requests_that_fail_are_counted_by_error_and_not_timed(world_with: WorldWith) -> None:
    world = await world_with(metrics_token=TOKEN, limits={"requests_per_minute": 5})
    alice, web = await world.agent("alice"), await world.web("alice")
    await (await world.socket()).refused("login", token="Bearer dal:nobody")
    await alice.refused("get_chat")
    await alice.refused("made_up_1")
    await web.refused("made_up_2")
    for _ in range(4):
        await alice.refused("made_up_3")
    await web.post("list_chats", authorization="Bearer dal:nobody")
    told = await scrape(web)

    assert told("rtm_logins_total", outcome="authentication") == 1
    assert told("rtm_requests_total", action="get_chat", outcome="validation") == 1
    assert told("rtm_requests_total", action="unknown", transport="rtm", outcome="not_found") == 3
    assert told("rtm_requests_total", action="unknown", transport="web", outcome="not_found") == 1
    assert told("rtm_requests_total", action="unknown", outcome="too_many_requests") == 2
    assert told("rtm_requests_total", action="list_chats", transport="web", outcome="authentication") == 1
    assert told("rtm_request_seconds_count", action="get_chat") == 0
    assert {sample.labels["action"] for sample in told.samples if sample.name == "rtm_requests_total"} == {
        *("login", "ping", "get_chat", "list_chats", "unknown")
    }


async def test_a_session_that_is_ended_is_counted_by_its_reason(world_with: WorldWith) -> None:
    world = await world_with(metrics_token=TOKEN, limits={"connections_per_agent": 1})
    first = await world.agent("alice")
    await world.agent("alice")
    assert (await first.ended())[0] == {"reason": "connection_evicted"}
    told = await scrape(await world.web("bob"))
    assert told("rtm_disconnects_total", reason="connection_evicted") == 1
    assert told("rtm_sockets", state="logged_in") == 1


async def test_the_bus_is_told_of(world_with: WorldWith, redis_server: RedisServer) -> None:
    web = await (await world_with(metrics_token=TOKEN, redis_url=redis_server.url)).web("alice")

    async def health() -> Any:
        return (await scrape(web))("rtm_bus_healthy")

    async def reconnects() -> float:
        return (await scrape(web))("rtm_bus_reconnects_total")

    while not await health():
        pass
    redis_server.kill()
    while await health():
        pass
    assert not await reconnects()
    redis_server.start()
    while not await reconnects():
        pass


async def test_a_worker_that_is_dead_or_hangs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SIBLING_TIMEOUT_S", 0.2)
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as silent:
        dead.bind(f"{folder}/1")
        dead.close()
        silent.bind(f"{folder}/2")
        silent.listen()
        served = Metrics(registry, TOKEN, Path(folder))
        transport = httpx2.ASGITransport(Starlette(routes=served.routes()))
        async with httpx2.AsyncClient(transport=transport, base_url="http://rtm") as client, served.listening():
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            told = Told(answer.text)
            assert told("things_total") == told("things_total", pid=str(os.getpid())) == 1
            assert names(folder) == {"2", str(os.getpid())}
        assert names(folder) == {"2"}


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def expressions(part: Any) -> Iterator[str]:
    """What the dashboard asks Prometheus."""
    if isinstance(part, dict):
        yield from (value for name, value in part.items() if name in ("expr", "query") and isinstance(value, str))
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from expressions(inner)


async def test_the_dashboard_asks_for_what_there_is(world_with: WorldWith) -> None:
    dashboard = orjson.loads(DASHBOARD.read_bytes())
    world = await world_with(metrics_token=TOKEN)
    alice = await world.agent("alice")
    await world.chat(alice)
    told = await scrape(await world.web("alice"))

    asked = set(re.findall(r"\b(?:rtm|process|python)_\w+", " ".join(expressions(dashboard))))
    assert asked <= told.names
    shown = {
        name for name in told.names if name.startswith("rtm_") and not name.endswith(("_bucket", "_sum", "_count"))
    }
    assert shown <= asked
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
