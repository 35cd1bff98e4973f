"""Logging in: what is answered, which tokens open, and which pushes follow."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from rtm.access import tokens
from rtm.gateway.session import Session
from tests.actions.shapes import TIME, agent, message, older_ada, summary_with_ada
from tests.world import SALES, SUPPORT, Refused, World, basic

HELLO = {"type": "message", "text": "hello"}
LOGIN_FIRST = Refused("authentication", "Log in first")


async def test_a_session_begins_with_license_profile_and_chats(either_world: World) -> None:
    world = either_world
    alice, olivia = await world.agents("alice", "olivia")
    chat = await world.chat(alice, users=["ada"], texts=["one"])
    followed = await world.chat(olivia, group=SUPPORT)
    await alice.call("follow_chat", id=followed.id)
    closed = await world.chat(alice)
    await alice.call("deactivate_chat", id=closed.id)
    await world.chat(olivia)  # of her group, but not hers

    greeting = (await world.agent("alice")).greeting

    assert isinstance(greeting["license"].pop("creation_timestamp"), int)
    assert greeting["license"] == {
        "id": str(world.license_id),
        "organization_id": world.organization_id,
        "plan": "self-hosted",
        "in_trial": False,
    }
    profile = agent(world, "alice", routing_status="accepting_chats", permission="administrator")
    del profile["visibility"]
    assert greeting["my_profile"] == profile
    assert [each["id"] for each in greeting["chats_summary"]] == [followed.id, chat.id]
    assert greeting["chats_summary"][1] == summary_with_ada(world, chat, message("one", alice.id))


async def test_a_push_after_the_answer_that_fails_leaves_the_session_as_it_should_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such push")

    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(Session, "tell", fail)
        bob = await world.agent("bob")
    assert [(line["event"], line["action"]) for line in lines if line["log_level"] == "error"] == [
        ("after_reply_failed", "login")
    ]
    await (await world.web("alice")).call("start_chat", chat={"access": {"group_ids": [SALES]}})
    await bob.next_push("incoming_chat")


@pytest.mark.parametrize("version", ["3.4", "3.5"])
async def test_a_session_of_an_older_version(world: World, version: str) -> None:
    await world.chat(await world.web("alice"), users=["ada"])
    push_notifications = {"firebase_token": "x", "platform": "ios"}  # of 3.4, where nothing comes of it
    alice = await world.agent("alice", version=version, push_notifications=push_notifications)
    assert alice.greeting["chats_summary"][0]["users"][1] == older_ada(world)


async def test_all_that_a_login_may_say(world: World) -> None:
    alice = await world.agent(
        "alice",
        timezone="Europe/Warsaw",
        reconnect=True,
        application={"name": "app", "version": "1.0"},
        away=False,
        customer_monitoring_level="highest_available",
        pushes={"3.6": ["all"], "3.7": ["all"]},
    )
    assert set(alice.greeting) == {"license", "my_profile", "chats_summary"}


async def test_a_license_that_ends_says_when(world: World) -> None:
    await world.change_license(expires_at="2999-01-01T00:00:00.000000Z")
    alice = await world.agent("alice")
    assert alice.greeting["license"]["expiration_timestamp"] == 32472144000


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (["chats--all:ro"], {"mine", "followed"}),
        (["chats--access:ro"], {"mine"}),
        (["chats--my:ro"], {"mine"}),
        (["multicast:rw"], set()),
    ],
)
async def test_a_session_is_shown_the_chats_that_its_token_may_see(
    world: World, scopes: list[str], seen: set[str]
) -> None:
    alice, carol = await world.agents("alice", "carol")
    names = {(await world.chat(alice)).id: "mine"}
    followed = await world.chat(carol, group=SUPPORT)
    await alice.call("follow_chat", id=followed.id)
    names[followed.id] = "followed"

    limited = await world.agent("alice", scopes=scopes)

    assert {names[chat["id"]] for chat in limited.greeting["chats_summary"]} == seen


# Who is let in

Token = Callable[[World], Awaitable[str]]


async def by_account_id(world: World) -> str:
    new = await world.mint("alice")
    return basic(world.account_ids[world.id("alice")], new.token)


async def by_email(world: World) -> str:
    return basic(world.id("alice"), (await world.mint("alice")).token)


@pytest.mark.parametrize("token", [by_account_id, by_email])
async def test_a_personal_access_token_opens(world: World, token: Token) -> None:
    alice = await world.agent("alice", token=await token(world))
    assert alice.greeting["my_profile"]["id"] == alice.id


async def anothers_account(world: World) -> str:
    return basic(world.id("bob"), (await world.mint("alice")).token)


async def nobodys(world: World) -> str:
    return "Bearer dal:nobodys"


async def without_scheme(world: World) -> str:
    return (await world.mint("alice")).token


async def expired(world: World) -> str:
    return await world.token("alice", lifetime_s=-1)


async def revoked(world: World) -> str:
    new = await world.mint("alice")
    await world.revoke(new)
    return f"Bearer {new.token}"


async def suspended(world: World) -> str:
    return await world.token("sam")


async def awaiting_approval(world: World) -> str:
    return await world.token("nina")


async def of_an_expired_license(world: World) -> str:
    await world.change_license(expires_at="2020-01-01T00:00:00.000000Z")
    return await world.token("alice")


@pytest.mark.parametrize(
    ("token", "refusal"),
    [
        (anothers_account, Refused("authentication", "Authentication error")),
        (nobodys, Refused("authentication", "Authentication error")),
        (without_scheme, Refused("authentication", "Authentication error")),
        (expired, Refused("authentication", "Authentication error")),
        (revoked, Refused("authentication", "Authentication error")),
        (suspended, Refused("requester_suspended", "Requester suspended")),
        (awaiting_approval, Refused("requester_awaiting_approval", "Requester awaiting approval")),
        (of_an_expired_license, Refused("license_expired", "License expired")),
    ],
)
async def test_who_is_refused_may_try_again(world: World, token: Token, refusal: Refused) -> None:
    client = await world.socket()
    assert await client.refused("login", token=await token(world)) == refusal
    await world.change_license(expires_at=None)
    await client.call("login", token=await world.token("alice"))


async def test_a_token_of_another_region_is_sent_there(world: World) -> None:
    client = await world.socket()
    await client.send("login", token="Bearer fra:abc")
    assert await client.ended() == ({"reason": "misdirected_connection", "data": {"region": "fra"}}, 1000)


async def test_before_the_login_there_is_ping_and_login(world: World) -> None:
    client = await world.socket()
    assert await client.call("ping") == {}
    for action in ("send_event", "logout", "list_chats", "update_session", "set_away_status", "no_such_action"):
        assert await client.refused(action) == LOGIN_FIRST
    assert await client.refused("login") == Refused("validation", "`token` is required")
    await client.call("login", token=await world.token("alice"))


async def test_one_login_is_enough(world: World) -> None:
    alice = await world.agent("alice")
    refusal = await alice.refused("login", token=await world.token("alice"))
    assert refusal == Refused("validation", "Already logged in")
    await alice.call("list_chats")


async def test_a_login_that_overtakes_another_is_refused_like_any_other(world: World) -> None:
    client = await world.socket()
    token = await world.token("alice")
    first = await client.send("login", token=token)
    second = await client.send("login", token=token)
    assert (await client.answer(first))["success"]
    assert Refused.read((await client.answer(second))["payload"]) == Refused("validation", "Already logged in")
    await client.call("list_chats")


async def test_who_has_lost_a_role_has_it_no_longer_at_the_next_log_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_CACHE_AGE_S", 60)
    carol, alice = await world.agents("carol", "alice")
    theirs = {"chat_id": (await world.chat(carol, group=SUPPORT)).id}
    web, known = await world.web("alice"), [await world.token("alice") for _ in range(2)]
    for token in known:
        assert (await web.post("get_chat", theirs, authorization=token)).status_code == 200
    await world.change_agent("alice", role="normal")
    assert (await alice.ended())[0] == {"reason": "role_permissions_changed"}

    alice = await world.agent("alice", token=known[0])
    assert (await alice.refused("get_chat", **theirs)).type == "missing_access"
    await alice.call("update_session", token=known[1])
    assert (await alice.refused("get_chat", **theirs)).type == "missing_access"


async def test_the_organization_may_be_named_and_must_be_right(world: World) -> None:
    token = await world.token("alice")
    right = await world.socket(query=f"?organization_id={world.organization_id}")
    await right.call("login", token=token)
    wrong = await world.socket(query="?organization_id=another")
    refusal = await wrong.refused("login", token=token)
    assert refusal == Refused("authentication", "`organization_id` of the connection is not that of the token")
    await wrong.call("ping")


# Which pushes are wanted


async def heard(world: World, version: str, pushes: dict[str, list[str]] | None) -> list[tuple[str, str]]:
    """Versions and names of what Bob hears of a chat that begins, a word, a thought and a routing status."""
    options: dict[str, Any] = {} if pushes is None else {"pushes": pushes}
    bob = await world.agent("bob", version=version, **options)
    bob.noise = set()
    alice = await world.web("alice")
    started = await alice.call("start_chat", chat={"users": [{"id": bob.id, "type": "agent"}]})
    await alice.call("send_event", chat_id=started["chat_id"], event=HELLO)
    await alice.call("send_thinking_indicator", chat_id=started["chat_id"])
    await alice.call("set_routing_status", status="accepting_chats")
    request_id = await bob.send("ping")
    frames = []
    while (frame := await bob.next()).get("request_id") != request_id:
        frames.append((frame["version"], frame["action"]))
    return frames


EVERYTHING = ["incoming_chat", "incoming_event", "incoming_thinking_indicator", "routing_status_set"]


@pytest.mark.parametrize(
    ("version", "pushes", "expected"),
    [
        ("3.6", None, [("3.6", name) for name in EVERYTHING]),
        ("3.5", None, [("3.5", name) for name in EVERYTHING if name != "incoming_thinking_indicator"]),
        ("3.6", {"3.6": ["all"]}, [("3.6", name) for name in EVERYTHING]),
        ("3.6", {"3.6": ["incoming_event"]}, [("3.6", "incoming_event")]),
        ("3.6", {"3.5": ["incoming_event"]}, [("3.5", "incoming_event")]),
        (
            "3.6",
            {"3.6": ["incoming_event", "incoming_thinking_indicator"], "3.4": ["all"]},
            [
                ("3.4", "incoming_chat"),
                ("3.4", "incoming_event"),
                ("3.6", "incoming_event"),
                ("3.6", "incoming_thinking_indicator"),
                ("3.4", "routing_status_set"),
            ],
        ),
        ("3.6", {}, []),
        ("3.6", {"3.6": []}, []),
        ("3.7", None, [("3.7", name) for name in EVERYTHING]),
        ("3.6", {"3.7": ["all"]}, [("3.7", name) for name in EVERYTHING]),
        ("3.6", {"3.8": ["all"]}, []),
        ("3.6", {"3.6": ["no_such_push"]}, []),
    ],
)
async def test_the_pushes_asked_for(
    world: World, version: str, pushes: dict[str, list[str]] | None, expected: list[tuple[str, str]]
) -> None:
    assert await heard(world, version, pushes) == expected


async def test_a_push_is_heard_with_its_scope_only(world: World) -> None:
    chatting = await world.agent("bob", scopes=["chats--access:ro"])
    managing = await world.agent("bob", scopes=["agents--all:ro"])
    chatting.noise = managing.noise = set()
    alice = await world.agent("alice")

    await world.chat(alice)
    await alice.call("start_chat")

    await chatting.next_push("incoming_chat")
    await chatting.hears_nothing_more()
    await managing.hears_nothing_more()
    await alice.call("set_routing_status", status="not_accepting_chats")
    await managing.next_push("routing_status_set")
    await chatting.hears_nothing_more()


async def test_who_reaches_own_chats_hears_nothing_of_others(world: World) -> None:
    alice, bob = await world.agent("alice"), await world.agent("bob", scopes=["chats--my:ro"])

    await alice.call("start_chat", chat={"access": {"group_ids": [SALES]}})
    await alice.call("start_chat")
    await bob.hears_nothing_more()

    mine = await alice.call("start_chat", chat={"users": [{"id": bob.id, "type": "agent"}]})
    assert (await bob.next_push("incoming_chat"))["chat"]["id"] == mine["chat_id"]
    await alice.call("deactivate_chat", id=mine["chat_id"])
    await bob.next_push("incoming_event")
    await bob.next_push("chat_deactivated")


# What older versions have more


async def test_the_license_in_3_5(world: World) -> None:
    alice = await world.web("alice", version="3.5", scopes=[])
    shown = {"license_id": str(world.license_id), "created_at": TIME, "in_trial": False}
    assert await alice.call("get_license_info") == shown
    for version in ("3.4", "3.6"):
        other = await world.web("alice", version=version)
        assert (await other.refused("get_license_info")).type == "not_found"
    socket = await world.agent("alice", version="3.5")
    assert (await socket.refused("get_license_info")).type == "not_found"


async def test_a_license_that_ends_in_3_5(world: World) -> None:
    await world.change_license(expires_at="2999-01-01T00:00:00.000000Z")
    alice = await world.web("alice", version="3.5")
    assert (await alice.call("get_license_info"))["expires_at"] == "2999-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("x", "`push_notifications` must be an object"),
        ({"firebase_token": "x"}, "`push_notifications.platform` is required"),
        ({"platform": "windows"}, "`push_notifications.platform` must be one of: android, ios"),
        ({"platform": "ios", "firebase_token": 5}, "`push_notifications.firebase_token` must be a string"),
    ],
)
async def test_a_device_of_3_4_that_is_none(world: World, device: Any, message: str) -> None:
    client = await world.socket(version="3.4")
    refusal = await client.refused("login", token=await world.token("alice"), push_notifications=device)
    assert refusal == Refused("validation", message)


async def test_push_notifications_in_3_4(world: World) -> None:
    alice = await world.agent("alice", version="3.4")
    wish = {"firebase_token": "8daDAD9dada8ja1JADA11", "platform": "ios", "enabled": True}
    assert await alice.call("change_push_notifications", **wish) == {}
    refusal = await alice.refused("change_push_notifications", **(wish | {"platform": "windows"}))
    assert refusal == Refused("validation", "`platform` must be one of: ios, android")
    for missing in wish:
        given = {name: value for name, value in wish.items() if name != missing}
        refusal = await alice.refused("change_push_notifications", **given)
        assert refusal == Refused("validation", f"`{missing}` is required")
    newer = await world.agent("alice", version="3.5")
    assert (await newer.refused("change_push_notifications", **wish)).type == "not_found"
