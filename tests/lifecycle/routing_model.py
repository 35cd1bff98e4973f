"""Who is given a chat and who waits for an agent, as the public reference tells it: plain Python, no server.

**Who may be given a chat**: who accepts chats, has fewer than `LIMITS` chats with customers, is in one of the chat's
groups and more there than a supervisor, does not have the chat, and has not been taken out of it since another one took
it or wrote in it. By somebody's wish, but not by itself, who has been taken out may be given it after all others, and
who has it with the asker, or is to have it in other groups, keeps it where nobody else may. Who only looks on does not
have the chat. Bots take part in the groups that they have been put into.

**Who of them is**: who wrote last in the chat; else the best priority; of those who has the least of what they may
have; of those whoever has waited longest since they were given a chat.

**What is done by itself** (`route`), whenever something has changed:

    a customer's chat without an agent    is given to one: chat_transferred (`assigned`), and a message; else waits:
                                          chat_transferred (`unassigned`), and a message; without a queue it is closed
    those who wait                        are given to whoever may be given them, in order: chat_transferred
    those who wait still                  are told their positions if they are others: queue_positions_updated

The queue's order is that of the groups' priority, then that in which they came. A position counts those before it that
have a group in common. A chat that begins to wait is told its own with the transfer.

**Who hears of a transfer**: who had access before, and who is given the chat, if it is of their groups: all that
changes; who has access only now, and who is given it and did not hear all of it before: incoming_chat, with those who
had it before, and before all else. Who follows a chat and cannot see it any more, whatever token they are given,
follows it no longer.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from tests.lifecycle.given import Given
from tests.lifecycle.people import BOTS, PEOPLE
from tests.lifecycle.protocol import (
    EVERYBODY,
    THE_SERVER,
    Asker,
    Chat,
    Payload,
    Protocol,
    Refused,
    User,
    Wait,
)
from tests.world import SALES, SUPPORT

GROUPS = {EVERYBODY: "General", SALES: "Sales", SUPPORT: "Support"}
PRIORITIES = {
    ("olivia", EVERYBODY): "supervisor",
    ("dave", SALES): "first",
    ("robin", SALES): "last",
    ("alice", SUPPORT): "last",
}
"""All others are `normal`."""
_RANKS = {"first": 0, "normal": 1, "last": 2}
LIMITS = {"olivia": 2, "alice": 2, "bob": 2, "carol": 1, "dave": 1, "erin": 2, "robin": 1}
"""How many customers' chats each may have at the same time (`max_chats_count`)."""
GROUP_PROPERTIES: dict[int, dict[str, int]] = {
    EVERYBODY: {"queue.enabled.override": 0},
    SUPPORT: {"queue.routing_priority": 5},
}
"""Of the namespace `chats`; of a chat's groups the highest priority counts."""

Way = tuple[str, ...]
_ONCE: Way = ("place", "give_out", "tell_positions")
_WAYS: tuple[Way, ...] = (_ONCE, ("give_out", "tell_positions", *_ONCE), ("place", "tell_positions", *_ONCE))
"""In which order things are done by themselves."""


