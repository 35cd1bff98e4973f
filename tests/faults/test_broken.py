"""The judge judges: on servers that are broken on purpose, one way each, a short load is enough for it to say so."""

import asyncio
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from rtm.actions.agent import structures
from rtm.bus.base import Envelope
from rtm.gateway.room import Backlog, Room
from rtm.gateway.session import Session
from rtm.model import shown
from rtm.model.chat import Thread
from rtm.protocol.errors import ValidationError
from rtm.store import rows
from rtm.store.queries import Queries, Snapshot
from rtm.store.sqlite import SqliteStore
from rtm.store.work import Work
from rtm.store.writer import Changes, Writer
from tests.faults.drill import Cast, Drill
from tests.faults.load import Door, Person
from tests.running import PATIENCE_S
from tests.world import World

EVENTS = 200
EVENTS_PER_S = 300
SPOILT = 17
"""Each push or event whose number is divisible by this: no more often than a race would do it."""

Spoil = Callable[[pytest.MonkeyPatch], None]
deliver = Room._deliver


def skips_pushes(patch: pytest.MonkeyPatch) -> None:
    def spoilt(room: Room, envelope: Envelope) -> None:
        if envelope.sequence % SPOILT:
            deliver(room, envelope)

    patch.setattr(Room, "_deliver", spoilt)


def delivers_twice(patch: pytest.MonkeyPatch) -> None:
    def spoilt(room: Room, envelope: Envelope) -> None:
        deliver(room, envelope)
        if envelope.sequence % SPOILT == 0:
            deliver(room, envelope)

    patch.setattr(Room, "_deliver", spoilt)


def swaps_pushes(patch: pytest.MonkeyPatch) -> None:
    held: list[Envelope] = []

    def spoilt(room: Room, envelope: Envelope) -> None:
        if envelope.name == "incoming_event" and envelope.sequence % SPOILT == 0:
            held.append(envelope)
            return
        deliver(room, envelope)
        if held and envelope.sequence % SPOILT == SPOILT - 1:
            deliver(room, held.pop())

    patch.setattr(Room, "_deliver", spoilt)


def leaves_one_behind(patch: pytest.MonkeyPatch) -> None:
    """It is in the room, and what it is sent goes nowhere."""

    def spoilt(room: Room, envelope: Envelope) -> None:
        if envelope.sequence == 50:
            behind = next(each for each in room.sessions if each.interest.versions("incoming_event"))
            behind.outlet = Backlog(room)
            room._forget_recipients()
        deliver(room, envelope)

    patch.setattr(Room, "_deliver", spoilt)


def cuts_without_a_word(patch: pytest.MonkeyPatch) -> None:
    def spoilt(room: Room, envelope: Envelope) -> None:
        deliver(room, envelope)
        if envelope.sequence == 50:
            session = next(iter(room.sessions))
            assert isinstance(session, Session)
            asyncio.get_running_loop().call_soon(session._wire.abort)

    patch.setattr(Room, "_deliver", spoilt)


def answers_what_it_does_not_store(patch: pytest.MonkeyPatch) -> None:
    """As a writer that answers before its commit, which then fails."""
    commit = SqliteStore.commit
    batches = itertools.count(1)

    async def spoilt(store: SqliteStore, changes: Changes) -> None:
        if changes.events and next(batches) % 5 == 0:
            await store.rollback()
        else:
            await commit(store, changes)

    patch.setattr(SqliteStore, "commit", spoilt)


def stores_what_it_refuses(patch: pytest.MonkeyPatch) -> None:
    finish = Writer._finish
    commands = itertools.count(1)

    def spoilt(writer: Writer, command: Any, outcome: Any) -> None:
        refused = isinstance(outcome, dict) and "event_id" in outcome and next(commands) % SPOILT == 0
        finish(writer, command, ValidationError("No") if refused else outcome)

    patch.setattr(Writer, "_finish", spoilt)


