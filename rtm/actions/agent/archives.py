"""The list of archives: threads with their chats, filtered and searched."""

from collections.abc import Iterable

import orjson

from rtm.access.chats import reaches_thread, readable, scopes_for
from rtm.actions.agent import structures
from rtm.actions.agent.lists import asked_for, page_ids
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model import search, shown
from rtm.model.chat import ShownEvents
from rtm.model.labels import ANY, Kind, Moment, property_label, property_value_label
from rtm.model.requests.archives import (
    AgentResponseFilter,
    AgentTypesFilter,
    ArchivesFilters,
    EventTypesFilter,
    FormFilter,
    GreetingsFilter,
    GroupsFilter,
    ListArchives,
    Occasions,
    ValuesFilter,
)
from rtm.model.requests.chats import PropertyFilter
from rtm.model.responses import ArchivesPage
from rtm.store.archive import Archived, ArchiveFilter, Terms
from rtm.store.archive_search import Span
from rtm.store.queries import ThreadWithEvents


@action(AGENT, scopes=scopes_for("chats", "ro"))
async def list_archives(context: Context, payload: ListArchives) -> ArchivesPage:
    """Threads within the requester's reach, open ones too, by their creation; `found_chats` counts them."""
    asked, cursor = asked_for(context, "list_archives", payload)
    wanted = ListArchives.model_validate(asked)
    license_id = context.identity.license_id
    page = await context.services.archive.list(
        license_id,
        readable(context.identity, context.group_ids),
        _filter(wanted.filters or ArchivesFilters()),
        wanted.sort_order,
        wanted.limit if wanted.filters is None or wanted.filters.thread_ids is None else len(wanted.filters.thread_ids),
        cursor,
    )
    customers = await context.services.queries.customers(license_id, [found.chat for found in page.rows])
    highlights = payload.highlights or wanted.highlights
    words = search.wanted(wanted.filters.query or "") if wanted.filters and highlights else set()
    marks = None
    if words and highlights is not None:
        marks = search.Marks(words, highlights.pre_tag or "<em>", highlights.post_tag or "</em>")
    events = {found.thread.thread.id: await _events(found.thread, marks, context.version) for found in page.rows}
    chats: Iterable[shown.ArchivedChat] = (
        {
            "id": found.chat.id,
            "thread": _thread(found, events[found.thread.thread.id]),
            "users": structures.users(found.chat, context.directory, customers.get),
            "properties": found.chat.properties,
            "access": structures.access(found.chat.group_ids),
            "is_followed": found.chat.hears(context.identity.agent_id),
        }
        for found in page.rows
        # The index may be a moment behind.
        if reaches_thread(context.identity, "chats", "ro", found.chat, found.thread.thread.group_ids, context.group_ids)
    )
    return {
        "chats": await structures.as_json(shown.ArchivedChat, chats, context.version),
        "found_chats": page.found,
        **page_ids(context, "list_archives", asked, page),
    }


async def _events(of: ThreadWithEvents, marks: search.Marks | None, version: str) -> ShownEvents:
    if marks is None:
        return await structures.stored_events(of, version)
    marked = (marks.highlighted(orjson.loads(text)) for text in of.texts)
    return await structures.as_json(shown.Event, marked, version)


def _thread(found: Archived, events: ShownEvents) -> shown.ArchivedThread:
    neighbours: shown.AccessibleNeighbours = {}
    if found.previous_accessible_thread_id is not None:
        neighbours["previous_accessible_thread_id"] = found.previous_accessible_thread_id
    if found.next_accessible_thread_id is not None:
        neighbours["next_accessible_thread_id"] = found.next_accessible_thread_id
    return {**structures.thread(found.thread.thread, events), **neighbours}


def _filter(wanted: ArchivesFilters) -> ArchiveFilter:
    terms = Terms()
    _add_query(terms, wanted.query)
    _add_any(terms, "group", wanted.group_ids)
    _add_any(terms, "customer", None if wanted.customer_id is None else [wanted.customer_id])
    _add_values(terms, "agent", wanted.agents)
    _add_values(terms, "tag", wanted.tags)
    _add_values(terms, "sale", wanted.sales)
    _add_values(terms, "goal", wanted.goals)
    _add_values(terms, "customer_country", wanted.customer_countries)
    for namespace, names in (wanted.properties or {}).items():
        for name, condition in names.items():
            _add_property(terms, namespace, name, condition)
    _add_event_types(terms, wanted.event_types or EventTypesFilter())
    _add_response(terms, wanted.agent_response or AgentResponseFilter())
    _add_agent_types(terms, wanted.agent_types or AgentTypesFilter())
    spans: list[Span] = []
    for form in wanted.forms or ():
        _add_form(terms, form)
        spans += _spans("form", form)
    if wanted.greetings is not None:
        _add_greetings(terms, wanted.greetings)
        spans += _spans("greeting", wanted.greetings)
    return ArchiveFilter(
        terms=terms,
        created_from=wanted.from_,
        created_to=wanted.to,
        spans=tuple(spans),
        chat_ids=tuple(wanted.chat_ids) if wanted.chat_ids is not None else None,
        thread_ids=tuple(wanted.thread_ids) if wanted.thread_ids is not None else None,
        customer_email=wanted.customer_email,
    )


