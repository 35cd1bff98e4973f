"""Starting, resuming, ending, following and unfollowing chats, and who takes part: answers, pushes, refusals."""

from typing import Any

import pytest

from rtm import versions
from tests.actions.conftest import Enter
from tests.actions.shapes import (
    CHAT_PROPERTIES,
    ID,
    SOURCE,
    THREAD_PROPERTIES,
    TIME,
    ada,
    agent,
    archived_by,
    bot,
    message,
    older_ada,
    said,
)
from tests.world import SALES, SUPPORT, VISIT, Client, Refused, World

PROPERTIES = {"ns": {"name": "value", "count": 1}}


async def start(by: Client, group: int, **chat: Any) -> Any:
    return await by.call("start_chat", chat={"access": {"group_ids": [group]}, **chat})


# Start


async def test_a_chat_begins_with_all_that_was_asked_for(either_world: World) -> None:
    world = either_world
    alice, bob, carol = await world.agents("alice", "bob", "carol")
    wanted = {
        "properties": PROPERTIES,
        "access": {"group_ids": [SALES, SALES]},
        "users": [{"id": world.id("ada"), "type": "customer"}, {"id": bob.id, "type": "agent"}],
        "thread": {
            "properties": {"ns": {"of": "thread"}},
            "events": [
                {"type": "message", "text": "Hello!", "author_id": world.id("ada")},
                {"type": "system_message", "system_message_type": "note", "text": "Ada came"},
                {"type": "message", "text": "Good morning"},
            ],
        },
    }

    answer = await alice.call("start_chat", chat=wanted, continuous=True)

    first, second, last = event_ids = [f"{answer['thread_id']}_{number}" for number in (1, 2, 3)]
    assert answer == {"chat_id": ID, "thread_id": ID, "event_ids": event_ids}
    push = await bob.next_push("incoming_chat")
    events = push["chat"]["thread"]["events"]
    assert push == {
        "requester_id": alice.id,
        "chat": {
            "id": answer["chat_id"],
            "users": [
                agent(world, "alice", events_seen_up_to=events[-1]["created_at"]),
                ada(world, events_seen_up_to=events[0]["created_at"]),
                agent(world, "bob"),
            ],
            "properties": PROPERTIES | SOURCE | {"routing": {"continuous": True, "unassigned": False}},
            "access": {"group_ids": [SALES]},
            "thread": {
                "id": answer["thread_id"],
                "created_at": TIME,
                "active": True,
                "user_ids": [alice.id, world.id("ada"), bob.id],
                "events": [
                    message("Hello!", world.id("ada"), id=first),
                    {
                        "id": second,
                        "created_at": TIME,
                        "type": "system_message",
                        "visibility": "all",
                        "text": "Ada came",
                        "system_message_type": "note",
                    },
                    message("Good morning", alice.id, id=last),
                ],
                "properties": {"ns": {"of": "thread"}}
                | SOURCE
                | {"routing": {"continuous": True, "idle": False, "unassigned": False}},
                "access": {"group_ids": [SALES]},
                "customer_visit": {"ip": VISIT["ip"]},
            },
        },
    }
    await bob.hears_nothing_more()
    await carol.hears_nothing_more()
    assert await alice.call("get_chat", chat_id=answer["chat_id"]) == push["chat"] | {"is_followed": True}


async def test_a_chat_begins_with_nothing_asked_for(world: World, enter: Enter) -> None:
    alice, erin = await enter("alice"), await world.agent("erin")

    answer = await alice.call("start_chat")

    assert answer == {"chat_id": ID, "thread_id": ID}
    chat = (await erin.next_push("incoming_chat"))["chat"]
    assert chat["access"] == {"group_ids": [0]}
    assert chat["users"] == [agent(world, "alice", events_seen_up_to=chat["thread"]["created_at"])]
    assert chat["thread"]["events"] == []