def stores_twice(patch: pytest.MonkeyPatch) -> None:
    append = Work.append

    def spoilt(work: Work, chat: Any, body: dict[str, Any], author_id: str) -> str:
        event_id = append(work, chat, dict(body), author_id)
        body["id"] = event_id
        if int(event_id.rpartition("_")[2]) % 5 == 0:
            append(work, chat, dict(body), author_id)
        return event_id

    patch.setattr(Work, "append", spoilt)
    patch.setattr(rows, "of_custom_ids", lambda events: [])  # else the database would notice


def shows_history_out_of_order(patch: pytest.MonkeyPatch) -> None:
    thread = structures.thread

    def spoilt(of: Thread, events: list[dict[str, Any]]) -> shown.Thread:
        return thread(of, [*events[:3], *reversed(events[3:])])

    patch.setattr(structures, "thread", spoilt)


def snapshot_misses_one(patch: pytest.MonkeyPatch) -> None:
    caught_up = Session.caught_up
    patch.setattr(Session, "caught_up", lambda session, sequence: caught_up(session, sequence + 1))


def snapshot_is_told_again(patch: pytest.MonkeyPatch) -> None:
    """Many are shown and told when much happens between the place where a session begins to hear and its snapshot."""
    caught_up = Session.caught_up
    snapshot = Queries.snapshot

    async def slow(queries: Queries, license_id: int, agent_id: str) -> Snapshot:
        await asyncio.sleep(0.1)
        return await snapshot(queries, license_id, agent_id)

    patch.setattr(Queries, "snapshot", slow)
    patch.setattr(Session, "caught_up", lambda session, sequence: caught_up(session, max(0, sequence - 20)))


@pytest.fixture
async def cast(world: World) -> Cast:
    async def people(*names: str) -> list[Person]:
        return [Person(world.id(name), (await world.mint(name)).token) for name in names]

    return Cast(await people("olivia", "alice", "robin"), await people("bob", "carol"), await people("dave", "erin"))


async def drilled(world: World, cast: Cast, settle_s: float) -> list[str]:
    """What the judge says after a short load."""
    door = Door("here", world.server.port)
    async with Drill.prepared([door], cast, per_second=EVENTS_PER_S) as drill:
        async with drill.load():
            async with asyncio.timeout(PATIENCE_S):
                while drill.log.acknowledged < EVENTS:
                    await asyncio.sleep(0.01)
        return [str(wrong) for wrong in await drill.wrongs(settle_s=settle_s)]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (skips_pushes, r"^\(b\) listener . at here was never told of .*, but of what follows it"),
        (delivers_twice, r"^\(b\) listener . at here was told .* again"),
        (swaps_pushes, r"^\(b\) listener . at here was told at .*, which follows it"),
        (leaves_one_behind, r"^\(b\) .* at here, open to the end, was left behind: never told of .* more"),
        (cuts_without_a_word, r"^\(d\) .* at here was cut at .* without a reason"),
        (answers_what_it_does_not_store, r"^\(a\) talker .*, was acknowledged as .*, and is not in the history"),
        (stores_what_it_refuses, r"^\(a\) talker .* was refused \(validation\) .*, and is in the history"),
        (stores_twice, r"^\(a\) talker .* was stored 2 times"),
        (shows_history_out_of_order, r"^\(a\) the history has .* before .* acknowledged .* before .* was asked for"),
        (snapshot_misses_one, r"^\(c\) visitor . at here was neither shown at log-in nor told"),
        (snapshot_is_told_again, r"^\(c\) visitor . at here was told .*, which the answer to its log-in had shown"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_broken_server_is_noticed(
    world: World,
    cast: Cast,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    expected: str,
) -> None:
    spoil(monkeypatch)
    wrongs = await drilled(world, cast, settle_s=0.5)  # what will not come need not be waited for
    assert any(re.search(expected, wrong) for wrong in wrongs), wrongs[:10]


async def test_nothing_is_said_of_a_whole_server(world: World, cast: Cast) -> None:
    assert await drilled(world, cast, settle_s=10) == []
