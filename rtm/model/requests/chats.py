"""Payloads about chats, their threads and their users."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rtm.model.chat import UserType, Visibility
from rtm.model.events import NewEvent, visible_to_all
from rtm.model.payload import (
    AtMost,
    Between,
    Expected,
    GroupId,
    GroupIds,
    Id,
    Payload,
    SortOrder,
    Text,
    Timestamp,
    check_alone,
    check_one,
)
from rtm.model.properties import Properties, PropertyName, PropertyValue
from rtm.protocol.validation import refusal

MAX_ADDITIONAL_AGENTS = 4
MAX_INITIAL_EVENTS = 100
MAX_PROPERTY_FILTERS = 20

Limit = Annotated[int, Between(1, 100), Field(description="How many there are on a page at most.")]
PageId = Annotated[
    str,
    Text(1 << 16, least=1),  # it holds the filters of the first page
    Field(
        description="The `next_page_id` or `previous_page_id` of an answer, for that page. It remembers what the first "
        "page was asked for: `filters`, `limit` and order are not sent again."
    ),
]
Active = Annotated[
    bool,
    Field(description="`false`: the thread is closed from its beginning, such as to bring in an old conversation."),
]
_CONTINUOUS = "`true`: the chat is not closed because there is no agent who could take it: it waits, unassigned."
IgnorePresence = Annotated[bool, Field(description="`true`: who has access to the chat may do it without being in it.")]
PropertyValues = Annotated[list[PropertyValue], AtMost(100)]


class Page(Payload):
    """One page of a list."""

    page_id: PageId | None = None

    @model_validator(mode="after")
    def _page_alone(self) -> Self:
        check_alone(self, "page_id", "filters", "limit", "sort_order")
        return self


class PropertyFilter(Payload):
    """What one property must be like; exactly one of the three is given."""

    exists: bool | None = None
    values: PropertyValues | None = None
    exclude_values: PropertyValues | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        check_one(self, "exists", "values", "exclude_values")
        return self


def _few(filters: dict[str, dict[str, PropertyFilter]]) -> dict[str, dict[str, PropertyFilter]]:
    """Each of them is a condition of the database's query, which it takes long to plan if there are many."""
    if sum(map(len, filters.values())) > MAX_PROPERTY_FILTERS:
        raise refusal(f"must name at most {MAX_PROPERTY_FILTERS} properties")
    return filters


PropertyFilters = Annotated[
    dict[PropertyName, Annotated[dict[PropertyName, PropertyFilter], AtMost(MAX_PROPERTY_FILTERS)]],
    AtMost(MAX_PROPERTY_FILTERS),
    AfterValidator(_few),
]


class ChatsFilters(Payload):
    """What chats must be like, in all of these respects."""

    active: Annotated[
        bool | None, Field(description="`true`: active chats only; `false`: inactive ones only; both if missing.")
    ] = None
    include_chats_without_threads: bool = True
    group_ids: GroupIds | None = None
    properties: PropertyFilters | None = None


class ListChats(Page):
    """`list_chats`"""

    filters: ChatsFilters | None = None
    sort_order: SortOrder = "desc"
    limit: Limit = 10


class ThreadsFilters(Payload):
    """The span of time in which threads were created."""

    from_: Annotated[Timestamp | None, Field(alias="from")] = None
    to: Timestamp | None = None


class ListThreads(Page):
    """`list_threads`; `min_events_count` asks for as many of the latest threads as have so many events."""

    chat_id: Id
    sort_order: SortOrder = "desc"
    limit: Limit = 3
    min_events_count: Annotated[int, Between(1, 100)] | None = None
    filters: ThreadsFilters | None = None

    @model_validator(mode="after")
    def _count_alone(self) -> Self:
        check_alone(self, "min_events_count", "limit", "filters")
        return self


class GetChat(Payload):
    """`get_chat`; the latest thread if none is named."""

    chat_id: Id
    thread_id: Id | None = None


class ChatAccess(Payload):
    """Who has access to a chat or thread; group 0 is everybody."""

    group_ids: Annotated[GroupIds, Field(min_length=1)]


class InitialUser(Payload):
    """An existing user to be in the chat from the start."""

    id: Id
    type: UserType


