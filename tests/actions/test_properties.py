"""Properties of chats, threads and events: what is kept, who is told of what, and what is refused."""

from typing import Any

import orjson
import pytest

from rtm import versions
from tests.actions.conftest import Enter
from tests.world import SALES, SUPPORT, Chat, Client, Refused, Web, World

GIVEN = {"rating": {"score": 1, "comment": "Well done!"}, "crm": {"paid": True}}

PLACES = ["chat", "thread", "event"]


def no_access(of: str) -> Refused:
    """What is told of a chat, or of a thread and its events, out of reach."""
    return Refused("missing_access", f"Requester has no access to the {'chat' if of == 'chat' else 'thread'}")


def place(of: str, chat: Chat) -> dict[str, str]:
    """What names the chat, its thread or the thread's first event in a push."""
    names = {"chat_id": chat.id, "thread_id": chat.thread_id, "event_id": f"{chat.thread_id}_1"}
    return {name: names[name] for name in list(names)[: PLACES.index(of) + 1]}


def request(of: str, chat: Chat) -> dict[str, str]:
    """The same in a request."""
    return {"id": chat.id} if of == "chat" else place(of, chat)


async def read(by: Client | Web, of: str, chat: Chat) -> Any:
    """The properties; None for an event shown without."""
    shown = await by.call("get_chat", chat_id=chat.id, thread_id=chat.thread_id)
    found = {"chat": shown, "thread": shown["thread"], "event": shown["thread"]["events"][0]}[of]
    return found.get("properties")


async def stored(by: Client | Web, of: str, chat: Chat) -> Any:
    """The same but for those that every chat and thread has."""
    return without_defaults(await read(by, of, chat))


def without_defaults(properties: Any) -> Any:
    return properties and {name: value for name, value in properties.items() if name not in ("routing", "source")}


@pytest.mark.parametrize("of", PLACES)
async def test_properties_are_set_and_deleted_and_members_and_followers_told(either_world: World, of: str) -> None:
    world = either_world
    alice, bob, olivia, dave = await world.agents("alice", "bob", "olivia", "dave")
    chat = await world.chat(alice, users=["bob"], texts=["hello"])
    await olivia.call("follow_chat", id=chat.id)
    await olivia.forget()
    at, told = request(of, chat), place(of, chat)

    assert await alice.call(f"update_{of}_properties", **at, properties=GIVEN) == {}
    for client in (alice, bob, olivia):
        assert await client.next_push(f"{of}_properties_updated") == {**told, "properties": GIVEN}
    assert await stored(bob, of, chat) == GIVEN

    changed = {"rating": {"score": 2}}
    await alice.call(f"update_{of}_properties", **at, properties=changed)
    assert await bob.next_push(f"{of}_properties_updated") == {**told, "properties": changed}
    assert await stored(bob, of, chat) == {**GIVEN, "rating": {"score": 2, "comment": "Well done!"}}

    names = {"rating": ["comment", "comment", "stars"], "other": ["score"], "crm": ["paid"]}
    assert await alice.call(f"delete_{of}_properties", **at, properties=names) == {}
    deleted = {"rating": ["comment"], "crm": ["paid"]}
    assert await bob.next_push(f"{of}_properties_deleted") == {**told, "properties": deleted}
    assert await stored(bob, of, chat) == changed

    await alice.call(f"delete_{of}_properties", **at, properties={"rating": ["score"]})
    await bob.next_push(f"{of}_properties_deleted")
    assert await stored(bob, of, chat) == (None if of == "event" else {})
    await bob.hears_nothing_more()
    await dave.hears_nothing_more()


@pytest.mark.parametrize("of", PLACES)
async def test_what_changes_nothing_is_told_to_nobody(world: World, enter: Enter, of: str) -> None:
    alice, bob = await enter("alice"), await world.agent("bob")
    chat = await world.chat(alice, users=["bob"], texts=["hello"])
    at = request(of, chat)
    nothing: list[tuple[str, Any]] = [
        ("update", {}),
        ("update", {"rating": {}}),
        ("delete", {}),
        ("delete", {"rating": []}),
        ("delete", {"rating": ["score"]}),
    ]
    for do, properties in nothing:
        assert await alice.call(f"{do}_{of}_properties", **at, properties=properties) == {}
    assert not await stored(alice, of, chat)
    await bob.hears_nothing_more()


