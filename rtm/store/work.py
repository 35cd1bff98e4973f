"""The unit of work: what one command sees and changes.

A command is a plain function from `Work` to its answer. It reads chats that were loaded with its batch, changes them
through their own methods, and names the pushes it causes; all of it is committed together, or none of it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from rtm.bus.base import Envelope, Origin
from rtm.model.audience import Audience
from rtm.model.chat import ChangedEvent, Chat, EventBody, NewEvent, ShownEvents, Thread
from rtm.model.customer import Customer, CustomerBan
from rtm.model.files import StoredFile, describe, id_in, ids_in
from rtm.model.properties import with_routing
from rtm.model.pushes import IncomingEvent, ThreadPropertiesUpdated
from rtm.model.rich_messages import image_urls
from rtm.protocol.errors import NotFound, ValidationError
from rtm.protocol.identifiers import event_id, event_number

MAX_OPEN_CHATS = 100
"""Of one customer, who has one in most cases."""


class Needs(NamedTuple):
    """What must be loaded before a command can run."""

    chat_ids: tuple[str, ...] = ()
    customer_ids: tuple[str, ...] = ()
    open_chats_of_customers: bool = False
    """Also the open chats of these customers, MAX_OPEN_CHATS of each at most. Only for a command that stores."""
    users_of_chats: bool = False
    """Also the customers that the chats have, because the command shows them."""
    events_of_chats: bool = False
    """Also the events of the chats' last threads."""
    custom_ids: tuple[str, ...] = ()
    """Also which events with these custom ids the chats' last threads have."""
    thread_ids: tuple[str, ...] = ()
    """Also these threads of the chats, however old."""
    event_ids: tuple[str, ...] = ()
    """Also these events of those threads."""
    file_ids: tuple[str, ...] = ()
    """Also what is known of these files, which events of the command show."""
    routing: bool = False
    """Also who waits for an agent on the license, and how busy its agents are. Only for a command that stores."""


class Turn(NamedTuple):
    """An agent was given a chat by the router."""

    license_id: int
    agent_id: str
    given_at: str


class Routing(NamedTuple):
    """Who waits and who is busy on a license, as the batch has left it so far."""

    queue: list[Chat]
    """The chats that wait for an agent, the oldest first."""
    loads: Counter[str]
    """How many active chats with a customer each agent is present in."""
    turns: Mapping[str, str]
    """When the router last gave each agent a chat."""


@dataclass(slots=True)
class Loaded:
    """What a batch of commands works on."""

    chats: dict[str, Chat] = field(default_factory=dict)
    customers: dict[tuple[int, str], Customer] = field(default_factory=dict)
    """By license and id."""
    changed_customers: dict[tuple[int, str], Customer] = field(default_factory=dict)
    """Those of them that commands of the batch have changed."""
    bans: dict[tuple[int, str], CustomerBan] = field(default_factory=dict)
    """By license and customer, what commands of the batch have added."""
    threads: dict[tuple[str, str], Thread] = field(default_factory=dict)
    """By chat and id, those that commands name, but for the chats' last ones."""
    events: dict[str, dict[int, EventBody]] = field(default_factory=dict)
    """By thread and number, in order: those that commands need, and those that the batch has added."""
    texts: dict[str, dict[int, str]] = field(default_factory=dict)
    """By thread and number, in order: all stored events of those threads that commands show, as JSON."""
    custom_ids: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Numbers of events by thread, custom id and author: those that commands need, and those of the batch."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    """By id, those that commands need and that are here."""
    loads: dict[int, Counter[str]] = field(default_factory=dict)
    """Of licenses whose routing commands need: active chats with a customer by agent, without those of the batch."""
    turns: dict[int, dict[str, str]] = field(default_factory=dict)
    """Of those licenses: when the router last gave each agent a chat."""
    new_turns: dict[tuple[int, str], Turn] = field(default_factory=dict)
    """By license and agent, what commands of the batch have added."""
    sequences: dict[int, int] = field(default_factory=dict)
    """The place of each license's newest push."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of memory of the chats that are kept, about, by id."""


