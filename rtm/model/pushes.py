"""What pushes say, in 3.6's vocabulary: the class of the push `incoming_event` is `IncomingEvent`.

They cost nothing at run time, and are what the published schemas of pushes are made of. One that no action declares is
named in `rtm.documents.schemas`, too.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired

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
    GroupPriority,
    GroupStatus,
    Moment,
    Properties,
    Queue,
    QueuePosition,
    Shape,
    SneakPeek,
    Status,
    Summary,
    TransferredFrom,
    TransferredTo,
    TypingIndicator,
    User,
    WorkScheduler,
)


@lru_cache(maxsize=256)
def payload_of(push: str) -> Any:
    """The class of a push by its name; None for one that has none."""
    return globals().get(push.title().replace("_", ""))


# Chats


class IncomingChat(TypedDict):
    """A chat has been started or resumed, or has come to the agent, who hears all of it from now on."""

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


QueuePositionsUpdated = Annotated[
    list[QueuePosition], Field(description="Chats that wait have other places in their queues.")
]


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


class IncomingCustomers(TypedDict):
    """The customers that the agent watches from now on."""

    customer_monitoring_level: str
    customers: list[Customer]


class CustomerLeft(TypedDict):
    """A customer is no longer on the website."""

    id: str
    left_at: Moment


class CustomerStatisticsUpdated(TypedDict):
    """A customer has another number of chats or threads."""

    customer_id: str
    statistics: Counts


class CustomerTransferred(TypedDict):
    """A customer is out of the agent's sight, in other groups."""

    id: str
    transferred_to: Access
    followed: bool


SubscribedCustomersTotalsUpdated = Annotated[
    dict[str, int],
    Field(description="How many customers there are of each subscription that has more than its limit, by its id."),
]


class CustomerBanned(TypedDict):
    """A customer may not come back for some days."""

    customer_id: str
    ban: BanLength


# Agents


class RoutingStatusSet(TypedDict):
    """An agent or a bot has another routing status."""

    agent_id: str
    status: Status


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


class AgentDisconnected(TypedDict):
    """The server ends the connection; the last push on it. `data` has what a program can use, such as the region."""

    reason: Annotated[Reason, Field(description=_AFTERWARDS)]
    data: NotRequired[dict[str, Any]]


class IncomingMulticast(TypedDict):
    """A message apart from chats."""

    author_id: NotRequired[str]
    content: Any
    type: NotRequired[str]


class AgentCreated(TypedDict):
    """There is another agent."""

    id: str
    name: NotRequired[str]
    role: NotRequired[str]
    awaiting_approval: NotRequired[bool]
    groups: NotRequired[list[GroupPriority]]
    notifications: NotRequired[list[str]]
    email_subscriptions: NotRequired[list[str]]
    work_scheduler: NotRequired[WorkScheduler]


class AgentUpdated(AgentCreated):
    """Those fields of an agent that have changed, as they are now."""


class BotCreated(TypedDict):
    """There is another bot."""

    id: str
    name: NotRequired[str]
    default_group_priority: NotRequired[str]
    groups: NotRequired[list[GroupPriority]]
    owner_client_id: NotRequired[str]
    work_scheduler: NotRequired[WorkScheduler]


class BotUpdated(BotCreated):
    """Those fields of a bot that have changed, as they are now."""
