"""A session's limits on time and number, its token, and how it ends."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from rtm.actions.context import Context
from rtm.gateway.room import Backlog
from rtm.gateway.session import Session
from rtm.gateway.wire import Wire
from rtm.protocol.errors import ApiError
from rtm.settings import Limits
from rtm.store.queries import Queries
from rtm.store.work import Command
from tests.world import SALES, SOON_S, Client, Refused, World

WorldWith = Callable[..., Awaitable[World]]
TIMEOUT = ({"reason": "connection_timeout"}, 1000)
HELLO = {"type": "message", "text": "hello"}


# The handshake


@pytest.mark.parametrize(
    ("version", "query", "status"),
    [("3.6", "/more", 404), ("three", "", 404), ("3.6", f"?organization_id={'x' * 65}", 400)],
)
async def test_a_handshake_that_leads_nowhere(world: World, version: str, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await world.socket(version, query)
    assert refused.value.response.status_code == status


@pytest.mark.parametrize("version", ["2.0", "3.8"])
async def test_a_version_that_is_not_served_is_told_so(world: World, version: str) -> None:
    client = await world.socket(version)
    assert await client.next_frame("agent_disconnected") == {
        "version": "3.6",
        "action": "agent_disconnected",
        "type": "push",
        "payload": {"reason": "unsupported_version"},
    }
    with pytest.raises(ConnectionClosed):
        await client.next()
    assert client.connection.close_code == 1000


# Size


async def test_a_message_may_be_large_after_the_log_in_only(world: World) -> None:
    alice, stranger = await world.agent("alice"), await world.socket()
    for client, most in ((alice, 1 << 20), (stranger, 1 << 16)):
        ping = b'{"action":"ping","request_id":"large"}'.ljust(most)
        await client.connection.send(ping, text=True)
        assert (await client.answer("large"))["success"]
        await client.connection.send(ping + b" ", text=True)
        with pytest.raises(ConnectionClosed):
            await client.next()
        assert client.connection.close_code == CloseCode.MESSAGE_TOO_BIG


# Time


async def test_there_is_a_time_to_log_in_that_pings_do_not_stretch(world_with: WorldWith) -> None:
    world = await world_with({"login_timeout_s": 1})
    silent, pinging = await world.socket(), await world.socket()
    logged_in = await world.agent("alice")

    async def ping() -> None:
        while True:
            await pinging.call("ping")

    with pytest.raises(ConnectionClosed):
        await ping()
    assert await silent.ended() == TIMEOUT
    await logged_in.call("ping")


async def test_who_stops_pinging_is_disconnected(world_with: WorldWith) -> None:
    world = await world_with({"ping_timeout_s": 1})
    silent = await world.agent("alice")
    by_action, by_frame = await world.agents("bob", "bob")
    ended = asyncio.create_task(silent.ended())

    while not ended.done():
        await by_action.call("ping")
        await (await by_frame.connection.ping())

    assert await ended == TIMEOUT
    await by_action.call("list_chats")
    await by_frame.call("list_chats")


async def test_requests_are_no_pings(world_with: WorldWith) -> None:
    world = await world_with({"ping_timeout_s": 1})
    alice = await world.agent("alice")

    async def ask() -> None:
        while True:
            await alice.call("list_routing_statuses")

    with pytest.raises(ConnectionClosed):
        await ask()


# Number


async def test_the_oldest_connection_gives_way(world_with: WorldWith) -> None:
    world = await world_with({"connections_per_agent": 2})
    first, second, third = await world.agents("alice", "alice", "alice")
    bob = await world.agent("bob")

    assert await first.ended() == ({"reason": "connection_evicted"}, 1000)
    for client in (second, third, bob):
        await client.hears_nothing_more()


async def test_the_only_connection_gives_way(world_with: WorldWith) -> None:
    world = await world_with({"connections_per_agent": 1})
    first, second = await world.agents("alice", "alice")
    assert await first.ended() == ({"reason": "connection_evicted"}, 1000)
    await second.call("start_chat")
    await second.next_push("incoming_chat")


async def test_the_newest_connection_is_refused(world_with: WorldWith) -> None:
    world = await world_with({"connections_per_agent": 1, "connections_per_agent_policy": "refuse"})
    first = await world.agent("alice")
    second = await world.socket()
    await second.send("login", token=await world.token("alice"))
    assert await second.ended() == ({"reason": "too_many_connections"}, 1000)
    await first.call("logout")
    await world.agent("alice")


async def test_so_many_connections_of_an_address_may_be_unauthorized(world_with: WorldWith) -> None:
    world = await world_with({"unauthorized_connections_per_address": 2})
    first, second = await world.socket(), await world.socket()
    third = await world.socket()
    assert await third.ended() == ({"reason": "too_many_unauthorized_connections"}, 1000)

    await first.call("login", token=await world.token("alice"))
    fourth = await world.socket()
    await fourth.call("ping")
    await second.close()
    fifth = await world.socket()
    await fifth.call("ping")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Queries for one chat take until this is set, and find nothing."""
    go_on = asyncio.Event()

    async def wait(*_: Any) -> None:
        await go_on.wait()

    monkeypatch.setattr(Queries, "chat", wait)
    return go_on


