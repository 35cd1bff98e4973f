"""What may be asked for next: each wish draws who asks, and what about, from what there is.

Members of a chat are drawn more often than the others, and things that exist more often than those that do not, so that
most requests are granted and many are refused.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.lifecycle import forms
from tests.lifecycle.given import known
from tests.lifecycle.people import BELLS, PEOPLE, SEATS, SOCKETS, Seat
from tests.lifecycle.protocol import Chat, Payload, Protocol, Thread
from tests.lifecycle.routing_model import LIMITS, Routed
from tests.lifecycle.scene import CUSTOMERS, Request
from tests.world import SALES, SUPPORT, TAGS

T = TypeVar("T")
NOWHERE = "AAAAAAAAAA"
_LONG_AGO = "2020-01-01T00:00:00.000000Z"
_AGENTS = [name for name in PEOPLE if name != BELLS[0].name]
_VALUES = st.sampled_from([1, "two", True])
_PROPERTIES = st.dictionaries(
    st.sampled_from("ab"), st.dictionaries(st.sampled_from("xy"), _VALUES, min_size=1), min_size=1, max_size=2
)
_PROPERTY_NAMES = st.dictionaries(
    st.sampled_from("ab"), st.lists(st.sampled_from("xy"), unique=True, min_size=1), min_size=1, max_size=2
)


class Draw:
    """Draws from a license as it is; what is `sure` will hardly be refused."""

    def __init__(self, draw: st.DrawFn, protocol: Routed, *, sure: bool = False) -> None:
        self._draw = draw
        self._protocol = protocol
        self._sure = sure
        self.chats = protocol.chats[1:]
        """All but the bell's."""

    def of(self, strategy: st.SearchStrategy[T]) -> T:
        return self._draw(strategy)

    def one(self, *values: T) -> T:
        return self.of(st.sampled_from(values))

    def seldom(self) -> bool:
        return not self._sure and self.one(False, False, False, False, True)

    def chat(self, *, active: bool | None = None) -> Chat:
        """One of the last that began; if there is one, in that state."""
        wanted = [chat for chat in self.chats if active in (None, chat.active)]
        return self.one(*(wanted or self.chats)[::-1][:4])

    def attended_chat(self) -> Chat:
        """One that an agent has; to be sure that somebody misses the agent, a customer's."""
        attended = [chat for chat in self.chats[::-1] if chat.attended]
        customers = [chat for chat in attended if chat.of_customer] if self._sure else []
        return self.one(*(customers or attended))

    def thread(self, chat: Chat) -> Thread:
        return self.one(*chat.threads[::-1])

    def seat(self, action: str, chat: Chat | None = None) -> Seat:
        """Who asks: mostly a member of the chat, often somebody who may, sometimes anybody."""
        able = [seat for seat in SEATS if forms.has_action(seat.version, action)]
        allowed = [seat for seat in able if self._protocol.allows(seat, action, chat)]
        members = [seat for seat in allowed if chat is not None and chat.member(self.id_of(seat))]
        if self._sure and allowed:
            return self.one(*(members or allowed))
        return self.one(*self.one(members or allowed, members or allowed, allowed or able, able))

    def id_of(self, seat: Seat) -> str:
        return self.id_named(seat.name)

    def id_named(self, name: str) -> str:
        return self._protocol.ids[name]

    def agent_id(self, chat: Chat | None = None) -> str:
        """Mostly one who may come into the chat."""
        if chat is not None and not self.seldom():
            absent = [name for name in _AGENTS if chat.member(self._protocol.ids[name]) is None]
            fitting = [name for name in absent if not PEOPLE[name].groups.isdisjoint(chat.groups)]
            return self._protocol.ids[self.one(*(fitting or _AGENTS))]
        return self._protocol.ids[self.one(*_AGENTS)]

    def accepts_chats(self, seat: Seat) -> bool:
        return seat.name in self._protocol.accepting

    def customer_id(self) -> str:
        return self._protocol.ids[self.one(*CUSTOMERS)]

    def properties(self) -> Payload:
        return self.of(_PROPERTIES)

    def message(self) -> Payload:
        return {"type": "message", "text": self.one("Hello", "Bye", "¿Qué?")}

    def presence(self, chat: Chat, seat: Seat) -> Payload:
        """Whether it matters that the asker is not there."""
        if self.seldom() != (chat.member(self.id_of(seat)) is None):
            return {"ignore_requester_presence": True}
        return {}

    def beginning(self, asker: Seat) -> Payload:
        """Groups, users, events and properties that a thread begins with."""
        begun: Payload = {}
        if self.one(True, True, False):
            begun["access"] = {"group_ids": self.one([0], [SALES], [SUPPORT], [SALES, SUPPORT])}
        agents = {self.agent_id() for _ in range(self.one(0, 1, 2))}
        users = [{"id": agent_id, "type": "agent"} for agent_id in sorted(agents)]
        if self.one(True, False):
            users.append({"id": NOWHERE if self.seldom() else self.customer_id(), "type": "customer"})
        if users:
            begun["users"] = users
        thread: Payload = {}
        events = [self.message() for _ in range(self.one(0, 0, 1, 2))]
        if events:
            authors = [self._protocol.ids[asker.name], *(user["id"] for user in users)]
            events[-1]["author_id"] = self.agent_id() if self.seldom() else self.one(*authors)
            thread["events"] = events
        if self.seldom():
            thread["properties"] = self.properties()
        if thread:
            begun["thread"] = thread
        if self.seldom():
            begun["properties"] = self.properties()
        return begun

    def of_thread(self) -> tuple[Chat, Thread, Payload]:
        chat = self.chat()
        thread = self.thread(chat)
        return chat, thread, {"chat_id": known(chat.id), "thread_id": known(thread.id)}

    def of_event(self) -> tuple[Chat, Payload]:
        chat, thread, named = self.of_thread()
        heard = [event_id for event in thread.events if (event_id := known(event["id"])) is not None]
        event_ids = [] if self.seldom() else heard
        return chat, named | {"event_id": self.one(*(event_ids[::-1] or [NOWHERE]))}


