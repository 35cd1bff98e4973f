"""What holds for every action: request ids, the order of answers and pushes, versions, quotas, time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from structlog.testing import capture_logs

from rtm import versions
from rtm.access.quota import Key, end_of_minute
from rtm.actions import registry
from rtm.actions.lane import QUERIES_AT_ONCE
from rtm.actions.registry import AGENT
from rtm.store.queries import Queries
from tests.actions.conftest import Enter
from tests.world import SALES, SUPPORT, Refused, World, basic

HELLO = {"type": "message", "text": "hello"}


# Request ids


@pytest.mark.parametrize(
    ("action", "pushes"),
    [
        ("send_event", ["incoming_event"]),
        ("send_typing_indicator", ["incoming_typing_indicator"]),
        ("deactivate_chat", ["incoming_event", "chat_deactivated"]),
        ("set_routing_status", ["routing_status_set"]),
        ("multicast", ["incoming_multicast"]),
    ],
)
async def test_who_asked_is_answered_first_and_then_knows_the_push_by_its_request_id(
    world: World, action: str, pushes: list[str]
) -> None:
    asking = await world.agent("alice")
    beside, bob = await world.agents("alice", "bob")
    chat = await world.chat(asking, users=["bob"])
    for client in (asking, beside, bob):
        client.noise = set()
    payloads: dict[str, dict[str, Any]] = {
        "send_event": {"chat_id": chat.id, "event": HELLO},
        "send_typing_indicator": {"chat_id": chat.id, "is_typing": True},
        "deactivate_chat": {"id": chat.id},
        "set_routing_status": {"status": "not_accepting_chats"},
        "multicast": {"recipients": {"agents": {"all": True}}, "content": 1},
    }

    request_id = await asking.send(action, "mine", **payloads[action])

    response = await asking.next()
    assert (response["type"], response["request_id"], response["action"]) == ("response", request_id, action)
    assert set(response) == {"request_id", "action", "type", "success", "payload"}
    for push in pushes:
        own = await asking.next()
        assert (own["type"], own["action"], own["request_id"]) == ("push", push, request_id)
        assert set(own) == {"version", "request_id", "action", "type", "payload"}
        for client in (beside, bob):
            frame = await client.next_frame(push)
            assert frame == {"version": "3.6", "action": push, "type": "push", "payload": own["payload"]}
    for client in (asking, beside, bob):
        await client.hears_nothing_more()


async def test_what_is_asked_without_a_request_id_is_answered_without(world: World) -> None:
    alice = await world.agent("alice")
    await alice.connection.send('{"action":"start_chat"}')
    response, push = await alice.next(), await alice.next()
    assert (response["action"], push["action"]) == ("start_chat", "incoming_chat")
    assert "request_id" not in response
    assert "request_id" not in push


async def test_a_push_in_two_versions_is_known_by_its_request_id_once(world: World) -> None:
    alice = await world.agent("alice", pushes={"3.5": ["all"], "3.6": ["all"]})
    request_id = await alice.send("start_chat")
    frames = [await alice.next() for _ in range(3)]
    assert [(frame.get("version"), frame.get("request_id")) for frame in frames] == [
        (None, request_id),
        ("3.5", request_id),
        ("3.6", None),
    ]


async def test_a_refused_request_pushes_nothing(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    await alice.refused("start_chat", chat={"users": [{"id": "x", "type": "customer"}]})
    await alice.hears_nothing_more()
    await bob.hears_nothing_more()


# Versions


async def test_a_request_may_name_a_newer_version_than_its_connection(world: World) -> None:
    alice = await world.agent("alice", version="3.5")
    chat = await world.chat(alice)
    thinking = {"chat_id": chat.id}

    assert (await alice.refused("send_thinking_indicator", **thinking)).type == "not_found"
    await alice.call("send_thinking_indicator", envelope={"version": "3.6"}, **thinking)
    assert "chats_summary" in await alice.call("list_chats")
    assert "chats_info" in await alice.call("list_chats", envelope={"version": "3.7"})
    refusal = await alice.refused("ping", envelope={"version": "3.4"})
    assert refusal == Refused("validation", "`version` must not be older than the connection's, 3.5")
    preview = await world.agent("alice", version="3.7")
    refusal = await preview.refused("list_chats", envelope={"version": "3.6"})
    assert refusal == Refused("validation", "`version` must not be older than the connection's, 3.7")
    refusal = await alice.refused("ping", envelope={"version": "2.0"})
    assert refusal == Refused("validation", "`version` must be one of: 3.4, 3.5, 3.6, 3.7")


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_an_older_version_lets_an_agent_speak_as_a_bot(world: World, version: str) -> None:
    alice = await world.agent("alice", version=version)
    chat = await world.chat(alice, group=0, users=["robin"])
    as_robin = {"author_id": world.id("robin")}

    await alice.call("send_event", envelope=as_robin, chat_id=chat.id, event=HELLO)

    assert (await alice.next_push("incoming_event"))["event"]["author_id"] == world.id("robin")
    refusal = await alice.refused("send_event", envelope={"author_id": "bob@example.com"}, chat_id=chat.id, event=HELLO)
    assert refusal == Refused("validation", "`author_id` must be the id of a bot")


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_the_tokens_that_let_an_agent_speak_as_a_bot(world: World, version: str) -> None:
    chat = await world.chat(await world.agent("alice"), group=0, users=["robin", "rosie"])
    scopes = ["chats--access:rw"]
    bearer = await world.token("bob", scopes=scopes)
    personal = await world.mint("bob", scopes=scopes, kind="personal", client_id=None)
    for token, refused in (
        (bearer, ["rosie"]),  # of another client
        (await world.token("bob", scopes=scopes, client_id=None), ["robin", "rosie"]),
        (f"Bearer {personal.token}", []),
        (basic("bob@example.com", personal.token), []),
    ):
        bob = await world.agent("bob", version=version, token=token)
        web = await world.web("bob", version=version, token=token)
        for name in ("robin", "rosie"):
            author_id = world.id(name)
            response = await web.post("send_event", {"chat_id": chat.id, "event": HELLO}, x_author_id=author_id)
            if name in refused:
                wanted = Refused("authorization", "Token must be personal, or of the client that the bot belongs to")
                said = {"envelope": {"author_id": author_id}, "chat_id": chat.id, "event": HELLO}
                assert await bob.refused("send_event", **said) == Refused.read(response.json()) == wanted
            else:
                assert response.status_code == 200
                await bob.call("send_event", envelope={"author_id": author_id}, chat_id=chat.id, event=HELLO)


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_who_speaks_as_a_bot_reads_no_more_than_before(world: World, version: str) -> None:
    await world.set_groups("robin", SUPPORT)
    chat = await world.chat(await world.agent("carol"), group=SUPPORT, texts=["secret"])
    token = await world.token("dave", kind="personal", client_id=None)
    dave = await world.agent("dave", version=version, token=token)
    web = await world.web("dave", version=version, token=token)
    as_robin, robin = {"author_id": world.id("robin")}, world.id("robin")
    for action, wanted in (("get_chat", {"chat_id": chat.id}), ("list_threads", {"chat_id": chat.id})):
        assert (await dave.refused(action, envelope=as_robin, **wanted)).type == "missing_access"
        assert (await web.post(action, wanted, x_author_id=robin)).status_code == 403
    assert (await dave.call("list_chats", envelope=as_robin))["found_chats"] == 0


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_nobody_speaks_as_a_bot_that_is_suspended(world: World, version: str) -> None:
    await world.change_agent("rosie", suspended=True)
    alice = await world.agent("alice", version=version, token=await world.token("alice", kind="personal"))
    refusal = await alice.refused("start_chat", envelope={"author_id": world.id("rosie")})
    assert refusal == Refused("requester_suspended", "Bot suspended")


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_an_agent_adds_a_bot_of_no_group_by_speaking_as_it(world: World, version: str) -> None:
    alice = await world.agent("alice", version=version, scopes=["chats--access:rw"])
    web = await world.web("alice", version=version, scopes=["chats--access:rw"])
    carol = await world.agent("carol", version=version, scopes=["chats--access:rw"])
    robin = world.id("robin")
    as_robin = {"author_id": robin}
    as_agent = {"user_id": robin, "user_type": "agent", "visibility": "all"}
    for over_http in (False, True):
        chat = await world.chat(alice, group=SALES)
        adding = {"chat_id": chat.id, **as_agent}
        assert (await alice.refused("add_user_to_chat", **adding)).type == "missing_access"
        adding_bob = {**adding, "user_id": "bob@example.com"}
        assert (await alice.refused("add_user_to_chat", envelope=as_robin, **adding_bob)).type == "missing_access"
        # Of the agent who holds the token access and presence are asked.
        for ignoring in ({}, {"ignore_requester_presence": True}):
            refusal = await carol.refused("add_user_to_chat", envelope=as_robin, **adding, **ignoring)
            assert refusal == Refused("missing_access", "Requester has no access to the chat")

        if over_http:
            assert (await web.post("add_user_to_chat", adding, x_author_id=robin)).status_code == 200
        else:
            await alice.call("add_user_to_chat", envelope=as_robin, **adding)

        assert (await alice.next_push("user_added_to_chat"))["user"]["id"] == robin
        await alice.call("send_event", envelope=as_robin, chat_id=chat.id, event=HELLO)
        await alice.forget()
    bob = await world.agent("bob", version=version, scopes=["chats--access:rw"])
    another = await world.chat(alice, group=SALES)
    refusal = await bob.refused("add_user_to_chat", envelope=as_robin, chat_id=another.id, **as_agent)
    assert refusal == Refused("authorization", "Requester is not a user of the chat")


@pytest.mark.parametrize("version", ["3.6", "3.7"])
async def test_newer_versions_do_not(world: World, version: str) -> None:
    alice = await world.agent("alice", version=version)
    chat = await world.chat(alice, group=0, users=["robin"])
    await alice.call("send_event", envelope={"author_id": world.id("robin")}, chat_id=chat.id, event=HELLO)
    assert (await alice.next_push("incoming_event"))["event"]["author_id"] == alice.id


LIFECYCLE = {"Legacy", "Deprecation"}


@pytest.mark.parametrize(
    ("version", "header"), [("3.4", "Deprecation"), ("3.5", "Legacy"), ("3.6", None), ("3.7", None)]
)
async def test_an_ageing_version_tells_until_when_it_is_served(world: World, version: str, header: str | None) -> None:
    alice = await world.web("alice", version=version)
    done, refused = await alice.post("list_chats"), await alice.post("list_chats", authorization="Bearer dal:x")
    assert (done.status_code, refused.status_code) == (200, 401)
    socket = await world.agent("alice", version=version)
    handshake = socket.connection.response
    assert handshake is not None
    for headers in (done.headers, refused.headers, handshake.headers):
        told = {name: date.fromisoformat(headers[name]) for name in LIFECYCLE if name in headers}
        assert set(told) == ({header} if header else set())


async def test_an_action_that_is_not(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    refusal = await alice.refused("fly")
    assert refusal == Refused("not_found", "`action` is unknown to version 3.6: fly")


# Quotas and time

WorldWith = Callable[..., Awaitable[World]]


async def test_a_license_may_ask_so_many_times_a_minute(world_with: WorldWith) -> None:
    world = await world_with({"requests_per_minute": 4})
    alice, bob = await world.agent("alice"), await world.web("bob")
    await within_a_minute_of(world.license_id)
    for _ in range(2):
        await alice.call("list_chats")
        await bob.call("list_chats")

    refusal = await alice.refused("list_chats")
    response = await bob.post("list_chats")

    assert refusal.type == "too_many_requests"
    assert refusal.message.startswith("Too many requests: at most 4 in 60 s, try again in ")
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60
    await alice.call("ping")  # costs nothing, so that who waits for the next minute is not taken for gone
    stranger = await (await world.server.world()).agent("alice")
    await stranger.call("list_chats")
    await stranger.close()


async def test_an_address_has_so_many_tokens_refused_over_both_doors(world_with: WorldWith) -> None:
    world = await world_with({"refused_tokens_per_minute": 2})
    token = await world.token("alice")
    alice, stranger = await world.agent("alice", token=token), await world.socket()
    web = await world.web("bob")
    await within_a_minute_of("127.0.0.1")
    assert (await stranger.refused("login", token="Bearer dal:0")).type == "authentication"
    assert (await web.post("list_chats", authorization="Bearer dal:1")).status_code == 401

    refusal = await stranger.refused("login", token="Bearer dal:2")
    response = await web.post("list_chats", authorization="Bearer dal:3")

    assert refusal.type == response.json()["error"]["type"] == "too_many_requests"
    assert refusal.message.startswith("Too many refused tokens: at most 2 in 60 s, try again in ")
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60
    await alice.call("list_chats")
    assert (await web.post("list_chats", authorization=token)).status_code == 200
    await world.agent("alice", token=token)


async def test_a_token_logs_in_so_many_times_a_minute(world_with: WorldWith) -> None:
    world = await world_with({"logins_per_minute": 2})
    new = await world.mint("alice")
    token = f"Bearer {new.token}"
    await within_a_minute_of(new.row["hash"])
    for _ in range(2):
        await world.agent("alice", token=token)
    refusal = await (await world.socket()).refused("login", token=token)
    assert refusal.type == "too_many_requests"
    assert refusal.message.startswith("Too many log-ins with one token: at most 2 in 60 s, try again in ")
    await world.agent("alice")


async def within_a_minute_of(key: Key) -> None:
    """Wait for a time at which what a test counts is counted in one minute."""
    while end_of_minute(key, time.time()) - time.time() < 5:
        await asyncio.sleep(1)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Queries for one chat take until this is set."""
    go_on = asyncio.Event()
    read = Queries.chat

    async def wait(self: Queries, license_id: int, chat_id: str) -> Any:
        await go_on.wait()
        return await read(self, license_id, chat_id)

    monkeypatch.setattr(Queries, "chat", wait)
    return go_on


