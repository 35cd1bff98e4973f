"""Redis dies under two processes: each goes on by itself, and what one missed of the other it is told afterwards."""

from pathlib import Path

from tests.cluster.conftest import cluster_of_two
from tests.servers import RedisServer
from tests.world import Client

SMITH, JONES = "smith@example.com", "jones@example.com"


async def test_local_pushes_go_on_and_remote_ones_are_made_up_for(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer
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

            redis_server.kill()
            missed = [await say(smith, started["chat_id"]) for _ in range(3)]
            assert [await heard(near) for _ in missed] == missed
            async with cluster.here.agent("owner@example.com") as owner:  # and who comes now is let in
                assert owner.greeting["my_profile"]["routing_status"] == "accepting_chats"

            redis_server.start()
            assert [await heard(far) for _ in missed] == missed
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
