"""What the router remembers of what it could not do, and how much it asks for at once; its parts are stand-ins."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rtm.protocol.errors import ServiceUnavailable
from rtm.routing.restart import Return
from rtm.routing.timers import CHATS_AT_ONCE, MAX_CHATS, Timers
from rtm.store.queries import DueChat
from rtm.store.work import Needs
from tests.routing.test_handover import AGENT, DIRECTORY

LICENSE = DIRECTORY.id


class Parts:
    """What the timers work with; what is named in `away` fails."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.due: list[str] = []
        self.followed: list[str] = []
        self.done: list[str] = []
        """Chats that there was a command for."""
        self.most_at_once = self._at_once = 0
        writer: Any = self
        queries: Any = SimpleNamespace(
            due_chats=self._due_chats,
            chats_with=self._answer("queries", lambda: ["agent's"]),
            busy_agents=self._answer("queries", lambda: {LICENSE: [AGENT.id]}),
            chats_followed_by=self._answer("queries", lambda: self.followed),
        )
        directories: Any = SimpleNamespace(get=self._answer("directories", lambda: DIRECTORY))
        presence: Any = SimpleNamespace(settled_statuses=self._answer("presence", lambda: {AGENT.id: "offline"}))
        self.timers = Timers(queries, writer, directories, presence, print, Return.begins(60), print, 60)

    def _answer(self, name: str, give: Callable[[], Any]) -> Callable[..., Awaitable[Any]]:
        async def answer(*_: Any) -> Any:
            if name in self.away:
                raise ServiceUnavailable()
            return give()

        return answer

    async def _due_chats(self, now: str, of_license: int, limit: int) -> list[DueChat]:
        left = [each for each in self.due if each not in self.done]
        return [DueChat(LICENSE, each, frozenset()) for each in left[:of_license]]

    async def perform(self, license_id: int, needs: Needs, apply: Any) -> bool:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        if "writer" in self.away:
            raise ServiceUnavailable()
        self.done += needs.chat_ids
        return False


async def look_while(parts: Parts, away: str) -> None:
    """Look while this is away, which fails, and twice when it is back."""
    parts.away = {away}
    with pytest.raises(ServiceUnavailable):
        await parts.timers.look()
    parts.away = set()
    await parts.timers.look()
    await parts.timers.look()


@pytest.mark.parametrize("away", ["queries", "directories", "presence", "writer"])
async def test_why_an_agent_left_is_not_forgotten_while_something_is_away(away: str) -> None:
    parts = Parts()
    parts.timers.agent_gone(LICENSE, AGENT.id, "signed_out")
    await look_while(parts, away)
    assert parts.done == ["agent's"]


async def test_nor_is_that_a_process_died() -> None:
    parts = Parts()
    parts.timers.agents_may_be_gone(LICENSE)
    await look_while(parts, "queries")
    assert parts.done == ["agent's"]


async def test_what_is_due_is_done_whatever_else_fails() -> None:
    parts = Parts()
    parts.timers.agent_gone(LICENSE, AGENT.id, "signed_out")
    parts.due, parts.away = ["due"], {"queries"}
    with pytest.raises(ServiceUnavailable):
        await parts.timers.look()
    assert parts.done == ["due"]


async def test_of_very_many_chats_that_are_due_some_are_looked_at_at_a_time_and_each_once() -> None:
    parts = Parts()
    parts.due = [str(each) for each in range(MAX_CHATS + 1)]
    await parts.timers.look()
    assert parts.done == parts.due[:MAX_CHATS]
    await parts.timers.look()
    assert parts.done == parts.due


async def test_of_very_many_chats_that_are_followed_some_are_looked_at_at_a_time_and_each_once() -> None:
    parts = Parts()
    parts.followed = [str(each) for each in range(MAX_CHATS + CHATS_AT_ONCE + 1)]
    parts.timers.directory_replaced(
        DIRECTORY, replace(DIRECTORY, agents={AGENT.id: replace(AGENT, group_ids=frozenset({0}))})
    )
    parts.due = ["due"]
    await parts.timers.look()
    assert parts.done == ["due", *parts.followed[:MAX_CHATS]]
    parts.due, parts.away = [], {"writer"}
    with pytest.raises(ServiceUnavailable):
        await parts.timers.look()
    parts.away = set()
    await parts.timers.look()
    await parts.timers.look()
    assert [each for each in parts.done if each in parts.followed] == parts.followed
    assert parts.most_at_once == CHATS_AT_ONCE