@dataclass(slots=True)
class Command:
    """One request to change something, waiting for its turn."""

    license_id: int
    needs: Needs
    apply: Callable[["Work"], Any]
    done: Callable[[Any], None]
    """Called once, after the commit, with what `apply` returned, or with the ApiError that refuses it."""
    stores: bool = True
    """False for a command that only reads chats and pushes what is not stored."""
    origin: Origin | None = None
    expires_at: float = 0.0
    """On the monotonic clock; given by the writer, unless the command has waited for its turn before."""
    answered: bool = False


def open_chats_needed(commands: Iterable[Command]) -> list[tuple[int, str]]:
    """License and id of the customers whose open chats the commands need."""
    return list(
        {
            (command.license_id, customer_id): None
            for command in commands
            if command.needs.open_chats_of_customers
            for customer_id in command.needs.customer_ids
        }
    )


def routing_needed(commands: Iterable[Command]) -> list[int]:
    """Ids of the licenses whose routing the commands need."""
    return list({command.license_id: None for command in commands if command.needs.routing})


def customers_needed(commands: Iterable[Command], batch: Loaded) -> list[tuple[int, str]]:
    """License and id of the customers that the commands name or whose chats they show."""
    needed: dict[tuple[int, str], None] = {}
    for command in commands:
        for customer_id in command.needs.customer_ids:
            needed[command.license_id, customer_id] = None
        if command.needs.users_of_chats:
            for chat_id in command.needs.chat_ids:
                chat = batch.chats.get(chat_id)
                if chat is not None and chat.license_id == command.license_id:
                    needed.update(
                        {(chat.license_id, user.id): None for user in chat.users.values() if user.type == "customer"}
                    )
    return list(needed)


def threads_needed(commands: Iterable[Command], batch: Loaded) -> list[str]:
    """Ids of the last threads whose events the commands need."""
    chats = [
        batch.chats.get(chat_id)
        for command in commands
        if command.needs.events_of_chats
        for chat_id in command.needs.chat_ids
    ]
    return list({chat.thread.id for chat in chats if chat is not None and chat.thread is not None})


def earlier_threads_needed(commands: Iterable[Command], batch: Loaded) -> list[str]:
    """Ids of the threads that the commands name; the chats' last ones have come with their chats."""
    named = {thread_id for command in commands for thread_id in command.needs.thread_ids}
    return list(named - {chat.thread.id for chat in batch.chats.values() if chat.thread is not None}) if named else []


def events_needed(commands: Iterable[Command]) -> list[tuple[str, int]]:
    """Thread and number of the events that the commands name."""
    needed: dict[tuple[str, int], None] = {}
    for command in commands:
        for named in command.needs.event_ids:
            for thread_id in command.needs.thread_ids:
                number = event_number(thread_id, named)
                if number is not None:
                    needed[thread_id, number] = None
    return list(needed)


def custom_ids_needed(commands: Iterable[Command], batch: Loaded) -> list[tuple[str, str]]:
    """Ids of the last threads and the custom ids to look for in them."""
    needed: dict[tuple[str, str], None] = {}
    for command in commands:
        for custom_id in command.needs.custom_ids:
            for chat_id in command.needs.chat_ids:
                chat = batch.chats.get(chat_id)
                if chat is not None and chat.thread is not None:
                    needed[chat.thread.id, custom_id] = None
    return list(needed)


def files_needed(commands: Iterable[Command]) -> list[str]:
    """Ids of the files that the commands need."""
    return list({file_id: None for command in commands for file_id in command.needs.file_ids})


class Clock:
    """UTC in microseconds since 1970, never twice the same: the order of an author's events is that of their times."""

    def __init__(self, microseconds: Callable[[], int]) -> None:
        self._microseconds = microseconds
        self._last = 0

    def tick(self) -> int:
        """The time, or a microsecond after the last answer."""
        self._last = max(self._microseconds(), self._last + 1)
        return self._last


