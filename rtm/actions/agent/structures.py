"""Chats, threads and users as clients see them, in 3.6's vocabulary.

Source: the public reference, "Data structures".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from rtm import versions
from rtm.access.chats import reaches_thread
from rtm.access.directory import AgentRecord, Directory
from rtm.actions.context import Context
from rtm.model import shown
from rtm.model.chat import Chat, ChatUser, ShownEvents, Thread
from rtm.model.customer import Customer
from rtm.model.pushes import CustomerStatisticsUpdated
from rtm.routing.queue import shown as queue
from rtm.slices import in_slices
from rtm.store.customers import Counted, CustomerWithChats
from rtm.store.queries import ThreadWithEvents

T = TypeVar("T")
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
_NOT_COUNTED: shown.Statistics = {
    "visits_count": 0,
    "page_views_count": 0,
    "greetings_shown_count": 0,
    "greetings_accepted_count": 0,
    "tickets_count": 0,
}


def user(of: ChatUser, directory: Directory, customer: FindCustomer) -> shown.User:
    """A user of a chat: Agent or Customer."""
    return _customer(of, customer(of.id)) if of.type == "customer" else directory.shown(of)


def users(of: Chat, directory: Directory, customer: FindCustomer) -> list[shown.User]:
    """All users that the chat has or had."""
    return [user(each, directory, customer) for each in of.users.values()]


def _customer(of: ChatUser, record: Customer | None) -> shown.Customer:
    user: shown.Customer = {"id": of.id, "type": "customer"} if record is None else customer(record)
    user["present"] = of.present
    if of.events_seen_up_to is not None:
        user["events_seen_up_to"] = of.events_seen_up_to
    return user


def customer(of: Customer) -> shown.Customer:
    """A customer apart from any chat."""
    seen: shown.Customer = {"id": of.id, "type": "customer", "created_at": of.created_at}
    if of.name is not None:
        seen["name"] = of.name
    if of.email is not None:
        seen["email"] = of.email
    seen.update(cast("shown.Customer", of.state))
    if "omnichannel" in of.state:
        seen["omnichannel"] = _omnichannel(of.state["omnichannel"])
    return seen


def _omnichannel(channels: dict[str, Any]) -> dict[str, Any]:
    """The structure has other names than the push `customer_updated`, and files phones under their numbers."""
    named: dict[str, Any] = {}
    if "fb_messenger" in channels:
        named["fb_messenger"] = [
            {_FB_MESSENGER[name]: value for name, value in contact.items()} for contact in channels["fb_messenger"]
        ]
    if "twilio" in channels:
        named["twilio"] = [{contact["phone_number"]: contact} for contact in channels["twilio"]]
    return named


def customer_with_chats(of: CustomerWithChats) -> shown.CustomerWithChats:
    """A customer with what their chats tell; nobody counts visits, greetings and tickets yet."""
    seen = cast("shown.CustomerWithChats", customer(of.customer))
    counted: shown.Statistics = {"chats_count": of.chats_count, "threads_count": of.threads_count}
    seen["statistics"] = {**_NOT_COUNTED, **seen.get("statistics", {}), **counted}
    if of.agent_wrote_at is not None:
        seen["agent_last_event_created_at"] = of.agent_wrote_at
    if of.customer_wrote_at is not None:
        seen["customer_last_event_created_at"] = of.customer_wrote_at
    if of.chat_ids:
        seen["chat_ids"] = of.chat_ids
    return seen


def customer_statistics(of: Counted) -> CustomerStatisticsUpdated:
    """What is counted of a customer; of what others may have counted, such as visits, what they have told of it."""
    known = {**of.customer.state.get("statistics", {}), **of._asdict()}
    counts = cast(
        "shown.Counts", {name: known.get(name, 0) for name in shown.Counts.__annotations__ if name.endswith("_count")}
    )
    visit_started_at = of.customer.state.get("visit", {}).get("started_at")
    if visit_started_at is not None:
        counts["last_visit_started_at"] = visit_started_at
    return {"customer_id": of.customer.id, "statistics": counts}


def access(group_ids: Iterable[int]) -> shown.Access:
    """Who may see a chat or thread."""
    return {"group_ids": list(group_ids)}


async def as_json(structure: type[T], items: Iterable[T], version: str) -> list[T]:
    """Structures for an answer in this version, of which there may be many, or large ones."""
    return cast("list[T]", await in_slices(versions.each_as_json(version, structure, items)))


async def stored_events(of: ThreadWithEvents, version: str) -> ShownEvents:
    """A thread's events for an answer in this version."""
    return await in_slices(versions.each_text(version, shown.Event, of.texts))


