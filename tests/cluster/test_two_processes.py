"""What is done on one process is seen on the other."""

import asyncio
import itertools
import time
from typing import Any

from websockets.frames import CloseCode

from tests.cluster.conftest import Cluster
from tests.running import run
from tests.world import SOON_S, Client

OWNER, SMITH, JONES = "owner@example.com", "smith@example.com", "jones@example.com"
BURSTS = 20
"""How often each sender waits for answers."""


async def start_chat(smith: Client) -> str:
    """A chat of Smith's and Jones'."""
    chat_id: str = (await smith.call("start_chat", chat={"users": [{"id": JONES, "type": "agent"}]}))["chat_id"]
    return chat_id


async def test_an_event_sent_over_the_web_api_arrives_on_the_other_process(cluster: Cluster) -> None:
    async with cluster.here.agent(SMITH) as smith, cluster.there.agent(JONES) as jones:
        chat_id = await start_chat(smith)
        assert (await jones.next_push("incoming_chat"))["chat"]["id"] == chat_id

        web = cluster.here.web(SMITH)
        sent = await web.call("send_event", chat_id=chat_id, event={"type": "message", "text": "Hello"})
        await web.close()
        push = await jones.next_push("incoming_event")
        assert (push["event"]["id"], push["event"]["text"]) == (sent["event_id"], "Hello")


async def test_a_file_that_is_uploaded_here_is_read_and_sent_there(cluster: Cluster) -> None:
    here, there = cluster.here.web(SMITH), cluster.there.web(SMITH)
    url = (await here.upload("notes.txt", b"hello")).json()["url"]
    elsewhere = url.replace(cluster.here.base_url, cluster.there.base_url)
    assert (await there.request("GET", elsewhere)).content == b"hello"
    started = await there.call("start_chat", chat={"thread": {"events": [{"type": "file", "url": url}]}})
    event = (await here.call("get_chat", chat_id=started["chat_id"]))["thread"]["events"][0]
    assert (event["url"], event["name"]) == (url, "notes.txt")
    for web in (here, there):
        await web.close()


async def test_a_subscriber_there_hears_of_customers_who_come_here(cluster: Cluster) -> None:
    grace = cluster.here.credentials["customers"][1]["id"]
    async with cluster.here.agent(SMITH) as smith, cluster.there.agent(OWNER) as owner:
        subscribed = await owner.call("subscribe_customers")
        assert grace not in [customer["id"] for customer in subscribed["customers"]]
        owner.noise |= {"incoming_chat", "incoming_event", "chat_deactivated"}
        started = await smith.call("start_chat", chat={"users": [{"id": grace, "type": "customer"}]})
        assert (await owner.next_push("incoming_customer"))["id"] == grace
        await smith.call("deactivate_chat", id=started["chat_id"])
        assert (await owner.next_push("customer_left"))["id"] == grace


async def test_what_is_counted_of_a_customer_who_comes_here_is_told_there(cluster: Cluster) -> None:
    ada = cluster.here.credentials["customers"][0]["id"]
    pushes = {"3.6": ["customer_statistics_updated"]}
    async with (
        cluster.here.agent(SMITH) as smith,
        cluster.there.agent(OWNER, customer_monitoring_level="online", pushes=pushes) as owner,
    ):
        owner.noise = set()
        before = (await smith.call("get_customer", id=ada))["statistics"]
        await smith.call("start_chat", chat={"users": [{"id": ada, "type": "customer"}]})
        told = await owner.next_push("customer_statistics_updated")
        assert told["customer_id"] == ada
        after = (await smith.call("get_customer", id=ada))["statistics"]
        for count in ("chats_count", "threads_count"):
            assert told["statistics"][count] == after[count] == before[count] + 1


async def test_what_is_not_stored_arrives_too(cluster: Cluster) -> None:
    async with cluster.here.agent(SMITH) as smith, cluster.there.agent(JONES) as jones:
        chat_id = await start_chat(smith)
        await jones.next_push("incoming_chat")
        await smith.call("send_typing_indicator", chat_id=chat_id, is_typing=True)
        assert (await jones.next_push("incoming_typing_indicator"))["typing_indicator"]["author_id"] == SMITH
        await smith.call("multicast", recipients={"agents": {"ids": [JONES]}}, content="Lunch!")
        assert await jones.next_push("incoming_multicast") == {"author_id": SMITH, "content": "Lunch!"}


