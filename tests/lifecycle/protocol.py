"""The life of a chat as the public reference tells it: plain Python, no server. Read it as a specification.

`Protocol` is one license. Each of its public methods is an action: it is told who asks and with what payload, changes
the chats, tells whom it concerns, and returns the answer or raises `Refused`. Everything is in the words of 3.6.

**Who hears of what**:

    key changes     members, followers, and every agent with a group in common with the chat: incoming_chat,
                    chat_deactivated, user_added_to_chat (with who came), user_removed_from_chat (with who left),
                    chat_transferred (with who has it before, and after)
    other changes   members, followers, and who asked: incoming_event, events_marked_as_seen, thread_tagged, ...
    indicators      members and followers: incoming_typing_indicator, incoming_thinking_indicator
    one's own       the agent alone: chat_unfollowed, and incoming_chat of who begins to hear all: who follows now, or
                    has become a member and did not hear it as a follower

A socket hears of the chats that its token may read: of all that its agent is a member of, of others by the groups that
they have, or had before the change; of an earlier thread those count that it had. One that may read its agent's own
chats only ("my") hears nothing as one of a group, as a follower or because it asked. What agents alone may see is told
to agents as everything else. The agents of a chat are its members as long as its thread is open; a customer stays. A
follower follows until the chat is resumed, or unfollowed.

**In what order**: what is stored (all but indicators and the chat shown to a new follower) reaches each socket in one
order, that of the license's changes; `Push.stored` says which are.

**Who may do what**: `Person.reads`, `writes`, `talks`; properties are conversation data as events are, so who may talk
may set them. To change who takes part, or to end a chat, one must be a member, unless the request says
`ignore_requester_presence`. To write or to type one must be a member in any case.

Who is given a chat, and who waits for an agent, is told in `routing_model`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.lifecycle import forms
from tests.lifecycle.given import Given, known
from tests.lifecycle.people import PEOPLE, Person, Reach, Seat
from tests.world import CLIENT_ID, TAGS

Payload = dict[str, Any]
Right = Literal["reads", "writes", "talks"]
EVERYBODY = 0
MAX_ADDITIONAL_AGENTS = 4


class Refused(Exception):
    """The request is refused with an error of this type."""

    def __init__(self, error_type: str) -> None:
        super().__init__(error_type)
        self.type = error_type


@dataclass(eq=False)
class User:
    """A user as a chat knows them: `present` members, and those who were."""

    id: str
    type: str
    visibility: str = "all"
    present: bool = True
    seen_up_to: Any = None


@dataclass(eq=False)
class Wait:
    """A place in the queue, as it was told last; `number` counts those who came into it."""

    number: int
    since: Given = field(default_factory=lambda: Given("time"))
    position: int = 0
    time: Given = field(default_factory=lambda: Given("number"))
    """Approximated, in seconds."""

    def moves_to(self, position: int) -> bool:
        """False for where it is."""
        if position == self.position:
            return False
        self.position, self.time = position, Given("number")
        return True

    def shown(self) -> Payload:
        return {"position": self.position, "wait_time": self.time}


@dataclass(eq=False)
class Thread:
    """One conversation of a chat."""

    groups: list[int]
    user_ids: list[str]
    properties: Payload
    active: bool
    id: Given = field(default_factory=lambda: Given("text"))
    created_at: Given = field(default_factory=lambda: Given("time"))
    events: list[Payload] = field(default_factory=list)
    authors: list[str] = field(default_factory=list)
    """Of the events; of what the server says nobody."""
    tags: list[str] = field(default_factory=list)
    visit: Payload = field(default_factory=dict)
    """From where its customer came."""
    wait: Wait | None = None
    """For an agent."""
    waited: Given | None = None
    """Seconds in the queue before, if it was there for one."""
    declined: set[str] = field(default_factory=set)
    """Agents whom somebody has taken out of it, since another one took it or wrote in it."""

    def waits_no_more(self) -> None:
        if self.wait is not None:
            self.wait, self.waited = None, Given("number", may_lack=True)


@dataclass(eq=False)
class Chat:
    """A chat; only its last thread may be open."""

    groups: list[int]
    properties: Payload
    id: Given = field(default_factory=lambda: Given("text"))
    users: dict[str, User] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)
    followers: set[str] = field(default_factory=set)

    @property
    def last(self) -> Thread:
        return self.threads[-1]

    @property
    def active(self) -> bool:
        return self.last.active

    @property
    def attended(self) -> bool:
        """Whether an agent has it."""
        return bool(self.assignees())

    @property
    def of_customer(self) -> bool:
        """Whether it is open and has a customer, whom somebody should look after."""
        return self.active and any(user.present and user.type == "customer" for user in self.users.values())

    @property
    def unassigned(self) -> bool:
        """Whether its properties, or its thread's, say that no agent has it."""
        return any(of.properties.get("routing", {}).get("unassigned") is True for of in (self, self.last))

    def agent_ids(self) -> list[str]:
        """The agents who take part in it."""
        return [user.id for user in self.users.values() if user.present and user.type == "agent"]

    def assignees(self) -> list[str]:
        """Those who have it: the others only look on, which the customer does not see."""
        return [agent_id for agent_id in self.agent_ids() if self.users[agent_id].visibility == "all"]

    def member(self, user_id: str) -> User | None:
        """The user, if present."""
        user = self.users.get(user_id)
        return user if user is not None and user.present else None

    def listeners(self) -> set[str]:
        """Who hears every change of it."""
        return {*self.agent_ids(), *self.followers}