def _initial_users(users: list[InitialUser]) -> list[InitialUser]:
    """The requester may be among the agents, hence one more than are additional to it."""
    if sum(user.type == "customer" for user in users) > 1:
        raise refusal("must have at most 1 customer")
    if sum(user.type == "agent" for user in users) > MAX_ADDITIONAL_AGENTS + 1:
        raise refusal(f"must have at most {MAX_ADDITIONAL_AGENTS} additional agents")
    return users


InitialEvents = Annotated[
    list[Annotated[NewEvent, AfterValidator(visible_to_all)]],
    AtMost(MAX_INITIAL_EVENTS),
]


class InitialThread(Payload):
    """The thread that a chat starts with; its events are visible to all."""

    events: InitialEvents | None = None
    properties: Properties | None = None


class InitialChat(Payload):
    """What a chat starts with."""

    properties: Properties | None = None
    access: ChatAccess | None = None
    users: Annotated[list[InitialUser], AtMost(6), AfterValidator(_initial_users)] | None = None
    thread: InitialThread | None = None

    @property
    def initial_events(self) -> list[NewEvent]:
        """The events of the thread; none without one."""
        return (self.thread and self.thread.events) or []

    @property
    def thread_properties(self) -> Properties:
        """The properties of the thread; none without one."""
        return (self.thread and self.thread.properties) or {}


class ResumedChat(InitialChat):
    """The chat to open again, and what it goes on with."""

    id: Id


class StartChat(Payload):
    """`start_chat`"""

    chat: InitialChat | None = None
    active: Active = True
    continuous: Annotated[bool, Field(description=_CONTINUOUS)] = False


class ResumeChat(Payload):
    """`resume_chat`"""

    chat: ResumedChat
    active: Active = True
    continuous: Annotated[bool | None, Field(description=f"{_CONTINUOUS} As it was if missing.")] = None


class DeactivateChat(Payload):
    """`deactivate_chat`"""

    id: Id
    ignore_requester_presence: IgnorePresence = False


class FollowChat(Payload):
    """`follow_chat`"""

    id: Id


class UnfollowChat(Payload):
    """`unfollow_chat`"""

    id: Id


class TransferTarget(Payload):
    """Who is to have a chat: one of the agents named, or of the agents of the groups named."""

    type: Literal["group", "agent"]
    ids: Annotated[
        list[Annotated[GroupId | Id, Expected("must be the id of a group or an agent")]],
        Field(min_length=1),
        AtMost(200),
    ]

    @model_validator(mode="after")
    def _of_type(self) -> Self:
        kind, expected = (int, "an integer") if self.type == "group" else (str, "a string")
        if not all(isinstance(each, kind) for each in self.ids):
            raise refusal(f"must have the id of each {self.type} as {expected}", "ids")
        return self

    @property
    def group_ids(self) -> list[int]:
        """The groups named, each once."""
        return [each for each in dict.fromkeys(self.ids) if isinstance(each, int)]

    @property
    def agent_ids(self) -> list[str]:
        """The agents named, each once."""
        return [each for each in dict.fromkeys(self.ids) if isinstance(each, str)]


class TransferChat(Payload):
    """`transfer_chat`; without a target it stays within its groups."""

    id: Id
    target: TransferTarget | None = None
    ignore_agents_availability: Annotated[
        bool,
        Field(
            description="`true`: the chat waits in the queue, if that has room, when nobody can take it; else the "
            "request is refused."
        ),
    ] = False
    ignore_requester_presence: IgnorePresence = False


class ListAgentsForTransfer(Payload):
    """`list_agents_for_transfer`"""

    chat_id: Id


class AddUserToChat(Payload):
    """`add_user_to_chat`; a customer is visible to all."""

    chat_id: Id
    user_id: Id
    user_type: UserType
    visibility: Annotated[
        Visibility,
        Field(description="`agents`: the customer does not see the agent, who can write to agents only."),
    ]
    ignore_requester_presence: IgnorePresence = False

    @model_validator(mode="after")
    def _customer_visible_to_all(self) -> Self:
        if self.user_type == "customer" and self.visibility != "all":
            raise refusal("must be `all` for a customer", "visibility")
        return self


class RemoveUserFromChat(Payload):
    """`remove_user_from_chat`; a customer cannot be removed."""

    chat_id: Id
    user_id: Id
    user_type: Literal["agent"]
    ignore_requester_presence: IgnorePresence = False