async def test_both_processes_tell_all_pushes_once_in_one_order(cluster: Cluster) -> None:
    """Two chats, to each of which both processes write at once."""
    async with (
        cluster.here.agent(SMITH) as smith,
        cluster.there.agent(JONES) as jones,
        cluster.here.agent(JONES, pushes={"3.6": ["incoming_event"]}) as hearing_here,
        cluster.there.agent(SMITH, pushes={"3.6": ["incoming_event"]}) as hearing_there,
    ):
        chat_ids = [await start_chat(smith) for _ in range(2)]
        acknowledged = list(itertools.chain(*await asyncio.gather(*(say(agent, chat_ids) for agent in (smith, jones)))))
        heard_here, heard_there = [await events(agent, len(acknowledged)) for agent in (hearing_here, hearing_there)]
        await hearing_here.hears_nothing_more()
        await hearing_there.hears_nothing_more()

        assert heard_here == heard_there
        heard = [event["id"] for event in heard_here]
        assert sorted(heard) == sorted(acknowledged)
        turns = [author_id for author_id, _ in itertools.groupby(event["author_id"] for event in heard_here)]
        assert len(turns) > BURSTS // 2  # else the processes hardly met
        for chat_id in chat_ids:
            thread = (await smith.call("list_threads", chat_id=chat_id))["threads"][0]
            stored = [event["id"] for event in thread["events"]]
            assert [event_id for event_id in heard if event_id.startswith(thread["id"])] == stored


async def say(agent: Client, chat_ids: list[str]) -> list[str]:
    """Send bursts of events to the chats in turn, waiting for the answers to each burst; the events' ids."""
    ids: list[str] = []
    event = {"type": "message", "text": "Hello"}
    for _ in range(BURSTS):
        requests = [await agent.send("send_event", chat_id=chat_id, event=event) for chat_id in chat_ids * 10]
        ids += [(await agent.answer(request_id))["payload"]["event_id"] for request_id in requests]
    return ids


async def events(agent: Client, count: int) -> list[dict[str, Any]]:
    """The events in the next pushes."""
    return [(await agent.next_push("incoming_event"))["event"] for _ in range(count)]


async def test_a_routing_status_set_here_is_pushed_and_listed_there(cluster: Cluster) -> None:
    async with cluster.there.agent(JONES) as jones, cluster.here.agent(SMITH) as smith:
        jones.noise -= {"routing_status_set"}
        await smith.call("set_routing_status", status="not_accepting_chats")
        assert [await next_status(jones, SMITH) for _ in range(2)] == ["accepting_chats", "not_accepting_chats"]
        assert {"agent_id": SMITH, "status": "not_accepting_chats"} in await jones.call("list_routing_statuses")


async def test_a_group_that_opens_here_is_open_there(cluster: Cluster) -> None:
    async with cluster.there.agent(JONES) as jones:
        await jones.call("set_routing_status", status="not_accepting_chats")
        await jones.forget()
        jones.noise -= {"groups_status_updated"}
        async with cluster.here.agent(SMITH):
            [opened] = (await jones.next_push("groups_status_updated"))["groups"]
        assert opened["status"] == "accepting_chats"
        [closed] = (await jones.next_push("groups_status_updated"))["groups"]
        assert closed == {"id": opened["id"], "status": "not_accepting_chats"}
        await jones.call("set_routing_status", status="accepting_chats")


async def test_an_agent_is_offline_when_no_process_has_it(cluster: Cluster) -> None:
    async with cluster.there.agent(JONES) as jones:
        jones.noise -= {"routing_status_set"}
        async with cluster.here.agent(OWNER), cluster.there.agent(OWNER):
            assert await next_status(jones, OWNER) == "accepting_chats"
        assert await next_status(jones, OWNER) == "offline"


async def next_status(agent: Client, of: str) -> str:
    """What the agent hears next of another's routing status."""
    while True:
        push = await agent.next_push("routing_status_set")
        if push["agent_id"] == of:
            status: str = push["status"]
            return status


async def test_a_revoked_token_ends_sockets_on_both_within_a_second(cluster: Cluster) -> None:
    database = ("--data-dir", cluster.here.data_dir, "--database-url", cluster.database_url)
    minted = await asyncio.to_thread(run, "token", OWNER, *database)
    token = dict(line.split(maxsplit=1) for line in minted.stdout.splitlines())["token"]

    async with (
        cluster.here.agent(OWNER, token=token) as here,
        cluster.there.agent(OWNER, token=token) as there,
        cluster.there.agent(OWNER) as with_another_token,
    ):
        revoked = await asyncio.to_thread(run, "token", "--revoke", token, *database)
        revoked_at = time.monotonic()
        assert revoked.returncode == 0, revoked.stderr
        for ending in await asyncio.gather(here.ended(), there.ended()):
            assert ending == ({"reason": "access_token_revoked"}, CloseCode.NORMAL_CLOSURE)
        assert time.monotonic() - revoked_at < SOON_S
        await with_another_token.hears_nothing_more()
