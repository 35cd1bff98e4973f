"""The catalogue of pushes: what each says, in 3.6's vocabulary, and whom it is for.

The class of the push `incoming_event` is `IncomingEvent`. Classes cost nothing at run time; the published schemas of
pushes are made of them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from rtm.model.requests.events import ToggledButton
from rtm.model.shown import (
    Access,
    BanLength,
    Cart,
    Chat,
    Counts,
    Customer,
    CustomerAddress,
    Event,
    GroupStatus,
    Moment,
    Properties,
    Queue,
    QueuePosition,
    Shape,
    Status,
    Summary,
    TransferredFrom,
    TransferredTo,
    TypingIndicator,
    User,
)

Subject = Literal["chat", "customer"]
C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True)
class Push:
    """One entry of the catalogue."""

    payload: Any
    """The class, or the type, of what it says."""
    scopes: tuple[str, ...]
    """One of these is needed; none when empty. Source: the reference, "Login"."""
    about: Subject | None
    """A chat: for those only who may see it. A customer: for those who track them, too, or have them in a chat."""


PUSHES: dict[str, Push] = {}
"""Every push that is sent, by name."""


def _push(*scopes: str, about: Subject | None = None) -> Callable[[C], C]:
    """Declare the class below as the push of its name."""

    def declare(payload: C) -> C:
        name = re.sub(r"\B(?=[A-Z])", "_", payload.__name__).lower()
        PUSHES[name] = Push(payload, scopes, about)
        return payload

    return declare


_CHATS = ("chats--all:ro", "chats--access:ro", "chats--my:ro")
_CUSTOMERS = ("customers:ro",)
_of_chat = _push(*_CHATS, about="chat")
_of_customer = _push(*_CUSTOMERS, about="customer")


# Chats


@_of_chat
class IncomingChat(TypedDict):
    """A chat has been started or resumed, or has come to the agent, who hears all of it from now on."""

    requester_id: NotRequired[str]
    chat: Chat
    transferred_from: NotRequired[TransferredFrom]


@_of_chat
class ChatDeactivated(TypedDict):
    """The open thread has been closed; by nobody if `user_id` is missing."""

    chat_id: str
    thread_id: str
    user_id: NotRequired[str]


@_of_chat
class ChatAccessUpdated(TypedDict):
    """Other groups may see the chat."""

    id: str
    access: Access


@_of_chat
class ChatTransferred(TypedDict):
    """A chat has gone to other groups or agents, or into their queue."""

    chat_id: str
    thread_id: NotRequired[str]
    requester_id: NotRequired[str]
    reason: str
    transferred_to: TransferredTo
    queue: NotRequired[Queue]


@_of_chat
class ChatUnfollowed(TypedDict):
    """The agent hears key changes of the chat only."""

    chat_id: str


PUSHES["queue_positions_updated"] = Push(
    Annotated[list[QueuePosition], Field(description="Chats that wait have other places in their queues.")],
    _CHATS,
    "chat",
)


# Users of chats


@_of_chat
class UserAddedToChat(TypedDict):
    """Somebody takes part in a chat."""

    chat_id: str
    thread_id: NotRequired[str]
    user: User
    reason: str
    requester_id: NotRequired[str]


@_of_chat
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


@_of_chat
class IncomingEvent(_OfThread):
    """An event has been added to a thread."""

    event: Event


@_of_chat
class IncomingRichMessagePostback(_OfEvent):
    """Somebody has pressed or released a button of a rich message."""

    user_id: str
    postback: Annotated[dict[str, Any], Shape(ToggledButton)]


@_of_chat
class IncomingTypingIndicator(_OfThread):
    """Somebody types, or no longer does."""

    typing_indicator: TypingIndicator


@_of_chat
class IncomingThinkingIndicator(_OfThread):
    """Somebody is preparing an answer."""

    author_id: str
    sent_at: Moment
    title: NotRequired[str]
    description: NotRequired[str]
    custom_id: NotRequired[str]


@_of_chat
class EventsMarkedAsSeen(TypedDict):
    """Somebody has read a chat up to a time."""

    user_id: str
    chat_id: str
    seen_up_to: Moment


@_of_chat
class ThreadSummarySet(_OfThread):
    """A thread has a summary."""

    summary: Summary


@_push()
class IncomingError(_OfThread):
    """What was asked for could not be done later on."""

    action: str


# Properties and tags


@_of_chat
class ChatPropertiesUpdated(TypedDict):
    """Properties that have been set."""

    chat_id: str
    properties: Properties


@_of_chat
class ChatPropertiesDeleted(TypedDict):
    """Names of properties that have been deleted, by namespace."""

    chat_id: str
    properties: dict[str, list[str]]


@_of_chat
class ThreadPropertiesUpdated(_OfThread):
    """Properties that have been set."""

    properties: Properties


@_of_chat
class ThreadPropertiesDeleted(_OfThread):
    """Names of properties that have been deleted, by namespace."""

    properties: dict[str, list[str]]


@_of_chat
class EventPropertiesUpdated(_OfEvent):
    """Properties that have been set."""

    properties: Properties


@_of_chat
class EventPropertiesDeleted(_OfEvent):
    """Names of properties that have been deleted, by namespace."""

    properties: dict[str, list[str]]


@_of_chat
class ThreadTagged(_OfThread):
    """A thread has a tag more."""

    tag: str


@_of_chat
class ThreadUntagged(_OfThread):
    """A thread has a tag less."""

    tag: str


# Customers


PUSHES["incoming_customer"] = Push(Customer, _CUSTOMERS, "customer")


@_of_customer
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


@_of_customer
class IncomingCustomers(TypedDict):
    """The customers that the agent watches from now on."""

    customer_monitoring_level: str
    customers: list[Customer]


@_of_customer
class CustomerLeft(TypedDict):
    """A customer is no longer on the website."""

    id: str
    left_at: Moment


@_of_customer
class CustomerStatisticsUpdated(TypedDict):
    """A customer has another number of chats or threads."""

    customer_id: str
    statistics: Counts


@_of_customer
class CustomerTransferred(TypedDict):
    """A customer is out of the agent's sight, in other groups."""

    id: str
    transferred_to: Access
    followed: bool


