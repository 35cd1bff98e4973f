"""A chat is what was stored of it, and the events that it has got since. What has not changed is not stored again."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm.actions.agent import structures
from rtm.model.chat import EVENTS_AFTER_STATE, Chat, ChatUser, Thread
from rtm.model.labels import Facts, of_thread
from rtm.model.properties import merged
from rtm.protocol.timestamps import from_microseconds


class Stored:
    """A chat at work, and what a database would have of it."""

    def __init__(self) -> None:
        self._time = 0
        self._events: dict[str, list[dict[str, Any]]] = {}
        self.states_stored = 0
        self.keys: object = None
        self.groups: list[int] = []
        self.users: dict[str, tuple[bool, bool]] = {}
        self.threads: dict[str, object] = {}
        """What is shown of each."""
        self.labels: dict[str, frozenset[str]] = {}
        """By which each is found."""
        self.all_threads: dict[str, Thread] = {}
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

    def in_turn(self, change: Callable[[Chat, str], object]) -> None:
        """Change it if it is open."""
        if self.chat.active:
            change(self.chat, self.now())

    def let_in(self) -> None:
        if self.chat.active and self.chat.member("zoe") is None:
            self.chat.add_user(ChatUser("zoe", "agent"), self.now())

    def let_go(self) -> None:
        if self.chat.active and self.chat.member("zoe") is not None:
            self.chat.remove_user("zoe", declined=True)

    def reopen(self, *agent_ids: str) -> None:
        users = [*(ChatUser(each, "agent") for each in agent_ids), ChatUser("ada", "customer")]
        if not self.chat.active:
            self.chat.group_ids = [len(agent_ids)]  # as those do who open it
            self.chat.open_thread(at=self.now(), users=users, properties={}, active=True)

    def tag_earlier(self) -> None:
        self.chat.tag(next(iter(self.all_threads.values())), f"tag{self._time % 3}")

    def commit(self) -> None:
        chat, unsaved = self.chat, self.chat.unsaved
        assert chat.thread is not None
        self.all_threads |= {**unsaved.threads, chat.thread.id: chat.thread}
        if unsaved.keys:
            self.keys = keys_of(chat)
        if unsaved.groups:
            self.groups = list(chat.group_ids)
        self.users |= {user_id: user_of(chat, user_id) for user_id in unsaved.users}
        self.threads |= {thread_id: shown(thread) for thread_id, thread in unsaved.threads.items()}
        found_otherwise = self.all_threads if unsaved.properties else unsaved.labels
        self.labels |= {thread_id: labels(chat, self.all_threads[thread_id]) for thread_id in found_otherwise}
        if self.chat.state_due:
            self._state, self._properties = self.chat.state(), orjson.dumps(self.chat.properties)
            self.states_stored += 1
        self.chat.saved()

    def loaded(self) -> Chat:
        state = orjson.loads(self._state)
        after = self._events.get(state["thread"]["id"], [])[state["thread"]["events_count"] :]
        return Chat.load(self.chat.id, 1, orjson.loads(self._properties), state, reversed(after))


def keys_of(chat: Chat) -> object:
    """The columns of its row."""
    return (chat.active, chat.thread and chat.thread.id, chat.sorted_at, chat.queued_at, chat.due_at)


def user_of(chat: Chat, user_id: str) -> tuple[bool, bool]:
    """Whether it is present, and follows."""
    return chat.member(user_id) is not None, user_id in chat.followers


def shown(thread: Thread) -> object:
    """All that its readers see of it but its events."""
    seen = structures.thread(thread, [])
    return orjson.dumps([seen, thread.user_ids])


def labels(chat: Chat, thread: Thread) -> frozenset[str]:
    """What the list of archives finds it by, without its events."""
    ids: dict[str, list[str]] = {"agent": [], "customer": []}
    for user_id in thread.user_ids:
        ids[chat.users[user_id].type].append(user_id)
    properties = (thread.properties, chat.properties)
    return of_thread(Facts(1, chat.id, thread.group_ids, ids["agent"], ids["customer"], (), thread.tags, properties))


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
    "a property of its thread is set": lambda stored: stored.in_turn(
        lambda chat, at: chat.set_thread_properties(chat.active_thread(), {"a": {"b": at}})
    ),
    "it waits": lambda stored: stored.in_turn(Chat.enqueue),
    "its place is told": lambda stored: stored.in_turn(
        lambda chat, _: chat.queued_at and chat.set_queue_position(chat.active_thread().queue_position + 1)
    ),
    "it waits no longer": lambda stored: stored.in_turn(Chat.leave_queue),
    "somebody comes": Stored.let_in,
    "somebody leaves": Stored.let_go,
    "it moves": lambda stored: stored.in_turn(lambda chat, _: chat.move([chat.group_ids[0] + 1])),
    "it is tagged": lambda stored: stored.in_turn(lambda chat, at: chat.tag(chat.active_thread(), at)),
    "its first thread is tagged": Stored.tag_earlier,
    "it is summarized": lambda stored: stored.in_turn(
        lambda chat, at: chat.set_thread_summary(
            chat.active_thread(), {"status": "ready", "text": at, "updated_at": at, "final": False}
        )
    ),
    "it is closed": lambda stored: stored.chat.active and stored.chat.close_thread(stored.now()),
    "it is opened again": Stored.reopen,
    "it is opened again by an agent": lambda stored: stored.reopen("alice"),
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
        chat, known = stored.chat, stored.all_threads
        assert stored.keys == keys_of(chat)
        assert stored.groups == chat.group_ids
        assert stored.users == {user_id: user_of(chat, user_id) for user_id in stored.users}
        assert stored.users.keys() >= {*chat.users, *chat.followers}
        assert stored.threads == {thread_id: shown(thread) for thread_id, thread in known.items()}
        assert stored.labels == {thread_id: labels(chat, thread) for thread_id, thread in known.items()}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("its place is told", {"threads"}),
        ("it waits no longer", {"keys", "threads"}),
        ("its thread is tagged", {"threads", "labels"}),
        ("a property is set", {"properties", "labels"}),
        ("somebody leaves", {"users"}),
        ("it moves", {"threads", "groups", "labels"}),
        ("it is due", {"keys"}),
        ("an agent reads", set()),
    ],
)
def test_what_has_not_changed_is_not_stored_again(change: str, parts: set[str]) -> None:
    stored = Stored()
    chat = stored.chat
    chat.enqueue(stored.now())
    stored.commit()

    changes: dict[str, Callable[[], object]] = {
        "its place is told": lambda: chat.set_queue_position(7),
        "it waits no longer": lambda: chat.leave_queue(stored.now()),
        "its thread is tagged": lambda: chat.tag(chat.active_thread(), "order"),
        "a property is set": lambda: chat.set_properties({"a": {"b": 1}}),
        "somebody leaves": lambda: chat.remove_user("bob"),
        "it moves": lambda: chat.move([7]),
        "it is due": lambda: chat.set_due(stored.now()),
        "an agent reads": lambda: chat.mark_seen("bob", stored.now()),
    }
    changes[change]()
    told = asdict(chat.unsaved)
    assert told.pop("state")
    assert {part for part, value in told.items() if value} == parts


def test_what_its_users_say_stores_its_state_seldom() -> None:
    stored = Stored()
    for number in range(3 * EVENTS_AFTER_STATE):
        author_id = ("alice", "ada", "bob")[number % 3]
        stored.say(author_id)
        stored.commit()
    assert stored.states_stored == 1 + 3