Wish = Callable[[Draw], Request]


def start(draw: Draw) -> Request:
    seat = draw.seat("start_chat")
    payload: Payload = {"chat": draw.beginning(seat)}
    if draw.seldom():
        payload["active"] = False
    return Request(seat, "start_chat", payload)


def start_for_customer(draw: Draw) -> Request:
    """A chat that will want an agent."""
    seat = draw.seat("start_chat")
    groups = draw.one([SALES], [SUPPORT], [SALES, SUPPORT], [SALES], [SUPPORT], [0])
    users = [{"id": draw.customer_id(), "type": "customer"}]
    return Request(seat, "start_chat", {"chat": {"access": {"group_ids": groups}, "users": users}})


def resume(draw: Draw) -> Request:
    chat = draw.chat(active=False)
    seat = draw.seat("resume_chat", chat)
    payload: Payload = {"chat": {"id": known(chat.id), **draw.beginning(seat)}}
    if draw.seldom():
        payload["active"] = False
    return Request(seat, "resume_chat", payload)


def come_again(draw: Draw) -> list[Request]:
    """A customer comes again, and who has let them in leaves."""
    chat = draw.chat(active=False)
    seat = draw.seat("resume_chat", chat)
    chat_id = known(chat.id)
    resume = {"chat": {"id": chat_id, "access": {"group_ids": list(chat.groups)}}}
    leave = {"chat_id": chat_id, "user_id": draw.id_of(seat), "user_type": "agent"}
    return [Request(seat, "resume_chat", resume), Request(seat, "remove_user_from_chat", leave)]


def deactivate(draw: Draw) -> Request:
    chat = draw.chat(active=True)
    seat = draw.seat("deactivate_chat", chat)
    return Request(seat, "deactivate_chat", {"id": known(chat.id), **draw.presence(chat, seat)})


def follow(draw: Draw) -> Request:
    return Request(draw.seat("follow_chat"), "follow_chat", {"id": known(draw.chat().id)})


def unfollow(draw: Draw) -> Request:
    chat_id = NOWHERE if draw.seldom() else known(draw.chat().id)
    return Request(draw.seat("unfollow_chat"), "unfollow_chat", {"id": chat_id})


def _of_user(draw: Draw, seat: Seat, chat: Chat, user_id: str, user_type: str = "agent") -> Payload:
    named = {"chat_id": known(chat.id), "user_id": user_id, "user_type": user_type}
    return named | draw.presence(chat, seat)


def join(draw: Draw) -> Request:
    """Add oneself."""
    chat, seat = draw.chat(active=True), draw.seat("add_user_to_chat")
    payload = _of_user(draw, seat, chat, draw.id_of(seat))
    return Request(seat, "add_user_to_chat", payload | {"visibility": draw.one("all", "agents")})


def add(draw: Draw) -> Request:
    chat = draw.chat(active=True)
    seat = draw.seat("add_user_to_chat", chat)
    payload = _of_user(draw, seat, chat, draw.agent_id(chat))
    return Request(seat, "add_user_to_chat", payload | {"visibility": draw.one("all", "agents")})