@pytest.mark.parametrize("of", PLACES)
async def test_earlier_threads_have_properties_too(either_world: World, of: str) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice, texts=["hello"])
    await alice.call("deactivate_chat", id=chat.id)
    await alice.call(f"update_{of}_properties", **request(of, chat), properties={"while": {"closed": 1}})
    later = await alice.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SALES]}})
    await alice.forget()

    await alice.call(f"update_{of}_properties", **request(of, chat), properties={"when": {"resumed": 2}})

    assert await alice.next_push(f"{of}_properties_updated") == {
        **place(of, chat),
        "properties": {"when": {"resumed": 2}},
    }
    assert await stored(alice, of, chat) == {"while": {"closed": 1}, "when": {"resumed": 2}}
    threads = (await alice.call("list_threads", chat_id=chat.id))["threads"]
    assert [thread["id"] for thread in threads] == [later["thread_id"], chat.thread_id]
    assert threads[1]["next_thread_id"] == later["thread_id"]
    assert without_defaults(threads[0]["properties"]) == {}


async def test_the_last_event_in_a_list_has_its_properties(either_world: World) -> None:
    alice = await either_world.agent("alice")
    chat = await either_world.chat(alice, texts=["first", "last"])
    for number in (1, 2):
        event = {"chat_id": chat.id, "thread_id": chat.thread_id, "event_id": f"{chat.thread_id}_{number}"}
        await alice.call("update_event_properties", **event, properties={"n": {"n": number}})
    await alice.call("send_event", chat_id=chat.id, event={"type": "custom"})

    [summary] = (await alice.call("list_chats"))["chats_summary"]
    last = summary["last_event_per_type"]["message"]["event"]
    assert (last["text"], last["properties"]) == ("last", {"n": {"n": 2}})


async def test_many_changes_at_once_are_all_kept(either_world: World) -> None:
    """They are committed together: with the event they change, with each other, and with who reads it all."""
    world = either_world
    alice, olivia = await world.agents("alice", "olivia")
    chat = await world.chat(alice, texts=["hello"])
    event = place("event", chat)
    second = {**event, "event_id": f"{chat.thread_id}_2"}
    message = {"type": "message", "text": "again", "properties": {"n": {"sent": 0}}}
    requests = [await alice.send("send_event", chat_id=chat.id, event=message)]
    for number in range(10):
        for at in (event, second):
            name = "update_event_properties"
            requests.append(await alice.send(name, **at, properties={"n": {str(number): number}}))
        thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
        requests.append(await alice.send("update_thread_properties", **thread, properties={"n": {str(number): 1}}))
    too_many = {"n": {str(number): "x" * 16_384 for number in range(17)}}
    refused = await alice.send("update_event_properties", **event, properties=too_many)
    await olivia.call("follow_chat", id=chat.id)

    assert [(await alice.answer(each))["success"] for each in requests] == [True] * 31
    assert not (await alice.answer(refused))["success"]
    numbers = {str(number): number for number in range(10)}
    read = await alice.call("get_chat", chat_id=chat.id)
    assert [event["properties"] for event in read["thread"]["events"]] == [
        {"n": numbers},
        {"n": {"sent": 0, **numbers}},
    ]
    assert without_defaults(read["thread"]["properties"]) == {"n": dict.fromkeys(numbers, 1)}
    followed = await world.agent("olivia")
    [summary] = followed.greeting["chats_summary"]
    assert summary["last_event_per_type"]["message"]["event"] == read["thread"]["events"][1]


async def test_who_follows_in_the_same_moment_is_shown_what_an_event_has_become(either_world: World) -> None:
    alice, olivia = await either_world.agents("alice", "olivia")
    chat = await either_world.chat(alice, texts=["hello"])
    asked = await alice.send("update_event_properties", **place("event", chat), properties=GIVEN)
    await olivia.call("follow_chat", id=chat.id)
    shown = (await olivia.next_push("incoming_chat"))["chat"]["thread"]["events"]
    assert (await alice.answer(asked))["success"]
    if "properties" not in shown[0]:  # she came before
        await olivia.next_push("event_properties_updated")
    await olivia.hears_nothing_more()


async def test_who_asks_without_taking_part_is_told(world: World) -> None:
    olivia, alice = await world.agents("olivia", "alice")
    chat = await world.chat(alice)
    await olivia.call("update_chat_properties", id=chat.id, properties=GIVEN)
    for client in (olivia, alice):
        assert (await client.next_push("chat_properties_updated"))["properties"] == GIVEN


