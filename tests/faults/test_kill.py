"""`kill -9` under load: what was acknowledged is in the history for good, once, in the order of its acknowledgement."""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from tests.running import ServerProcess, serving_demo
from tests.world import Client

ROUNDS = 10
EVENTS_PER_S = 500
LOAD_S = 1.0
SMITH = "smith@example.com"


@dataclass
class Talk:
    """One connection's chat: what was sent to it, and what was acknowledged, in order; texts are numbers."""

    chat_id: str
    sent: int = 0
    acknowledged: dict[str, str] = field(default_factory=dict)
    """event id: text"""

    async def speak(self, client: Client, interval_s: float) -> None:
        """Send an event each `interval_s`, whatever has become of those before, until the connection is gone."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            text = str(self.sent)
            self.sent += 1
            await client.send("send_event", text, chat_id=self.chat_id, event={"type": "message", "text": text})
            due += interval_s
            await asyncio.sleep(due - loop.time())

    async def listen(self, client: Client) -> None:
        """Note what is acknowledged."""
        async for message in client.connection:
            answer = orjson.loads(message)
            assert answer["success"], answer
            self.acknowledged[answer["payload"]["event_id"]] = answer["request_id"]


@pytest.mark.timeout(120)
async def test_what_was_acknowledged_survives_ten_kills(tmp_path: Path) -> None:
    talks: list[Talk] = []
    for _ in range(ROUNDS):
        with serving_demo(tmp_path) as server:
            talks = talks or await begin(server, chats=4)
            await check(server, talks)
            await load_until_killed(server, talks)
    with serving_demo(tmp_path) as server:
        await check(server, talks)


def acknowledged(talks: list[Talk]) -> int:
    return sum(len(talk.acknowledged) for talk in talks)


async def begin(server: ServerProcess, chats: int) -> list[Talk]:
    """Start the chats."""
    async with server.agent(SMITH) as smith:
        return [Talk((await smith.call("start_chat", continuous=True))["chat_id"]) for _ in range(chats)]


async def load_until_killed(server: ServerProcess, talks: list[Talk]) -> None:
    """Send somewhat more than EVENTS_PER_S, evenly, and kill the server amid it."""
    interval_s = len(talks) / (EVENTS_PER_S * 1.2)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.agent(SMITH, pushes={"3.6": []})) for _ in talks]
        talking = [
            asyncio.create_task(work)
            for talk, client in zip(talks, clients, strict=True)
            for work in (talk.listen(client), talk.speak(client, interval_s))
        ]
        assert await kill(server, talks) >= EVENTS_PER_S
        ends = await asyncio.gather(*talking, return_exceptions=True)
        assert all(isinstance(end, ConnectionClosed) for end in ends), ends


async def kill(server: ServerProcess, talks: list[Talk]) -> float:
    """After LOAD_S, or some time later if the server has fallen behind; what it has acknowledged a second."""
    loop = asyncio.get_running_loop()
    started, before = loop.time(), acknowledged(talks)
    await asyncio.sleep(LOAD_S)
    while (rate := (acknowledged(talks) - before) / (loop.time() - started)) < EVENTS_PER_S:
        if loop.time() > started + 3 * LOAD_S:
            break
        await asyncio.sleep(0.01)
    server.kill()
    return rate


async def check(server: ServerProcess, talks: list[Talk]) -> None:
    """Compare what is stored with what was acknowledged."""
    async with server.agent(SMITH) as smith:
        for talk in talks:
            threads = (await smith.call("list_threads", chat_id=talk.chat_id))["threads"]
            stored = {event["id"]: event["text"] for event in threads[0]["events"]}
            assert len(stored) == len(threads[0]["events"])
            assert [event_id for event_id in stored if event_id in talk.acknowledged] == list(talk.acknowledged)
            assert stored.items() >= talk.acknowledged.items()
            # Sent on one connection, so stored in that order, each once; those that are missing were not acknowledged.
            texts = [int(text) for text in stored.values()]
            assert all(earlier < later for earlier, later in itertools.pairwise(texts))
