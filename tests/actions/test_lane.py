"""A connection's changes start in the order they were sent, and none waits for its turn without a limit."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from rtm.actions.lane import Lane
from tests.world import World

NEVER = float("inf")


class Recorder:
    """A lane, and what it has done."""

    def __init__(self) -> None:
        self.lane = Lane()
        self.done: list[str] = []
        self.overdue = asyncio.Event()

    def ask(self, name: str, *, alone: bool, within_s: float = NEVER) -> None:
        start = partial(self.done.append, name)
        if self.lane.enter(alone=alone):
            start()
        else:
            self.lane.wait(start, partial(self._expire, name), alone=alone, expires_at=monotonic() + within_s)

    def _expire(self, name: str) -> None:
        self.done.append(f"{name} is overdue")
        self.overdue.set()


async def test_commands_follow_each_other_at_once_and_a_change_runs_alone() -> None:
    recorder = Recorder()
    for name in "abCDef":
        recorder.ask(name, alone=name.isupper())
    assert recorder.done == ["a", "b"]
    recorder.lane.exit()
    assert recorder.done == ["a", "b"]
    recorder.lane.exit()
    assert recorder.done == ["a", "b", "C"]
    recorder.lane.exit()
    assert recorder.done == ["a", "b", "C", "D"]
    recorder.lane.exit()
    assert recorder.done == ["a", "b", "C", "D", "e", "f"]


async def test_what_waits_for_too_long_is_dropped_and_those_behind_it_go_on() -> None:
    recorder = Recorder()
    recorder.ask("a", alone=False)
    recorder.ask("B", alone=True, within_s=0.01)
    recorder.ask("c", alone=False, within_s=10)
    async with asyncio.timeout(5):
        await recorder.overdue.wait()
    assert recorder.done == ["a", "B is overdue", "c"]
    recorder.lane.exit()
    recorder.lane.exit()
    recorder.ask("D", alone=True)
    assert recorder.done[-1] == "D"


async def test_it_is_empty_when_all_that_has_come_is_done_or_overdue() -> None:
    recorder = Recorder()
    await recorder.lane.emptied(NEVER)
    for name in "aB":
        recorder.ask(name, alone=name.isupper())
    emptied = asyncio.create_task(recorder.lane.emptied(NEVER))
    await asyncio.sleep(0)
    recorder.ask("c", alone=False)
    recorder.lane.exit()
    assert recorder.done == ["a", "B"]
    assert not emptied.done()
    recorder.lane.exit()
    assert recorder.done == ["a", "B", "c"]
    async with asyncio.timeout(5):
        await emptied
        await recorder.lane.emptied(0.01)


async def test_the_limit_on_time_covers_the_wait_for_ones_turn(world_with: Callable[..., Awaitable[World]]) -> None:
    world = await world_with(limits={"request_timeout_s": 0.5})
    alice = await world.agent("alice")
    await world.chat(alice)
    async with world.server.database.engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")  # nothing can be stored
        started = monotonic()
        asked = [
            await alice.send("start_chat"),
            await alice.send("set_routing_status", status="not_accepting_chats"),
            await alice.send("start_chat"),
        ]
        answers = [(await alice.answer(request_id))["payload"] for request_id in asked]
        await connection.rollback()
    assert [answer["error"]["type"] for answer in answers] == ["request_timeout"] * 3
    assert monotonic() - started < 4  # the writer looks once a second; in turn they would take longer
    await alice.hears_nothing_more()
