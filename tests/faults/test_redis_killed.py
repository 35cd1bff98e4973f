"""Redis dies or falls silent under two processes: what one does the other hears within a second all the same."""

import time
from pathlib import Path

import pytest

from tests.cluster.conftest import cluster_of_two
from tests.servers import RedisServer
from tests.world import SOON_S, Client

SMITH, JONES = "smith@example.com", "jones@example.com"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "silent"])
async def test_local_pushes_go_on_and_remote_ones_are_a_second_late_at_most(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, killed: bool
) -> None:
    with cluster_of_two(tmp_path, postgres_url, redis_server.url) as cluster:
        async with (
            cluster.here.agent(SMITH) as smith,
            cluster.here.agent(JONES) as near,
            cluster.there.agent(JONES) as far,
        ):
            started = await smith.call("start_chat", chat={"users": [{"id": JONES, "type": "agent"}]})
            for jones in (near, far):
                await jones.next_push("incoming_chat")

            (redis_server.kill if killed else redis_server.freeze)()
            for _ in range(5):
                said = [await say(smith, started["chat_id"]) for _ in range(3)]
                said_at = time.monotonic()
                assert [await heard(near) for _ in said] == said
                assert [await heard(far) for _ in said] == said
                assert time.monotonic() - said_at < SOON_S
            async with cluster.here.agent("owner@example.com") as owner:  # and who comes now is let in
                assert owner.greeting["my_profile"]["routing_status"] == "accepting_chats"

            (redis_server.start if killed else redis_server.thaw)()
            later = await say(smith, started["chat_id"])
            assert (await heard(near), await heard(far)) == (later, later)


async def say(agent: Client, chat_id: str) -> str:
    """The id of a new event."""
    event_id: str = (await agent.call("send_event", chat_id=chat_id, event={"type": "message", "text": "Hello"}))[
        "event_id"
    ]
    return event_id


async def heard(agent: Client) -> str:
    """The id of the event in the next push."""
    event_id: str = (await agent.next_push("incoming_event"))["event"]["id"]
    return event_id