def add_customer(draw: Draw) -> Request:
    chat = draw.attended_chat()
    seat = draw.seat("add_user_to_chat", chat)
    payload = _of_user(draw, seat, chat, draw.customer_id(), "customer")
    return Request(seat, "add_user_to_chat", payload | {"visibility": "all"})


def leave(draw: Draw) -> Request:
    """Remove oneself."""
    chat = draw.attended_chat()
    seat = draw.seat("remove_user_from_chat", chat)
    return Request(seat, "remove_user_from_chat", _of_user(draw, seat, chat, draw.id_of(seat)))


def remove(draw: Draw) -> Request:
    chat = draw.attended_chat()
    seat = draw.seat("remove_user_from_chat", chat)
    user_id = draw.agent_id() if draw.seldom() else draw.one(*chat.agent_ids())
    return Request(seat, "remove_user_from_chat", _of_user(draw, seat, chat, user_id))


def transfer(draw: Draw) -> Request:
    """To one agent."""
    chat = draw.chat(active=True)
    return _transfer(draw, chat, {"target": {"type": "agent", "ids": [draw.agent_id(chat)]}})


def transfer_to_groups(draw: Draw) -> Request:
    """To whoever of them can be given it, or into the queue."""
    chat = draw.chat(active=True)
    target = draw.one([SALES], [SUPPORT], [SALES, SUPPORT], [0], None)
    payload: Payload = {} if target is None else {"target": {"type": "group", "ids": target}}
    if draw.seldom():
        payload = {"target": {"type": "group", "ids": [SALES, 7]}}
    if draw.one(True, False):
        payload["ignore_agents_availability"] = True
    return _transfer(draw, chat, payload)


def _transfer(draw: Draw, chat: Chat, payload: Payload) -> Request:
    seat = draw.seat("transfer_chat", chat)
    return Request(seat, "transfer_chat", {"id": known(chat.id), **payload, **draw.presence(chat, seat)})


def set_status(draw: Draw) -> Request:
    """Somebody accepts chats from now on, or does so no longer."""
    able = [seat for seat in SEATS if PEOPLE[seat.name].scopes is None]
    agent_id = draw.id_of(draw.one(*SEATS))
    status = draw.one("accepting_chats", "not_accepting_chats")
    seat = draw.one(*(SEATS if draw.seldom() else able))
    return Request(seat, "set_routing_status", {"agent_id": agent_id, "status": status})


def send(draw: Draw) -> Request:
    chat = draw.chat(active=True)
    event = draw.message()
    if draw.seldom():
        event["custom_id"] = draw.one("first", "second")
    if draw.one(True, False):
        event["visibility"] = draw.one("all", "agents")
    if draw.seldom():
        event["properties"] = draw.properties()
    return Request(draw.seat("send_event", chat), "send_event", {"chat_id": known(chat.id), "event": event})


def preview(draw: Draw) -> Request:
    chat = draw.chat(active=True)
    payload = {"chat_id": known(chat.id), "event": draw.message()}
    return Request(draw.seat("send_event_preview", chat), "send_event_preview", payload)


def type_(draw: Draw) -> Request:
    chat = draw.chat(active=True)
    payload = {"chat_id": known(chat.id), "is_typing": draw.one(True, False), "visibility": draw.one("all", "agents")}
    return Request(draw.seat("send_typing_indicator", chat), "send_typing_indicator", payload)


def think(draw: Draw) -> Request:
    chat = draw.chat(active=True)
    payload = {"chat_id": known(chat.id), "title": "Hm"} | ({"custom_id": "idea"} if draw.one(True, False) else {})
    return Request(draw.seat("send_thinking_indicator", chat), "send_thinking_indicator", payload)


def mark_seen(draw: Draw) -> Request:
    chat = draw.chat()
    times = [known(thread.created_at) for thread in chat.threads]
    times += [known(event["created_at"]) for thread in chat.threads for event in thread.events]
    heard = [time for time in times if time is not None]
    payload = {"chat_id": known(chat.id), "seen_up_to": draw.one(*heard[::-1], _LONG_AGO)}
    return Request(draw.seat("mark_events_as_seen", chat), "mark_events_as_seen", payload)


def _on_chat(action: str, values: st.SearchStrategy[Payload]) -> Wish:
    def wish(draw: Draw) -> Request:
        chat = draw.chat()
        return Request(draw.seat(action, chat), action, {"id": known(chat.id), "properties": draw.of(values)})

    return wish


def _on_thread(action: str, values: st.SearchStrategy[Payload]) -> Wish:
    def wish(draw: Draw) -> Request:
        chat, _, named = draw.of_thread()
        return Request(draw.seat(action, chat), action, named | {"properties": draw.of(values)})

    return wish


