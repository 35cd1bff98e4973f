"""What pushes say, in 3.6's vocabulary: the class of the push `incoming_event` is `IncomingEvent`.

They cost nothing at run time, and are what the published schemas of pushes are made of.
"""

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from rtm.model.chat import Visibility
from rtm.model.requests.events import ToggledButton
from rtm.model.shown import (
    Access,
    Cart,
    Chat,
    Customer,
    CustomerAddress,
    Event,
    Moment,
    Properties,
    Queue,
    Shape,
    Status,
    Summary,
    User,
)


def payload_of(push: str) -> Any:
    """The class of a push by its name. Raises KeyError."""
    return globals()[push.title().replace("_", "")]


# Chats


class TransferredFrom(TypedDict):
    """Where a chat was before."""

    group_ids: list[int]
    agent_ids: list[str]


class IncomingChat(TypedDict):
    """A chat has been started or resumed, or has come to the agent."""

    requester_id: NotRequired[str]
    chat: Chat
    transferred_from: NotRequired[TransferredFrom]


class ChatDeactivated(TypedDict):
    """The open thread has been closed; by nobody if `user_id` is missing."""

    chat_id: str
    thread_id: str
    user_id: NotRequired[str]


class ChatAccessUpdated(TypedDict):
    """Other groups may see the chat."""

    id: str
    access: Access


class TransferredTo(TypedDict):
    """Where a chat is now."""

    group_ids: NotRequired[list[int]]
    agent_ids: NotRequired[list[str]]


class ChatTransferred(TypedDict):
    """A chat has gone to other groups or agents, or into their queue."""

    chat_id: str
    thread_id: NotRequired[str]
    requester_id: NotRequired[str]
    reason: str
    transferred_to: TransferredTo
    queue: NotRequired[Queue]


class ChatUnfollowed(TypedDict):
    """The agent hears key changes of the chat only."""

    chat_id: str


class QueuePosition(TypedDict):
    """The place of a chat that waits."""

    chat_id: str
    thread_id: str
    queue: Queue


QueuePositionsUpdated = list[QueuePosition]


# Users of chats


class UserAddedToChat(TypedDict):
    """Somebody takes part in a chat."""

    chat_id: str
    thread_id: NotRequired[str]
    user: User
    reason: str
    requester_id: NotRequired[str]


class UserRemovedFromChat(TypedDict):
    """Somebody takes part in a chat no longer."""

    chat_id: str
    thread_id: NotRequired[str]
    user_id: str
    reason: str
    requester_id: NotRequired[str]


# Events


class _OfThread(TypedDict):
    chat_id: str
    thread_id: str


class _OfEvent(_OfThread):
    event_id: str


class IncomingEvent(_OfThread):
    """An event has been added to a thread."""

    event: Event


class EventUpdated(_OfThread):
    """An event is like this now."""

    event: Event


class EventDeleted(_OfEvent):
    """An event has been taken away."""


class IncomingRichMessagePostback(_OfEvent):
    """Somebody has pressed or released a button of a rich message."""

    user_id: str
    postback: Annotated[dict[str, Any], Shape(ToggledButton)]


class TypingIndicator(TypedDict):
    """Who types; `timestamp` in seconds since 1970."""

    author_id: str
    visibility: Visibility
    timestamp: int
    is_typing: bool


class IncomingTypingIndicator(_OfThread):
    """Somebody types, or no longer does."""

    typing_indicator: TypingIndicator


class IncomingThinkingIndicator(_OfThread):
    """Somebody is preparing an answer."""

    author_id: str
    sent_at: Moment
    title: NotRequired[str]
    description: NotRequired[str]
    custom_id: NotRequired[str]


class SneakPeek(TypedDict):
    """What a customer has written and not sent; `timestamp` in seconds since 1970."""

    author_id: str
    text: str
    timestamp: int


class IncomingSneakPeek(_OfThread):
    """A customer is writing."""

    sneak_peek: SneakPeek


class EventsMarkedAsSeen(TypedDict):
    """Somebody has read a chat up to a time."""

    user_id: str
    chat_id: str
    seen_up_to: Moment


class ThreadSummarySet(_OfThread):
    """A thread has a summary."""

    summary: Summary


class IncomingError(_OfThread):
    """What was asked for could not be done later on."""

    action: str


# Properties and tags


class ChatPropertiesUpdated(TypedDict):
    """Properties that have been set."""

    chat_id: str
    properties: Properties


class ChatPropertiesDeleted(TypedDict):
    """Names of properties that have been deleted, by namespace."""

    chat_id: str
    properties: dict[str, list[str]]


class ThreadPropertiesUpdated(_OfThread):
    """Properties that have been set."""

    properties: Properties


class ThreadPropertiesDeleted(_OfThread):
    """Names of properties that have been deleted, by namespace."""

    properties: dict[str, list[str]]


class EventPropertiesUpdated(_OfEvent):
    """Properties that have been set."""

    properties: Properties


class EventPropertiesDeleted(_OfEvent):
    """Names of properties that have been deleted, by namespace."""

    properties: dict[str, list[str]]


class ThreadTagged(_OfThread):
    """A thread has a tag more."""

    tag: str


class ThreadUntagged(_OfThread):
    """A thread has a tag less."""

    tag: str


# Customers


IncomingCustomer = Customer


class CustomerUpdated(TypedDict):
    """Those fields of a customer that have changed, as they are now."""

    id: str
    type: Literal["customer"]
    name: NotRequired[str]
    email: NotRequired[str]
    avatar: NotRequired[str]
    phone_number: NotRequired[str]
    session_fields: NotRequired[list[dict[str, str]]]
    omnichannel: NotRequired[dict[str, list[dict[str, Any]]]]
    address: NotRequired[CustomerAddress]
    cart: NotRequired[Cart]


class BanLength(TypedDict):
    """How long a ban lasts."""

    days: int


class CustomerBanned(TypedDict):
    """A customer may not come back for some days."""

    customer_id: str
    ban: BanLength


# Agents


class RoutingStatusSet(TypedDict):
    """An agent or a bot has another routing status."""

    agent_id: str
    status: Status


class AgentDisconnected(TypedDict):
    """The server ends the connection; the last push on it. `data` has what a program can use, such as the region."""

    reason: str
    data: NotRequired[dict[str, Any]]


class IncomingMulticast(TypedDict):
    """A message apart from chats."""

    author_id: NotRequired[str]
    content: Any
    type: NotRequired[str]