async def test_an_inactive_chat_begins_closed(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    answer = await alice.call("start_chat", active=False)
    read = await alice.call("get_chat", chat_id=answer["chat_id"])
    assert read["thread"]["active"] is False
    assert [user["present"] for user in read["users"]] == [False]


async def test_a_chat_of_older_versions_shows_the_last_visit(world: World) -> None:
    alice = await world.agent("alice")
    bobs = {version: await world.agent("bob", version=version) for version in ("3.4", "3.5")}

    await start(alice, SALES, users=[{"id": world.id("ada"), "type": "customer"}])

    for version, bob in bobs.items():
        frame = await bob.next_frame("incoming_chat")
        assert frame["version"] == version
        assert frame["payload"]["chat"]["users"][1] == older_ada(world)


FIVE = [{"id": f"{name}@example.com", "type": "agent"} for name in ("olivia", "bob", "carol", "dave", "erin")]


async def test_four_more_agents_may_be_in_a_chat_and_five_not(world: World) -> None:
    alice = await world.agent("alice")

    await alice.call("start_chat", chat={"users": FIVE[:4]})
    refusal = await alice.refused("start_chat", chat={"users": FIVE})

    assert refusal == Refused("validation", "`chat.users` must have at most 4 additional agents")


REFUSED_STARTS: dict[str, tuple[dict[str, Any], Refused]] = {
    "an agent that is not": (
        {"users": [{"id": "nobody@example.com", "type": "agent"}]},
        Refused("not_found", "Agent not found"),
    ),
    "a suspended agent": (
        {"users": [{"id": "sam@example.com", "type": "agent"}]},
        Refused("not_found", "Agent not found"),
    ),
    "an agent of another group": (
        {"users": [{"id": "carol@example.com", "type": "agent"}], "access": {"group_ids": [SALES]}},
        Refused("missing_access", "Agent has no access to the chat"),
    ),
    "a customer that is not": (
        {"users": [{"id": "nobody", "type": "customer"}]},
        Refused("not_found", "Customer not found"),
    ),
    "a group that is not": (
        {"access": {"group_ids": [SALES, 99]}},
        Refused("validation", "`chat.access.group_ids` must name existing groups; there is no group 99"),
    ),
    "an author who is not there": (
        {"thread": {"events": [{"type": "message", "text": "hi", "author_id": "bob@example.com"}]}},
        Refused("validation", "`chat.thread.events[0].author_id` must be one of `chat.users`"),
    ),
    "two customers": (
        {"users": [{"id": "a", "type": "customer"}, {"id": "b", "type": "customer"}]},
        Refused("validation", "`chat.users` must have at most 1 customer"),
    ),
    "an event for agents only": (
        {"thread": {"events": [{"type": "message", "text": "hi", "visibility": "agents"}]}},
        Refused("validation", "`chat.thread.events[0].visibility` must be one of: all"),
    ),
}


@pytest.mark.parametrize(("chat", "refusal"), REFUSED_STARTS.values(), ids=REFUSED_STARTS)
async def test_a_refused_start_leaves_nothing(
    world: World, enter: Enter, chat: dict[str, Any], refusal: Refused
) -> None:
    alice, olivia = await enter("alice"), await world.agent("olivia")
    assert await alice.refused("start_chat", chat=chat) == refusal
    assert (await olivia.call("list_chats"))["found_chats"] == 0
    await olivia.hears_nothing_more()


@pytest.mark.parametrize(
    ("scope", "group", "refused"),
    [
        ("chats--all:rw", SUPPORT, None),
        ("chats--access:rw", SALES, None),
        ("chats--access:rw", SUPPORT, Refused("missing_access", "Requester is in none of `chat.access.group_ids`")),
        ("chats--all:ro", SALES, "authorization"),
        ("chats.conversation--all:rw", SALES, "authorization"),
    ],
)
async def test_the_groups_that_a_scope_lets_chats_start_in(
    world: World, scope: str, group: int, refused: Refused | str | None
) -> None:
    alice = await world.agent("alice", scopes=[scope])
    if refused is None:
        await start(alice, group)
    else:
        refusal = await alice.refused("start_chat", chat={"access": {"group_ids": [group]}})
        assert refused in (refusal, refusal.type)


# Deactivate


async def test_the_end_of_a_chat_is_told_to_its_groups_and_in_words_to_its_members(world: World, enter: Enter) -> None:
    alice, bob, carol = await enter("alice"), await world.agent("bob"), await world.agent("carol")
    erin = await world.agent("erin")
    chat = await world.chat(alice, users=["ada", "erin"], group=0)

    assert await alice.call("deactivate_chat", id=chat.id) == {}

    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    assert await erin.next_push("incoming_event") == {**place, "event": archived_by("Alice")}
    for hearer in (bob, carol, erin):
        assert await hearer.next_push("chat_deactivated") == {**place, "user_id": world.id("alice")}
        await hearer.hears_nothing_more()
    read = await alice.call("get_chat", chat_id=chat.id)
    assert read["thread"]["active"] is False
    assert read["thread"]["events"] == [archived_by("Alice")]
    assert [user["present"] for user in read["users"]] == [False, True, False]  # a customer stays


async def test_a_closed_chat_tells_whether_its_customer_had_a_reply(world: World) -> None:
    alice = await world.agent("alice")
    replied = {}
    for texts in ([], ["hello"]):
        chat = await world.chat(alice, users=["ada"], texts=texts)
        await alice.call("deactivate_chat", id=chat.id)
        replied[bool(texts)] = (await alice.call("get_chat", chat_id=chat.id))["thread"]["properties"]["routing"]
    assert replied[False]["unreplied"] is True
    assert "unreplied" not in replied[True]


async def test_a_chat_that_an_agent_closes_is_no_longer_pinned(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice)
    await alice.call("update_chat_properties", id=chat.id, properties={"routing": {"pinned": True}})
    await alice.call("deactivate_chat", id=chat.id)
    routing = (await alice.call("get_chat", chat_id=chat.id))["properties"]["routing"]
    assert (routing["pinned"], routing["was_pinned"]) == (False, True)


async def test_a_chat_is_ended_by_who_is_in_it(world: World, enter: Enter) -> None:
    alice, bob = await world.agent("alice"), await enter("bob")
    chat = await world.chat(alice)

    refusal = await bob.refused("deactivate_chat", id=chat.id)
    assert refusal == Refused("authorization", "Requester is not a user of the chat")
    await bob.call("deactivate_chat", id=chat.id, ignore_requester_presence=True)
    refusal = await bob.refused("deactivate_chat", id=chat.id, ignore_requester_presence=True)
    assert refusal == Refused("chat_inactive", "Chat is inactive")
    assert await bob.refused("deactivate_chat", id="AAAAAAAAAA") == Refused("not_found", "Chat not found")


# Resume


async def test_a_chat_goes_on_in_a_new_thread(either_world: World) -> None:
    world = either_world
    alice, bob, carol = await world.agents("alice", "bob", "carol")
    chat = await world.chat(alice, users=["ada"], texts=["one"])
    await alice.call("deactivate_chat", id=chat.id)
    await bob.forget()

    answer = await bob.call(
        "resume_chat",
        chat={
            "id": chat.id,
            "properties": PROPERTIES,
            "thread": {"events": [{"type": "message", "text": "two"}], "properties": {"ns": {"of": "thread"}}},
        },
    )

    assert answer == {"thread_id": ID, "event_ids": [f"{answer['thread_id']}_1"]}
    frame = await bob.next_push("incoming_chat")
    event = message("two", bob.id)
    assert frame == {
        "requester_id": bob.id,
        "chat": {
            "id": chat.id,
            "users": [
                agent(world, "alice", present=False, events_seen_up_to=TIME),
                ada(world),
                agent(world, "bob", events_seen_up_to=frame["chat"]["thread"]["events"][0]["created_at"]),
            ],
            "properties": PROPERTIES | CHAT_PROPERTIES,
            "access": {"group_ids": [0]},
            "thread": {
                "id": answer["thread_id"],
                "created_at": TIME,
                "active": True,
                "user_ids": [world.id("ada"), bob.id],
                "events": [event],
                "properties": {"ns": {"of": "thread"}} | THREAD_PROPERTIES,
                "access": {"group_ids": [0]},
                "customer_visit": {"ip": VISIT["ip"]},
                "previous_thread_id": chat.thread_id,
            },
        },
    }
    assert await carol.next_push("incoming_chat") == frame  # all agents have access unless groups are named
    earlier = await bob.call("get_chat", chat_id=chat.id, thread_id=chat.thread_id)
    assert earlier["thread"]["next_thread_id"] == answer["thread_id"]
    assert earlier["thread"]["events"] == [message("one", alice.id), archived_by("Alice")]


async def test_a_chat_may_be_resumed_without_being_opened(world: World, enter: Enter) -> None:
    alice, bob = await world.agent("alice"), await enter("bob")
    chat = await world.chat(alice, users=["ada"])
    await alice.call("deactivate_chat", id=chat.id)

    await bob.call("resume_chat", chat={"id": chat.id}, active=False)

    read = await bob.call("get_chat", chat_id=chat.id)
    assert read["thread"]["active"] is False
    assert read["thread"]["user_ids"] == [world.id("ada"), world.id("bob")]
    assert {user["id"]: user["present"] for user in read["users"]} == {
        world.id("alice"): False,
        world.id("ada"): True,
        world.id("bob"): False,
    }
    await bob.call("resume_chat", chat={"id": chat.id})


async def test_a_chat_moves_to_the_groups_it_is_resumed_in(world: World, enter: Enter) -> None:
    alice, bob, carol = await enter("alice"), await world.agent("bob"), await world.agent("carol")
    chat = await world.chat(alice)
    await alice.call("deactivate_chat", id=chat.id)
    await bob.forget()

    await alice.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SUPPORT]}})

    assert (await carol.next_push("incoming_chat"))["chat"]["access"] == {"group_ids": [SUPPORT]}
    moved = {"id": chat.id, "access": {"group_ids": [SUPPORT]}}
    assert await bob.next_push("chat_access_updated") == moved  # who had access to it
    await bob.hears_nothing_more()
    await carol.hears_nothing_more()
    await alice.call("deactivate_chat", id=chat.id)
    await carol.forget()
    await alice.call("resume_chat", chat=moved)
    await carol.next_push("incoming_chat")
    await carol.hears_nothing_more()  # it is where it was
    await alice.call("deactivate_chat", id=chat.id)
    await carol.forget()
    await alice.call("resume_chat", chat={"id": chat.id})
    await carol.next_push("incoming_chat")
    await carol.hears_nothing_more()  # it is open to everybody now