@dataclass(frozen=True)
class Push:
    """What one socket is pushed."""

    version: str
    name: str
    payload: Any
    stored: bool
    request_id: str | None
    """Only of what the socket itself has asked for."""


@dataclass(eq=False)
class Socket:
    """Somebody logged in, and what they are to be pushed."""

    seat: Seat
    agent_id: str
    expected: list[Push] = field(default_factory=list)

    def wanted(self, push: str) -> list[str]:
        """The versions in which it is to be sent this push."""
        wanted = self.seat.pushes if self.seat.pushes is not None else ((self.seat.version, ("all",)),)
        asked_for = [version for version, names in wanted if push in names or "all" in names]
        return [version for version in asked_for if forms.has_push(version, push)]


@dataclass(frozen=True)
class Asker:
    """Who asks, where, and by which request."""

    seat: Seat
    agent_id: str
    request_id: str | None

    @property
    def person(self) -> Person:
        return PEOPLE[self.seat.name]


THE_SERVER = Asker(Seat("", ""), "", None)
"""What happens by itself."""


class Protocol:
    """A license with its people: `ids` of agents and customers by name, and the customers as chats show them."""

    def __init__(self, ids: Mapping[str, str], customers: Mapping[str, Payload]) -> None:
        self.ids = ids
        self.customers = customers
        self.names = {agent_id: name for name, agent_id in ids.items()}
        self.chats: list[Chat] = []
        self.sockets: list[Socket] = []

    def asker(self, seat: Seat, request_id: str | None) -> Asker:
        """Who sits there, with this request; over HTTP requests have no ids."""
        return Asker(seat, self.ids[seat.name], request_id)

    def allows(self, seat: Seat, action: str, chat: Chat | None) -> bool:
        """Whether the token of who sits there is good enough for the action, on this chat if one is named."""
        right, asker = _RIGHTS[action], self.asker(seat, None)
        if right is None:
            return True
        return self._reaches(asker, right, chat) if chat else getattr(asker.person, right) is not None

    def perform(self, asker: Asker, action: str, payload: Payload) -> Any:
        """The answer to a request. Raises Refused."""
        right = _RIGHTS[action]
        if right is not None and getattr(asker.person, right) is None:
            raise Refused("authorization")  # the token has none of the scopes of which the action needs one
        return getattr(self, action)(asker, payload)

    # Starting, resuming, ending

    def start_chat(self, asker: Asker, payload: Payload) -> Any:
        wanted = payload.get("chat", {})
        groups = self._groups(asker, wanted)
        users = self._users(asker, wanted, groups)
        self._check_authors(asker, wanted, users)
        chat = Chat(groups, _with_source(wanted.get("properties", {})))
        self.chats.append(chat)
        return {"chat_id": chat.id, **self._open(asker, chat, users, payload)}

    def resume_chat(self, asker: Asker, payload: Payload) -> Any:
        wanted = payload["chat"]
        chat = self._chat(asker, "writes", wanted["id"])
        if chat.active:
            raise Refused("validation")
        groups = self._groups(asker, wanted)
        users = self._users(asker, wanted, groups)
        customers = [user for user in chat.users.values() if user.type == "customer" and user.id not in users]
        if customers and any(user.type == "customer" for user in users.values()):
            raise Refused("validation")  # a second customer
        self._check_authors(asker, wanted, users)
        old_groups, had_it = list(chat.groups), self._hearers(chat)
        chat.groups = groups
        chat.properties = _merged(chat.properties, wanted.get("properties", {}))
        for customer in customers:
            users = {customer.id: customer, **users}
        answer = self._open(asker, chat, users, payload)
        if 0 not in groups and set(old_groups) - set(groups):
            access = {"id": chat.id, "access": {"group_ids": list(groups)}}
            self._tell(asker, had_it, "chat_access_updated", access, groups=old_groups)
        return answer

    def _open(self, asker: Asker, chat: Chat, users: dict[str, User], payload: Payload) -> Payload:
        """A new thread with these users; those of earlier ones who are not named are no longer there."""
        active = payload.get("active", True)
        wanted = payload.get("chat", {}).get("thread", {})
        for user in chat.users.values():
            user.present = False
        for user in users.values():
            user.present = active or user.type == "customer"
            if user.id in chat.users:
                user.seen_up_to = chat.users[user.id].seen_up_to
        chat.users |= users
        chat.followers.clear()
        chat.properties = with_routing(chat.properties, continuous=False, unassigned=False)
        properties = _with_source(wanted.get("properties", {}))
        properties = with_routing(properties, continuous=False, idle=False, unassigned=False)
        thread = Thread(list(chat.groups), list(users), properties, active)
        thread.visit = self._visit(chat)
        chat.threads.append(thread)
        for event in wanted.get("events", ()):
            self._append(chat, event, event.get("author_id", asker.agent_id))
        # As if they had seen the whole chat.
        users[asker.agent_id].seen_up_to = thread.events[-1]["created_at"] if thread.events else thread.created_at
        shown = {"requester_id": asker.agent_id, "chat": self._shown(chat, thread)}
        self._tell(asker, self._hearers(chat, also={asker.agent_id}), "incoming_chat", shown, groups=chat.groups)
        answer: Payload = {"thread_id": thread.id}
        if thread.events:
            answer["event_ids"] = [event["id"] for event in thread.events]
        return answer

    def _groups(self, asker: Asker, wanted: Payload) -> list[int]:
        if "access" not in wanted:
            return [EVERYBODY]
        groups: list[int] = wanted["access"]["group_ids"]
        if not set(groups) <= {0, 1, 2}:
            raise Refused("validation")
        if asker.person.writes != "all" and asker.person.groups.isdisjoint(groups):
            raise Refused("missing_access")
        return list(groups)

    def _users(self, asker: Asker, wanted: Payload, groups: Iterable[int]) -> dict[str, User]:
        """The requester and who is named: existing customers, and agents with access."""
        users = {asker.agent_id: User(asker.agent_id, "agent")}
        for named in wanted.get("users", ()):
            self._check_user(named["id"], named["type"], groups)
            users.setdefault(named["id"], User(named["id"], named["type"]))
        return users

    def _check_user(self, user_id: str, user_type: str, groups: Iterable[int]) -> None:
        name = self.names.get(user_id)
        if name not in (self.customers if user_type == "customer" else PEOPLE):
            raise Refused("not_found")
        if user_type == "agent" and PEOPLE[str(name)].groups.isdisjoint(groups):
            raise Refused("missing_access")

    def _check_authors(self, asker: Asker, wanted: Payload, users: Mapping[str, User]) -> None:
        for event in wanted.get("thread", {}).get("events", ()):
            if event.get("author_id", asker.agent_id) not in users:
                raise Refused("validation")

    def deactivate_chat(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "writes", payload["id"])
        self._check_active(chat)
        self._check_presence(asker, chat, payload)
        self._say(asker, chat, "manual_archived_agent", "{agent} archived the chat", agent=self._name(asker.agent_id))
        if chat.properties["routing"].get("pinned"):
            chat.properties = with_routing(chat.properties, pinned=False, was_pinned=True)
        self._close(asker, chat, {"user_id": asker.agent_id})
        return {}

    def _close(self, asker: Asker, chat: Chat, by: Payload) -> None:
        self._tell_key_change(asker, chat, "chat_deactivated", {"chat_id": chat.id, "thread_id": chat.last.id} | by)
        if chat.of_customer and not any(self.names.get(author_id) in PEOPLE for author_id in chat.last.authors):
            chat.last.properties = with_routing(chat.last.properties, unreplied=True)
        chat.last.active = False
        chat.last.waits_no_more()
        for user in chat.users.values():
            user.present = user.type == "customer" and user.present

    # Following

    def follow_chat(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "reads", payload["id"])
        if asker.agent_id not in chat.listeners():
            chat.followers.add(asker.agent_id)
            shown = {"chat": self._shown(chat, chat.last)}
            self._tell(asker, {asker.agent_id}, "incoming_chat", shown, stored=False)
        return {}

    def unfollow_chat(self, asker: Asker, payload: Payload) -> Any:
        chat = self._find(payload["id"])
        if chat.member(asker.agent_id):
            raise Refused("validation")
        if asker.agent_id in chat.followers:
            chat.followers.remove(asker.agent_id)
            self._tell(asker, {asker.agent_id}, "chat_unfollowed", {"chat_id": chat.id})
        return {"chat_id": chat.id} if asker.seat.transport == "rtm" else {}

    # Who takes part

    def add_user_to_chat(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "writes", payload["chat_id"])
        self._check_active(chat)
        self._check_presence(asker, chat, payload)
        user = User(payload["user_id"], payload["user_type"], payload["visibility"])
        joins_any = user.id == asker.agent_id and asker.person.writes == "all"
        self._check_user(user.id, user.type, [EVERYBODY] if joins_any else chat.groups)
        if chat.member(user.id):
            raise Refused("validation")
        if user.type == "customer" and any(each.type == "customer" for each in chat.users.values()):
            raise Refused("validation")
        if user.id in chat.users:
            user.seen_up_to = chat.users[user.id].seen_up_to
        chat.users[user.id] = user
        if user.id not in chat.last.user_ids:
            chat.last.user_ids.append(user.id)
        takes_it = user.type == "agent" and user.visibility == "all"
        if takes_it:
            chat.last.declined.clear()
            chat.last.waits_no_more()
        if user.type == "agent" and (user.id not in chat.followers or not self._may_read(user.id, chat.groups)):
            introduced = {"requester_id": asker.agent_id, "chat": self._shown(chat, chat.last)}
            self._tell(asker, {user.id}, "incoming_chat", introduced)
        shown = {
            "chat_id": chat.id,
            "thread_id": chat.last.id,
            "user": self._shown_user(user),
            "reason": "manual",
            "requester_id": asker.agent_id,
        }
        self._tell_key_change(asker, chat, "user_added_to_chat", shown)
        if takes_it:
            for push, told in self._set_unassigned(chat, unassigned=False):
                self._tell(asker, self._hearers(chat), push, told)
        initiator, added = self._name(asker.agent_id), self._name(user.id)
        if user.type == "customer":
            chat.last.visit = self._visit(chat)
            text = "{initiator} added {customer} to the chat"
            self._say(asker, chat, "customer_added", text, initiator=initiator, customer=added)
        elif user.id == asker.agent_id:
            self._say(asker, chat, "agent_joined", "{agent} joined the chat", user.visibility, agent=added)
        else:
            text = "{initiator} added {agent} to the chat"
            self._say(asker, chat, "agent_added", text, user.visibility, initiator=initiator, agent=added)
        return {}

    def remove_user_from_chat(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "writes", payload["chat_id"])
        self._check_active(chat)
        self._check_presence(asker, chat, payload)
        user = chat.member(payload["user_id"])
        if user is None or user.type != "agent":
            raise Refused("validation")
        shown = {
            "chat_id": chat.id,
            "thread_id": chat.last.id,
            "user_id": user.id,
            "reason": "manual",
            "requester_id": asker.agent_id,
        }
        self._tell_key_change(asker, chat, "user_removed_from_chat", shown)
        user.present = False
        if user.visibility == "all":
            chat.last.declined.add(user.id)
        initiator, removed = self._name(asker.agent_id), self._name(user.id)
        if user.id == asker.agent_id:
            self._say(asker, chat, "agent_left", "{agent} left the chat", user.visibility, agent=removed)
        else:
            text = "{initiator} removed {agent} from the chat"
            self._say(asker, chat, "agent_removed", text, user.visibility, initiator=initiator, agent=removed)
        return {}

    def _set_unassigned(self, chat: Chat, *, unassigned: bool, **of_thread: Any) -> list[tuple[str, Payload]]:
        """Let properties tell whether an agent has the chat (the reference, "Default properties"); what is new."""
        told: list[tuple[str, Payload]] = []
        changed = {"unassigned": unassigned} if chat.unassigned != unassigned else {}
        if changed or of_thread:
            values = of_thread | changed
            chat.last.properties = with_routing(chat.last.properties, **values)
            shown = {"chat_id": chat.id, "thread_id": chat.last.id, "properties": {"routing": values}}
            told.append(("thread_properties_updated", shown))
        if changed:
            values = changed | ({"pinned": True} if unassigned else {})
            chat.properties = with_routing(chat.properties, **values)
            told.append(("chat_properties_updated", {"chat_id": chat.id, "properties": {"routing": values}}))
        return told

    # What is said, typed, thought and seen

    def send_event(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "talks", payload["chat_id"])
        event = payload["event"]
        for sent, author_id in zip(chat.last.events, chat.last.authors, strict=True):
            if "custom_id" in event and (event["custom_id"], asker.agent_id) == (sent.get("custom_id"), author_id):
                return {"event_id": sent["id"]}  # ours: who was not answered may ask again
        self._check_may_write(asker, chat, event.get("visibility", "all"))
        body = self._append(chat, event, asker.agent_id)
        chat.users[asker.agent_id].seen_up_to = body["created_at"]
        if body["visibility"] == "all":
            chat.last.declined.clear()
        shown = {"chat_id": chat.id, "thread_id": chat.last.id, "event": dict(body)}
        self._tell(asker, self._hearers(chat), "incoming_event", shown)
        return {"event_id": body["id"]}

    def _say(
        self, asker: Asker, chat: Chat, message_type: str, text: str, visibility: str = "all", **text_vars: str
    ) -> None:
        """The server tells in the chat what has happened (the reference, "System activities")."""
        message: Payload = {
            "type": "system_message",
            "system_message_type": message_type,
            "text": text.format(**text_vars),
            "visibility": visibility,
        }
        if text_vars:
            message["text_vars"] = text_vars
        body = self._append(chat, message, "")
        shown = {"chat_id": chat.id, "thread_id": chat.last.id, "event": dict(body)}
        self._tell(asker, self._hearers(chat), "incoming_event", shown)

    def _append(self, chat: Chat, event: Payload, author_id: str) -> Payload:
        body = {"visibility": "all", **event, "id": Given("text"), "created_at": Given("time")}
        if author_id:
            body["author_id"] = author_id
        chat.last.events.append(body)
        chat.last.authors.append(author_id)
        if author_id in chat.users:
            chat.users[author_id].seen_up_to = body["created_at"]
        return body

    def _check_may_write(self, asker: Asker, chat: Chat, visibility: str) -> None:
        self._check_active(chat)
        self._check_presence(asker, chat, {})
        if visibility == "all" and chat.users[asker.agent_id].visibility == "agents":
            raise Refused("authorization")

    def send_event_preview(self, asker: Asker, payload: Payload) -> Any:
        """For the customer: agents hear nothing of it."""
        self._check_may_write(asker, self._chat(asker, "talks", payload["chat_id"]), "all")
        return {}

    def send_typing_indicator(self, asker: Asker, payload: Payload) -> Any:
        visibility = payload.get("visibility", "all")
        chat = self._chat(asker, "talks", payload["chat_id"])
        self._check_may_write(asker, chat, visibility)
        indicator = {
            "author_id": asker.agent_id,
            "visibility": visibility,
            "timestamp": Given("number"),
            "is_typing": payload["is_typing"],
        }
        shown = {"chat_id": chat.id, "thread_id": chat.last.id, "typing_indicator": indicator}
        self._tell(asker, self._hearers(chat), "incoming_typing_indicator", shown, stored=False)
        return {}

    def send_thinking_indicator(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "talks", payload["chat_id"])
        self._check_may_write(asker, chat, payload.get("visibility", "all"))
        shown = {"chat_id": chat.id, "thread_id": chat.last.id, "author_id": asker.agent_id, "sent_at": Given("time")}
        shown |= {name: payload[name] for name in ("title", "description", "custom_id") if name in payload}
        self._tell(asker, self._hearers(chat), "incoming_thinking_indicator", shown, stored=False)
        return {}

    def mark_events_as_seen(self, asker: Asker, payload: Payload) -> Any:
        """Nothing new for who has never been a user of the chat, or has read further."""
        chat = self._chat(asker, "reads", payload["chat_id"])
        user = chat.users.get(asker.agent_id)
        if user is not None and (known(user.seen_up_to) or "") < payload["seen_up_to"]:
            user.seen_up_to = payload["seen_up_to"]
            shown = {"user_id": user.id, "chat_id": chat.id, "seen_up_to": user.seen_up_to}
            self._tell_change(asker, chat, "events_marked_as_seen", shown)
        return {}

    # Properties: pushes show what has been set or deleted, not all there is

    def update_chat_properties(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "talks", payload["id"])
        chat.properties = _merged(chat.properties, payload["properties"])
        shown = {"chat_id": chat.id, "properties": payload["properties"]}
        self._tell_change(asker, chat, "chat_properties_updated", shown)
        return {}

    def delete_chat_properties(self, asker: Asker, payload: Payload) -> Any:
        chat = self._chat(asker, "talks", payload["id"])
        chat.properties, deleted = _without(chat.properties, payload["properties"])
        if deleted:
            shown = {"chat_id": chat.id, "properties": deleted}
            self._tell_change(asker, chat, "chat_properties_deleted", shown)
        return {}

    def update_thread_properties(self, asker: Asker, payload: Payload) -> Any:
        chat, thread = self._thread(asker, "talks", payload)
        thread.properties = _merged(thread.properties, payload["properties"])
        shown = {"chat_id": chat.id, "thread_id": thread.id, "properties": payload["properties"]}
        self._tell_change(asker, chat, "thread_properties_updated", shown, thread)
        return {}

    def delete_thread_properties(self, asker: Asker, payload: Payload) -> Any:
        chat, thread = self._thread(asker, "talks", payload)
        thread.properties, deleted = _without(thread.properties, payload["properties"])
        if deleted:
            shown = {"chat_id": chat.id, "thread_id": thread.id, "properties": deleted}
            self._tell_change(asker, chat, "thread_properties_deleted", shown, thread)
        return {}

    def update_event_properties(self, asker: Asker, payload: Payload) -> Any:
        chat, thread, event = self._event(asker, payload)
        event["properties"] = _merged(event.get("properties", {}), payload["properties"])
        of_event = {"chat_id": chat.id, "thread_id": thread.id, "event_id": event["id"]}
        shown = of_event | {"properties": payload["properties"]}
        self._tell_change(asker, chat, "event_properties_updated", shown, thread)
        return {}

    def delete_event_properties(self, asker: Asker, payload: Payload) -> Any:
        chat, thread, event = self._event(asker, payload)
        left, deleted = _without(event.pop("properties", {}), payload["properties"])
        if left:
            event["properties"] = left
        if deleted:
            of_event = {"chat_id": chat.id, "thread_id": thread.id, "event_id": event["id"]}
            self._tell_change(asker, chat, "event_properties_deleted", of_event | {"properties": deleted}, thread)
        return {}

    # Tags

    def tag_thread(self, asker: Asker, payload: Payload) -> Any:
        chat, thread = self._thread(asker, "writes", payload)
        tag = payload["tag"]
        if tag not in TAGS:
            raise Refused("not_found")
        if set(TAGS[tag]).isdisjoint(thread.groups):
            raise Refused("validation")
        if tag not in thread.tags:
            thread.tags.append(tag)
            shown = {"chat_id": chat.id, "thread_id": thread.id, "tag": tag}
            self._tell_change(asker, chat, "thread_tagged", shown, thread)
        return {}

    def untag_thread(self, asker: Asker, payload: Payload) -> Any:
        chat, thread = self._thread(asker, "writes", payload)
        tag = payload["tag"]
        if tag in thread.tags:
            thread.tags.remove(tag)
            shown = {"chat_id": chat.id, "thread_id": thread.id, "tag": tag}
            self._tell_change(asker, chat, "thread_untagged", shown, thread)
        return {}

    # Reading

    def get_chat(self, asker: Asker, payload: Payload) -> Any:
        chat = self._find(payload["chat_id"])
        thread = self._find_thread(chat, payload["thread_id"]) if "thread_id" in payload else chat.last
        self._check_thread(asker, "reads", chat, thread)
        return self._shown(chat, thread) | {"is_followed": asker.agent_id in chat.listeners()}

    def list_threads(self, asker: Asker, payload: Payload) -> Any:
        """All of them, the newest first."""
        chat = self._find(payload["chat_id"])
        threads = [thread for thread in chat.threads if self._reaches_thread(asker, "reads", chat, thread)]
        if not threads:
            raise Refused("missing_access")
        shown = [_shown_thread(chat, thread) for thread in reversed(threads)]
        return {"threads": shown, "found_threads": Given("number")}

    def list_chats(self, asker: Asker, payload: Payload) -> Any:
        """All of them, that with the newest thread first."""
        active = payload.get("filters", {}).get("active")
        found = [
            chat
            for chat in sorted(self.chats, key=lambda chat: str(chat.last.created_at.value), reverse=True)
            if self._reaches(asker, "reads", chat) and active in (None, chat.active)
        ]
        return {"chats_summary": [self._summary(asker, chat) for chat in found], "found_chats": len(found)}

    def login(self, asker: Asker, payload: Payload) -> Any:
        """The open chats that the agent takes part in or follows, and may read; from now on the socket is told."""
        others = [socket for socket in self.sockets if socket.seat != asker.seat]
        self.sockets = [*others, Socket(asker.seat, asker.agent_id)]
        mine = [chat for chat in self.chats if chat.active and asker.agent_id in chat.listeners()]
        return {"chats_summary": [self._summary(asker, chat) for chat in mine if self._reaches(asker, "reads", chat)]}

    def contradictions(self) -> Iterator[str]:
        """What no server may have chosen: an id twice, a time before the one before it."""
        threads = [thread for chat in self.chats for thread in chat.threads]
        given = [chat.id for chat in self.chats] + [thread.id for thread in threads]
        given += [event["id"] for thread in threads for event in thread.events]
        ids = [each.value for each in given if each.value is not None]
        if len(set(ids)) < len(ids):
            yield f"an id is given twice: {ids}"
        for chat in self.chats:
            times = [
                t for thread in chat.threads for t in (thread.created_at, *(e["created_at"] for e in thread.events))
            ]
            values = [time.value for time in times if time.value is not None]
            if values != sorted(values):
                yield f"times of the chat {chat.id} go backwards: {values}"

    # Access

    def _find(self, chat_id: str) -> Chat:
        for chat in self.chats:
            if chat.id.value == chat_id:
                return chat
        raise Refused("not_found")

    def _chat(self, asker: Asker, right: Right, chat_id: str) -> Chat:
        chat = self._find(chat_id)
        if not self._reaches(asker, right, chat):
            raise Refused("missing_access")
        return chat

    def _reaches(self, asker: Asker, right: Right, chat: Chat) -> bool:
        reach: Reach | None = getattr(asker.person, right)
        if reach == "access" and not asker.person.groups.isdisjoint(chat.groups):
            return True
        return reach == "all" or (reach is not None and chat.member(asker.agent_id) is not None)

    def _reaches_thread(self, asker: Asker, right: Right, chat: Chat, thread: Thread) -> bool:
        """An earlier thread keeps the groups that it had, and they decide."""
        reach: Reach | None = getattr(asker.person, right)
        if reach == "access" and not asker.person.groups.isdisjoint(thread.groups):
            return True
        return reach == "all" or (reach is not None and chat.member(asker.agent_id) is not None)

    def _check_thread(self, asker: Asker, right: Right, chat: Chat, thread: Thread) -> None:
        if not self._reaches_thread(asker, right, chat, thread):
            raise Refused("missing_access")

    def _find_thread(self, chat: Chat, thread_id: str) -> Thread:
        for thread in chat.threads:
            if thread.id.value == thread_id:
                return thread
        raise Refused("not_found")

    def _thread(self, asker: Asker, right: Right, payload: Payload) -> tuple[Chat, Thread]:
        chat = self._find(payload["chat_id"])
        thread = self._find_thread(chat, payload["thread_id"])
        self._check_thread(asker, right, chat, thread)
        return chat, thread

    def _event(self, asker: Asker, payload: Payload) -> tuple[Chat, Thread, Payload]:
        chat, thread = self._thread(asker, "talks", payload)
        for event in thread.events:
            if event["id"].value == payload["event_id"]:
                return chat, thread, event
        raise Refused("not_found")

    def _check_active(self, chat: Chat) -> None:
        if not chat.active:
            raise Refused("chat_inactive")

    def _check_presence(self, asker: Asker, chat: Chat, payload: Payload) -> None:
        if not payload.get("ignore_requester_presence") and chat.member(asker.agent_id) is None:
            raise Refused("authorization")

    # Who hears

    def _tell_key_change(self, asker: Asker, chat: Chat, push: str, payload: Payload, also: Iterable[str] = ()) -> None:
        self._tell(asker, self._hearers(chat) | set(also), push, payload, groups=chat.groups)

    def _tell_change(self, asker: Asker, chat: Chat, push: str, payload: Payload, of: Thread | None = None) -> None:
        self._tell(asker, self._hearers(chat, of, {asker.agent_id}), push, payload)

    def _hearers(self, chat: Chat, of: Thread | None = None, also: Collection[str] = ()) -> set[str]:
        """Who is told of every change, of the chat or of one of its threads."""
        groups = of.groups if of is not None else chat.groups
        return {each for each in chat.listeners().union(also) if chat.member(each) or self._may_read(each, groups)}

    def _may_read(self, agent_id: str, groups: Iterable[int]) -> bool:
        """A chat or thread of these groups, without being a member."""
        person = PEOPLE[self.names[agent_id]]
        return person.reads == "all" or (person.reads == "access" and not person.groups.isdisjoint(groups))

    def _tell(
        self,
        asker: Asker,
        agent_ids: Iterable[str],
        push: str,
        payload: Any,
        *,
        groups: Iterable[int] = (),
        stored: bool = True,
    ) -> None:
        """Those agents, and those of these groups who may read other chats than their own."""
        agent_ids = set(agent_ids)
        for socket in self.sockets:
            person = PEOPLE[socket.seat.name]
            of_group = person.reads != "my" and not person.groups.isdisjoint(groups)
            if socket.agent_id in agent_ids or of_group:
                request_id = asker.request_id if socket.seat == asker.seat else None
                for version in socket.wanted(push):
                    socket.expected.append(Push(version, push, payload, stored, request_id))
                    request_id = None  # in a second version it is not told again that it has asked for it

    # What is shown

    def _shown(self, chat: Chat, thread: Thread) -> Payload:
        return {
            "id": chat.id,
            "thread": _shown_thread(chat, thread),
            "users": self._shown_users(chat),
            "properties": chat.properties,
            "access": {"group_ids": list(chat.groups)},
        }

    def _summary(self, asker: Asker, chat: Chat) -> Payload:
        last_events: dict[str, Payload] = {}
        for thread in chat.threads:
            readable = thread is chat.last or self._reaches_thread(asker, "reads", chat, thread)
            for event in thread.events:
                last_events[event["type"]] = {
                    "thread_id": thread.id,
                    "thread_created_at": thread.created_at,
                    "event": dict(event) if readable else {"restricted_access": Given("text")},
                }
        return {
            "id": chat.id,
            "last_event_per_type": last_events,
            "users": self._shown_users(chat),
            "last_thread_summary": _shown_in_brief(chat.last),
            "properties": chat.properties,
            "access": {"group_ids": list(chat.groups)},
            "is_followed": asker.agent_id in chat.listeners(),
        }

    def _visit(self, chat: Chat) -> Payload:
        customers = [self.customers[self.names[user.id]] for user in chat.users.values() if user.type == "customer"]
        visit = customers[0].get("visit", {}) if customers else {}
        return {name: visit[name] for name in ("ip", "user_agent", "geolocation") if name in visit}

    def _name(self, user_id: str) -> str:
        return self.names[user_id].title()

    def _shown_users(self, chat: Chat) -> list[Payload]:
        """Those who were there, too."""
        return [self._shown_user(user) for user in chat.users.values()]

    def _shown_user(self, user: User) -> Payload:
        shown: Payload = {"id": user.id, "type": user.type, "present": user.present}
        if user.seen_up_to is not None:
            shown["events_seen_up_to"] = user.seen_up_to
        if user.type == "customer":
            return shown | self.customers[self.names[user.id]]
        if "@" in user.id:  # a bot has no address
            shown["email"] = user.id
        return shown | {"name": self._name(user.id), "avatar": "", "visibility": user.visibility}


