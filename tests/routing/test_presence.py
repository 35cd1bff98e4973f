"""The rules of routing statuses, over every implementation."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from rtm.routing import presence_redis
from rtm.routing.presence import Change, Member, MemoryPresence, Presence
from rtm.routing.presence_redis import RedisPresence

ACCEPTING, NOT_ACCEPTING, OFFLINE = "accepting_chats", "not_accepting_chats", "offline"


@pytest.fixture(params=["memory", "redis", "redis_cluster"])
def unstarted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Presence:
    if request.param == "memory":
        return MemoryPresence()
    monkeypatch.setattr(presence_redis, "CALL_TIMEOUT_S", 20)  # on a busy machine; what is late is written later
    return RedisPresence(request.getfixturevalue(f"{request.param}_url"), heartbeat_limit_s=10)


@pytest.fixture
async def presence(unstarted: Presence) -> AsyncIterator[Presence]:
    await unstarted.start()
    yield unstarted
    await unstarted.stop()


@dataclass
class Person:
    """An agent or a bot of license 7; each method gives the status before and after."""

    presence: Presence
    kind: str = "agent"
    default_status: str = ACCEPTING
    id: str = "smith@example.com"

    @property
    def member(self) -> Member:
        return Member.of(7, self)

    async def join(self, connection: str = "c1", *, away: bool = False, reconnect: bool = False) -> tuple[str, str]:
        change = await self.presence.join(self.member, connection, away=away, reconnect=reconnect)
        return await self._checked(change)

    async def leave(self, connection: str = "c1") -> tuple[str, str]:
        change = await self.presence.leave(self.member, connection)
        return await self._checked(change)

    async def away(self, away: bool, connection: str = "c1") -> tuple[str, str]:
        change = await self.presence.set_away(self.member, connection, away)
        return await self._checked(change)

    async def choose(self, status: str) -> tuple[str, str]:
        change = await self.presence.set_status(self.member, status)
        return await self._checked(change)

    async def status(self, patience_s: float = 0) -> str:
        return (await self.presence.statuses(7, {self.id: self}, patience_s=patience_s))[self.id]

    async def settled(self) -> str:
        return (await self.presence.settled_statuses(7, {self.id: self}))[self.id]

    async def _checked(self, change: Change) -> tuple[str, str]:
        """What a change says is what the list says."""
        assert await self.status() == change.after
        return change.before, change.after


@pytest.fixture
def smith(presence: Presence) -> Person:
    return Person(presence)


@pytest.fixture
def bot(presence: Presence) -> Person:
    return Person(presence, kind="bot", id="5c9871d5372c824cbf22d860a707a578")


async def test_an_agent_without_a_session_is_offline(smith: Person) -> None:
    assert await smith.status() == OFFLINE


@pytest.mark.parametrize("default_status", [ACCEPTING, NOT_ACCEPTING])
async def test_the_first_connection_brings_the_default_status_and_the_last_takes_it(
    presence: Presence, default_status: str
) -> None:
    smith = Person(presence, default_status=default_status)
    assert await smith.join("c1") == (OFFLINE, default_status)
    assert await smith.join("c2") == (default_status, default_status)
    assert await smith.leave("c1") == (default_status, default_status)
    assert await smith.leave("c2") == (default_status, OFFLINE)


async def test_a_connection_that_leaves_twice_leaves_once(smith: Person) -> None:
    await smith.join("c1")
    await smith.join("c2")
    await smith.leave("c1")
    assert await smith.leave("c1") == (ACCEPTING, ACCEPTING)
    assert await smith.leave("unknown") == (ACCEPTING, ACCEPTING)
    await smith.leave("c2")
    assert await smith.leave("c2") == (OFFLINE, OFFLINE)


async def test_a_chosen_status_lasts_as_long_as_the_session(smith: Person) -> None:
    await smith.join("c1")
    assert await smith.choose(NOT_ACCEPTING) == (ACCEPTING, NOT_ACCEPTING)
    assert await smith.join("c2") == (NOT_ACCEPTING, NOT_ACCEPTING)
    await smith.leave("c1")
    assert await smith.leave("c2") == (NOT_ACCEPTING, OFFLINE)
    assert await smith.join("c3") == (OFFLINE, ACCEPTING)


async def test_who_reconnects_finds_the_status_chosen_before(smith: Person) -> None:
    await smith.join("c1")
    await smith.choose(NOT_ACCEPTING)
    await smith.leave("c1")
    assert await smith.join("c2", reconnect=True) == (OFFLINE, NOT_ACCEPTING)


async def test_who_reconnects_finds_the_default_if_none_was_chosen_in_the_last_session(smith: Person) -> None:
    await smith.join("c1")
    await smith.choose(NOT_ACCEPTING)
    await smith.leave("c1")
    await smith.join("c2")
    await smith.leave("c2")
    assert await smith.join("c3", reconnect=True) == (OFFLINE, ACCEPTING)


async def test_reconnecting_beside_other_connections_changes_nothing(smith: Person) -> None:
    await smith.join("c1")
    await smith.choose(NOT_ACCEPTING)
    await smith.leave("c1")
    await smith.join("c2")
    assert await smith.join("c3", reconnect=True) == (ACCEPTING, ACCEPTING)


async def test_a_status_may_be_chosen_for_an_agent_without_a_session(smith: Person) -> None:
    assert await smith.choose(ACCEPTING) == (OFFLINE, ACCEPTING)
    assert await smith.choose(NOT_ACCEPTING) == (ACCEPTING, NOT_ACCEPTING)
    assert await smith.join("c1") == (NOT_ACCEPTING, ACCEPTING)


async def test_an_agent_is_away_when_all_its_connections_are(smith: Person) -> None:
    await smith.join("c1")
    await smith.join("c2")
    assert await smith.away(True, "c1") == (ACCEPTING, ACCEPTING)
    assert await smith.away(True, "c2") == (ACCEPTING, NOT_ACCEPTING)
    assert await smith.away(False, "c1") == (NOT_ACCEPTING, ACCEPTING)
    assert await smith.leave("c1") == (ACCEPTING, NOT_ACCEPTING)


async def test_who_logs_in_away_accepts_no_chats_until_back(smith: Person) -> None:
    assert await smith.join(away=True) == (OFFLINE, NOT_ACCEPTING)
    assert await smith.away(False) == (NOT_ACCEPTING, ACCEPTING)


async def test_coming_back_does_not_undo_a_choice(smith: Person) -> None:
    await smith.join()
    await smith.choose(NOT_ACCEPTING)
    assert await smith.away(True) == (NOT_ACCEPTING, NOT_ACCEPTING)
    assert await smith.away(False) == (NOT_ACCEPTING, NOT_ACCEPTING)


async def test_away_wins_over_an_earlier_choice_and_a_later_choice_over_away(smith: Person) -> None:
    await smith.join()
    await smith.choose(ACCEPTING)
    assert await smith.away(True) == (ACCEPTING, NOT_ACCEPTING)
    assert await smith.choose(ACCEPTING) == (NOT_ACCEPTING, ACCEPTING)
    assert await smith.away(True) == (ACCEPTING, NOT_ACCEPTING)


async def test_an_unknown_connection_cannot_be_away(smith: Person) -> None:
    assert await smith.away(True, "unknown") == (OFFLINE, OFFLINE)
    await smith.join("c1")
    assert await smith.away(True, "unknown") == (ACCEPTING, ACCEPTING)


async def test_a_bots_status_does_not_depend_on_connections(bot: Person) -> None:
    assert await bot.status() == ACCEPTING
    assert await bot.join(away=True) == (ACCEPTING, ACCEPTING)
    assert await bot.choose(OFFLINE) == (ACCEPTING, OFFLINE)
    assert await bot.away(True) == (OFFLINE, OFFLINE)
    assert await bot.leave() == (OFFLINE, OFFLINE)
    assert await bot.join() == (OFFLINE, OFFLINE)
    assert await bot.choose(NOT_ACCEPTING) == (OFFLINE, NOT_ACCEPTING)


async def test_agents_and_licenses_are_apart(presence: Presence, smith: Person) -> None:
    jones = Person(presence, id="jones@example.com", default_status=NOT_ACCEPTING)
    await jones.join()
    await presence.join(Member.of(8, smith), "c9", away=False, reconnect=False)
    statuses = await presence.statuses(7, {jones.id: jones, smith.id: smith})
    assert list(statuses.items()) == [(jones.id, NOT_ACCEPTING), (smith.id, OFFLINE)]