class Work:
    """What one command sees (`chat`, `thread`, `event`, `customer`, `now`) and changes.

    It changes by `add`, `append`, `post`, `event_changed`, `save`, `ban`, `gave` and `push`.
    """

    __slots__ = (
        "_changed",
        "_loaded",
        "_now",
        "_revisions",
        "changed_events",
        "events",
        "kept_file_ids",
        "license_id",
        "new_chats",
        "origin",
        "pushes",
    )

    def __init__(self, command: Command, loaded: Loaded, now: Callable[[], str]) -> None:
        self.license_id = command.license_id
        self.origin = command.origin
        self.events: list[NewEvent] = []
        self.changed_events: list[ChangedEvent] = []
        self.pushes: list[Envelope] = []
        self.new_chats: list[Chat] = []
        self.kept_file_ids: list[str] = []
        self._loaded = loaded
        self._now = now
        self._revisions: dict[str, int] = {}
        self._changed = False

    def now(self) -> str:
        """The time, later at each call, in the protocol's form."""
        return self._now()

    def chat(self, chat_id: str) -> Chat:
        """A chat of the requester's license. Raises NotFound."""
        chat = self._loaded.chats.get(chat_id)
        if chat is None or chat.license_id != self.license_id:
            raise NotFound("Chat not found")
        self._revisions.setdefault(chat_id, chat.revision)
        return chat

    def thread(self, chat: Chat, thread_id: str) -> Thread:
        """A thread of the chat, for a command that needs it. Raises NotFound."""
        thread = chat.find_thread(thread_id) or self._loaded.threads.get((chat.id, thread_id))
        if thread is None:
            raise NotFound("Thread not found")
        return thread

    def event(self, thread: Thread, event_id: str) -> EventBody:
        """An event of the thread, for a command that needs it. Raises NotFound."""
        number = event_number(thread.id, event_id)
        body = None if number is None else self._loaded.events.get(thread.id, {}).get(number)
        if body is None:
            raise NotFound("Event not found")
        return body

    def customer(self, customer_id: str) -> Customer:
        """A customer of the requester's license. Raises NotFound."""
        customer = self.find_customer(customer_id)
        if customer is None:
            raise NotFound("Customer not found")
        return customer

    def find_customer(self, customer_id: str) -> Customer | None:
        """A customer of the requester's license, if it was loaded."""
        return self._loaded.customers.get((self.license_id, customer_id))

    def open_chats_of(self, customer: Customer) -> list[Chat]:
        """Those that the customer is in, the oldest first, for a command that needs them."""
        found = [
            chat
            for chat in self._loaded.chats.values()
            if chat.license_id == self.license_id and chat.active and chat.member(customer.id) is not None
        ]
        for chat in found:
            self._revisions.setdefault(chat.id, chat.revision)
        return sorted(found, key=lambda chat: (chat.sorted_at, chat.id))

    def save(self, customer: Customer) -> None:
        """Store a customer as it is now."""
        key = (self.license_id, customer.id)
        self._loaded.customers[key] = self._loaded.changed_customers[key] = customer
        self._changed = True

    def ban(self, ban: CustomerBan) -> None:
        """Store the ban of a customer, in place of an earlier one."""
        self._loaded.bans[self.license_id, ban.customer_id] = ban
        self._changed = True

    def events_of(self, thread_id: str) -> ShownEvents:
        """The events of a chat's last thread, for a command that needs them."""
        # There may be very many, which nobody looks into but those whom they are shown to.
        texts = self._loaded.texts.get(thread_id, {})
        stored = {number: orjson.Fragment(text) for number, text in texts.items()}
        return list((stored | self._loaded.events.get(thread_id, {})).values())

    def find_event(self, chat: Chat, author_id: str, custom_id: str | None) -> str | None:
        """Id of the author's event with this custom id in the chat's last thread, for a command that needs it."""
        if custom_id is None or chat.thread is None:
            return None
        number = self._loaded.custom_ids.get((chat.thread.id, custom_id, author_id))
        return None if number is None else event_id(chat.thread.id, number)

    def routing(self) -> Routing:
        """Who waits and who is busy on the license, for a command that needs it."""
        queue: list[Chat] = []
        loads = Counter(self._loaded.loads[self.license_id])
        for chat in (*self._loaded.chats.values(), *self.new_chats):
            if chat.license_id == self.license_id and chat.active:
                if chat.queued_at is not None:
                    queue.append(chat)
                    self._revisions.setdefault(chat.id, chat.revision)
                if chat.present_ids("customer"):
                    loads.update(chat.present_ids("agent"))
        queue.sort(key=lambda chat: (chat.queued_at, chat.id))
        return Routing(queue, loads, self._loaded.turns[self.license_id])

    def gave(self, agent_id: str) -> None:
        """The router has given the agent a chat; others are next, for a command that needs routing."""
        turn = Turn(self.license_id, agent_id, self.now())
        self._loaded.turns[self.license_id][agent_id] = turn.given_at
        self._loaded.new_turns[self.license_id, agent_id] = turn
        self._changed = True

    def add(self, chat: Chat) -> Chat:
        """Store a new chat."""
        self.new_chats.append(chat)
        return chat

    def append(self, chat: Chat, body: EventBody, author_id: str) -> str:
        """Store an event in the chat's last thread; its id. Files that it shows are kept. Raises ValidationError."""
        if body["type"] == "file":
            stored = self.file_at(body["url"])
            describe(body, stored)
            if stored is not None:
                self._keep(stored)
        elif body["type"] == "rich_message":
            for file_id in ids_in(image_urls(body)):
                image = self._find_file(file_id)
                if image is not None:
                    self._keep(image)
        event = chat.append(body, author_id)
        self.events.append(event)
        self._loaded.events.setdefault(event.thread_id, {})[event.number] = body
        custom_id = body.get("custom_id")
        if custom_id is not None:
            self._loaded.custom_ids[event.thread_id, custom_id, author_id] = event.number
        return str(event.body["id"])

    def file_at(self, url: str) -> StoredFile | None:
        """The file that a file event of this URL shows, None for one that is not ours. Raises ValidationError."""
        file_id = id_in(url)
        if file_id is None:
            return None
        stored = self._find_file(file_id)
        if stored is None:
            raise ValidationError("`event.url` names no file that is here: an unused one expires after 24 hours")
        return stored

    def _find_file(self, file_id: str) -> StoredFile | None:
        stored = self._loaded.files.get(file_id)
        if stored is None or stored.license_id != self.license_id or stored.has_expired(self.now()):
            return None
        return stored

    def _keep(self, stored: StoredFile) -> None:
        """Have the file live as long as the event that shows it."""
        if stored.expires_at is not None:
            self.kept_file_ids.append(stored.id)

    def post(self, chat: Chat, body: EventBody, author_id: str = "") -> str:
        """Store an event in the chat's last thread and tell who may see it (`incoming_event`); its id.

        A system message has no author. Anybody else who writes wakes an idle chat.
        """
        event_id = self.append(chat, body, author_id)
        assert chat.thread is not None
        told: IncomingEvent = {"chat_id": chat.id, "thread_id": chat.thread.id, "event": body}
        self.push("incoming_event", told, chat.audience(body["visibility"]))
        if author_id and chat.idle:
            self.set_routing(chat, idle=False)
        return event_id

    def set_routing(self, chat: Chat, **values: bool) -> None:
        """Set properties of the chat's last thread, those of `routing`, and tell (`thread_properties_updated`)."""
        thread = chat.thread
        assert thread is not None
        chat.set_thread_properties(thread, with_routing(thread.properties, **values))
        told: ThreadPropertiesUpdated = {
            "chat_id": chat.id,
            "thread_id": thread.id,
            "properties": {"routing": dict(values)},
        }
        self.push("thread_properties_updated", told, chat.audience("all"))

    def event_changed(self, chat: Chat, thread: Thread, body: EventBody, *, found_anew: bool = False) -> None:
        """Store an event of the chat as it is now; `body` is what `event` gave.

        `found_anew` if the list of archives finds its thread by other values than before.
        """
        number = event_number(thread.id, body["id"])
        assert number is not None
        chat.event_changed(body)
        if found_anew:
            chat.find_anew(thread)
        self.changed_events.append(ChangedEvent(thread.id, number, body))

    def push(self, name: str, payload: Any, to: Audience, *, stored: bool = True) -> None:
        """Tell the audience, once this is committed; what is not stored takes no place in the license's sequence."""
        envelope = Envelope(self.license_id, name, orjson.dumps(payload), to, origin=self.origin)
        if stored:
            # The place is given in the transaction that stores it: the writer holds the license's row.
            envelope.sequence = self._loaded.sequences[self.license_id] = self._loaded.sequences[self.license_id] + 1
        self.pushes.append(envelope)

    def changed_before_failing(self) -> bool:
        """Whether the command had changed something when it was refused, so that the batch must forget it."""
        return self._changed or any(
            self._loaded.chats[chat_id].revision != revision for chat_id, revision in self._revisions.items()
        )
