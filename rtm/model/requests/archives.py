"""The payload of `list_archives`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rtm.model.payload import (
    AtMost,
    Expected,
    GroupIds,
    Id,
    Payload,
    SortOrder,
    Text,
    Timestamp,
    check_alone,
    check_one,
    check_together,
)
from rtm.model.requests.chats import Limit, Page, PropertyFilters
from rtm.protocol.validation import refusal

MAX_CHAT_IDS = 1000
MAX_THREAD_IDS = 20
MAX_VALUES = 100
MAX_FORMS = 4

OldEventType = Literal["message", "file", "rich_message", "custom", "form", "filled_form", "system_message"]
"""Of all versions."""
EventType = Literal[OldEventType, "system"]
AgentType = Literal["human", "chatbot", "ai_agent"]
Value = Annotated[
    Annotated[str, Text(256)] | bool | int,
    Expected("must be a boolean, an integer or a string of at most 256 characters"),
]
Values = Annotated[list[Value], AtMost(MAX_VALUES)]
Ids = Annotated[list[Id], AtMost(MAX_VALUES)]
OldEventTypes = Annotated[list[OldEventType], AtMost(MAX_VALUES)]
EventTypes = Annotated[list[EventType], AtMost(MAX_VALUES)]
RequireEveryValue = Annotated[
    bool,
    Field(description="`true`: a thread is found, or left out, that has all of the values and not just one of them."),
]
Query = Annotated[
    str,
    Text(1024),
    Field(
        description="Words that are all somewhere in what was said in the thread, in any order. They are whole words; "
        "case and accents do not matter."
    ),
]
Tag = Annotated[str, Text(64, least=1)]


class ValuesFilter(Payload):
    """What a thread has of something; exactly one of the first three is given."""

    exists: bool | None = None
    values: Values | None = None
    exclude_values: Values | None = None
    require_every_value: RequireEveryValue = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        check_one(self, "exists", "values", "exclude_values")
        return self


class EventTypesFilter(Payload):
    """The types of a thread's events; at most one of the first two is given."""

    values: EventTypes | None = None
    exclude_values: EventTypes | None = None
    require_every_value: RequireEveryValue = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        check_alone(self, "values", "exclude_values")
        return self


class GroupsFilter(Payload):
    """The groups of the thread in which something happened."""

    values: GroupIds | None = None
    exclude_values: GroupIds | None = None


class Occasions(Payload):
    """What happened in a thread within a span of time, in groups."""

    from_: Annotated[Timestamp | None, Field(alias="from")] = None
    to: Timestamp | None = None
    exists: bool | None = None
    groups: GroupsFilter | None = None


class FormFilter(Occasions):
    """A form that was filled out; `values` are ids of answers, as is `answer_id`."""

    type: Literal["pre_chat", "post_chat"] | None = None
    answer_id: Id | None = None
    values: Ids | None = None
    exclude_values: Ids | None = None


class GreetingsFilter(Occasions):
    """A greeting; `values` are ids of greetings."""

    values: Annotated[list[int], AtMost(MAX_VALUES)] | None = None
    exclude_values: Annotated[list[int], AtMost(MAX_VALUES)] | None = None


class AgentsFilter(Payload):
    """Agents who did something."""

    values: Ids | None = None
    exclude_values: Ids | None = None


class AgentResponseFilter(Payload):
    """What agents said to all; with `first` only what was said first counts."""

    exists: bool | None = None
    first: bool = False
    agents: AgentsFilter | None = None
    groups: GroupsFilter | None = None


class AgentTypesFilter(Payload):
    """What the thread's agents are; each type is named once."""

    all_values: Annotated[list[AgentType], AtMost(MAX_VALUES)] | None = None
    any_values: Annotated[list[AgentType], AtMost(MAX_VALUES)] | None = None
    exclude_values: Annotated[list[AgentType], AtMost(MAX_VALUES)] | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        named = [*(self.all_values or ()), *(self.any_values or ()), *(self.exclude_values or ())]
        if len(named) != len(set(named)):
            raise refusal("must name each agent type only once")
        return self


def _as_list(forms: Any) -> Any:
    """The reference calls it an array, and shows the fields of one."""
    return [forms] if isinstance(forms, dict) else forms


class ArchivesFilters(Payload):
    """What threads must be like, in all of these respects; `thread_ids` stands alone."""

    query: Query | None = None

    from_: Annotated[Timestamp | None, Field(alias="from")] = None
    to: Timestamp | None = None
    chat_ids: Annotated[list[Id], AtMost(MAX_CHAT_IDS)] | None = None
    thread_ids: Annotated[list[Id], AtMost(MAX_THREAD_IDS)] | None = None
    group_ids: GroupIds | None = None
    properties: PropertyFilters | None = None
    agents: ValuesFilter | None = None
    tags: ValuesFilter | None = None
    sales: ValuesFilter | None = None
    goals: ValuesFilter | None = None
    forms: Annotated[list[FormFilter], AtMost(MAX_FORMS), BeforeValidator(_as_list)] | None = None
    event_types: EventTypesFilter | None = None
    greetings: GreetingsFilter | None = None
    agent_response: AgentResponseFilter | None = None
    agent_types: AgentTypesFilter | None = None
    customer_countries: ValuesFilter | None = None
    customer_id: Id | None = None
    customer_email: Annotated[str, Text(256, least=1)] | None = None

    @model_validator(mode="after")
    def _threads_alone(self) -> Self:
        others = [name for name in type(self).model_fields if name != "thread_ids"]
        check_alone(self, "thread_ids", *others)
        return self


class Highlights(Payload):
    """What stands before and after each match of the query."""

    pre_tag: Tag | None = None
    post_tag: Tag | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        check_together(self, "pre_tag", "post_tag")
        return self


class ListArchives(Page):
    """`list_archives`"""

    filters: ArchivesFilters | None = None
    sort_order: SortOrder = "desc"
    limit: Limit = 10
    highlights: Highlights | None = None

    @model_validator(mode="after")
    def _threads_on_one_page(self) -> Self:
        if self.filters is not None and self.filters.thread_ids is not None and "limit" in self.model_fields_set:
            raise refusal("can't be used together with `filters.thread_ids`", "limit")
        return self