@pytest.mark.parametrize("of", PLACES)
async def test_who_may_write_in_a_conversation_may_change_its_properties_but_no_tags(world: World, of: str) -> None:
    carol = await world.agent("carol")
    chat = await world.chat(carol, group=SUPPORT, texts=["hello"])
    reaching = await world.web("alice", scopes=["chats.conversation--all:rw", "chats--my:rw"])
    stranger = await world.web("alice", scopes=["chats.conversation--access:rw"])

    assert await reaching.call(f"update_{of}_properties", **request(of, chat), properties=GIVEN) == {}
    assert await reaching.call(f"delete_{of}_properties", **request(of, chat), properties={"crm": ["paid"]}) == {}

    refusal = await stranger.refused(f"update_{of}_properties", **request(of, chat), properties=GIVEN)
    assert refusal == no_access(of)
    place = {"chat_id": chat.id, "thread_id": chat.thread_id}
    assert await reaching.refused("tag_thread", **place, tag="refund") == no_access("thread")
    refusal = await stranger.refused("tag_thread", **place, tag="refund")
    assert refusal.type == "authorization"


async def test_customers_are_not_told_of_events_that_they_do_not_see(world: World) -> None:
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"])
    for visibility in ("all", "agents"):
        event = {"type": "message", "text": "psst", "visibility": visibility}
        sent = await alice.call("send_event", chat_id=chat.id, event=event)
        at = {"chat_id": chat.id, "thread_id": chat.thread_id, **sent}
        await alice.call("update_event_properties", **at, properties=GIVEN)
        await alice.call("delete_event_properties", **at, properties={"crm": ["paid"]})
    audiences = {
        (push["name"], push["payload"]["event_id"]): push["audience"]["customers"]
        for push in await world.stored_pushes()
        if push["name"].startswith("event_properties")
    }
    ada = [world.id("ada")]
    assert audiences == {
        ("event_properties_updated", f"{chat.thread_id}_1"): ada,
        ("event_properties_deleted", f"{chat.thread_id}_1"): ada,
        ("event_properties_updated", f"{chat.thread_id}_2"): [],
        ("event_properties_deleted", f"{chat.thread_id}_2"): [],
    }


@pytest.mark.parametrize("of", PLACES)
@pytest.mark.parametrize("do", ["update", "delete"])
async def test_what_is_not_there_or_out_of_reach(world: World, enter: Enter, do: str, of: str) -> None:
    alice, carol = await enter("alice"), await enter("carol", scopes=["chats--access:rw"])
    chat, other = await world.chat(alice, texts=["hello"]), await world.chat(alice, texts=["hello"])
    action, at = f"{do}_{of}_properties", request(of, chat)
    properties: Any = GIVEN if do == "update" else {"rating": ["score"]}

    assert await carol.refused(action, **at, properties=properties) == no_access(of)
    no_chat = {**at, ("id" if of == "chat" else "chat_id"): "nowhere"}
    assert await alice.refused(action, **no_chat, properties=properties) == Refused("not_found", "Chat not found")
    if of != "chat":
        for thread_id in ("nowhere", other.thread_id):
            refusal = await alice.refused(action, **{**at, "thread_id": thread_id}, properties=properties)
            assert refusal == Refused("not_found", "Thread not found")
    if of == "event":
        thread_id = chat.thread_id
        for number in ("2", "0", "01", "-1", "+1", " 1", "", "1_1", "9999999999", "\u0661"):
            refusal = await alice.refused(action, **{**at, "event_id": f"{thread_id}_{number}"}, properties=properties)
            assert refusal == Refused("not_found", "Event not found")
        other_event = {**at, "event_id": f"{other.thread_id}_1"}
        assert (await alice.refused(action, **other_event, properties=properties)).message == "Event not found"
    reader = await enter("alice", scopes=["chats--all:ro"])
    assert (await reader.refused(action, **at, properties=properties)).type == "authorization"


@pytest.mark.parametrize("version", versions.SERVED)
async def test_an_earlier_thread_is_changed_by_its_own_groups(either_world: World, version: str) -> None:
    world = either_world
    alice = await world.agent("alice")
    chat = await world.chat(alice, group=SALES, texts=["hello"])
    await alice.call("deactivate_chat", id=chat.id)
    thread = {"events": [{"type": "message", "text": "again"}]}
    support = {"id": chat.id, "access": {"group_ids": [SUPPORT]}, "thread": thread}
    later = Chat(chat.id, (await alice.call("resume_chat", chat=support))["thread_id"])

    for enter in (world.agent, world.web):
        bob: Any = await enter("bob", version=version, scopes=["chats--access:rw"])
        carol: Any = await enter("carol", version=version, scopes=["chats--access:rw"])
        for mine, other, client in ((chat, later, bob), (later, chat, carol)):
            for of in ("thread", "event"):
                action, at = f"update_{of}_properties", request(of, other)
                assert await client.refused(action, **at, properties=GIVEN) == no_access(of)
                await client.call(action, **request(of, mine), properties=GIVEN)
                assert await stored(alice, of, mine) == GIVEN
            await client.call("tag_thread", **request("thread", mine), tag="refund")
            await client.call("untag_thread", **request("thread", mine), tag="refund")
        assert await bob.refused("update_chat_properties", id=chat.id, properties=GIVEN) == no_access("chat")