class Routed(Protocol):
    """A license whose chats are routed. At first nobody accepts chats."""

    def __init__(self, ids: Mapping[str, str], customers: Mapping[str, Payload]) -> None:
        super().__init__(ids, customers)
        self.accepting: set[str] = set()
        """Names of those who accept chats."""
        self._turns: dict[str, int] = {}
        """By name, when they were last given a chat."""
        self._clock = 0

    def _now(self) -> int:
        self._clock += 1
        return self._clock

    # What agents ask for

    def set_routing_status(self, asker: Asker, payload: Payload) -> Any:
        if asker.person.scopes is not None:
            raise Refused("authorization")  # no scope for agents
        name = self.names[payload["agent_id"]]
        self.accepting.discard(name)
        if payload["status"] == "accepting_chats":
            self.accepting.add(name)
        return {}

    def transfer_chat(self, asker: Asker, payload: Payload) -> Any:
        """To one agent, all of whom are here, or to whoever may be given it of the groups."""
        chat = self._chat(asker, "writes", payload["id"])
        self._check_active(chat)
        self._check_presence(asker, chat, payload)
        target = payload.get("target", {"type": "group", "ids": chat.groups})
        if target["type"] == "group":
            groups = list(target["ids"])
            if not set(groups) <= GROUPS.keys():
                raise Refused("not_found")
            agent_id = self._next_agent(chat, groups) or self._next_agent(chat, groups, again=True)
            agent_id = agent_id or self._who_keeps_it(asker, chat, groups)
            if agent_id is None and not (payload.get("ignore_agents_availability") and _may_wait(chat, groups)):
                raise Refused("agent_offline")
            targets = ", ".join(GROUPS[each] for each in groups)
        else:
            groups, [agent_id] = chat.groups, target["ids"]
            self._check_user(agent_id, "agent", groups)
            targets = self._name(agent_id)
        self._hand_over(asker, chat, "manual", agent_id, groups)
        for follower_id in chat.followers.copy():
            if not self._may_be_let_in(follower_id, chat):
                chat.followers.remove(follower_id)
                if chat.member(follower_id) is None:
                    self._tell(asker, {follower_id}, "chat_unfollowed", {"chat_id": chat.id})
        names = {"initiator": self._name(asker.agent_id), "targets": targets}
        self._say(asker, chat, "chat_transferred", "{initiator} transferred the chat to {targets}", **names)
        return {}

    # What is done by itself

    def is_settled(self) -> bool:
        """Whether nothing is to be done by itself."""
        queue = self._queue()
        return (
            not self._abandoned()
            and not any(self._next_agent(chat, chat.groups) for chat in queue)
            and all(chat.last.wait.position == place for chat, place in _positions(queue) if chat.last.wait)
        )

    def route(self, way: Way = _ONCE) -> None:
        """Do all that can be done."""
        for part in way:
            getattr(self, f"_{part}")()

    def ways(self) -> Sequence[Way]:
        """Those who wait may be given out by who does not know yet that a chat is without an agent, or after it."""
        return _WAYS if self._abandoned() and self._queue() else (_ONCE,)

    def _place(self) -> None:
        for chat in self._abandoned():
            self._find_place(chat)

    def _give_out(self) -> None:
        for chat in self._queue():
            agent_id = self._next_agent(chat, chat.groups)
            if agent_id is not None:
                self._hand_over(THE_SERVER, chat, "assigned", agent_id, chat.groups)

    def _abandoned(self) -> list[Chat]:
        return [chat for chat in self.chats if chat.of_customer and not chat.attended and chat.last.wait is None]

    def _find_place(self, chat: Chat) -> None:
        agent_id = self._next_agent(chat, chat.groups)
        if agent_id is not None:
            self._hand_over(THE_SERVER, chat, "assigned", agent_id, chat.groups)
            text = "Chat assigned to {agent}"  # the reference has that of archived_other again, which is not so
            self._say(THE_SERVER, chat, "routing.assigned_other", text, agent=self._name(agent_id))
        elif _may_wait(chat, chat.groups):
            self._hand_over(THE_SERVER, chat, "unassigned", None, chat.groups)
            self._say(THE_SERVER, chat, "routing.unassigned_other", "Chat is unassigned")
        else:
            self._say(THE_SERVER, chat, "routing.archived_other", "The chat was closed")
            self._close(THE_SERVER, chat, {})

    def _tell_positions(self) -> None:
        """All of the same groups at once."""
        moved: dict[frozenset[int], list[Chat]] = {}
        for chat, position in _positions(self._queue()):
            if chat.last.wait is not None and chat.last.wait.moves_to(position):
                moved.setdefault(frozenset(chat.groups), []).append(chat)
        for groups, chats in moved.items():
            told = [
                {"chat_id": chat.id, "thread_id": chat.last.id, "queue": chat.last.wait.shown()}
                for chat in chats
                if chat.last.wait is not None
            ]
            listeners = set().union(*(self._hearers(chat) for chat in chats))
            self._tell(THE_SERVER, listeners, "queue_positions_updated", told, groups=groups)

    # Who is given it, and who waits

    def _next_agent(self, chat: Chat, groups: Collection[int], *, again: bool = False) -> str | None:
        able = [name for name in self.accepting if self._is_able(name, chat, groups)]
        able = [name for name in able if again or self.ids[name] not in chat.last.declined]
        last = next((author_id for author_id in _authors(chat) if self.names.get(author_id) in PEOPLE), None)
        if last is not None and self.names[last] in able:
            return last

        def standing(name: str) -> tuple[int, Fraction, int, str]:
            share = Fraction(self._load(name), LIMITS[name])
            return _rank(name, groups), share, self._turns.get(name, 0), self.ids[name]

        return self.ids[min(able, key=standing)] if able else None

    def _is_able(self, name: str, chat: Chat, groups: Collection[int]) -> bool:
        agent_id = self.ids[name]
        return (
            self._load(name) < LIMITS[name] and _rank(name, groups) < len(_RANKS) and agent_id not in chat.assignees()
        )

    def _who_keeps_it(self, asker: Asker, chat: Chat, groups: Collection[int]) -> str | None:
        """The least busy, who accepts chats if anybody does; all are here."""
        had_it = chat.assignees()
        if asker.agent_id not in had_it and set(groups) == set(chat.groups):
            return None
        names = [self.names[agent_id] for agent_id in had_it if agent_id != asker.agent_id]

        def standing(name: str) -> tuple[bool, int, int, str]:
            return name not in self.accepting, self._load(name), self._turns.get(name, 0), self.ids[name]

        able = [name for name in names if not PEOPLE[name].groups.isdisjoint(groups)]
        return self.ids[min(able, key=standing)] if able else None

    def _load(self, name: str) -> int:
        return sum(chat.of_customer and chat.member(self.ids[name]) is not None for chat in self.chats)

    def _queue(self) -> list[Chat]:
        """Those who wait, the next one first."""

        def place(chat: Chat) -> tuple[int, int]:
            assert chat.last.wait is not None
            priorities = [GROUP_PROPERTIES.get(each, {}).get("queue.routing_priority", 0) for each in chat.groups]
            return -max(priorities), chat.last.wait.number

        return sorted((chat for chat in self.chats if chat.last.wait is not None), key=place)

    # How it changes hands

    def _hand_over(self, asker: Asker, chat: Chat, reason: str, agent_id: str | None, groups: list[int]) -> None:
        """To the agent, who then has it alone, or into the queue; of these groups from now on."""
        heard, before, old_groups = chat.listeners(), self._hearers(chat), chat.groups
        has_moved = set(groups) != set(old_groups)
        had_it: Payload = {"group_ids": list(old_groups), "agent_ids": chat.assignees()}
        if has_moved:
            chat.groups, chat.last.groups = list(groups), list(groups)
        had = chat.assignees()
        left = [chat.users[each] for each in chat.agent_ids() if (each in had) is not (each == agent_id)]
        for user in left:
            user.present = False
            if reason == "manual" and agent_id is None:
                chat.last.declined.add(user.id)
        added = self._let_in(chat, agent_id) if agent_id is not None else None
        if agent_id is None:
            chat.last.wait = chat.last.wait or Wait(self._now())
            chat.last.wait.moves_to(dict(_positions(self._queue()))[chat])

        new = self._set_unassigned(chat, unassigned=agent_id is None, last_transfer_timestamp=Given("number"))

        newcomers = {
            self.ids[name]
            for name, person in PEOPLE.items()
            if has_moved and person.groups.isdisjoint(old_groups) and not person.groups.isdisjoint(groups)
        } - heard
        begins_to_hear = set() if added is None else {added.id} - before
        self._show(asker, chat, had_it, newcomers, begins_to_hear)
        told = before if added is None or agent_id in newcomers else before | {added.id}
        by = {"requester_id": asker.agent_id} if asker is not THE_SERVER else {}
        moved = {"chat_id": chat.id, "thread_id": chat.last.id, "reason": reason} | by
        to: Payload = {"group_ids": list(groups)} | ({} if agent_id is None else {"agent_ids": [agent_id]})
        transferred: Payload = moved | {"transferred_to": to}
        if chat.last.wait is not None:
            transferred["queue"] = chat.last.wait.shown() | {"queued_at": chat.last.wait.since}
        self._tell(asker, told, "chat_transferred", transferred, groups=old_groups)
        if has_moved:
            access = {"id": chat.id, "access": {"group_ids": list(groups)}}
            self._tell(asker, told, "chat_access_updated", access, groups=old_groups)
        for user in left:
            self._tell(asker, before, "user_removed_from_chat", moved | {"user_id": user.id}, groups=old_groups)
        if added is not None:
            shown = moved | {"user": self._shown_user(added)}
            self._tell(asker, told, "user_added_to_chat", shown, groups=old_groups)
        for push, payload in new:
            self._tell(asker, self._hearers(chat), push, payload)

    def _may_be_let_in(self, agent_id: str, chat: Chat) -> bool:
        """Without being a member, by some token."""
        person = PEOPLE[self.names[agent_id]]
        return person.administers or not person.groups.isdisjoint(chat.groups)

    def _let_in(self, chat: Chat, agent_id: str) -> User | None:
        """None for who is there already."""
        self._turns[self.names[agent_id]] = self._now()
        chat.last.waits_no_more()
        if chat.member(agent_id) is not None:
            return None
        chat.last.declined.clear()
        seen_up_to = chat.users[agent_id].seen_up_to if agent_id in chat.users else None
        added = chat.users[agent_id] = User(agent_id, "agent", seen_up_to=seen_up_to)
        if agent_id not in chat.last.user_ids:
            chat.last.user_ids.append(agent_id)
        return added

    def _show(
        self, asker: Asker, chat: Chat, had_it: Payload, newcomers: Collection[str], begins_to_hear: Collection[str]
    ) -> None:
        """To those who have access only now, by more than a token for their own chats, and to who is given it."""
        by = {"requester_id": asker.agent_id} if asker is not THE_SERVER else {}
        shown = {**by, "chat": self._shown(chat, chat.last), "transferred_from": had_it}
        may_see = {each for each in newcomers if PEOPLE[self.names[each]].reads != "my"}
        self._tell(asker, may_see.union(begins_to_hear), "incoming_chat", shown)