@pytest.mark.parametrize("version", versions.SERVED)
async def test_followers_hear_that_a_chat_is_resumed_in_other_groups(world: World, version: str) -> None:
    alice, erin = await world.agent("alice"), await world.agent("erin")
    bob = await world.agent("bob", version=version)
    chat = await world.chat(alice, group=0)
    await erin.call("follow_chat", id=chat.id)
    await alice.call("deactivate_chat", id=chat.id)
    for client in (bob, erin):
        await client.forget()

    await alice.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SALES]}}, active=False)

    await bob.next_push("incoming_chat")
    for client in (bob, erin):
        assert await client.next_push("chat_access_updated") == {"id": chat.id, "access": {"group_ids": [SALES]}}
        await client.hears_nothing_more()


async def test_a_chat_that_is_not_resumed_keeps_its_groups(
    either_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice)
    await alice.call("deactivate_chat", id=chat.id)
    monkeypatch.setattr("rtm.model.properties.MAX_PROPERTIES_BYTES", 10)

    wanted = {"id": chat.id, "access": {"group_ids": [SUPPORT]}, "properties": PROPERTIES}
    assert (await alice.refused("resume_chat", chat=wanted)).message.startswith("`chat.properties` must be at most")

    await alice.call("follow_chat", id=chat.id)
    assert (await alice.call("get_chat", chat_id=chat.id))["access"] == {"group_ids": [SALES]}


