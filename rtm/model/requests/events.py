"""Payloads about what is said, typed, thought and seen in a chat, and about multicast."""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rtm.model.chat import Visibility
from rtm.model.events import ChosenProduct, Message, NewEvent, visible_to_all
from rtm.model.payload import AtMost, GroupId, Id, Json, Payload, Text, Timestamp
from rtm.model.requests.properties import OfEvent
from rtm.protocol.validation import refusal


class SendEvent(Payload):
    """`send_event`"""

    chat_id: Id
    event: NewEvent


class SendEventPreview(Payload):
    """`send_event_preview`: a message that is shown and not kept."""

    chat_id: Id
    event: Annotated[Message, AfterValidator(visible_to_all)]


class ToggledButton(Payload):
    """A button of a rich message by its `postback_id`, and whether the requester has it pressed now."""

    id: Id
    toggled: bool
    button_type: Annotated[str, Text(256)] | None = None
    button_value: Annotated[str, Text(4096)] | None = None
    ecommerce: ChosenProduct | None = None


class SendRichMessagePostback(OfEvent):
    """`send_rich_message_postback`"""

    postback: ToggledButton


class SendTypingIndicator(Payload):
    """`send_typing_indicator`"""

    chat_id: Id
    visibility: Visibility = "all"
    is_typing: bool


class SendThinkingIndicator(Payload):
    """`send_thinking_indicator`"""

    chat_id: Id
    title: Annotated[str, Text(1024)] | None = None
    description: Annotated[str, Text(4096)] | None = None
    visibility: Visibility = "all"
    custom_id: Annotated[Id | None, Field(description="Comes back in the push; repeats are told again.")] = None


class MarkEventsAsSeen(Payload):
    """`mark_events_as_seen`"""

    chat_id: Id
    seen_up_to: Timestamp


def _number(value: Any) -> Any:
    """The reference speaks of ids as strings and shows numbers; both are taken."""
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value) else value


class MulticastAgents(Payload):
    """Agents by name, by group, or all of them."""

    all: bool = False
    ids: Annotated[list[Id], AtMost(1000), Field(default_factory=list)]
    groups: Annotated[list[Annotated[GroupId, BeforeValidator(_number)]], AtMost(200), Field(default_factory=list)]

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not (self.all or self.ids or self.groups):
            raise refusal("must have at least one of: all, ids, groups")
        return self


class MulticastRecipients(Payload):
    """Agents only: recipients that are customers were taken out of all versions."""

    agents: MulticastAgents


class Multicast(Payload):
    """`multicast`"""

    recipients: MulticastRecipients
    content: Json
    type: Annotated[str, Text(256)] | None = None
