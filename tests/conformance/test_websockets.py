"""Another client, the `websockets` library, with TLS checked and messages compressed."""

import ssl
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import PerMessageDeflate

from tests.running import ServerProcess, serving_demo
from tests.world import Client


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving_demo(tmp_path_factory.mktemp("deflate"), "--tls-self-signed", "--permessage-deflate") as server:
        yield server


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_compression_is_for_those_who_ask(compressing: ServerProcess, compression: str | None) -> None:
    url = f"wss://{compressing.address}/v3.6/agent/rtm/ws"
    trust = ssl.create_default_context(cafile=compressing.data_dir / "tls" / "authority.pem")
    async with connect(url, ssl=trust, compression=compression) as connection:
        negotiated = [type(extension) for extension in connection.protocol.extensions]
        assert negotiated == ([PerMessageDeflate] if compression else [])

        agent = Client(connection)
        greeting = await agent.call("login", token=f"Bearer {compressing.token('smith@example.com')}")
        text = "to and fro, " * 1000
        for chat in greeting["chats_summary"]:
            sent = await agent.call("send_event", chat_id=chat["id"], event={"type": "message", "text": text})
            push = await agent.next_push("incoming_event")
            assert (push["event"]["id"], push["event"]["text"]) == (sent["event_id"], text)