async def test_what_cannot_be_resumed(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice, users=["ada"])
    active = Refused("validation", "Chat is already active")
    assert await alice.refused("resume_chat", chat={"id": chat.id}) == active
    assert await alice.refused("resume_chat", chat={"id": "AAAAAAAAAA"}) == Refused("not_found", "Chat not found")
    await alice.call("deactivate_chat", id=chat.id)

    grace = [{"id": world.id("grace"), "type": "customer"}]
    refusal = await alice.refused("resume_chat", chat={"id": chat.id, "users": grace})
    assert refusal == Refused("validation", "`chat.users` must not name a second customer")
    events = [{"type": "message", "text": "hi", "author_id": "bob@example.com"}]
    refusal = await alice.refused("resume_chat", chat={"id": chat.id, "thread": {"events": events}})
    assert refusal == Refused("validation", "`chat.thread.events[0].author_id` must be one of `chat.users`")
    stranger = await enter("carol", scopes=["chats--access:rw"])
    refusal = await stranger.refused("resume_chat", chat={"id": chat.id})
    assert refusal == Refused("missing_access", "Requester has no access to the chat")

    read = await alice.call("get_chat", chat_id=chat.id)
    assert (read["thread"]["id"], read["thread"]["active"]) == (chat.thread_id, False)