def _shown_thread(chat: Chat, thread: Thread) -> Payload:
    shown = _shown_in_brief(thread) | {"events": [dict(event) for event in thread.events]}
    place = chat.threads.index(thread)
    if place > 0:
        shown["previous_thread_id"] = chat.threads[place - 1].id
    if thread.visit:
        shown["customer_visit"] = thread.visit
    if thread.waited is not None:
        shown["queues_duration"] = thread.waited
    if thread is not chat.last:
        shown["next_thread_id"] = chat.threads[place + 1].id
    return shown


def _shown_in_brief(thread: Thread) -> Payload:
    shown = {
        "id": thread.id,
        "created_at": thread.created_at,
        "active": thread.active,
        "user_ids": list(thread.user_ids),
        "properties": thread.properties,
        "access": {"group_ids": list(thread.groups)},
    }
    if thread.wait is not None:
        shown["queue"] = thread.wait.shown() | {"queued_at": thread.wait.since}
    return shown | ({"tags": list(thread.tags)} if thread.tags else {})


def _with_source(properties: Payload) -> Payload:
    """With the application whose token was shown."""
    return properties | {"source": {"client_id": CLIENT_ID}}


def with_routing(properties: Payload, **values: Any) -> Payload:
    """The reference, "Default properties"."""
    return properties | {"routing": properties.get("routing", {}) | values}