def thread(of: Thread, events: ShownEvents) -> shown.Thread:
    """A thread with its events."""
    seen: shown.Thread = {
        "id": of.id,
        "created_at": of.created_at,
        "active": of.active,
        "user_ids": of.user_ids,
        "events": cast("list[shown.Event]", events),
        "properties": of.properties,
        "access": access(of.group_ids),
    }
    if of.tags:
        seen["tags"] = of.tags
    if of.queued_at is not None:
        seen["queue"] = queue(of)
    if of.queues_duration:
        seen["queues_duration"] = of.queues_duration
    if of.previous_thread_id is not None:
        seen["previous_thread_id"] = of.previous_thread_id
    if of.next_thread_id is not None:
        seen["next_thread_id"] = of.next_thread_id
    if of.customer_visit is not None:
        seen["customer_visit"] = cast("shown.CustomerVisit", of.customer_visit)
    if of.summary is not None:
        seen["summary"] = {
            "status": of.summary["status"],
            "text": of.summary["text"],
            "updated_at": of.summary["updated_at"],
        }
    return seen


def thread_summary(of: Thread) -> shown.ThreadSummary:
    """A thread in brief: neither its events nor its neighbours."""
    seen: shown.ThreadSummary = {
        "id": of.id,
        "created_at": of.created_at,
        "active": of.active,
        "user_ids": of.user_ids,
        "properties": of.properties,
        "access": access(of.group_ids),
    }
    if of.tags:
        seen["tags"] = of.tags
    if of.queued_at is not None:
        seen["queue"] = queue(of)
    return seen


def chat(of: Chat, shown_thread: shown.Thread | None, directory: Directory, customer: FindCustomer) -> shown.Chat:
    """A chat with one of its threads."""
    seen: shown.Chat = {
        "id": of.id,
        "users": users(of, directory, customer),
        "properties": of.properties,
        "access": access(of.group_ids),
    }
    if shown_thread is not None:
        seen["thread"] = shown_thread
    return seen


def chat_summary(of: Chat, viewer: Context, customers: Mapping[str, Customer]) -> shown.ChatSummary:
    """A chat with its last thread and last events in brief, as the requester sees it."""
    seen: shown.ChatSummary = {
        "id": of.id,
        "last_event_per_type": {kind: _last_event(of, last, viewer) for kind, last in of.last_events.items()},
        "users": users(of, viewer.directory, customers.get),
        "properties": of.properties,
        "access": access(of.group_ids),
        "is_followed": of.hears(viewer.identity.agent_id),
    }
    if of.thread is not None:
        seen["last_thread_summary"] = thread_summary(of.thread)
    return seen


def _last_event(of: Chat, last: Mapping[str, Any], viewer: Context) -> shown.LastEvent:
    """The event, unless it is of an earlier thread that the requester has no access to."""
    event: dict[str, Any] = last["event"]
    groups = last.get("group_ids")
    if groups is not None and not reaches_thread(viewer.identity, "chats", "ro", of, groups, viewer.group_ids):
        event = {"restricted_access": "Requester has no access to the thread"}
    return {"thread_id": last["thread_id"], "thread_created_at": last["thread_created_at"], "event": event}


def my_profile(of: AgentRecord, routing_status: str) -> shown.MyProfile:
    """The requester's own account."""
    profile: shown.MyProfile = {
        "id": of.id,
        "type": "agent",
        "name": of.name,
        "present": True,
        "avatar": of.avatar or "",
        "routing_status": routing_status,
        "permission": of.role,
    }
    if of.email is not None:
        profile["email"] = of.email
    return profile
