"""A chat is what was stored of it, and the events that it has got since."""

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from rtm.model.chat import EVENTS_AFTER_STATE, Chat, ChatUser
from rtm.model.properties import merged
from rtm.protocol.timestamps import from_microseconds


class Stored:
    """A chat at work, and what a database would have of it."""

    def __init__(self) -> None:
        self._time = 0
        self._events: dict[str, list[dict[str, Any]]] = {}
        self.states_stored = 0
        users = [ChatUser("alice", "agent"), ChatUser("bob", "agent"), ChatUser("ada", "customer")]
        self.chat = Chat.start(
            1,
            at=self.now(),
            group_ids=[0],
            users=users,
            properties={},
            thread_properties={},
            active=True,
            continuous=False,
        )
        self.commit()

    def now(self) -> str:
        self._time += 1
        return from_microseconds(self._time)

    def say(self, author_id: str, kind: str = "message", *, shown: bool = True) -> None:
        author = {"author_id": author_id} if shown else {}
        event = self.chat.append({"type": kind, "created_at": self.now(), **author}, author_id)
        self._events.setdefault(event.thread_id, []).append(event.body)

    def wait_anew(self) -> None:
        if self.chat.active:
            self.chat.wait_anew(self.now())

    def commit(self) -> None:
        if self.chat.state_due:
            self._state, self._properties = self.chat.state(), orjson.dumps(self.chat.properties)
            self.states_stored += 1
        self.chat.saved()

    def loaded(self) -> Chat:
        state = orjson.loads(self._state)
        after = self._events.get(state["thread"]["id"], [])[state["thread"]["events_count"] :]
        return Chat.load(self.chat.id, 1, orjson.loads(self._properties), state, reversed(after))


STEPS: dict[str, Callable[[Stored], object]] = {
    "an agent writes": lambda stored: stored.say("alice"),
    "another writes": lambda stored: stored.say("bob"),
    "the customer writes": lambda stored: stored.say("ada"),
    "the customer sends a file": lambda stored: stored.say("ada", "file"),
    "somebody who is no user writes": lambda stored: stored.say("zoe"),
    "an agent writes and is not shown": lambda stored: stored.say("alice", shown=False),
    "the system writes": lambda stored: stored.say("", "system_message", shown=False),
    "an agent reads": lambda stored: stored.chat.mark_seen("bob", stored.now()),
    "somebody follows": lambda stored: stored.chat.follow("zoe"),
    "another has it": Stored.wait_anew,
    "a property is set": lambda stored: stored.chat.set_properties(merged(stored.chat.properties, {"a": {"b": 1}})),
    "it is closed": lambda stored: stored.chat.active and stored.chat.close_thread(stored.now()),
    "it is opened again": lambda stored: (
        stored.chat.active
        or stored.chat.open_thread(at=stored.now(), users=[ChatUser("ada", "customer")], properties={}, active=True)
    ),
}


@given(st.lists(st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=4), max_size=25))
def test_its_state_and_the_events_after_it_tell_all(batches: list[list[str]]) -> None:
    stored = Stored()
    for batch in batches:
        for step in batch:
            STEPS[step](stored)
        stored.commit()
        loaded = stored.loaded()
        assert orjson.loads(loaded.state()) == orjson.loads(stored.chat.state())
        assert loaded.properties == stored.chat.properties
        assert loaded.events_after_state == stored.chat.events_after_state < EVENTS_AFTER_STATE
        assert not loaded.state_due


def test_what_its_users_say_stores_its_state_seldom() -> None:
    stored = Stored()
    for number in range(3 * EVENTS_AFTER_STATE):
        author_id = ("alice", "ada", "bob")[number % 3]
        stored.say(author_id)
        stored.commit()
    assert stored.states_stored == 1 + 3
