"""Who accepts chats: choosing, being away, listing, and who hears of it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rtm.bus.base import Origin
from rtm.routing.presence import Change, Member
from rtm.routing.presence_redis import RedisPresence
from tests.actions.conftest import Enter
from tests.world import SALES, SUPPORT, Client, Refused, World


def listening(client: Client) -> Client:
    """From here on every status is heard."""
    client.noise -= {"routing_status_set"}
    return client


async def statuses(of: Client) -> dict[str, str]:
    return {each["agent_id"]: each["status"] for each in await of.call("list_routing_statuses")}


async def test_everybody_hears_of_a_new_status_once(world: World, enter: Enter) -> None:
    erin = listening(await world.agent("erin"))
    alice = await enter("alice")
    await erin.forget()
    stranger = listening(await (await world.server.world()).agent("olivia"))

    for _ in range(2):
        assert await alice.call("set_routing_status", status="not_accepting_chats") == {}

    told = {"agent_id": world.id("alice"), "status": "not_accepting_chats"}
    assert await erin.next_push("routing_status_set") == told
    await erin.hears_nothing_more()
    await stranger.hears_nothing_more()
    await stranger.close()
    assert (await statuses(erin))[world.id("alice")] == "not_accepting_chats"


async def test_an_agent_is_there_from_the_first_connection_to_the_last(world: World) -> None:
    olivia = listening(await world.agent("olivia"))
    alice = world.id("alice")

    first = await world.agent("alice")
    second = await world.agent("alice")
    assert first.greeting["my_profile"]["routing_status"] == "accepting_chats"
    await first.call("logout")
    assert (await statuses(olivia))[alice] == "accepting_chats"
    await second.call("logout")

    assert await olivia.next_push("routing_status_set") == {"agent_id": alice, "status": "accepting_chats"}
    assert await olivia.next_push("routing_status_set") == {"agent_id": alice, "status": "offline"}
    assert (await statuses(olivia))[alice] == "offline"
    await olivia.hears_nothing_more()


async def test_a_status_lasts_as_long_as_the_session(world: World) -> None:
    olivia = listening(await world.agent("olivia"))

    async def session(*, reconnect: bool) -> str:
        alice = await world.agent("alice", reconnect=reconnect)
        status: str = alice.greeting["my_profile"]["routing_status"]
        await alice.call("set_routing_status", status="not_accepting_chats")
        await alice.call("logout")
        while (await olivia.next_push("routing_status_set"))["status"] != "offline":
            pass
        return status

    assert await session(reconnect=False) == "accepting_chats"
    assert await session(reconnect=False) == "accepting_chats"
    assert await session(reconnect=True) == "not_accepting_chats"


async def test_an_agent_is_away_when_all_connections_are(world: World) -> None:
    olivia = listening(await world.agent("olivia"))
    desktop, mobile = await world.agents("alice", "alice")
    await olivia.forget()

    assert await desktop.call("set_away_status", away=True) == {}
    await olivia.hears_nothing_more()
    await mobile.call("set_away_status", away=True)
    told = {"agent_id": world.id("alice"), "status": "not_accepting_chats"}
    assert await olivia.next_push("routing_status_set") == told
    await desktop.call("set_away_status", away=False)
    assert await olivia.next_push("routing_status_set") == told | {"status": "accepting_chats"}
    await desktop.call("logout")
    assert await olivia.next_push("routing_status_set") == told


async def test_a_connection_may_begin_away(world: World) -> None:
    alice = await world.agent("alice", away=True)
    assert alice.greeting["my_profile"]["routing_status"] == "not_accepting_chats"


async def test_away_takes_a_scope_and_a_socket(world: World) -> None:
    alice = await world.agent("alice", scopes=["agents--my:ro"])
    refusal = await alice.refused("set_away_status", away=True)
    assert refusal == Refused("authorization", "Token lacks the scope: agents--my:rw")
    refusal = await (await world.web("alice")).refused("set_away_status", away=True)
    assert refusal == Refused("not_found", "`action` is for sockets only: set_away_status")


@pytest.mark.parametrize(
    ("scope", "named", "lacks"),
    [
        ("agents--my:rw", None, None),
        ("agents--my:rw", "alice", None),
        ("agents--my:rw", "bob", "agents--all:rw"),
        ("agents--all:rw", "bob", None),
        ("agents--all:rw", None, None),
        ("agents--all:rw", "robin", "agents-bot--my:rw"),
        ("agents-bot--my:rw", "robin", None),
        ("agents-bot--my:rw", "rosie", "agents-bot--all:rw"),
        ("agents-bot--all:rw", "rosie", None),
        ("agents-bot--all:rw", None, "agents--my:rw"),
    ],
)
async def test_whose_status_a_scope_lets_be_set(
    world: World, enter: Enter, scope: str, named: str | None, lacks: str | None
) -> None:
    alice = await enter("alice", scopes=[scope])
    payload = {"status": "not_accepting_chats"} | ({"agent_id": world.id(named)} if named else {})
    if lacks is None:
        assert await alice.call("set_routing_status", **payload) == {}
    else:
        refusal = await alice.refused("set_routing_status", **payload)
        assert refusal == Refused("authorization", f"Token lacks the scope: {lacks}")


async def test_statuses_that_cannot_be_set(world: World, enter: Enter) -> None:
    alice = await enter("alice")
    refusal = await alice.refused("set_routing_status", status="offline")
    assert refusal == Refused("validation", "`status` must be one of: accepting_chats, not_accepting_chats")
    refusal = await alice.refused("set_routing_status", status="accepting_chats", agent_id="nobody@example.com")
    assert refusal == Refused("not_found", "Agent not found")
    refusal = await alice.refused("set_routing_status", status="busy")
    assert refusal == Refused("validation", "`status` must be one of: accepting_chats, not_accepting_chats, offline")


async def test_a_bot_may_be_set_offline_and_needs_no_connection(world: World, enter: Enter) -> None:
    erin = listening(await world.agent("erin"))
    alice = await enter("alice")
    await erin.forget()
    robin = world.id("robin")
    assert (await statuses(erin))[robin] == "accepting_chats"

    await alice.call("set_routing_status", agent_id=robin, status="offline")

    assert await erin.next_push("routing_status_set") == {"agent_id": robin, "status": "offline"}
    assert (await statuses(erin))[robin] == "offline"


async def test_the_statuses_of_a_group(world: World, enter: Enter) -> None:
    await world.agent("bob")
    carol = await enter("carol")
    assert await carol.call("list_routing_statuses", filters={"group_ids": [SALES]}) == [
        {"agent_id": world.id("alice"), "status": "offline"},
        {"agent_id": world.id("bob"), "status": "accepting_chats"},
        {"agent_id": world.id("dave"), "status": "offline"},
    ]
    both = await carol.call("list_routing_statuses", filters={"group_ids": [SALES, SUPPORT]})
    assert len(both) == 4
    assert await carol.call("list_routing_statuses", filters={"group_ids": [77]}) == []


async def test_agents_and_bots_are_listed_to_who_may_see_them(world: World, enter: Enter) -> None:
    async def listed(*scopes: str) -> set[str]:
        viewer = await enter("alice", scopes=scopes)
        return {each["agent_id"] for each in await viewer.call("list_routing_statuses")}

    bots = set(world.bots.values())
    assert await listed("agents-bot--all:ro") == bots
    assert await listed("agents--all:ro") == set(world.account_ids)
    assert await listed("agents--all:ro", "agents-bot--all:ro") == bots | set(world.account_ids)
    refusal = await (await enter("alice", scopes=["agents--my:rw"])).refused("list_routing_statuses")
    assert refusal == Refused("authorization", "Token lacks the scope: agents--all:ro or agents-bot--all:ro")


async def test_statuses_of_agents_and_of_bots_take_scopes_of_their_own(world: World, enter: Enter) -> None:
    of_agents = listening(await world.agent("erin", scopes=["agents--all:ro"]))
    of_bots = listening(await world.agent("olivia", scopes=["agents-bot--all:ro"]))
    nobody = listening(await world.agent("bob", scopes=["agents--my:rw", "agents-bot--my:ro"]))
    alice = await enter("alice")
    for client in (of_agents, of_bots, nobody):
        await client.forget()

    robin = {"agent_id": world.id("robin"), "status": "offline"}
    mine = {"agent_id": world.id("alice"), "status": "not_accepting_chats"}
    for wanted in (robin, mine):
        await alice.call("set_routing_status", **wanted)

    assert await of_agents.next_push("routing_status_set") == mine
    assert await of_bots.next_push("routing_status_set") == robin
    for client in (of_agents, of_bots, nobody):
        await client.hears_nothing_more()


async def test_what_is_told_before_the_answer_comes_after_it_in_its_order(
    world_with: Callable[..., Awaitable[World]], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, choose = asyncio.Event(), RedisPresence.set_status

    async def set_status(presence: RedisPresence, member: Member, status: str, origin: Origin | None = None) -> Change:
        change = await choose(presence, member, status, origin)
        if status == "not_accepting_chats":
            await answer.wait()  # Redis has done it, and told
        return change

    world = await world_with(redis_url=redis_url)
    alice, olivia = listening(await world.agent("alice")), listening(await world.agent("olivia"))
    await olivia.call("set_routing_status", status="not_accepting_chats", agent_id=world.id("bob"))
    for client in (alice, olivia):  # by then Redis has told of the log-ins, too
        while (await client.next_push("routing_status_set"))["agent_id"] != world.id("bob"):
            pass
    alice.noise = set()
    monkeypatch.setattr(RedisPresence, "set_status", set_status)
    asked = await alice.send("set_routing_status", status="not_accepting_chats")
    assert (await olivia.next_push("routing_status_set"))["status"] == "not_accepting_chats"
    await olivia.call("set_routing_status", status="accepting_chats", agent_id=alice.id)
    assert (await olivia.next_push("routing_status_set"))["status"] == "accepting_chats"

    answer.set()
    told = [await alice.next() for _ in range(5)]
    assert [(frame["action"], frame.get("request_id")) for frame in told] == [
        ("set_routing_status", asked),
        ("routing_status_set", asked),
        ("groups_status_updated", asked),
        ("routing_status_set", None),
        ("groups_status_updated", None),
    ]
    assert [frame["payload"]["status"] for frame in told[1::2]] == ["not_accepting_chats", "accepting_chats"]
    await alice.hears_nothing_more()


async def test_through_redis_too_the_answer_comes_before_its_push(
    world_with: Callable[..., Awaitable[World]], redis_url: str
) -> None:
    world = await world_with(redis_url=redis_url)
    alice = await world.agent("alice")
    await alice.forget()
    listening(alice)
    for number in range(20):
        status = ("not_accepting_chats", "accepting_chats")[number % 2]
        request_id = await alice.send("set_routing_status", status=status)
        frames = [await alice.next() for _ in range(2)]
        assert [(frame["type"], frame["request_id"]) for frame in frames] == [
            ("response", request_id),
            ("push", request_id),
        ]