# Follow


async def test_a_follower_is_shown_the_chat_and_hears_what_is_said(world: World) -> None:
    alice, carol = await world.agents("alice", "carol")
    chat = await world.chat(alice, users=["ada"], texts=["one"])
    second = await world.agent("carol")

    assert await carol.call("follow_chat", id=chat.id) == {}

    for connection in (carol, second):
        push = await connection.next_push("incoming_chat")
        assert push["chat"]["id"] == chat.id
        assert push["chat"]["thread"]["events"] == [message("one", alice.id, id=chat.event_ids[0])]
        assert "requester_id" not in push
    await alice.hears_nothing_more()
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "two"})
    await carol.next_push("incoming_event")
    assert (await carol.call("get_chat", chat_id=chat.id))["is_followed"] is True


@pytest.mark.parametrize(
    ("scope", "group", "reads"),
    [("my", SALES, False), ("access", SALES, True), ("access", SUPPORT, False), ("all", SUPPORT, True)],
)
async def test_a_followers_other_tokens_hear_what_they_may_read(
    world: World, scope: str, group: int, reads: bool
) -> None:
    alice, olivia = await world.agents("alice", "olivia")
    chat = await world.chat(olivia, group=group)
    other = await world.agent("alice", scopes=[f"chats--{scope}:ro"])
    await alice.call("follow_chat", id=chat.id)
    await alice.call("update_chat_properties", id=chat.id, properties={"crm": {"paid": True}})
    secret = {"type": "message", "text": "secret", "visibility": "agents"}
    await olivia.call("send_event", chat_id=chat.id, event=secret)

    for push in ("incoming_chat", "chat_properties_updated", "incoming_event"):
        await alice.next_push(push)
        if reads:
            await other.next_push(push)
    await other.hears_nothing_more()

    herself = {"user_id": alice.id, "user_type": "agent", "visibility": "all"}
    await alice.call("add_user_to_chat", chat_id=chat.id, ignore_requester_presence=True, **herself)
    if not reads:  # of a chat of one's own every token may know
        shown = await other.next_push("incoming_chat")
        assert shown["chat"]["thread"]["events"][-1]["text"] == "secret"
    for each in (alice, other):
        await each.next_push("user_added_to_chat")


async def test_following_twice_or_as_a_member_pushes_nothing(world: World, enter: Enter) -> None:
    alice, bob = await enter("alice"), await world.agent("bob")
    chat = await world.chat(alice, users=["bob"])
    dave = await world.agent("dave")
    await dave.call("follow_chat", id=chat.id)
    await dave.forget()

    assert await dave.call("follow_chat", id=chat.id) == {}
    assert await bob.call("follow_chat", id=chat.id) == {}

    await dave.hears_nothing_more()
    await bob.hears_nothing_more()


