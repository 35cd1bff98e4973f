"""What clients are shown: the structures that responses and pushes consist of, in 3.6's vocabulary.

They cost nothing at run time: mypy checks what is written against them, and the schemas of `rtm.documents` are made of
them. A name stands for one structure, whoever shows it.

Source: the public reference, "Data structures".
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from rtm.model.chat import Visibility
from rtm.model.events import Postback
from rtm.model.forms import FilledFormField, FormField
from rtm.model.requests.sessions import RoutingStatus
from rtm.model.rich_messages import Element

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 with microseconds, UTC."""
Properties = dict[str, dict[str, Any]]
"""Namespace -> name -> value."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Marks what no code builds field by field, as it is kept and shown as it came, with what it consists of.

    For mypy it stays what it is: a dict, a str.
    """

    of: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.of)


Status = Annotated[str, Shape(RoutingStatus)]


# Events


class _AnyEvent(TypedDict):
    id: str
    custom_id: NotRequired[str]
    created_at: Moment
    visibility: Visibility
    properties: NotRequired[Properties]


class _WrittenEvent(_AnyEvent):
    author_id: str


class MessageEvent(_WrittenEvent):
    """Text."""

    type: Literal["message"]
    text: str
    postback: NotRequired[Postback]


class FileEvent(_WrittenEvent):
    """A file; sizes in bytes and pixels, thumbnails and sizes of images that were uploaded here only."""

    type: Literal["file"]
    name: str
    url: str
    content_type: str
    thumbnail_url: NotRequired[str]
    thumbnail2x_url: NotRequired[str]
    size: NotRequired[int]
    width: NotRequired[int]
    height: NotRequired[int]
    alternative_text: NotRequired[str]


class RichMessageEvent(_WrittenEvent):
    """Cards, quick replies, a sticker or products."""

    type: Literal["rich_message"]
    template_id: Literal["cards", "sticker", "quick_replies", "ecommerce"]
    elements: NotRequired[list[Element]]


class CustomEvent(_WrittenEvent):
    """Whatever the integrations at both ends agree on."""

    type: Literal["custom"]
    content: NotRequired[dict[str, Any]]


class FormEvent(_WrittenEvent):
    """An empty form."""

    type: Literal["form"]
    form_id: str
    fields: list[FormField]


class FilledFormEvent(_WrittenEvent):
    """A form with its answers."""

    type: Literal["filled_form"]
    form_id: str
    fields: list[FilledFormField]


class SystemMessageEvent(_AnyEvent):
    """What happened; it has no author."""

    type: Literal["system_message"]
    system_message_type: str
    text: NotRequired[str]
    text_vars: NotRequired[dict[str, Any]]


class SystemEvent(_AnyEvent):
    """What happened; `details` is a JSON document that `source`, `subtype` and `version` say the form of."""

    type: Literal["system"]
    source: str
    subtype: str
    version: int
    details: str


_Events = (
    MessageEvent
    | FileEvent
    | RichMessageEvent
    | CustomEvent
    | FormEvent
    | FilledFormEvent
    | SystemMessageEvent
    | SystemEvent
)
Event = Annotated[dict[str, Any], Shape(Annotated[_Events, Field(discriminator="type")])]
"""Something said or done in a thread, told apart by `type`."""


class RestrictedEvent(TypedDict):
    """In place of an event of a thread that the requester has no access to."""

    restricted_access: str


# Users


class _AnyAgent(TypedDict):
    id: str
    type: Literal["agent"]
    name: NotRequired[str]
    email: NotRequired[str]
    present: bool
    events_seen_up_to: NotRequired[Moment]
    avatar: str


class Agent(_AnyAgent):
    """An agent or a bot as a user of a chat."""

    visibility: Visibility


class MyProfile(_AnyAgent):
    """The requester's own account."""

    routing_status: Status
    permission: str


class Geolocation(TypedDict):
    """Where an address is."""

    country: NotRequired[str]
    country_code: NotRequired[str]
    region: NotRequired[str]
    city: NotRequired[str]
    timezone: NotRequired[str]
    latitude: NotRequired[str]
    longitude: NotRequired[str]


class VisitedPage(TypedDict):
    """A page that a customer has opened."""

    opened_at: Moment
    url: str
    title: str


class Visit(TypedDict):
    """A customer's time on the website."""

    started_at: Moment
    ended_at: NotRequired[Moment]
    referrer: NotRequired[str]
    ip: str
    user_agent: NotRequired[str]
    geolocation: NotRequired[Geolocation]
    last_pages: NotRequired[list[VisitedPage]]


class Statistics(TypedDict):
    """What has been counted of a customer."""

    chats_count: NotRequired[int]
    threads_count: NotRequired[int]
    visits_count: NotRequired[int]
    page_views_count: NotRequired[int]
    greetings_shown_count: NotRequired[int]
    greetings_accepted_count: NotRequired[int]
    tickets_count: NotRequired[int]


class Counts(TypedDict):
    """The same, as pushes tell it: zero for what nobody counts."""

    chats_count: int
    threads_count: int
    visits_count: int
    page_views_count: int
    greetings_accepted_count: int
    greetings_converted_count: int
    tickets_count: int
    tickets_inbox_count: int
    tickets_archive_count: int
    tickets_spam_count: int
    tickets_trash_count: int
    orders_count: int
    last_visit_started_at: NotRequired[Moment]


class Ticket(TypedDict):
    """A ticket of a customer."""

    ticket_id: str
    created_at: Moment


class CartItem(TypedDict):
    """A product in a cart."""

    id: int
    quantity: int
    variant_id: int