def _on_event(action: str, values: st.SearchStrategy[Payload]) -> Wish:
    def wish(draw: Draw) -> Request:
        chat, named = draw.of_event()
        return Request(draw.seat(action, chat), action, named | {"properties": draw.of(values)})

    return wish


update_chat_properties = _on_chat("update_chat_properties", _PROPERTIES)
delete_chat_properties = _on_chat("delete_chat_properties", _PROPERTY_NAMES)
update_thread_properties = _on_thread("update_thread_properties", _PROPERTIES)
delete_thread_properties = _on_thread("delete_thread_properties", _PROPERTY_NAMES)
update_event_properties = _on_event("update_event_properties", _PROPERTIES)
delete_event_properties = _on_event("delete_event_properties", _PROPERTY_NAMES)


def tag(draw: Draw) -> Request:
    chat, thread, named = draw.of_thread()
    fitting = [tag for tag, groups in TAGS.items() if not set(groups).isdisjoint(thread.groups)]
    tags = [*TAGS, "no such tag"] if draw.seldom() or not fitting else fitting
    return Request(draw.seat("tag_thread", chat), "tag_thread", named | {"tag": draw.one(*tags)})


def untag(draw: Draw) -> Request:
    chat, thread, named = draw.of_thread()
    return Request(draw.seat("untag_thread", chat), "untag_thread", named | {"tag": draw.one(*(thread.tags or TAGS))})


def get_chat(draw: Draw) -> Request:
    chat, _, named = draw.of_thread()
    if draw.one(True, False):
        del named["thread_id"]
    return Request(draw.seat("get_chat", chat), "get_chat", named)


def list_threads(draw: Draw) -> Request:
    chat = draw.chat()
    return Request(draw.seat("list_threads", chat), "list_threads", {"chat_id": known(chat.id), "limit": 100})


def list_chats(draw: Draw) -> Request:
    payload = {"limit": 100} | draw.one({}, {"filters": {"active": False}})
    return Request(draw.seat("list_chats"), "list_chats", payload)


def come_back(draw: Draw) -> Request:
    """Log in on a new connection, in place of the one there was."""
    return Request(draw.one(*SOCKETS), "login", {})


def come_back_meanwhile(draw: Draw) -> Request:
    """The same, but of nobody whom the router might miss."""
    names = [seat.name for seat in SOCKETS]
    seats = [seat for seat in SOCKETS if names.count(seat.name) > 1 or not draw.accepts_chats(seat)]
    return Request(draw.one(*seats), "login", {})


CHANGES: Sequence[Wish] = (
    start,
    resume,
    deactivate,
    follow,
    unfollow,
    join,
    add,
    send,
    send,
    update_chat_properties,
    delete_thread_properties,
    update_event_properties,
    tag,
    untag,
)
"""What may be asked for before the answers to others are known: nothing whose answer depends on a time chosen there."""
ROUTING_CHANGES: Sequence[Wish] = (start_for_customer, deactivate, join, add, send)
"""Of these, what lets chats change hands."""


def beginning(draw: Draw) -> list[Request]:
    """Some accept chats, customers have come, and one has been here before, with one of those."""
    host = draw.one(*(seat for seat in SEATS if seat.name in ("alice", "bob", "carol", "robin")))
    names = {host.name} | draw.of(st.sets(st.sampled_from(sorted(LIMITS)), min_size=1, max_size=3))
    statuses = [
        Request(SOCKETS[0], "set_routing_status", {"agent_id": draw.id_named(name), "status": "accepting_chats"})
        for name in sorted(names)
    ]
    coming = [start_for_customer(draw) for _ in range(draw.one(2, 3, 4))]
    return [*statuses, _start_with(draw, host), *coming]


def _start_with(draw: Draw, host: Seat) -> Request:
    """A chat that was, in which the customer had the last word."""
    customer_id = draw.customer_id()
    events = [draw.message() | {"author_id": author_id} for author_id in (draw.id_of(host), customer_id)]
    chat: Payload = {"users": [{"id": customer_id, "type": "customer"}], "thread": {"events": events}}
    chat["access"] = {"group_ids": sorted(PEOPLE[host.name].groups - {0})}
    return Request(host, "start_chat", {"chat": chat, "active": False})


def look_around(protocol: Protocol) -> Iterator[Request]:
    """Everybody reads all that there is."""
    for seat in {seat.name: seat for seat in SEATS}.values():
        yield Request(seat, "list_chats", {"limit": 100})
        for chat in protocol.chats[1:]:
            yield Request(seat, "list_threads", {"chat_id": known(chat.id), "limit": 100})
