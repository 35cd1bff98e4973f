"""The judge of the drills: does what the clients saw agree with the history and with the promises of `rtm`?

    (a) what was acknowledged is in the history for good, once, in the order of its acknowledgement within a chat
    (b) an unbroken connection sees every stored push it is entitled to, once, in the license's order
    (c) every event is in the `login` answer or in a push after it, never in neither
    (d) a connection for which (b) cannot be kept is closed with a reason

What was not answered may have happened once or not at all, never twice. Nothing is said of an order that no client can
know: two events are ordered if one was acknowledged before the other was asked for, if both were asked for once and
answered on one connection, or if a connection was told of both.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, pairwise

from tests.faults.log import Ask, Connection, History, Log, Stored, Told

UNKNOWN = {"internal", "service_unavailable", "request_timeout"}
"""Errors that do not say whether the event was stored: the database may have been cut off amid the commit."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A promise that was not kept, and how."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"({self.promise}) {self.what}"


def check(log: Log, history: History) -> list[Wrong]:
    """All that is wrong; the history is read after the last event was answered and every push has had its time."""
    judge = _Judge(log, history)
    return [
        *judge.lost_or_changed(),
        *judge.stored_without_being_asked(),
        *judge.stored_out_of_order(),
        *(wrong for connection in log.connections for wrong in judge.of_connection(connection)),
        *judge.told_in_different_orders(),
    ]


def late(log: Log, limit_s: float) -> list[Wrong]:
    """Pushes that came later than `limit_s` after their event's acknowledgement, or after the fault that it fell in."""
    judge = _Judge(log, {})
    return [wrong for connection in log.connections for wrong in judge.told_late(connection, limit_s)]