async def test_following_ends_when_the_chat_is_resumed(world: World) -> None:
    alice, dave = await world.agents("alice", "dave")
    chat = await world.chat(alice)
    await dave.call("follow_chat", id=chat.id)
    await alice.call("deactivate_chat", id=chat.id)
    await alice.call("resume_chat", chat={"id": chat.id})
    await dave.forget()

    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "two"})

    await dave.hears_nothing_more()
    assert (await dave.call("get_chat", chat_id=chat.id))["is_followed"] is False


async def test_who_follows_comes_and_goes_follows_still(world: World) -> None:
    alice, dave = await world.agents("alice", "dave")
    chat = await world.chat(alice)
    await dave.call("follow_chat", id=chat.id)
    of_dave = {"chat_id": chat.id, "user_id": dave.id, "user_type": "agent"}
    await alice.call("add_user_to_chat", **of_dave, visibility="all")
    await alice.call("remove_user_from_chat", **of_dave)
    await dave.forget()

    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "hello"})

    await dave.next_push("incoming_event")
    assert (await dave.call("get_chat", chat_id=chat.id))["is_followed"] is True


async def test_what_cannot_be_followed(world: World, enter: Enter) -> None:
    chat = await world.chat(await world.web("alice"))
    carol = await enter("carol", scopes=["chats--access:ro"])
    assert await carol.refused("follow_chat", id="AAAAAAAAAA") == Refused("not_found", "Chat not found")
    refusal = await carol.refused("follow_chat", id=chat.id)
    assert refusal == Refused("missing_access", "Requester has no access to the chat")


async def test_who_unfollows_hears_key_changes_only(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice)
    second = await world.agent("bob")
    await bob.call("follow_chat", id=chat.id)
    await second.forget()
    await bob.forget()

    assert await bob.call("unfollow_chat", id=chat.id) == {"chat_id": chat.id}

    assert await bob.next_push("chat_unfollowed") == {"chat_id": chat.id}
    assert await second.next_push("chat_unfollowed") == {"chat_id": chat.id}
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "two"})
    await bob.hears_nothing_more()
    await alice.call("deactivate_chat", id=chat.id)
    await bob.next_push("chat_deactivated")


async def test_unfollowing_over_http_is_answered_with_nothing(world: World) -> None:
    alice, bob = await world.agent("alice"), await world.web("bob", scopes=[])
    chat = await world.chat(alice)
    assert await bob.call("unfollow_chat", id=chat.id) == {}
    assert await bob.refused("unfollow_chat", id="AAAAAAAAAA") == Refused("not_found", "Chat not found")


async def test_a_member_cannot_unfollow(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice)
    refusal = await alice.refused("unfollow_chat", id=chat.id)
    assert refusal == Refused("validation", "Chat members cannot unfollow the chat")


# Users