def _add_query(terms: Terms, query: str | None) -> None:
    words = search.wanted(query or "")
    _add_every(terms, "word", words)
    if query and not words:
        terms.has("word")  # what has no words is found nowhere


def _add_exists(terms: Terms, kind: Kind, value: str = ANY, *, exists: bool | None) -> None:
    if exists is not None:
        (terms.has if exists else terms.lacks)(kind, value)


def _add_any(
    terms: Terms, kind: Kind, values: Iterable[object] | None, exclude_values: Iterable[object] | None = None
) -> None:
    if values is not None:
        terms.has(kind, *map(str, values))
    for value in exclude_values or ():
        terms.lacks(kind, str(value))


def _add_every(
    terms: Terms, kind: Kind, values: Iterable[object] | None, exclude_values: Iterable[object] | None = None
) -> None:
    for value in values or ():
        terms.has(kind, str(value))
    terms.lacks(kind, *map(str, exclude_values or ()))


def _add_values(terms: Terms, kind: Kind, wanted: ValuesFilter | None) -> None:
    if wanted is None:
        return
    _add_exists(terms, kind, exists=wanted.exists)
    add = _add_every if wanted.require_every_value else _add_any
    # Codes of countries are compared without case.
    fold = str.upper if kind == "customer_country" else str
    values, exclude_values = (
        None if each is None else [fold(str(value)) for value in each]
        for each in (wanted.values, wanted.exclude_values)
    )
    add(terms, kind, values, exclude_values)


def _add_event_types(terms: Terms, wanted: EventTypesFilter) -> None:
    add = _add_every if wanted.require_every_value else _add_any
    add(terms, "event_type", wanted.values, wanted.exclude_values)


def _add_property(terms: Terms, namespace: str, name: str, wanted: PropertyFilter) -> None:
    _add_exists(terms, "property", property_label(namespace, name), exists=wanted.exists)
    values, exclude_values = (
        None if each is None else [property_value_label(namespace, name, value) for value in each]
        for each in (wanted.values, wanted.exclude_values)
    )
    _add_any(terms, "property", values, exclude_values)


def _add_response(terms: Terms, wanted: AgentResponseFilter) -> None:
    _add_exists(terms, "response_agent", exists=wanted.exists)
    agents, groups = wanted.agents, wanted.groups
    if agents is not None:
        kind: Kind = "first_response_agent" if wanted.first else "response_agent"
        _add_any(terms, kind, agents.values, agents.exclude_values)
    _add_groups(terms, "first_response_group" if wanted.first else "response_group", groups)


def _add_groups(terms: Terms, kind: Kind, wanted: GroupsFilter | None) -> None:
    if wanted is not None:
        _add_any(terms, kind, wanted.values, wanted.exclude_values)


def _add_agent_types(terms: Terms, wanted: AgentTypesFilter) -> None:
    _add_every(terms, "agent_type", wanted.all_values)
    _add_any(terms, "agent_type", wanted.any_values, wanted.exclude_values)


def _add_form(terms: Terms, wanted: FormFilter) -> None:
    _add_exists(terms, "form_type", exists=wanted.exists)
    if wanted.type is not None:
        terms.has("form_type", wanted.type)
    if wanted.answer_id is not None:
        terms.has("form_answer", wanted.answer_id)
    _add_any(terms, "form_answer", wanted.values, wanted.exclude_values)
    _add_groups(terms, "form_group", wanted.groups)


def _add_greetings(terms: Terms, wanted: GreetingsFilter) -> None:
    _add_exists(terms, "greeting", exists=wanted.exists)
    _add_any(terms, "greeting", wanted.values, wanted.exclude_values)
    _add_groups(terms, "greeting_group", wanted.groups)


def _spans(kind: Moment, wanted: Occasions) -> list[Span]:
    return [] if wanted.from_ is None and wanted.to is None else [Span(kind, wanted.from_, wanted.to)]
