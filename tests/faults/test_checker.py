"""The checker says what is wrong with logs made by hand, one for each kind of violation, and nothing of good ones."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.faults.checker import check, late
from tests.faults.log import Ask, Connection, End, Fault, History, Log, Stored, Told

CHAT, OTHER_CHAT = "chat", "other"


@dataclass
class Scene:
    """Smith writes; Jones and Brown, on different processes, are told; events take a tenth of a second each."""

    log: Log = field(default_factory=lambda: Log(started=0.0))
    history: History = field(default_factory=lambda: {CHAT: [], OTHER_CHAT: []})
    now: float = 1.0

    def __post_init__(self) -> None:
        self.smith = self.connect("smith", "here")
        self.jones = self.connect("jones", "here", CHAT, OTHER_CHAT)
        self.brown = self.connect("brown", "there", CHAT, OTHER_CHAT)

    def connect(self, client: str, process: str, *chat_ids: str) -> Connection:
        shown = {chat_id: self.history[chat_id][-1].event_id for chat_id in chat_ids if self.history[chat_id]}
        connection = Connection(client, process, frozenset(chat_ids), logged_in_at=self.now, shown=shown)
        self.log.connections.append(connection)
        return connection

    def ask(self, key: str, chat_id: str = CHAT) -> Ask:
        self.now += 0.1
        ask = Ask(key, chat_id, self.smith, self.now)
        self.log.asks.append(ask)
        return ask

    def acknowledge(self, ask: Ask) -> Stored:
        self.now += 0.01
        ask.answered_at, ask.event_id = self.now, f"{ask.key}-id"
        return Stored(ask.event_id, ask.key)

    def store(self, key: str, chat_id: str = CHAT) -> Stored:
        """Asked, acknowledged and in the history."""
        stored = self.acknowledge(self.ask(key, chat_id))
        self.history[chat_id].append(stored)
        return stored

    def tell(self, connection: Connection, *events: Stored, chat_id: str = CHAT) -> None:
        for stored in events:
            self.now += 0.001
            connection.told.append(Told(self.now, chat_id, *stored))

    def say(self, key: str, chat_id: str = CHAT) -> Stored:
        """All as it should be, for who has been there from the start."""
        stored = self.store(key, chat_id)
        self.tell(self.jones, stored, chat_id=chat_id)
        self.tell(self.brown, stored, chat_id=chat_id)
        return stored

    def wrongs(self) -> list[str]:
        return [str(wrong) for wrong in check(self.log, self.history)]


def acknowledged_and_lost(scene: Scene) -> None:
    scene.acknowledge(scene.ask("lost"))


def another_key_under_the_acknowledged_id(scene: Scene) -> None:
    scene.ask("other")
    stored = scene.acknowledge(scene.ask("mine"))
    scene.history[CHAT].append(Stored(stored.event_id, "other"))
    for connection in (scene.jones, scene.brown):
        scene.tell(connection, Stored(stored.event_id, "other"))


def twice_in_the_history(scene: Scene) -> None:
    scene.history[CHAT].append(scene.history[CHAT][0])


def unknown_and_stored_twice(scene: Scene) -> None:
    scene.ask("unknown")
    for event_id in ("first", "second"):
        scene.history[CHAT].append(Stored(event_id, "unknown"))
        scene.tell(scene.jones, Stored(event_id, "unknown"))
        scene.tell(scene.brown, Stored(event_id, "unknown"))


def repeated_and_acknowledged_anew(scene: Scene) -> None:
    scene.say("repeated")
    again = scene.ask("repeated")
    again.answered_at, again.event_id = scene.now, "another-id"


def refused_and_stored(scene: Scene) -> None:
    ask = scene.ask("refused")
    ask.answered_at, ask.error = scene.now, "validation"
    stored = Stored("refused-id", "refused")
    scene.history[CHAT].append(stored)
    scene.tell(scene.jones, stored)
    scene.tell(scene.brown, stored)


def nobody_asked(scene: Scene) -> None:
    stored = Stored("ghost-id", "ghost")
    scene.history[CHAT].append(stored)
    scene.tell(scene.jones, stored)
    scene.tell(scene.brown, stored)


def stored_before_what_was_acknowledged_earlier(scene: Scene) -> None:
    earlier, later = scene.acknowledge(scene.ask("earlier")), scene.acknowledge(scene.ask("later"))
    scene.history[CHAT] += [later, earlier]
    for connection in (scene.jones, scene.brown):
        scene.tell(connection, later, earlier)


def stored_otherwise_than_answered(scene: Scene) -> None:
    asks = scene.ask("one"), scene.ask("two")  # both before either is answered
    one, two = (scene.acknowledge(ask) for ask in asks)
    scene.history[CHAT] += [two, one]
    for connection in (scene.jones, scene.brown):
        scene.tell(connection, two, one)


def never_told_in_between(scene: Scene) -> None:
    scene.tell(scene.brown, scene.store("missed"))
    scene.say("after")


def left_behind(scene: Scene) -> None:
    scene.tell(scene.brown, scene.store("missed"))


def told_twice(scene: Scene) -> None:
    scene.tell(scene.jones, scene.say("twice"))


def told_again_long_after(scene: Scene) -> None:
    first = scene.say("first")
    scene.say("second")
    scene.tell(scene.jones, first)


def told_out_of_order(scene: Scene) -> None:
    first, second = scene.store("first"), scene.store("second")
    scene.tell(scene.jones, second, first)
    scene.tell(scene.brown, first, second)


def told_in_another_order_across_chats(scene: Scene) -> None:
    asks = scene.ask("first"), scene.ask("second", OTHER_CHAT)
    first, second = (scene.acknowledge(ask) for ask in asks)
    scene.history[CHAT].append(first)
    scene.history[OTHER_CHAT].append(second)
    scene.tell(scene.jones, first)
    scene.tell(scene.jones, second, chat_id=OTHER_CHAT)
    scene.tell(scene.brown, second, chat_id=OTHER_CHAT)
    scene.tell(scene.brown, first)


def told_against_time_across_chats(scene: Scene) -> None:
    first, second = scene.store("first"), scene.store("second", OTHER_CHAT)
    for connection in (scene.jones, scene.brown):
        scene.tell(connection, second, chat_id=OTHER_CHAT)
        scene.tell(connection, first)


def told_of_what_is_not_stored(scene: Scene) -> None:
    scene.tell(scene.jones, Stored("ghost-id", "ghost"))


def told_of_another_chat(scene: Scene) -> None:
    late_comer = scene.connect("stranger", "here")
    scene.tell(late_comer, scene.say("secret"))


def neither_shown_nor_told(scene: Scene) -> None:
    late_comer = scene.connect("late", "here", CHAT)
    scene.say("fell between")
    scene.tell(late_comer, scene.say("after"))


def shown_and_told(scene: Scene) -> None:
    shown = scene.say("shown")
    late_comer = scene.connect("late", "here", CHAT)
    scene.tell(late_comer, shown)


def shown_what_is_not_stored(scene: Scene) -> None:
    scene.connect("late", "here", CHAT).shown[CHAT] = "ghost-id"


def cut_without_a_word(scene: Scene) -> None:
    scene.jones.end = End(scene.now, by_client=False)


def missed_before_it_ended(scene: Scene) -> None:
    scene.tell(scene.brown, scene.store("missed"))
    scene.say("elsewhere", OTHER_CHAT)
    scene.jones.end = End(scene.now, by_client=True)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (acknowledged_and_lost, r"^\(a\) lost, asked by smith at here, was acknowledged .* not in the history"),
        (another_key_under_the_acknowledged_id, r"^\(a\) mine, .*, and is not in the history"),
        (twice_in_the_history, r"^\(a\) hello .* in the history 2 times"),
        (unknown_and_stored_twice, r"^\(a\) unknown .* stored 2 times; asked for at"),
        (repeated_and_acknowledged_anew, r"^\(a\) repeated, .* when it had been acknowledged as repeated-id"),
        (refused_and_stored, r"^\(a\) refused, .* was refused \(validation\) .* is in the history"),
        (nobody_asked, r"^\(a\) ghost .* nobody asked for it"),
        (stored_before_what_was_acknowledged_earlier, r"^\(a\) the history has later before earlier"),
        (stored_otherwise_than_answered, r"^\(a\) one, .*, before two, and comes after it in the history"),
        (never_told_in_between, r"^\(b\) jones at here was never told of missed .*acknowledged at 1\..* follows it"),
        (left_behind, r"^\(b\) jones at here, open to the end, was left behind: never told of missed"),
        (told_twice, r"^\(b\) jones at here was told at 1\.\d+ s of twice \(twice-id\) again"),
        (told_again_long_after, r"^\(b\) jones at here was told at .* of first \(first-id\) again"),
        (told_out_of_order, r"^\(b\) jones at here was told at .* of first .* after second, which follows it"),
        (
            told_in_another_order_across_chats,
            r"^\(b\) no order .*: jones at here has first before second; brown at there has second before first",
        ),
        (told_against_time_across_chats, r"^\(b\) jones at here was told of second before first"),
        (told_of_what_is_not_stored, r"^\(b\) jones at here .* of ghost .* not in the history"),
        (told_of_another_chat, r"^\(b\) stranger at here .* of secret .* not its own"),
        (neither_shown_nor_told, r"^\(c\) late at here was neither shown at log-in nor told fell between"),
        (shown_and_told, r"^\(c\) late at here was told .* of shown .* log-in had shown"),
        (shown_what_is_not_stored, r"^\(a\) late at here was shown ghost-id .* not in the history"),
        (cut_without_a_word, r"^\(d\) jones at here was cut at 1\.\d+ s without a reason"),
        (missed_before_it_ended, r"^\(b\) jones at here, told of what came later, was left behind: never told of miss"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_wrong_is_said(spoil: Callable[[Scene], None], expected: str) -> None:
    scene = Scene()
    scene.say("hello")
    assert scene.wrongs() == []
    spoil(scene)
    wrongs = scene.wrongs()
    assert any(re.search(expected, wrong) for wrong in wrongs), wrongs


def test_what_is_unknown_may_be_there_or_not() -> None:
    scene = Scene()
    scene.say("hello")
    scene.ask("not stored")
    refused = scene.ask("perhaps")
    refused.answered_at, refused.error = scene.now, "service_unavailable"
    stored = [Stored("stored-id", scene.ask("stored").key), Stored("perhaps-id", "perhaps")]
    scene.history[CHAT] += stored
    scene.tell(scene.jones, *stored)
    scene.tell(scene.brown, *stored)
    assert scene.wrongs() == []


def test_who_leaves_or_is_told_why_or_is_on_a_killed_process_misses_what_follows() -> None:
    scene = Scene()
    scene.say("hello")
    scene.log.faults.append(Fault("killed", scene.now, cuts="there"))
    scene.smith.end = End(scene.now, by_client=True)
    scene.jones.end = End(scene.now, by_client=False, reason="internal_error")
    scene.brown.end = End(scene.now, by_client=False)
    again = scene.connect("brown", "here", CHAT, OTHER_CHAT)
    stored = scene.store("later")
    scene.tell(again, stored)
    assert scene.wrongs() == []
    assert scene.log.ended_by_server() == [scene.jones]


def test_a_repeated_event_has_one_id() -> None:
    scene = Scene()
    stored = scene.say("repeated")
    again = scene.ask("repeated")
    assert scene.acknowledge(again) == stored
    assert scene.wrongs() == []


def test_what_was_stored_at_first_may_be_acknowledged_late() -> None:
    scene = Scene()
    asks = scene.ask("one"), scene.ask("two"), scene.ask("two"), scene.ask("one")
    one, two = Stored("one-id", "one"), Stored("two-id", "two")
    scene.history[CHAT] += [one, two]
    for connection in (scene.jones, scene.brown):
        scene.tell(connection, one, two)
    for again in asks[2:]:
        scene.acknowledge(again)
    assert scene.wrongs() == []


def test_what_is_late_is_said_except_for_what_fell_into_a_fault() -> None:
    scene = Scene()
    stored = scene.store("slow")
    scene.now += 3
    scene.tell(scene.jones, stored)
    assert [str(wrong) for wrong in late(scene.log, 2)] == [
        "(b) jones at here was told at 4.111 s of slow (slow-id), 3.00 s after it was due"
    ]
    scene.log.faults.append(Fault("Redis away", 1.0, ended=2.5))
    assert late(scene.log, 2) == []
    assert late(scene.log, 1) != []