async def test_so_many_requests_may_wait_for_their_answers(world_with: WorldWith, stuck: asyncio.Event) -> None:
    world = await world_with({"pending_requests": 2})
    alice = await world.agent("alice")
    waiting = [await alice.send("get_chat", chat_id="A") for _ in range(2)]

    for action in ("get_chat", "list_chats", "start_chat"):
        refusal = await alice.refused(action, chat_id="A")
        assert refusal == Refused("pending_requests_limit_reached", "Requests limit reached")
    await alice.call("ping")

    stuck.set()
    for request_id in waiting:
        assert Refused.read((await alice.answer(request_id))["payload"]).type == "not_found"
    await alice.call("list_chats")


async def test_every_limit_may_be_turned_off(world_with: WorldWith) -> None:
    world = await world_with({name: 0 for name in Limits.model_fields if name != "connections_per_agent_policy"})
    alice, bob = await world.agents("alice", "bob")
    waiting = [await alice.send("list_chats") for _ in range(200)]
    for request_id in waiting:
        assert (await alice.answer(request_id))["success"]
    await (await world.web("alice")).call("start_chat")
    await bob.next_push("incoming_chat")


# Tokens


async def test_a_session_ends_with_its_token(world: World) -> None:
    loop = asyncio.get_running_loop()
    minted_at = loop.time()
    token = await world.token("alice", lifetime_s=1)
    alice, bob = await world.agent("alice", token=token), await world.agent("bob")
    assert await alice.ended() == ({"reason": "access_token_expired"}, 1000)
    assert 1 < loop.time() - minted_at < 1 + SOON_S
    await bob.hears_nothing_more()


async def test_a_revoked_token_ends_its_sessions_within_a_second(world: World) -> None:
    revoked, other = await world.mint("alice"), await world.mint("alice")
    first = await world.agent("alice", token=f"Bearer {revoked.token}")
    second = await world.agent("alice", token=f"Bearer {revoked.token}")
    third = await world.agent("alice", token=f"Bearer {other.token}")

    await world.revoke(revoked)

    async with asyncio.timeout(SOON_S):
        for client in (first, second):
            assert await client.ended() == ({"reason": "access_token_revoked"}, 1000)
    await third.call("list_chats")
    client = await world.socket()
    assert (await client.refused("login", token=f"Bearer {revoked.token}")).type == "authentication"


async def test_a_session_may_live_on_with_another_token(world: World) -> None:
    short = await world.token("alice", lifetime_s=2)
    renewed = await world.agent("alice", token=short)
    left_alone = await world.agent("alice", token=short)
    longer = await world.mint("alice")

    assert await renewed.call("update_session", token=f"Bearer {longer.token}") == {}

    assert await left_alone.ended() == ({"reason": "access_token_expired"}, 1000)
    await renewed.call("list_chats")
    await world.revoke(longer)
    assert await renewed.ended() == ({"reason": "access_token_revoked"}, 1000)