def _merged(properties: Payload, given: Payload) -> Payload:
    both = properties | {namespace: properties.get(namespace, {}) | values for namespace, values in given.items()}
    return {namespace: values for namespace, values in both.items() if values}


def _without(properties: Payload, named: Mapping[str, list[str]]) -> tuple[Payload, Payload]:
    """What is left, and which of the names there were."""
    left: Payload = {}
    deleted: Payload = {}
    for namespace, values in properties.items():
        gone = [name for name in named.get(namespace, ()) if name in values]
        if gone:
            deleted[namespace] = gone
        if len(gone) < len(values):
            left[namespace] = {name: value for name, value in values.items() if name not in gone}
    return left, deleted


_RIGHTS: dict[str, Right | None] = {
    "start_chat": "writes",
    "resume_chat": "writes",
    "deactivate_chat": "writes",
    "follow_chat": "reads",
    "unfollow_chat": None,
    "transfer_chat": "writes",
    "add_user_to_chat": "writes",
    "remove_user_from_chat": "writes",
    "send_event": "talks",
    "send_event_preview": "talks",
    "send_typing_indicator": "talks",
    "send_thinking_indicator": "talks",
    "mark_events_as_seen": "reads",
    "update_chat_properties": "talks",
    "delete_chat_properties": "talks",
    "update_thread_properties": "talks",
    "delete_thread_properties": "talks",
    "update_event_properties": "talks",
    "delete_event_properties": "talks",
    "tag_thread": "writes",
    "untag_thread": "writes",
    "get_chat": "reads",
    "list_chats": "reads",
    "list_threads": "reads",
    "login": None,
    "set_routing_status": None,
}