class Cart(TypedDict):
    """A customer's shopping cart."""

    store_uuid: str
    store_platform: str
    customer_signed_in: bool
    subtotal: float
    total: float
    subtotal_usd: float
    total_usd: float
    currency: str
    last_updated_at: Moment
    items: list[CartItem]


class CustomerAddress(TypedDict):
    """Where a customer lives."""

    address: NotRequired[str]
    city: NotRequired[str]
    country: NotRequired[str]
    state: NotRequired[str]
    postal_code: NotRequired[str]


class _AnyCustomer(TypedDict):
    id: str
    type: Literal["customer"]
    name: NotRequired[str]
    email: NotRequired[str]
    avatar: NotRequired[str]
    phone_number: NotRequired[str]
    session_fields: NotRequired[list[dict[str, str]]]
    agent_last_event_created_at: NotRequired[Moment]
    customer_last_event_created_at: NotRequired[Moment]
    omnichannel: NotRequired[dict[str, list[dict[str, Any]]]]
    address: NotRequired[CustomerAddress]
    visit: NotRequired[Visit]
    tickets: NotRequired[list[Ticket]]


class Customer(_AnyCustomer):
    """A customer, in a chat or apart from any."""

    email_verified: NotRequired[bool]
    created_at: NotRequired[Moment]
    present: NotRequired[bool]
    events_seen_up_to: NotRequired[Moment]
    followed: NotRequired[bool]
    online: NotRequired[bool]
    group_ids: NotRequired[list[int]]
    state: NotRequired[str]
    statistics: NotRequired[Statistics]
    carts: NotRequired[list[Cart]]


class CustomerWithChats(_AnyCustomer):
    """A customer with what their chats tell."""

    created_at: Moment
    statistics: Statistics
    chat_ids: NotRequired[list[str]]


User = Annotated[Agent | Customer, Field(discriminator="type")]
"""A user of a chat, told apart by `type`."""


# Chats


class Access(TypedDict):
    """Who may see a chat or thread: agents of these groups. Group 0 is everybody."""

    group_ids: list[int]


class Queue(TypedDict):
    """Where a chat waits; `wait_time` is an estimate in seconds."""

    position: int
    wait_time: int
    queued_at: NotRequired[Moment]


class Summary(TypedDict):
    """A summary of a thread."""

    status: str
    text: str
    updated_at: Moment


class CustomerVisit(TypedDict):
    """From where the customer came to a thread."""

    ip: NotRequired[str]
    user_agent: NotRequired[str]
    geolocation: NotRequired[Geolocation]


class ThreadSummary(TypedDict):
    """A thread in brief: neither its events nor its neighbours."""

    id: str
    created_at: Moment
    active: bool
    user_ids: list[str]
    properties: Properties
    access: Access
    queue: NotRequired[Queue]
    tags: NotRequired[list[str]]


class Thread(TypedDict):
    """A thread with its events; without them if `restricted_access` says why."""

    id: str
    created_at: Moment
    active: bool
    user_ids: list[str]
    events: NotRequired[list[Event]]
    properties: NotRequired[Properties]
    access: NotRequired[Access]
    tags: NotRequired[list[str]]
    restricted_access: NotRequired[str]
    queue: NotRequired[Queue]
    queues_duration: NotRequired[int]
    previous_thread_id: NotRequired[str]
    next_thread_id: NotRequired[str]
    summary: NotRequired[Summary]
    customer_visit: NotRequired[CustomerVisit]


class Chat(TypedDict):
    """A chat with one of its threads."""

    id: str
    thread: NotRequired[Thread]
    users: list[User]
    properties: Properties
    access: Access


class AccessibleNeighbours(TypedDict):
    """The next threads before and after one that the requester may see."""

    previous_accessible_thread_id: NotRequired[str]
    next_accessible_thread_id: NotRequired[str]


class ArchivedThread(Thread, AccessibleNeighbours):
    """A thread in the list of archives."""


class ArchivedChat(TypedDict):
    """A chat with one of its threads, as one agent sees it."""

    id: str
    thread: ArchivedThread
    users: list[User]
    properties: Properties
    access: Access
    is_followed: bool


class LastEvent(TypedDict):
    """The last event of its type, and the thread that it is in."""

    thread_id: str
    thread_created_at: Moment
    event: Annotated[dict[str, Any], Shape(_Events | RestrictedEvent)]


class ChatSummary(TypedDict):
    """A chat with its last thread and, by type, its last events, as one agent sees it."""

    id: str
    last_event_per_type: dict[str, LastEvent]
    users: list[User]
    last_thread_summary: NotRequired[ThreadSummary]
    properties: Properties
    access: Access
    is_followed: bool


class License(TypedDict):
    """The license that the requester belongs to; times in seconds since 1970."""

    id: str
    organization_id: str
    plan: str
    creation_timestamp: int
    expiration_timestamp: NotRequired[int]
    in_trial: bool


# What only pushes have


class TransferredFrom(TypedDict):
    """Where a chat was before."""

    group_ids: list[int]
    agent_ids: list[str]


class TransferredTo(TypedDict):
    """Where a chat is now."""

    group_ids: NotRequired[list[int]]
    agent_ids: NotRequired[list[str]]


class QueuePosition(TypedDict):
    """The place of a chat that waits."""

    chat_id: str
    thread_id: str
    queue: Queue


class TypingIndicator(TypedDict):
    """Who types; `timestamp` in seconds since 1970."""

    author_id: str
    visibility: Visibility
    timestamp: int
    is_typing: bool


class BanLength(TypedDict):
    """How long a ban lasts."""

    days: int


class GroupStatus(TypedDict):
    """Whether a group accepts chats."""

    id: int
    status: str