async def test_a_session_no_longer_depends_on_the_token_it_began_with(world: World) -> None:
    first, second = await world.mint("alice"), await world.mint("alice")
    alice = await world.agent("alice", token=f"Bearer {first.token}")
    witness = await world.agent("alice", token=f"Bearer {first.token}")
    await alice.call("update_session", token=f"Bearer {second.token}")
    await world.revoke(first)
    await witness.ended()
    await alice.call("list_chats")


async def test_a_session_may_do_and_hear_what_its_new_token_lets_it(world: World) -> None:
    alice, bob = await world.agent("alice", scopes=["chats--all:rw"]), await world.agent("bob")
    await bob.call("start_chat")
    await alice.next_push("incoming_chat")

    await alice.call("update_session", token=await world.token("alice", scopes=["agents--my:rw"]))
    assert (await alice.refused("list_chats")).type == "authorization"
    await bob.call("start_chat")
    await alice.hears_nothing_more()

    await alice.call("update_session", token=await world.token("alice", scopes=["chats--all:ro"]))
    await bob.call("start_chat")
    await alice.next_push("incoming_chat")


async def test_tokens_that_cannot_renew_a_session(world: World) -> None:
    alice = await world.agent("alice")
    refusal = await alice.refused("update_session", token=await world.token("bob"))
    assert refusal == Refused("authentication", "`token` belongs to another agent")
    stranger = await world.server.world()
    assert (await alice.refused("update_session", token=await stranger.token("alice"))).type == "authentication"
    assert (await alice.refused("update_session", token="Bearer x")).type == "authentication"
    assert await alice.refused("update_session") == Refused("validation", "`token` is required")
    await alice.call("list_chats")
    older = await world.agent("alice", version="3.5")
    assert (await older.refused("update_session", token=await world.token("alice"))).type == "not_found"


# Agents and groups that change


async def test_an_agent_with_another_role_is_told_to_log_in_again(world: World) -> None:
    dave, bob = await world.agents("dave", "bob")
    older = [await world.agent("dave", version=version) for version in ("3.4", "3.5")]
    await world.change_agent("dave", role="administrator")
    assert await dave.ended() == ({"reason": "role_permissions_changed"}, 1000)
    for each in older:  # which know no such reason
        assert await each.ended() == ({"reason": "internal_error"}, 1000)
    await bob.call("list_chats")


async def test_a_suspended_agent_is_disconnected(world: World) -> None:
    dave, bob = await world.agents("dave", "bob")
    await world.change_agent("dave", suspended=True)
    assert await dave.ended() == ({"reason": "agent_disconnected_by_server"}, 1000)
    await bob.call("list_chats")


async def until_in_sales(client: Client, expected: bool) -> None:
    """The process has noticed that the agent has come into the group, or left it."""
    async with asyncio.timeout(SOON_S):
        while True:
            listed = await client.call("list_routing_statuses", filters={"group_ids": [SALES]})
            if (client.id in {each["agent_id"] for each in listed}) is expected:
                return


async def test_an_agent_hears_of_the_groups_it_is_in_by_now(world: World) -> None:
    erin, alice = await world.agents("erin", "alice")
    in_sales = {"access": {"group_ids": [SALES]}}
    await alice.call("start_chat", chat=in_sales)
    await erin.hears_nothing_more()

    await world.set_groups("erin", SALES)
    await until_in_sales(erin, True)
    await alice.call("start_chat", chat=in_sales)
    await erin.next_push("incoming_chat")

    await world.set_groups("erin")
    await until_in_sales(erin, False)
    await alice.call("start_chat", chat=in_sales)
    await erin.hears_nothing_more()


# The end


