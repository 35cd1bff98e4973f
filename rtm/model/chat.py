"""Chats, threads and their users: the state that commands change, and the rules of its life.

A chat has threads, of which at most the last is active; events are added to the active thread. Methods that change
the chat count `revision` up, so that a command that failed half-way is noticed. Users are kept as ids with what is
particular to this chat; names and addresses are the directory's and the customers' own.

Source: the public reference, "Messaging API Overview", "Data structures".
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple, Self

import orjson
from pydantic import Field

from rtm.model.audience import Audience
from rtm.model.properties import with_routing
from rtm.model.unsaved import Unsaved
from rtm.protocol.errors import ChatInactive, LimitReached, ValidationError
from rtm.protocol.identifiers import event_id, event_number, new_chat_id, new_thread_id
from rtm.protocol.timestamps import to_seconds

UserType = Literal["agent", "customer"]
Visibility = Annotated[
    Literal["all", "agents"],
    Field(description="`agents` keeps it from the customer."),
]
Absence = Literal["disconnected", "signed_out", "remotely_signed_out", "deleted"]
"""Why the agents of a chat are gone."""
Properties = dict[str, dict[str, Any]]
EventBody = dict[str, Any]
ShownEvents = Sequence[EventBody | orjson.Fragment]
"""Of a thread, in order; as JSON where nothing need look into them."""

_NOTHING: dict[str, Any] = {}

EVENTS_AFTER_STATE = 8
"""How many a chat may get before its state is stored again; whoever reads the state adds them to it (`Chat.load`)."""

MAX_TAGS = 100
"""On one thread; the state of its chat holds them."""


@dataclass(slots=True)
class ChatUser:
    """A user as this chat knows them; one who has left stays, no longer `present`."""

    id: str
    type: UserType
    visibility: Visibility = "all"
    present: bool = True
    events_seen_up_to: str | None = None


@dataclass(slots=True)
class Thread:
    """One conversation of a chat; `events_count` numbers its events."""

    id: str
    created_at: str
    active: bool
    group_ids: list[int]
    user_ids: list[str]
    properties: Properties = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    previous_thread_id: str | None = None
    next_thread_id: str | None = None
    events_count: int = 0
    queued_at: str | None = None
    """In the queue since."""
    queue_position: int = 0
    """In the queue: the position that was told last."""
    fills_queue: bool = False
    """In the queue: there was room for no more after it."""
    queues_duration: int = 0
    """Seconds in the queue before."""
    declined: list[str] = field(default_factory=list)
    """Agents that somebody has taken out of it, or who did not answer, since another one took it or answered."""
    unanswered_since: str | None = None
    """The customer's first event after the last of an agent, or when an agent was given the chat since."""
    attended: list[str] = field(default_factory=list)
    """Those of its agents who have been connected: who only ever comes over HTTP is not missed."""
    unattended_since: str | None = None
    """When all its agents were found to be gone."""
    unattended_because: Absence | None = None
    customer_visit: dict[str, Any] | None = None
    """From where its customer came to it, as far as it was known then."""
    summary: dict[str, Any] | None = None
    """As it is shown, with `final`: whether the thread was closed by then."""


class NewEvent(NamedTuple):
    """An event that a command added; `number` counts from 1 within the thread."""

    thread_id: str
    number: int
    body: EventBody
    author_id: str
    """Also of an event that is shown without an author."""
    chat_id: str


class ChangedEvent(NamedTuple):
    """An event that a command changed."""

    thread_id: str
    number: int
    body: EventBody


