"""What actions answer, in 3.6's vocabulary: what a handler is annotated to return.

They cost nothing at run time, and are what the published schemas of responses are made of.
"""

from typing import NotRequired

from typing_extensions import TypedDict

from rtm.model.shown import (
    ArchivedChat,
    Chat,
    ChatSummary,
    Customer,
    CustomerWithChats,
    License,
    Moment,
    MyProfile,
    Status,
    Thread,
)


class Done(TypedDict):
    """Nothing but that it was done."""


# Chats


class ListPage(TypedDict):
    """The neighbouring pages, of those there are."""

    next_page_id: NotRequired[str]
    previous_page_id: NotRequired[str]


class ChatsPage(ListPage):
    """A page of chats; `found_chats` counts those of all pages."""

    chats_summary: list[ChatSummary]
    found_chats: int


class ThreadsPage(ListPage):
    """A page of threads; `found_threads` counts those of all pages."""

    threads: list[Thread]
    found_threads: int


class ArchivesPage(ListPage):
    """A page of threads with their chats; `found_chats` counts the threads of all pages."""

    chats: list[ArchivedChat]
    found_chats: int


class FollowableChat(Chat):
    """A chat, and whether the requester hears every change of it."""

    is_followed: bool


class ThreadBegun(TypedDict):
    """A new thread, and the ids of its initial events, if it has any."""

    thread_id: str
    event_ids: NotRequired[list[str]]


class ChatStarted(ThreadBegun):
    """A new chat with its first thread."""

    chat_id: str


class NoLongerFollowed(TypedDict):
    """The chat, on sockets."""

    chat_id: NotRequired[str]


class AgentForTransfer(TypedDict):
    """An agent who could have the chat, and in how many active chats with customers it is."""

    agent_id: str
    active_chats: NotRequired[int]
    """On sockets."""
    total_active_chats: NotRequired[int]
    """Over HTTP."""


# Events


class EventSent(TypedDict):
    """The event's id."""

    event_id: str


class FileUploaded(TypedDict):
    """Where the file is found, for a day unless an event shows it."""

    url: str


# Customers


class CustomerCreated(TypedDict):
    """The customer's id."""

    customer_id: str


class CustomersPage(ListPage):
    """A page of customers, in the versions before 3.6; `limited_customers` counts those that the plan hides."""

    customers: list[CustomerWithChats]
    total_customers: int
    limited_customers: int


class CustomersSubscribed(TypedDict):
    """The customers that are there now; those who come are told of by pushes."""

    subscription_id: str
    customers: list[Customer]


# Sessions and statuses


class LicenseInfo(TypedDict):
    """The license, in 3.5."""

    license_id: str
    expires_at: NotRequired[Moment]
    created_at: Moment
    in_trial: bool


class LoggedIn(TypedDict):
    """What there is at the beginning of a session; what comes after it comes as pushes."""

    license: License
    my_profile: MyProfile
    chats_summary: list[ChatSummary]


class AgentStatus(TypedDict):
    """The routing status of an agent or a bot."""

    agent_id: str
    status: Status