class _Judge:
    def __init__(self, log: Log, history: History) -> None:
        self._log = log
        self._history = history
        self._place = {stored.event_id: place for of_chat in history.values() for place, stored in enumerate(of_chat)}
        self._key = {stored.event_id: stored.key for of_chat in history.values() for stored in of_chat}
        self._acknowledged_at: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}
        for ask in log.asks:
            self._asked_at[ask.key] = min(ask.at, self._asked_at.get(ask.key, ask.at))
            if ask.event_id is not None and ask.answered_at is not None:
                before = self._acknowledged_at.get(ask.event_id, ask.answered_at)
                self._acknowledged_at[ask.event_id] = min(ask.answered_at, before)
        self._first_acknowledged = {chat_id: self._firsts(of_chat) for chat_id, of_chat in history.items()}

    def _firsts(self, of_chat: Sequence[Stored]) -> list[float]:
        """For each place of a chat, when the first of the events from there on was acknowledged."""
        times = (self._acknowledged_at.get(stored.event_id, math.inf) for stored in reversed(of_chat))
        return [*accumulate(times, min, initial=math.inf)][::-1]

    # What is stored

    def lost_or_changed(self) -> Iterator[Wrong]:
        """What was acknowledged is there, under the id that was told; what was refused is not."""
        stored = {(chat_id, each) for chat_id, of_chat in self._history.items() for each in of_chat}
        keys = set(self._key.values())
        first: dict[str, str] = {}
        for ask in self._log.asks:
            if ask.event_id is not None:
                if (ask.chat_id, Stored(ask.event_id, ask.key)) not in stored:
                    yield Wrong("a", f"{self._answer(ask)}, and is not in the history")
                if first.setdefault(ask.key, ask.event_id) != ask.event_id:
                    yield Wrong("a", f"{self._answer(ask)}, when it had been acknowledged as {first[ask.key]}")
            elif ask.error is not None and ask.error not in UNKNOWN and ask.key in keys and ask.key not in first:
                yield Wrong("a", f"{self._answer(ask)}, and is in the history")

    def stored_without_being_asked(self) -> Iterator[Wrong]:
        """Each event of the history was asked for, in that chat, and is there once."""
        asked = {(ask.chat_id, ask.key) for ask in self._log.asks}
        for chat_id, of_chat in self._history.items():
            ids = Counter(stored.event_id for stored in of_chat)
            keys = Counter(stored.key for stored in set(of_chat))
            for stored in dict.fromkeys(of_chat):
                if ids[stored.event_id] > 1:
                    yield Wrong("a", f"{_event(stored)} is in the history {ids[stored.event_id]} times")
                if keys[stored.key] > 1:
                    yield Wrong("a", f"{_event(stored)} was stored {keys[stored.key]} times{self._asked(stored.key)}")
                if (chat_id, stored.key) not in asked:
                    yield Wrong("a", f"{_event(stored)} is in the history of a chat where nobody asked for it")

    def stored_out_of_order(self) -> Iterator[Wrong]:
        """Within a chat the history is in the order of acknowledgement, as far as a client can know that order."""
        for of_chat in self._history.values():
            yield from self._against_time(of_chat, "a", "the history has")
        answered: dict[tuple[Connection, str], list[Ask]] = defaultdict(list)
        times = Counter(ask.key for ask in self._log.asks)
        for ask in self._log.asks:
            # Of what was asked for again it may be the first time that was stored, long before what is answered now.
            if ask.event_id in self._place and times[ask.key] == 1:
                answered[ask.connection, ask.chat_id].append(ask)
        for asks in answered.values():
            asks.sort(key=lambda ask: ask.answered_at or 0)
            for before, after in pairwise(asks):
                assert before.event_id is not None
                assert after.event_id is not None
                if self._place[after.event_id] < self._place[before.event_id]:
                    yield Wrong("a", f"{self._answer(before)}, before {after.key}, and comes after it in the history")

    def _against_time(self, events: Sequence[Stored | Told], promise: str, who: str) -> Iterator[Wrong]:
        """Nothing comes before what was acknowledged when it had not been asked for."""
        latest, latest_at = "", 0.0
        for each in events:
            acknowledged_at = self._acknowledged_at.get(each.event_id)
            if acknowledged_at is not None and acknowledged_at < latest_at:
                yield Wrong(
                    promise,
                    f"{who} {latest} before {_event(each)}, which was acknowledged at {self._time(acknowledged_at)}, "
                    f"before {latest} was asked for at {self._time(latest_at)}",
                )
            asked_at = self._asked_at.get(each.key, 0.0)
            if asked_at > latest_at:
                latest, latest_at = each.key, asked_at

    # What is told

    def of_connection(self, connection: Connection) -> Iterator[Wrong]:
        """What one connection was told, beside the history; and how it ended."""
        yield from self._ended_without_a_word(connection)
        if connection.logged_in_at is None:
            return
        by_chat: dict[str, list[Told]] = {chat_id: [] for chat_id in connection.chat_ids}
        for told in connection.told:
            if told.chat_id in by_chat:
                by_chat[told.chat_id].append(told)
            else:
                yield Wrong("b", f"{self._told(connection, told)} of a chat that is not its own")
        # Whoever was told of this knows that all that was acknowledged before it was asked for came before it.
        horizon = max((self._asked_at.get(told.key, 0.0) for told in connection.told), default=0.0)
        for chat_id, told_of_chat in by_chat.items():
            yield from self._of_chat(connection, chat_id, told_of_chat, horizon)
        yield from self._against_time(connection.told, "b", f"{connection} was told of")

    def _of_chat(
        self, connection: Connection, chat_id: str, told_of_chat: Iterable[Told], horizon: float
    ) -> Iterator[Wrong]:
        of_chat = self._history.get(chat_id, [])
        start, reached = 0, 0
        shown = connection.shown.get(chat_id)
        if shown is not None:
            if shown not in self._place:
                yield Wrong("a", f"{connection} was shown {shown} when it logged in, which is not in the history")
                return
            start = reached = self._place[shown] + 1
        seen: set[str] = set()
        for told in told_of_chat:
            place = self._place.get(told.event_id)
            if place is None or self._key[told.event_id] != told.key:
                yield Wrong("b", f"{self._told(connection, told)}, which is not in the history")
            elif told.event_id in seen:
                yield Wrong("b", f"{self._told(connection, told)} again")
            elif place < start:
                yield Wrong("c", f"{self._told(connection, told)}, which the answer to its log-in had shown")
            elif place < reached:
                yield Wrong("b", f"{self._told(connection, told)} after {of_chat[reached - 1].key}, which follows it")
            else:
                reached = place + 1
            seen.add(told.event_id)
        yield from self._never_told(connection, of_chat[start:reached], seen)
        firsts = self._first_acknowledged.get(chat_id, [math.inf])
        if connection.end is None or firsts[reached] < horizon:  # else it had left before anybody knew of the rest
            yield from self._left_behind(connection, of_chat[reached:], horizon)

    def _never_told(self, connection: Connection, covered: Iterable[Stored], seen: set[str]) -> Iterator[Wrong]:
        heard_any = False
        for stored in covered:
            if stored.event_id in seen:
                heard_any = True
            elif heard_any:
                yield Wrong("b", f"{connection} was never told of {self._known(stored)}, but of what follows it")
            else:
                yield Wrong("c", f"{connection} was neither shown at log-in nor told {self._known(stored)}")

    def _left_behind(self, connection: Connection, left: Sequence[Stored], horizon: float) -> Iterator[Wrong]:
        if connection.end is not None:
            left = [each for each in left if self._acknowledged_at.get(each.event_id, horizon) < horizon]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            state = "open to the end" if connection.end is None else "told of what came later"
            yield Wrong("b", f"{connection}, {state}, was left behind: never told of {self._known(left[0])}{more}")

    def _ended_without_a_word(self, connection: Connection) -> Iterator[Wrong]:
        end = connection.end
        if end is None or end.by_client or end.reason is not None:
            return
        if not any(fault.cuts == connection.process and fault.started <= end.at for fault in self._log.faults):
            yield Wrong("d", f"{connection} was cut at {self._time(end.at)} without a reason")

    def told_in_different_orders(self) -> Iterator[Wrong]:
        """There is one order of the license that everybody was told in, and that the history is in."""
        chains = [
            (str(connection), [told.event_id for told in connection.told]) for connection in self._log.connections
        ]
        chains += [("the history", [stored.event_id for stored in of_chat]) for of_chat in self._history.values()]
        order: TopologicalSorter[str] = TopologicalSorter()
        for _, chain in chains:
            for before, after in pairwise(dict.fromkeys(chain)):
                order.add(after, before)
        try:
            order.prepare()
        except CycleError as error:
            # The cycle is written backwards: each is followed by what comes after it.
            steps = set(pairwise(error.args[1]))
            said = [
                f"{who} has {self._name(before)} before {self._name(after)}"
                for who, chain in chains
                for before, after in pairwise(dict.fromkeys(chain))
                if (before, after) in steps or (after, before) in steps
            ]
            yield Wrong("b", f"no order of the license is that of all: {'; '.join(dict.fromkeys(said))}")

    def told_late(self, connection: Connection, limit_s: float) -> Iterator[Wrong]:
        """See `late`."""
        for told in connection.told:
            acknowledged_at = self._acknowledged_at.get(told.event_id)
            if acknowledged_at is None or connection.logged_in_at is None:
                continue
            due = max(acknowledged_at, connection.logged_in_at)
            for fault in self._log.faults:
                if fault.ended is not None and fault.started <= due + limit_s and due < fault.ended:
                    due = fault.ended
            if told.at > due + limit_s:
                yield Wrong("b", f"{self._told(connection, told)}, {told.at - due:.2f} s after it was due")

    # In words

    def _time(self, at: float) -> str:
        return f"{at - self._log.started:.3f} s"

    def _asked(self, key: str) -> str:
        return f"; asked for at {self._time(self._asked_at[key])}" if key in self._asked_at else ""

    def _answer(self, ask: Ask) -> str:
        """What an ask was answered, and when."""
        answer = f"acknowledged as {ask.event_id}" if ask.event_id is not None else f"refused ({ask.error})"
        assert ask.answered_at is not None
        return f"{ask.key}, asked by {ask.connection}, was {answer} at {self._time(ask.answered_at)}"

    def _told(self, connection: Connection, told: Told) -> str:
        return f"{connection} was told at {self._time(told.at)} of {_event(told)}"

    def _known(self, stored: Stored) -> str:
        acknowledged_at = self._acknowledged_at.get(stored.event_id)
        when = f"acknowledged at {self._time(acknowledged_at)}" if acknowledged_at is not None else "not acknowledged"
        return f"{_event(stored)} ({when})"

    def _name(self, event_id: str) -> str:
        return self._key.get(event_id, event_id)


def _event(each: Stored | Told) -> str:
    return f"{each.key} ({each.event_id})"
