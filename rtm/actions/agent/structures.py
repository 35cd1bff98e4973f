"""Chats, threads and users as clients see them, in 3.6's vocabulary.

Source: the public reference, "Data structures".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rtm.access.directory import AgentRecord, Directory
from rtm.model.chat import Chat, ChatUser, EventBody, Thread
from rtm.model.customer import Customer
from rtm.store.queries import CustomerWithChats

FindCustomer = Callable[[str], Customer | None]

_FB_MESSENGER = {
    "id": "ID",
    "name": "Name",
    "first_name": "FirstName",
    "last_name": "LastName",
    "profile_pic": "ProfilePicURL",
    "gender": "Gender",
    "locale": "Locale",
    "is_verified_user": "IsVerifiedUser",
}
_NOT_COUNTED = dict.fromkeys(
    ("visits_count", "page_views_count", "greetings_shown_count", "greetings_accepted_count", "tickets_count"), 0
)


def user(of: ChatUser, directory: Directory, customer: FindCustomer) -> dict[str, Any]:
    """A user of a chat: Agent or Customer."""
    return _customer(of, customer(of.id)) if of.type == "customer" else _agent(of, directory.agents.get(of.id))


def users(of: Chat, directory: Directory, customer: FindCustomer) -> list[dict[str, Any]]:
    """All users that the chat has or had."""
    return [user(each, directory, customer) for each in of.users.values()]


def _agent(of: ChatUser, record: AgentRecord | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": of.id, "type": "agent"}
    if record is not None:
        shown["name"] = record.name
        if record.email is not None:
            shown["email"] = record.email
    shown["present"] = of.present
    if of.events_seen_up_to is not None:
        shown["events_seen_up_to"] = of.events_seen_up_to
    shown["avatar"] = (record.avatar if record is not None else None) or ""
    shown["visibility"] = of.visibility
    return shown


def _customer(of: ChatUser, record: Customer | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": of.id, "type": "customer", "present": of.present}
    if of.events_seen_up_to is not None:
        shown["events_seen_up_to"] = of.events_seen_up_to
    return shown if record is None else shown | customer(record)


def customer(of: Customer) -> dict[str, Any]:
    """A customer apart from any chat."""
    shown: dict[str, Any] = {"id": of.id, "type": "customer"}
    if of.name is not None:
        shown["name"] = of.name
    if of.email is not None:
        shown["email"] = of.email
    shown.update(created_at=of.created_at, **of.state)
    if "omnichannel" in of.state:
        shown["omnichannel"] = _omnichannel(of.state["omnichannel"])
    return shown


def _omnichannel(channels: dict[str, Any]) -> dict[str, Any]:
    """The structure has other names than the push `customer_updated`, and files phones under their numbers."""
    shown: dict[str, Any] = {}
    if "fb_messenger" in channels:
        shown["fb_messenger"] = [
            {_FB_MESSENGER[name]: value for name, value in contact.items()} for contact in channels["fb_messenger"]
        ]
    if "twilio" in channels:
        shown["twilio"] = [{contact["phone_number"]: contact} for contact in channels["twilio"]]
    return shown


def customer_with_chats(of: CustomerWithChats) -> dict[str, Any]:
    """A customer with what their chats tell; nobody counts visits, greetings and tickets yet."""
    shown = customer(of.customer)
    counted = {"chats_count": of.chats_count, "threads_count": of.threads_count}
    shown["statistics"] = {**_NOT_COUNTED, **shown.get("statistics", {}), **counted}
    for writer in ("agent", "customer"):
        written_at = [chat.written_at[writer] for chat in of.newest_chats if writer in chat.written_at]
        if written_at:
            shown[f"{writer}_last_event_created_at"] = max(written_at)
    if of.newest_chats:
        shown["chat_ids"] = [chat.id for chat in of.newest_chats]
    return shown


def access(group_ids: Iterable[int]) -> dict[str, Any]:
    """Who may see a chat or thread."""
    return {"group_ids": list(group_ids)}


def thread(of: Thread, events: list[EventBody]) -> dict[str, Any]:
    """A thread with its events."""
    shown: dict[str, Any] = {
        "id": of.id,
        "created_at": of.created_at,
        "active": of.active,
        "user_ids": of.user_ids,
        "events": events,
        "properties": of.properties,
        "access": access(of.group_ids),
    }
    if of.tags:
        shown["tags"] = of.tags
    if of.previous_thread_id is not None:
        shown["previous_thread_id"] = of.previous_thread_id
    if of.next_thread_id is not None:
        shown["next_thread_id"] = of.next_thread_id
    return shown


def thread_summary(of: Thread) -> dict[str, Any]:
    """A thread in brief: neither its events nor its neighbours."""
    shown: dict[str, Any] = {
        "id": of.id,
        "created_at": of.created_at,
        "active": of.active,
        "user_ids": of.user_ids,
        "properties": of.properties,
        "access": access(of.group_ids),
    }
    if of.tags:
        shown["tags"] = of.tags
    return shown


def chat(of: Chat, shown_thread: dict[str, Any] | None, directory: Directory, customer: FindCustomer) -> dict[str, Any]:
    """A chat with one of its threads."""
    shown: dict[str, Any] = {"id": of.id}
    if shown_thread is not None:
        shown["thread"] = shown_thread
    shown.update(users=users(of, directory, customer), properties=of.properties, access=access(of.group_ids))
    return shown


def chat_summary(of: Chat, viewer_id: str, directory: Directory, customers: Mapping[str, Customer]) -> dict[str, Any]:
    """A chat with its last thread and last events in brief, as one agent sees it."""
    shown: dict[str, Any] = {
        "id": of.id,
        "last_event_per_type": of.last_events,
        "users": users(of, directory, customers.get),
    }
    if of.thread is not None:
        shown["last_thread_summary"] = thread_summary(of.thread)
    shown.update(properties=of.properties, access=access(of.group_ids), is_followed=is_followed(of, viewer_id))
    return shown


def is_followed(of: Chat, viewer_id: str) -> bool:
    """Whether the agent hears every change of the chat."""
    return viewer_id in of.followers or of.member(viewer_id) is not None


def my_profile(of: AgentRecord, routing_status: str) -> dict[str, Any]:
    """The requester's own account."""
    shown = _agent(ChatUser(of.id, "agent"), of)
    del shown["visibility"]
    return {**shown, "routing_status": routing_status, "permission": of.role}