async def test_an_earlier_thread_is_not_shown_to_followers_who_may_not_read_it(either_world: World) -> None:
    world = either_world
    alice, bob = await world.agents("alice", "bob")
    dave = await world.agent("dave")
    chat = await world.chat(alice, group=SUPPORT, texts=["hello"])
    await alice.call("deactivate_chat", id=chat.id)
    await alice.call("resume_chat", chat={"id": chat.id, "access": {"group_ids": [SALES]}})
    for follower in (bob, dave):
        await follower.call("follow_chat", id=chat.id)
        await follower.forget()
    await alice.forget()
    refusal = await dave.refused("get_chat", chat_id=chat.id, thread_id=chat.thread_id)
    assert refusal == Refused("missing_access", "Requester has no access to the thread")

    for of in ("thread", "event"):
        at = request(of, chat)
        await alice.call(f"update_{of}_properties", **at, properties=GIVEN)
        await alice.call(f"delete_{of}_properties", **at, properties={"crm": ["paid"]})
    thread = {"chat_id": chat.id, "thread_id": chat.thread_id}
    await alice.call("tag_thread", **thread, tag="bug")
    await alice.call("untag_thread", **thread, tag="bug")
    await alice.call("request_thread_summary", **thread)

    told = [f"{of}_properties_{done}" for of in ("thread", "event") for done in ("updated", "deleted")]
    for push in (*told, "thread_tagged", "thread_untagged"):
        await bob.next_push(push)  # whose role sees all chats
    for push in (*told, "thread_tagged", "thread_untagged", "thread_summary_set"):
        await alice.next_push(push)
    await dave.hears_nothing_more()


@pytest.mark.parametrize("of", PLACES)
async def test_properties_have_a_bound_together(
    world: World, enter: Enter, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice, texts=["hello"])
    bound = len(orjson.dumps(await read(alice, of, chat) or {})) + 29
    monkeypatch.setattr("rtm.model.properties.MAX_PROPERTIES_BYTES", bound)
    first, more = {"ns": {"a": "x" * 15}}, {"ns": {"b": 1}}
    await alice.call(f"update_{of}_properties", **request(of, chat), properties=first)

    refusal = await alice.refused(f"update_{of}_properties", **request(of, chat), properties=more)

    assert refusal == Refused(
        "validation", f"`properties` must be at most {bound} bytes long with those that are there"
    )
    assert await stored(alice, of, chat) == first


@pytest.mark.parametrize(("namespace", "name"), [("routing", "unassigned"), ("source", "client_id")])
async def test_what_the_server_tells_can_only_be_read(world: World, enter: Enter, namespace: str, name: str) -> None:
    alice = await enter("alice")
    chat = await world.chat(alice)
    refused = Refused("validation", f"`properties.{namespace}.{name}` can only be read")
    for of in ("chat", "thread"):
        given = {namespace: {"other": True, name: "forged"}}
        assert await alice.refused(f"update_{of}_properties", **request(of, chat), properties=given) == refused
        names = {namespace: [name]}
        assert await alice.refused(f"delete_{of}_properties", **request(of, chat), properties=names) == refused
    named = {"routing": {"ignore_agents_routing": True, "pinned": True}}
    await alice.call("update_chat_properties", id=chat.id, properties=named)


@pytest.mark.parametrize("version", ["3.4", "3.5"])
@pytest.mark.parametrize("of", PLACES)
async def test_older_versions_have_the_same(world: World, version: str, of: str) -> None:
    alice, bob = await world.agent("alice", version=version), await world.agent("bob")
    chat = await world.chat(bob, users=["alice"], texts=["hello"])
    await alice.forget()
    await alice.call(f"update_{of}_properties", **request(of, chat), properties=GIVEN)
    frame = await alice.next_frame(f"{of}_properties_updated")
    assert (frame["version"], frame["payload"]) == (version, {**place(of, chat), "properties": GIVEN})
    assert await bob.next_push(f"{of}_properties_updated") == frame["payload"]