async def test_a_user_comes_and_goes_before_everybody_with_access(world: World, enter: Enter) -> None:
    alice, bob, dave = await enter("alice"), await world.agent("bob"), await world.agent("dave")
    carol = await world.agent("carol")
    chat = await world.chat(alice)
    named = {"chat_id": chat.id, "user_id": bob.id, "user_type": "agent"}

    assert await alice.call("add_user_to_chat", **named, visibility="agents") == {}
    told = {
        "chat_id": chat.id,
        "thread_id": chat.thread_id,
        "user": agent(world, "bob", visibility="agents"),
        "reason": "manual",
        "requester_id": world.id("alice"),
    }
    incoming = await bob.next_push("incoming_chat")
    assert (incoming["requester_id"], incoming["chat"]["id"]) == (world.id("alice"), chat.id)
    assert agent(world, "bob", visibility="agents") in incoming["chat"]["users"]
    assert await bob.next_push("user_added_to_chat") == told
    assert await dave.next_push("user_added_to_chat") == told
    came = said("agent_added", "Alice added Bob to the chat", "agents", initiator="Alice", agent="Bob")
    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    assert await bob.next_push("incoming_event") == {**place, "event": came}

    assert await alice.call("remove_user_from_chat", **named) == {}
    del told["user"]
    assert await bob.next_push("user_removed_from_chat") == told | {"user_id": bob.id}
    assert await dave.next_push("user_removed_from_chat") == told | {"user_id": bob.id}
    gone = said("agent_removed", "Alice removed Bob from the chat", "agents", initiator="Alice", agent="Bob")
    assert (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"] == [came, gone]

    await carol.hears_nothing_more()
    await alice.call("send_event", chat_id=chat.id, event={"type": "message", "text": "without Bob"})
    await bob.hears_nothing_more()


async def test_who_comes_and_goes_by_themselves_is_told_of_otherwise(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice)
    await bob.call(
        "add_user_to_chat",
        chat_id=chat.id,
        user_id=bob.id,
        user_type="agent",
        visibility="all",
        ignore_requester_presence=True,
    )
    await alice.next_push("user_added_to_chat")
    assert (await alice.next_push("incoming_event"))["event"] == said(
        "agent_joined", "Bob joined the chat", agent="Bob"
    )

    await bob.call("remove_user_from_chat", chat_id=chat.id, user_id=bob.id, user_type="agent")
    await alice.next_push("user_removed_from_chat")
    gone = said("agent_left", "Bob left the chat", agent="Bob")
    assert (await alice.next_push("incoming_event"))["event"] == gone


async def test_a_customer_is_added_as_the_chat_shows_them(world: World) -> None:
    alice = await world.agent("alice")
    bobs = [await world.agent("bob", version=version) for version in ("3.5", "3.6")]
    chat = await world.chat(alice)

    await alice.call(
        "add_user_to_chat", chat_id=chat.id, user_id=world.id("ada"), user_type="customer", visibility="all"
    )

    shown = [(await bob.next_push("user_added_to_chat"))["user"] for bob in bobs]
    assert shown == [older_ada(world), ada(world)]
    came = said("customer_added", "Alice added Ada to the chat", initiator="Alice", customer="Ada")
    assert (await alice.call("get_chat", chat_id=chat.id))["thread"]["events"] == [came]


async def test_an_agent_whom_customers_do_not_see_comes_and_goes_unseen(world: World) -> None:
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["ada"])
    stored = len(await world.stored_pushes())
    named = {"chat_id": chat.id, "user_id": bob.id, "user_type": "agent"}

    for visibility, up_to in (("agents", "2999-01-01T00:00:00Z"), ("all", "2999-01-02T00:00:00Z")):
        await alice.call("add_user_to_chat", **named, visibility=visibility)
        await bob.call("mark_events_as_seen", chat_id=chat.id, seen_up_to=up_to)
        await alice.call("remove_user_from_chat", **named)

    pushes = [push for push in (await world.stored_pushes())[stored:] if push["name"] != "incoming_chat"]
    told = [(push["name"], push["audience"]["customers"]) for push in pushes]
    names = [
        "user_added_to_chat",
        "incoming_event",
        "events_marked_as_seen",
        "user_removed_from_chat",
        "incoming_event",
    ]
    assert told[:5] == [(name, []) for name in names]
    assert told[5:] == [(name, [world.id("ada")]) for name in names]


async def test_a_follower_of_another_group_hears_who_comes_and_goes(world: World) -> None:
    alice, carol = await world.agents("alice", "carol")
    chat = await world.chat(alice)
    await carol.call("follow_chat", id=chat.id)
    await carol.forget()

    named = {"chat_id": chat.id, "user_id": world.id("bob"), "user_type": "agent"}
    await alice.call("add_user_to_chat", **named, visibility="all")
    await alice.call("remove_user_from_chat", **named)

    for name in ("user_added_to_chat", "incoming_event", "user_removed_from_chat", "incoming_event"):
        await carol.next_push(name)