@dataclass(slots=True)
class Chat:
    """A chat with its last thread."""

    id: str
    license_id: int
    created_at: str
    group_ids: list[int]
    users: dict[str, ChatUser] = field(default_factory=dict)
    properties: Properties = field(default_factory=dict)
    continuous: bool = False
    thread: Thread | None = None
    followers: dict[str, None] = field(default_factory=dict)
    """Agents who follow, in the order they came; those who become members and leave follow still."""
    last_events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By event type: thread_id, thread_created_at and the event; of an earlier thread with its group_ids."""
    written_at: dict[UserType, str] = field(default_factory=dict)
    """When an agent last added an event to it, and when a customer did."""
    recent_agent_id: str | None = None
    """Who of its agents has last added one."""
    due_at: str | None = None
    """The router need not look at it before; None if it never need. Events leave it alone: a look may be too early."""
    events_after_state: int = 0
    """Those added since its state was stored."""
    revision: int = 0
    """How often it has changed since it was loaded."""
    unsaved: Unsaved = field(default_factory=Unsaved)
    _audiences: dict[Visibility, Audience] = field(default_factory=dict)
    _followers_as_json: orjson.Fragment | None = None

    # How it is stored

    @classmethod
    def load(
        cls,
        chat_id: str,
        license_id: int,
        properties: Properties,
        state: Mapping[str, Any],
        events: Iterable[EventBody] = (),
    ) -> Self:
        """The inverse of `state`, with the events that the last thread has got since, in any order."""
        thread = state["thread"]
        chat = cls(
            id=chat_id,
            license_id=license_id,
            created_at=state["created_at"],
            group_ids=state["group_ids"],
            users={user["id"]: ChatUser(**user) for user in state["users"]},
            properties=properties,
            continuous=state["continuous"],
            thread=Thread(**thread) if thread else None,
            followers=dict.fromkeys(state["followers"]),
            last_events=state["last_events"],
            written_at=state.get("written_at", {}),
            recent_agent_id=state.get("recent_agent_id"),
            due_at=state.get("due_at"),
        )
        for body in sorted(events, key=lambda body: event_number(thread["id"], body["id"]) or 0):
            chat._add(body, body["author_id"])
        return chat

    @property
    def state_due(self) -> bool:
        """Whether its state must be stored; if not, the events that are stored tell what has changed."""
        return self.unsaved.state or self.events_after_state >= EVENTS_AFTER_STATE

    def state(self) -> bytes:
        """All but id, license and properties, as JSON."""
        return orjson.dumps(
            {
                "created_at": self.created_at,
                "group_ids": self.group_ids,
                "users": list(self.users.values()),
                "continuous": self.continuous,
                "thread": self.thread,
                "followers": self._encoded_followers(),
                "last_events": self.last_events,
                "written_at": self.written_at,
                "recent_agent_id": self.recent_agent_id,
                "due_at": self.due_at,
            }
        )

    def _encoded_followers(self) -> orjson.Fragment:
        """Kept: every event writes the state, and a chat may have a thousand followers."""
        if self._followers_as_json is None:
            self._followers_as_json = orjson.Fragment(orjson.dumps(list(self.followers)))
        return self._followers_as_json

    @property
    def sorted_at(self) -> str:
        """What lists of chats are sorted by: the creation of the last thread."""
        return self.thread.created_at if self.thread else self.created_at

    def saved(self) -> None:
        """It is in the database as it stands."""
        if self.state_due:
            self.events_after_state = 0
        self.revision = 0
        if self.unsaved.state:
            self.unsaved = Unsaved()

    def _changed(self, *user_ids: str) -> None:
        """These users came, left, followed or unfollowed."""
        self.revision += 1
        self.unsaved.state = True
        if user_ids:
            self.unsaved.users.update(dict.fromkeys(user_ids))
            self._audiences.clear()
            self._followers_as_json = None

    def _thread_changed(self, thread: Thread, *user_ids: str, labels: bool = False) -> None:
        """The same, and what is shown of a thread; its `labels` if the list of archives finds it by others."""
        self.unsaved.threads[thread.id] = thread
        if labels:
            self.unsaved.labels.setdefault(thread.id, False)
        self._changed(*user_ids)

    # What it is

    @property
    def active(self) -> bool:
        """Whether its last thread is open."""
        return self.thread is not None and self.thread.active

    @property
    def queued_at(self) -> str | None:
        """In the queue since; None if it is not."""
        return self.thread.queued_at if self.thread else None

    @property
    def routed(self) -> bool:
        """Whether it is an open chat of a customer's: the router looks after no other."""
        return self.active and bool(self.present_ids("customer"))

    @property
    def idle(self) -> bool:
        """Whether its last thread has been called so, and nobody has written since."""
        return self.thread is not None and self.thread.properties.get("routing", _NOTHING).get("idle") is True

    @property
    def left_alone(self) -> bool:
        """Whether the router gives it to nobody: by somebody's wish, or because it waits to be taken up."""
        return self.has_routing_flag("ignore_agents_routing") or (
            self.continuous and self.has_routing_flag("unassigned")
        )

    def has_routing_flag(self, name: str) -> bool:
        """Whether the chat or its last thread has this property of routing."""
        of_thread = self.thread.properties if self.thread else _NOTHING
        return any(properties.get("routing", _NOTHING).get(name) is True for properties in (self.properties, of_thread))

    def active_thread(self) -> Thread:
        """The open thread. Raises ChatInactive."""
        if self.thread is None or not self.thread.active:
            raise ChatInactive()
        return self.thread

    def find_thread(self, thread_id: str) -> Thread | None:
        """The last thread, or an earlier one that has changed, if it is of this id."""
        if self.thread is not None and self.thread.id == thread_id:
            return self.thread
        return self.unsaved.threads.get(thread_id)

    def member(self, user_id: str) -> ChatUser | None:
        """The user, if present now."""
        user = self.users.get(user_id)
        return user if user is not None and user.present else None

    def present_ids(self, kind: UserType) -> list[str]:
        """Ids of the agents, or of the customers, that are present."""
        return [user.id for user in self.users.values() if user.present and user.type == kind]

    def assignees(self) -> list[str]:
        """Ids of the agents who have it; others, whom the customer does not see, look on."""
        return [agent_id for agent_id in self.present_ids("agent") if self.users[agent_id].visibility == "all"]

    def audience(self, visibility: Visibility) -> Audience:
        """Who hears every change: members, and followers where their token lets them read the chat.

        What only agents may see never reaches a customer.
        """
        audience = self._audiences.get(visibility)
        if audience is None:
            agents = tuple(self.present_ids("agent"))
            customers = tuple(self.present_ids("customer")) if visibility == "all" else ()
            readers = tuple(each for each in self.followers if each not in agents)
            read_by = tuple(self.group_ids) if readers else ()
            audience = Audience(agents=agents, customers=customers, readers=readers, read_by=read_by)
            self._audiences[visibility] = audience
        return audience

    def key_audience(self, visibility: Visibility = "all") -> Audience:
        """Who hears of a key change: users and followers, and every agent with access to its groups."""
        return replace(self.audience(visibility), groups=tuple(self.group_ids))

    def newcomer(self, agent_id: str) -> Audience | None:
        """The agent as one who comes into the chat, where it does not hear all of it yet; None for a member."""
        if self.member(agent_id) is not None:
            return None
        if agent_id in self.followers:
            return Audience(nonreaders=(agent_id,), read_by=tuple(self.group_ids))
        return Audience(agents=(agent_id,))

    def hears(self, agent_id: str) -> bool:
        """Whether the agent hears every change."""
        return agent_id in self.followers or self.member(agent_id) is not None

    # What may happen to it

    @classmethod
    def start(
        cls,
        license_id: int,
        *,
        at: str,
        group_ids: Iterable[int],
        users: Iterable[ChatUser],
        properties: Properties,
        thread_properties: Properties,
        active: bool,
        continuous: bool,
    ) -> Self:
        """A new chat with its first thread."""
        chat = cls(
            id=new_chat_id(),
            license_id=license_id,
            created_at=at,
            group_ids=list(group_ids),
            properties=properties,
            continuous=continuous,
        )
        chat.open_thread(at=at, users=users, properties=thread_properties, active=active)
        return chat

    def open_thread(self, *, at: str, users: Iterable[ChatUser], properties: Properties, active: bool) -> Thread:
        """Begin a thread with these users; those of an earlier thread who are not named are no longer present.

        Following ends with the thread before. Chat and thread begin with the properties of `routing` that the
        server keeps. Raises ValidationError while a thread is open.
        """
        if self.active:
            raise ValidationError("Chat is already active")
        previous = self.thread
        for user in self.users.values():
            user.present = False
        taking_part = {}
        for user in users:
            taking_part[user.id] = user.type
            known = self.users.get(user.id)
            user.events_seen_up_to = user.events_seen_up_to or (known.events_seen_up_to if known else None)
            user.present = active or user.type == "customer"
            self.users[user.id] = user
        unassigned = active and "agent" not in taking_part.values()
        chat_properties = with_routing(self.properties, continuous=self.continuous, unassigned=unassigned)
        if chat_properties != self.properties:
            self.set_properties(chat_properties)
        self.thread = Thread(
            id=new_thread_id(),
            created_at=at,
            active=active,
            group_ids=list(self.group_ids),
            user_ids=[user_id for user_id in self.users if user_id in taking_part],
            properties=with_routing(properties, continuous=self.continuous, idle=False, unassigned=unassigned),
            previous_thread_id=previous.id if previous else None,
        )
        if previous is not None:
            previous.next_thread_id = self.thread.id
            for last in self.last_events.values():
                if last["thread_id"] == previous.id:
                    last["group_ids"] = previous.group_ids
            self._thread_changed(previous)
        self.unsaved.keys = self.unsaved.groups = True
        self._thread_changed(self.thread, *self.users, *self.followers, labels=True)
        self.set_due(at if self.routed else None)
        self.followers.clear()
        return self.thread

    def append(self, body: EventBody, author_id: str) -> NewEvent:
        """Add an event to the last thread and give it its id; its author has then seen the whole chat."""
        thread = self.thread
        if thread is None:
            raise ChatInactive()
        body["id"] = event_id(thread.id, thread.events_count + 1)
        self._add(body, author_id)
        self.revision += 1
        if not thread.active:
            self._thread_changed(thread, labels=True)
        elif author_id not in self.users or body.get("author_id") != author_id:
            self._changed()  # the event does not tell what has changed
        return NewEvent(thread.id, thread.events_count, body, author_id, self.id)

    def _add(self, body: EventBody, author_id: str) -> None:
        thread = self.thread
        assert thread is not None
        thread.events_count += 1
        self.events_after_state += 1
        self.last_events[body["type"]] = {
            "thread_id": thread.id,
            "thread_created_at": thread.created_at,
            "event": body,
        }
        author = self.users.get(author_id)
        if author is not None:
            author.events_seen_up_to = self.written_at[author.type] = body["created_at"]
            if author.type == "customer":
                thread.unanswered_since = thread.unanswered_since or body["created_at"]
            elif body.get("visibility") != "agents":
                self.recent_agent_id = author_id
                thread.unanswered_since, thread.declined = None, []

    def close_thread(self, at: str) -> Thread:
        """End the open thread; its agents leave, a customer stays. Raises ChatInactive.

        Properties tell of a customer whom no agent has replied to.
        """
        thread = self.active_thread()
        self.leave_queue(at)
        thread.active = False
        if self.present_ids("customer") and self.written_at.get("agent", "") < thread.created_at:
            thread.properties = with_routing(thread.properties, unreplied=True)
        for user in self.users.values():
            if user.type == "agent":
                user.present = False
        self.unsaved.keys = True
        self._thread_changed(thread, *self.users, labels=True)
        self.set_due(None)
        return thread

    def unpin(self) -> None:
        """It waits no longer for somebody to take it up, if it did; its properties tell so."""
        if self.properties.get("routing", {}).get("pinned"):
            self.set_properties(with_routing(self.properties, pinned=False, was_pinned=True))

    def add_user(self, user: ChatUser, at: str) -> None:
        """Let the user into the open thread. Raises ChatInactive, ValidationError."""
        thread = self.active_thread()
        if self.member(user.id) is not None:
            raise ValidationError("`user_id` is already a user of the chat")
        if user.type == "customer" and self.present_ids("customer"):
            raise ValidationError("Chat already has a customer")
        known = self.users.get(user.id)
        user.events_seen_up_to = known.events_seen_up_to if known else None
        self.users[user.id] = user
        if user.id not in thread.user_ids:
            thread.user_ids.append(user.id)
        if user.type == "customer":
            self.set_due(thread.created_at)
        elif user.visibility == "all":
            self.leave_queue(at)
            thread.unattended_since, thread.declined = None, []
            if self.routed:
                self.set_due(at)  # to see whether the agent is connected
        self._thread_changed(thread, user.id, labels=True)

    def remove_user(self, user_id: str, *, declined: bool = False) -> None:
        """Let the agent go, who has `declined` the open thread perhaps. Raises ChatInactive, ValidationError."""
        thread = self.active_thread()
        user = self.member(user_id)
        if user is None or user.type != "agent":
            raise ValidationError("`user_id` is not an agent of the chat")
        user.present = False
        thread.attended = [agent_id for agent_id in thread.attended if agent_id != user_id]
        if declined and user.visibility == "all":
            self.decline([user_id])
        self._changed(user_id)

    def decline(self, agent_ids: Iterable[str]) -> None:
        """Let the router give the open thread to others than these, until one of them has it or it waits for long.

        Raises ChatInactive.
        """
        thread = self.active_thread()
        thread.declined = list(dict.fromkeys([*thread.declined, *agent_ids]))
        self._changed()

    def move(self, group_ids: list[int]) -> None:
        """Let these groups have access, and no others. Raises ChatInactive."""
        thread = self.active_thread()
        self.group_ids = group_ids
        self._audiences.clear()
        thread.group_ids = list(group_ids)
        self.unsaved.groups = True
        self._thread_changed(thread, labels=True)

    def enqueue(self, at: str) -> None:
        """Let the open thread wait for an agent, where it was if it waits already. Raises ChatInactive."""
        thread = self.active_thread()
        if thread.queued_at is None:
            thread.queued_at, thread.queue_position = at, 0
            self.unsaved.keys = True
            self._thread_changed(thread)

    def leave_queue(self, at: str) -> None:
        """Wait no longer, if it did. Raises ChatInactive."""
        thread = self.active_thread()
        if thread.queued_at is not None:
            thread.queues_duration += max(0, to_seconds(at) - to_seconds(thread.queued_at))
            thread.queued_at, thread.fills_queue = None, False
            self.unsaved.keys = True
            self._thread_changed(thread)

    def set_fills_queue(self, fills: bool) -> None:
        """Whether the queue takes no more as long as it waits. Raises ChatInactive."""
        thread = self.active_thread()
        if thread.fills_queue != fills:
            thread.fills_queue = fills
            self._changed()

    def set_queue_position(self, position: int) -> bool:
        """Remember the position that is told; False for the one that was told last. Raises ChatInactive."""
        thread = self.active_thread()
        if thread.queue_position == position:
            return False
        thread.queue_position = position
        self._thread_changed(thread)
        return True

    def set_due(self, at: str | None) -> None:
        """The router need not look at it before."""
        if at != self.due_at:
            self.due_at = at
            self.unsaved.keys = True
            self._changed()

    def attend(self, agent_ids: Container[str]) -> None:
        """Those of its agents are connected who are among these. Raises ChatInactive."""
        assignees = self.assignees()
        if any(each in agent_ids for each in assignees):
            thread = self.active_thread()
            self.miss_no_more()
            attended = [each for each in assignees if each in agent_ids or each in thread.attended]
            if attended != thread.attended:
                thread.attended = attended
                self._changed()

    def miss_no_more(self) -> None:
        """Its agents are there again, or others, or nobody is to be looked for. Raises ChatInactive."""
        thread = self.active_thread()
        if thread.unattended_since is not None:
            thread.unattended_since, thread.unattended_because = None, None
            self._changed()

    def miss(self, at: str, because: Absence, *, anew: bool) -> bool:
        """All agents of the open thread are gone, and that `anew` if one has just left; False for what is known.

        Raises ChatInactive.
        """
        thread = self.active_thread()
        if thread.unattended_since is not None and not anew and because in ("disconnected", thread.unattended_because):
            return False
        thread.unattended_since, thread.unattended_because = at, because
        self._changed()
        return True

    def wait_anew(self, at: str) -> None:
        """Whoever has the open thread now has as long to answer the customer as somebody else had."""
        thread = self.active_thread()
        if thread.unanswered_since is not None:
            thread.unanswered_since = at
            self._changed()

    def follow(self, agent_id: str) -> bool:
        """Hear every change from now on; False for who does already."""
        if self.hears(agent_id):
            return False
        self.followers[agent_id] = None
        self._changed(agent_id)
        return True

    def unfollow(self, agent_id: str) -> bool:
        """Hear key changes only, unless it is a member; False for who did not follow."""
        if agent_id not in self.followers:
            return False
        del self.followers[agent_id]
        self._changed(agent_id)
        return True

    def set_properties(self, properties: Properties) -> None:
        """Have these properties and no others."""
        self.properties = properties
        self.unsaved.properties = True
        if self.thread is not None:
            self.unsaved.labels.setdefault(self.thread.id, False)
        self._changed()

    def set_thread_properties(self, thread: Thread, properties: Properties) -> None:
        """Let a thread of the chat, the last or an earlier one, have these properties and no others."""
        thread.properties = properties
        self._thread_changed(thread, labels=True)

    def set_thread_summary(self, thread: Thread, summary: dict[str, Any]) -> None:
        """Let a thread of the chat, the last or an earlier one, have this summary."""
        thread.summary = summary
        self._thread_changed(thread)

    def tag(self, thread: Thread, tag: str) -> bool:
        """Tag a thread of the chat; False for one that has the tag. Raises LimitReached."""
        if tag in thread.tags:
            return False
        if len(thread.tags) >= MAX_TAGS:
            raise LimitReached(f"A thread has at most {MAX_TAGS} tags")
        thread.tags = [*thread.tags, tag]
        self._thread_changed(thread, labels=True)
        return True

    def untag(self, thread: Thread, tag: str) -> bool:
        """Take the tag from a thread of the chat; False for one without it."""
        if tag not in thread.tags:
            return False
        thread.tags = [each for each in thread.tags if each != tag]
        self._thread_changed(thread, labels=True)
        return True

    def event_changed(self, body: EventBody) -> None:
        """An event of one of the threads is like this now."""
        last = self.last_events.get(body["type"])
        if last is not None and last["event"]["id"] == body["id"]:
            last["event"] = body
        self._changed()

    def find_anew(self, thread: Thread) -> None:
        """What has been said in a thread of the chat must be looked at again for the list of archives."""
        self.unsaved.labels[thread.id] = True
        self._changed()

    def mark_seen(self, user_id: str, up_to: str) -> bool:
        """Remember how far the user has read; False where that is nothing new or the user is not of the chat."""
        user = self.users.get(user_id)
        if user is None or (user.events_seen_up_to or "") >= up_to:
            return False
        user.events_seen_up_to = up_to
        self._changed()
        return True