PUSHES["subscribed_customers_totals_updated"] = Push(
    Annotated[
        dict[str, int],
        Field(description="How many customers there are of each subscription that has more than its limit, by its id."),
    ],
    _CUSTOMERS,
    "customer",
)


@_of_customer
class CustomerBanned(TypedDict):
    """A customer may not come back for some days."""

    customer_id: str
    ban: BanLength


# Agents


@_push("agents--all:ro", "agents-bot--all:ro")  # which of them, its audience says
class RoutingStatusSet(TypedDict):
    """An agent or a bot has another routing status."""

    agent_id: str
    status: Status


@_push()
class GroupsStatusUpdated(TypedDict):
    """Groups have begun or ceased to accept chats."""

    groups: list[GroupStatus]


OldReason = Literal[
    "access_token_expired",
    "access_token_revoked",
    "agent_disconnected_by_server",
    "agent_logged_out_remotely",
    "connection_evicted",
    "connection_timeout",
    "internal_error",
    "license_expired",
    "license_not_found",
    "misdirected_connection",
    "too_many_connections",
    "too_many_unauthorized_connections",
    "unsupported_version",
]
"""Why a connection ends, in all versions."""
Reason = Literal[OldReason, "role_permissions_changed"]

_AFTERWARDS = (
    "Come back after `connection_timeout`, `internal_error`, `too_many_unauthorized_connections` and a change of the "
    "role's permissions, and with a new token after `access_token_expired`; after the others do not."
)


@_push()
class AgentDisconnected(TypedDict):
    """The server ends the connection; the last push on it. `data` has what a program can use, such as the region."""

    reason: Annotated[Reason, Field(description=_AFTERWARDS)]
    data: NotRequired[dict[str, Any]]


@_push("multicast:ro")
class IncomingMulticast(TypedDict):
    """A message apart from chats."""

    author_id: NotRequired[str]
    content: Any
    type: NotRequired[str]