async def test_who_cannot_be_added(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice, users=["ada"])

    async def refusal(name: str, kind: str = "agent", visibility: str = "all") -> Refused:
        named = {"user_id": world.id(name), "user_type": kind, "visibility": visibility}
        return await alice.refused("add_user_to_chat", chat_id=chat.id, **named)

    assert await refusal("nobody") == Refused("not_found", "Agent not found")
    assert await refusal("nobody", "customer") == Refused("not_found", "Customer not found")
    assert await refusal("carol") == Refused("missing_access", "Agent has no access to the chat")
    assert await refusal("alice") == Refused("validation", "`user_id` is already a user of the chat")
    assert await refusal("grace", "customer") == Refused("validation", "Chat already has a customer")
    assert await refusal("grace", "customer", "agents") == Refused(
        "validation", "`visibility` must be `all` for a customer"
    )
    await alice.call("deactivate_chat", id=chat.id)
    assert await refusal("bob") == Refused("chat_inactive", "Chat is inactive")


@pytest.mark.parametrize("version", versions.SERVED)
async def test_who_reaches_all_chats_joins_one_of_any_group(world: World, version: str) -> None:
    alice = await world.agent("alice")
    for enter in (world.agent, world.web):
        chat = await world.chat(alice, users=["ada"])
        carol: Any = await enter("carol", version=version)
        joining = {"chat_id": chat.id, "user_type": "agent", "visibility": "all", "ignore_requester_presence": True}
        refusal = await carol.refused("add_user_to_chat", **joining, user_id=world.id("erin"))
        assert refusal == Refused("missing_access", "Agent has no access to the chat")

        await carol.call("add_user_to_chat", **joining, user_id=carol.id)

        assert (await alice.next_push("user_added_to_chat"))["user"]["id"] == carol.id
        await carol.call("send_event", chat_id=chat.id, event={"type": "message", "text": "here I am"})
        await alice.forget()


async def test_who_cannot_be_removed(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice, users=["ada"])

    async def refusal(name: str, kind: str = "agent") -> Refused:
        named = {"user_id": world.id(name), "user_type": kind}
        return await alice.refused("remove_user_from_chat", chat_id=chat.id, **named)

    nobody = Refused("validation", "`user_id` is not an agent of the chat")
    assert await refusal("bob") == nobody
    assert await refusal("ada") == nobody
    assert await refusal("ada", "customer") == Refused("validation", "`user_type` must be one of: agent")
    await alice.call("deactivate_chat", id=chat.id)
    assert await refusal("alice") == Refused("chat_inactive", "Chat is inactive")


@pytest.mark.parametrize("action", ["add_user_to_chat", "remove_user_from_chat"])
async def test_who_takes_part_is_changed_by_who_is_in_the_chat(world: World, enter: Enter, action: str) -> None:
    alice, bob = await world.agent("alice"), await enter("bob")
    chat = await world.chat(alice, users=["erin"] if action == "remove_user_from_chat" else [], group=0)
    named = {"chat_id": chat.id, "user_id": world.id("erin"), "user_type": "agent", "visibility": "all"}

    refusal = await bob.refused(action, **named)
    assert refusal == Refused("authorization", "Requester is not a user of the chat")
    await bob.call(action, **named, ignore_requester_presence=True)

    stranger = await enter("carol", scopes=["chats--my:rw"])
    refusal = await stranger.refused(action, **named, ignore_requester_presence=True)
    assert refusal == Refused("missing_access", "Requester has no access to the chat")
    assert await bob.refused(action, **named | {"chat_id": "AAAAAAAAAA"}) == Refused("not_found", "Chat not found")


# Bots


async def test_a_bot_holds_a_socket_and_takes_part(world: World) -> None:
    robin, alice = await world.agent("robin"), await world.agent("alice")

    answer = await robin.call("start_chat")

    chat = (await alice.next_push("incoming_chat"))["chat"]
    assert chat["users"] == [bot(world, "robin", events_seen_up_to=TIME)]
    await robin.next_push("incoming_chat")
    await robin.call("send_event", chat_id=answer["chat_id"], event={"type": "message", "text": "beep"})
    assert (await robin.next_push("incoming_event"))["event"]["author_id"] == world.id("robin")