async def test_a_logout_is_answered_and_then_the_connection_is_closed(world: World) -> None:
    alice = await world.agent("alice")
    assert await alice.call("logout") == {}
    with pytest.raises(ConnectionClosed):
        await alice.next()
    assert alice.connection.close_code == 1000


async def test_what_was_sent_before_the_logout_is_done_before_it(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])
    sent = [await alice.send("send_event", chat_id=chat.id, event=HELLO) for _ in range(5)]
    logout = await alice.send("logout")
    for request_id in (*sent, logout):
        assert (await alice.answer(request_id))["success"]
    for number in range(1, 6):
        assert (await bob.next_push("incoming_event"))["event"]["id"] == f"{chat.thread_id}_{number}"


async def test_a_client_that_vanishes_is_counted_out(world: World) -> None:
    olivia = await world.agent("olivia")
    olivia.noise = set()
    alice = await world.agent("alice")
    assert (await olivia.next_push("routing_status_set"))["status"] == "accepting_chats"
    alice.connection.transport.abort()
    told = {"agent_id": world.id("alice"), "status": "offline"}
    assert await olivia.next_push("routing_status_set") == told


async def test_what_was_sent_before_the_connection_is_closed_is_done_before_it_is_counted_out(world: World) -> None:
    bob, alice = await world.agents("bob", "alice")
    chat = await world.chat(alice)
    bob.noise = set()
    protocol, transport = alice.connection.protocol, alice.connection.transport
    for number, (action, payload) in enumerate(
        [
            ("send_event", {"chat_id": chat.id, "event": HELLO}),  # the status waits for it
            ("set_routing_status", {"status": "not_accepting_chats"}),
        ]
    ):
        protocol.send_text(orjson.dumps({"action": action, "request_id": str(number), "payload": payload}))
    protocol.send_close(1000)
    transport.write(b"".join(protocol.data_to_send()))  # at once
    for status in ("not_accepting_chats", "offline"):
        told = {"agent_id": alice.id, "status": status}
        assert await bob.next_push("routing_status_set") == told
    assert (await statuses(bob))[alice.id] == "offline"


async def test_a_client_that_vanishes_while_it_logs_in_is_counted_out(world: World) -> None:
    olivia = await world.agent("olivia")
    clients = [await world.socket() for _ in range(10)]
    token = await world.token("alice")
    for number, client in enumerate(clients):
        await client.send("login", token=token)
        for _ in range(number):
            await asyncio.sleep(0)  # a little further in the login each time
        client.connection.transport.abort()

    async with asyncio.timeout(SOON_S):
        while (await statuses(olivia))[world.id("alice")] != "offline":
            pass
    alice = await world.agent("alice")
    await alice.call("logout")
    assert (await statuses(olivia))[world.id("alice")] == "offline"


async def statuses(of: Client) -> dict[str, str]:
    return {each["agent_id"]: each["status"] for each in await of.call("list_routing_statuses")}


async def test_a_server_that_stops_says_so(world_with: WorldWith) -> None:
    world = await world_with()
    alice, nobody = await world.agent("alice"), await world.socket()
    stopping = asyncio.create_task(world.server.stop())
    for client in (alice, nobody):
        # Of the contract's reasons, one at which clients are to come back.
        assert await client.ended() == ({"reason": "internal_error"}, 1001)
    await stopping


async def test_sessions_and_refusals_leave_nothing_to_the_garbage_collector(world: World) -> None:
    """It comes by seldom: what waited for it made a process grow with every client that came and went."""

    def alive() -> Counter[str]:
        kinds = (Session, Wire, Backlog, Context, Command, ApiError)
        return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))

    async def visit() -> None:
        erin = await world.agent("erin")
        await erin.refused("send_event", chat_id="AAAAAAAAAA", event={"type": "message", "text": "hello"})
        await erin.refused("list_chats", limit=0)
        await erin.close()

    await visit()
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(3):
            await visit()
        async with asyncio.timeout(10):
            while alive() != before:
                await asyncio.sleep(0.01)
    finally:
        gc.enable()
