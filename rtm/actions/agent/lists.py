"""Reading chats, threads and customers, page by page."""

from collections.abc import Mapping
from typing import Any

from rtm.access.chats import check_reach_of_thread, reaches, readable, scopes_for
from rtm.actions.agent import structures
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model import shown
from rtm.model.chat import Chat
from rtm.model.requests.archives import ListArchives
from rtm.model.requests.chats import ChatsFilters, GetChat, ListChats, ListThreads
from rtm.model.requests.customers import CustomersFilters, ListCustomers
from rtm.model.responses import ChatsPage, CustomersPage, FollowableChat, ListPage, ThreadsPage
from rtm.protocol.errors import MissingAccess, NotFound
from rtm.store.customers import Condition
from rtm.store.queries import ChatFilter, Cursor, Page, PropertyFilter, ThreadWithEvents

_READ = scopes_for("chats", "ro")
MAX_THREADS = 100
"""On a page."""


@action(AGENT, scopes=_READ)
async def list_chats(context: Context, payload: ListChats) -> ChatsPage:
    """Summaries of the chats within the requester's reach, by the creation of their last thread."""
    asked, cursor = asked_for(context, "list_chats", payload)
    wanted = ListChats.model_validate(asked)
    license_id = context.identity.license_id
    queries = context.services.queries
    page = await queries.list_chats(
        license_id,
        readable(context.identity, context.group_ids),
        _filter(wanted.filters or ChatsFilters()),
        wanted.sort_order,
        wanted.limit,
        cursor,
    )
    customers = await queries.customers(license_id, page.rows)
    summaries = (structures.chat_summary(chat, context, customers) for chat in page.rows)
    return {
        "chats_summary": await structures.as_json(shown.ChatSummary, summaries, context.version),
        **page_ids(context, "list_chats", asked, page),
        "found_chats": page.found,
    }


def _filter(wanted: ChatsFilters) -> ChatFilter:
    return ChatFilter(
        active=wanted.active,
        include_chats_without_threads=wanted.include_chats_without_threads,
        group_ids=tuple(wanted.group_ids) if wanted.group_ids is not None else None,
        properties=tuple(
            PropertyFilter(
                namespace,
                name,
                each.exists,
                tuple(each.values) if each.values is not None else None,
                tuple(each.exclude_values) if each.exclude_values is not None else None,
            )
            for namespace, names in (wanted.properties or {}).items()
            for name, each in names.items()
        ),
    )


@action(AGENT, scopes=_READ)
async def list_threads(context: Context, payload: ListThreads) -> ThreadsPage:
    """Threads of a chat with their events, those of the requester's reach only."""
    chat = await _chat(context, payload.chat_id)
    groups = await _readable_groups(context, chat)
    kind = f"list_threads of {chat.id}"
    asked, cursor = asked_for(context, kind, payload)
    wanted = ListThreads.model_validate({**asked, "chat_id": chat.id})
    min_events_count = payload.min_events_count or wanted.min_events_count
    if min_events_count is not None:
        page = await _latest_threads(context, chat, groups, min_events_count, cursor)
    else:
        page = await context.services.queries.list_threads(
            chat.id,
            groups,
            wanted.filters.from_ if wanted.filters else None,
            wanted.filters.to if wanted.filters else None,
            wanted.sort_order,
            wanted.limit,
            cursor,
        )
    threads = [await _thread(context, found) for found in page.rows]
    return {
        "threads": await structures.as_json(shown.Thread, threads, context.version),
        "found_threads": page.found,
        **page_ids(context, kind, asked, page),
    }


async def _latest_threads(
    context: Context, chat: Chat, groups: frozenset[int] | None, min_events_count: int, cursor: Cursor | None
) -> Page[ThreadWithEvents]:
    """As many of the latest threads as it takes to show that many events, and MAX_THREADS at most."""
    rows: list[ThreadWithEvents] = []
    events = 0
    while True:
        page = await context.services.queries.list_threads(chat.id, groups, None, None, "desc", 10, cursor)
        for found in page.rows:
            rows.append(found)
            events += len(found.texts)
            if events >= min_events_count or len(rows) == MAX_THREADS:
                thread, more = found.thread, page.next or found is not page.rows[-1]
                return Page(rows, Cursor(thread.created_at, thread.id) if more else None, None, page.found)
        if page.next is None:
            return Page(rows, None, None, page.found)
        cursor = page.next