def _positions(queue: Iterable[Chat]) -> list[tuple[Chat, int]]:
    queue = list(queue)
    return [
        (chat, 1 + sum(not set(chat.groups).isdisjoint(before.groups) for before in queue[:place]))
        for place, chat in enumerate(queue)
    ]


def _rank(name: str, groups: Iterable[int]) -> int:
    """The best priority that they have in these groups; past the last for none that is given chats."""
    is_bot = name in BOTS
    priorities = [
        PRIORITIES.get((name, group), "normal")
        for group in PEOPLE[name].groups.intersection(groups)
        if (name, group) in PRIORITIES or not is_bot
    ]
    return min((_RANKS[each] for each in priorities if each in _RANKS), default=len(_RANKS))


def _may_wait(chat: Chat, groups: Collection[int]) -> bool:
    """Who waits may go on waiting; others where none of the groups has its queue off."""
    overrides = [GROUP_PROPERTIES.get(each, {}).get("queue.enabled.override") for each in groups]
    return chat.last.wait is not None or 0 not in overrides


def _authors(chat: Chat) -> Iterable[str]:
    """The last one first, of what all saw."""
    for thread in reversed(chat.threads):
        for event, author_id in zip(reversed(thread.events), reversed(thread.authors), strict=True):
            if event["visibility"] == "all":
                yield author_id
