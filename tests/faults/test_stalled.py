"""One subscriber that never reads: it is cut at the limit, and nobody else misses anything."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from tests.running import ServerProcess, serving_demo
from tests.world import Client

SMITH = "smith@example.com"
SUBSCRIBERS = 50
LIMIT_BYTES = 256 << 10
TEXT = "x" * 16_000
BURST = 10
MAX_BURSTS = 100
"""16 MB: the system's own buffers take some of it first."""


async def test_one_that_never_reads_is_cut_and_the_others_get_every_push(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as log, serving_demo(tmp_path, "--send-buffer-bytes", str(LIMIT_BYTES), log=log) as server:
        async with AsyncExitStack() as stack:
            agents = [server.agent(SMITH, pushes={"3.6": ["incoming_event"]}) for _ in range(SUBSCRIBERS)]
            subscribers = [await stack.enter_async_context(agent) for agent in agents]
            sender = await stack.enter_async_context(server.agent(SMITH, pushes={"3.6": []}))
            stalled = await never_reading(server)
            chat_id = sender.greeting["chats_summary"][0]["id"]

            sent = 0
            while not (cuts := cuts_in(path)) and sent < MAX_BURSTS * BURST:
                burst = await say(sender, chat_id)
                heard = await asyncio.gather(*(hear(subscriber, BURST) for subscriber in subscribers))
                assert all(each == burst for each in heard)
                sent += BURST

            assert len(cuts) == 1
            # What one write adds is not cut short: at first the burst that shows the lag, at last the one that is over.
            assert LIMIT_BYTES < cuts[0]["unread_bytes"] < LIMIT_BYTES + (64 << 10) + 2 * BURST * 17_000
            with pytest.raises(ConnectionClosedError) as ending:
                await hear(stalled, sent)
            assert ending.value.rcvd is None  # no close frame: it would not have been read


async def never_reading(server: ServerProcess) -> Client:
    """A session whose client stops reading, with as small buffers of its own as can be."""
    receiver = socket.socket()
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    receiver.connect(("127.0.0.1", server.port))
    url = f"ws://{server.address}/v3.6/agent/rtm/ws"
    client = Client(await connect(url, sock=receiver, max_queue=1, compression=None, ping_interval=None))
    await client.call("login", token=f"Bearer {server.token(SMITH)}", pushes={"3.6": ["incoming_event"]})
    return client


async def say(sender: Client, chat_id: str) -> list[str]:
    """Send a burst; the ids of its events."""
    event = {"type": "message", "text": TEXT}
    requests = [await sender.send("send_event", chat_id=chat_id, event=event) for _ in range(BURST)]
    return [(await sender.answer(request_id))["payload"]["event_id"] for request_id in requests]


async def hear(subscriber: Client, count: int) -> list[str]:
    """The ids of the next events."""
    return [(await subscriber.next_push("incoming_event"))["event"]["id"] for _ in range(count)]


def cuts_in(log: Path) -> list[dict[str, Any]]:
    """What the server has logged about slow readers."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "slow_reader_cut"]
