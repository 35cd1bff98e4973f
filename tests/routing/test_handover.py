"""Who is looked at for whom when many wait and nobody who has room may have them."""

from collections import Counter
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from rtm.access.directory import AgentRecord, Directory, GroupRecord
from rtm.model.chat import Chat, ChatUser
from rtm.protocol.timestamps import seconds_after
from rtm.routing import situation
from rtm.routing.handover import Handover
from rtm.routing.presence import ACCEPTING_CHATS
from rtm.store.work import Routing, Work
from tests.world import SALES, SUPPORT

START = "2026-11-22T09:00:00.000000Z"
AGENT = AgentRecord(
    "carol", "agent", "", "Carol", None, "normal", None, 6, ACCEPTING_CHATS, False, False,
    frozenset({0, SUPPORT}), None,
)  # fmt: skip
GROUPS = {each: GroupRecord(each, str(each), {}) for each in (0, SALES, SUPPORT)}
DIRECTORY = Directory(
    1, "", "", START, None, {}, 1, MappingProxyType({AGENT.id: AGENT}), MappingProxyType(GROUPS), MappingProxyType({})
)


def waiting(**properties: Any) -> Chat:
    return Chat.start(
        1,
        at=START,
        group_ids=[SALES],
        users=[ChatUser("ada", "customer")],
        properties={"routing": properties},
        thread_properties={},
        active=True,
        continuous=False,
    )


def test_nobody_is_asked_again_about_chats_like_one_that_nobody_could_have(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(situation, "choose", lambda candidates, preferred: asked.append(len(list(candidates))))
    declined = waiting()
    declined.active_thread().declined = [AGENT.id]
    queue = [waiting(ignore_agents_routing=True), declined, *(waiting() for _ in range(100)), waiting(ignore_bots=True)]
    for place, chat in enumerate(queue):
        chat.enqueue(seconds_after(START, place))
    work = SimpleNamespace(routing=lambda: Routing(queue, Counter(), {}), now=lambda: START)

    Handover(cast("Work", work), DIRECTORY, {AGENT.id: ACCEPTING_CHATS}, print).assign_queued(ready=())

    assert asked == [0, 1, 1]  # for the one that carol has declined, for the first of the others, for that without bots