@action(AGENT, scopes=("customers:ro",))
async def list_customers(context: Context, payload: ListCustomers) -> CustomersPage:
    """The license's customers, in the versions before 3.6; no plan hides any of them."""
    asked, cursor = asked_for(context, "list_customers", payload)
    wanted = ListCustomers.model_validate(asked)
    page = await context.services.customers.list(
        context.identity.license_id,
        _conditions(wanted.filters or CustomersFilters()),
        wanted.sort_by,
        wanted.sort_order,
        wanted.limit,
        cursor,
    )
    return {
        "customers": [structures.customer_with_chats(customer) for customer in page.rows],
        "total_customers": page.found,
        "limited_customers": 0,
        **page_ids(context, "list_customers", asked, page),
    }


def _conditions(wanted: CustomersFilters) -> list[Condition]:
    filters = wanted.model_dump(exclude_none=True)
    if not filters.pop("include_customers_without_chats"):
        filters.setdefault("chats_count", {}).setdefault("gt", 0)
    return [
        Condition(field, comparison, value)
        for field, comparisons in filters.items()
        for comparison, value in comparisons.items()
    ]


@action(AGENT, scopes=_READ)
async def get_chat(context: Context, payload: GetChat) -> FollowableChat:
    """A chat with one of its threads, the latest if none is named."""
    chat = await _chat(context, payload.chat_id)
    thread_id = payload.thread_id or (chat.thread.id if chat.thread else None)
    found = await context.services.queries.thread(chat.id, thread_id) if thread_id else None
    if found is None and payload.thread_id is not None:
        raise NotFound("Thread not found")
    groups_of_thread = found.thread.group_ids if found else chat.group_ids
    check_reach_of_thread(context.identity, "chats", "ro", chat, groups_of_thread, context.group_ids)
    customers = await context.services.queries.customers(context.identity.license_id, [chat])
    thread = await _thread(context, found) if found else None
    return {
        **structures.chat(chat, thread, context.directory, customers.get),
        "is_followed": chat.hears(context.identity.agent_id),
    }


async def _thread(context: Context, found: ThreadWithEvents) -> shown.Thread:
    return structures.thread(found.thread, await structures.stored_events(found, context.version))


async def _chat(context: Context, chat_id: str) -> Chat:
    chat = await context.services.queries.chat(context.identity.license_id, chat_id)
    if chat is None:
        raise NotFound("Chat not found")
    return chat


async def _readable_groups(context: Context, chat: Chat) -> frozenset[int] | None:
    """The groups whose threads of the chat the requester may read; None for all threads. Raises MissingAccess."""
    identity = context.identity
    if reaches(identity, "chats", "ro", chat, ()):  # by `all`, or as a user of the chat
        return None
    groups = context.group_ids if "chats--access:ro" in identity.scopes else frozenset[int]()
    if groups.isdisjoint(chat.group_ids) and not await context.services.queries.has_thread_of(chat.id, groups):
        raise MissingAccess("Requester has no access to the chat")
    return groups


def asked_for(
    context: Context, kind: str, payload: ListChats | ListThreads | ListCustomers | ListArchives
) -> tuple[dict[str, Any], Cursor | None]:
    """What the first page was asked for, and where to go on."""
    if payload.page_id is not None:
        return context.services.page_ids.read(kind, payload.page_id)
    return payload.model_dump(by_alias=True, exclude_unset=True, exclude={"chat_id", "page_id"}), None


def page_ids(context: Context, kind: str, asked: Mapping[str, Any], page: Page[Any]) -> ListPage:
    """Ids of the neighbouring pages, of those there are."""
    ids: ListPage = {}
    if page.next is not None:
        ids["next_page_id"] = context.services.page_ids.write(kind, dict(asked), page.next)
    if page.previous is not None:
        ids["previous_page_id"] = context.services.page_ids.write(kind, dict(asked), page.previous)
    return ids