async def test_what_takes_too_long_is_given_up(world_with: WorldWith, stuck: asyncio.Event) -> None:
    world = await world_with({"request_timeout_s": 1})  # a log-in must be quicker, on a busy machine too
    alice, web = await world.agent("alice"), await world.web("alice")

    assert await alice.refused("get_chat", chat_id="A") == Refused("request_timeout", "Request timed out")
    response = await web.post("get_chat", {"chat_id": "A"})

    assert response.status_code == 504
    assert response.json() == {"error": {"type": "request_timeout", "message": "Request timed out"}}
    stuck.set()
    assert (await alice.refused("get_chat", chat_id="A")).type == "not_found"


async def test_a_slow_question_holds_nobody_up(world: World, stuck: asyncio.Event) -> None:
    alice = await world.agent("alice")
    slow = await alice.send("get_chat", chat_id="AAAAAAAAAA")
    await alice.call("ping")
    await alice.call("list_chats")
    await alice.call("start_chat")
    stuck.set()
    assert not (await alice.answer(slow))["success"]


async def test_two_questions_of_one_connection_are_looked_up_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = most = 0

    async def count(*_: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    monkeypatch.setattr(Queries, "chat", count)
    alice = await world.agent("alice")
    questions = [await alice.send("get_chat", chat_id="A") for _ in range(20)]
    for question in questions:
        assert not (await alice.answer(question))["success"]
    assert most == QUERIES_AT_ONCE == 2


async def test_an_error_of_ours_is_told_in_one_bland_sentence(
    world: World, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    alice = await enter("alice")
    monkeypatch.setattr(Queries, "chat", fail)
    with capture_logs() as logs:
        assert await alice.refused("get_chat", chat_id="A") == Refused("internal", "Internal server error")
    assert [line["log_level"] for line in logs if line["log_level"] != "warning"] == ["error"]


def broken(*_: Any) -> Any:
    raise RuntimeError("secret")


@pytest.mark.parametrize("step", ["request_from", "response_for"])
@pytest.mark.parametrize(
    ("action", "payload"),
    [("start_chat", {}), ("list_chats", {}), ("set_routing_status", {"status": "accepting_chats"})],
)
async def test_a_version_that_fails_is_told_as_an_error_of_ours(
    world: World, enter: Enter, step: str, action: str, payload: dict[str, Any]
) -> None:
    alice = await enter("alice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, step, broken)
        assert await alice.refused(action, **payload) == Refused("internal", "Internal server error")
    await alice.call(action, **payload)


async def test_so_is_a_command_that_cannot_say_what_it_needs(
    world: World, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await enter("alice")
    start_chat = registry._catalogue[AGENT, "start_chat"]
    monkeypatch.setitem(registry._catalogue, (AGENT, "start_chat"), replace(start_chat, needs=broken))
    assert await alice.refused("start_chat") == Refused("internal", "Internal server error")
    await alice.call("list_chats")


async def test_so_is_an_answer_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await world.agent("alice")
    ping = registry._catalogue[AGENT, "ping"]
    monkeypatch.setitem(registry._catalogue, (AGENT, "ping"), replace(ping, handler=broken))
    assert await alice.refused("ping") == Refused("internal", "Internal server error")
    await alice.call("list_chats")
    monkeypatch.undo()  # before those who look whether all was heard


# The order of one connection's changes


async def test_changes_are_applied_in_the_order_they_were_sent(world: World) -> None:
    alice = await world.agent("alice")
    alice.noise -= {"routing_status_set"}
    chat = await world.chat(alice)
    expected: list[tuple[str, Any]] = []
    for number in range(20):
        text, status = str(number), ("not_accepting_chats", "accepting_chats")[number % 2]
        await alice.send("send_event", chat_id=chat.id, event={"type": "message", "text": text})
        await alice.send("set_routing_status", status=status)
        expected += [("incoming_event", text), ("routing_status_set", status)]

    told: list[tuple[str, Any]] = []
    while len(told) < len(expected):
        frame = await alice.next()
        if frame["type"] == "push":
            payload = frame["payload"]
            told.append((frame["action"], payload["event"]["text"] if "event" in payload else payload["status"]))
    assert told == expected


async def test_a_chat_can_be_ended_and_resumed_in_one_breath(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice)
    steps: list[tuple[str, dict[str, Any], bool]] = [
        ("send_event", {"chat_id": chat.id, "event": HELLO}, True),
        ("deactivate_chat", {"id": chat.id}, True),
        ("send_event", {"chat_id": chat.id, "event": HELLO}, False),
        ("resume_chat", {"chat": {"id": chat.id}}, True),
        ("send_event", {"chat_id": chat.id, "event": HELLO}, True),
    ]
    request_ids = [await alice.send(action, **payload) for action, payload, _ in steps]
    answers = [(await alice.answer(request_id))["success"] for request_id in request_ids]
    assert answers == [done for _, _, done in steps]
