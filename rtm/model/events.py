"""Events as clients send them, and the body that everybody then sees.

`NewEvent` is what `send_event` takes: one model for each type, told apart by `type`. `body` gives the fields of the
reference's "Response" table in its order. Types that only the server makes (`system`) are refused.

Source: the public reference, "Data structures", "Events".
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from rtm.model.chat import Visibility
from rtm.model.files import ids_in
from rtm.model.forms import FilledFormField, FormField
from rtm.model.payload import AtMost, BoundedJson, Id, Number, Payload, Text, Url, check_together
from rtm.model.properties import Properties, PropertyName, PropertyValue
from rtm.model.rich_messages import MAX_ELEMENTS, Element, image_urls
from rtm.protocol.validation import WITHOUT_NUL, refusal

MAX_TEXT_BYTES = 16 * 1024


def _message_text(text: str) -> str:
    if 4 * len(text) > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
        raise refusal(f"must be at most {MAX_TEXT_BYTES} bytes long")
    if "\0" in text:
        raise refusal(WITHOUT_NUL)
    return text


MessageText = Annotated[str, Field(min_length=1), AfterValidator(_message_text)]


_CUSTOM_ID = (
    "A name of the sender's own. Who repeats it in the same thread is answered with the event that is there, and adds "
    "none: so a request that was not answered may be sent again."
)


class Event(Payload, ABC):
    """What events of every type have."""

    type: str
    author_id: Id | None = None  # of the initial events of a chat: one of its users; the requester if missing
    custom_id: Annotated[Id | None, Field(description=_CUSTOM_ID)] = None
    visibility: Visibility = "all"
    properties: Properties | None = None

    has_author: ClassVar[bool] = True

    @property
    def file_ids(self) -> tuple[str, ...]:
        """Ids of the files that it shows, those that should be ours."""
        return ()

    def body(self, *, author_id: str, created_at: str, event_id: str = "") -> dict[str, Any]:
        """The event as 3.6 shows it; whoever adds it to a thread gives it its `id`."""
        body: dict[str, Any] = {"id": event_id}
        if self.custom_id is not None:
            body["custom_id"] = self.custom_id
        body["created_at"] = created_at
        body["type"] = self.type
        if self.has_author:
            body["author_id"] = author_id
        body["visibility"] = self.visibility
        if self.properties:
            body["properties"] = self.properties
        body.update(self.content_fields())
        return body

    @abstractmethod
    def content_fields(self) -> dict[str, Any]:
        """The fields that only this type of event has."""


class ChosenProduct(Payload):
    """The product that a button of a rich message was about."""

    product_id: Id
    option_id: Id | None = None
    quantity: Number | None = None


class Postback(Payload):
    """The button of a rich message that caused a message."""

    id: Id
    thread_id: Id
    event_id: Id
    type: Annotated[str, Text(256)] | None = None
    value: Annotated[str, Text(4096)] | None = None
    ecommerce: ChosenProduct | None = None

    @model_validator(mode="after")
    def _type_with_value(self) -> Self:
        check_together(self, "type", "value")
        return self


class Message(Event):
    """Text, at most 16 KiB of it in UTF-8."""

    type: Literal["message"]
    text: MessageText
    postback: Postback | None = None

    def content_fields(self) -> dict[str, Any]:
        if self.postback is None:
            return {"text": self.text}
        return {"text": self.text, "postback": self.postback.model_dump(exclude_none=True)}


class File(Event):
    """A file that can be fetched at `url`."""

    type: Literal["file"]
    url: Url
    alternative_text: Annotated[str, Text(4096)] | None = None

    @property
    def file_ids(self) -> tuple[str, ...]:
        return ids_in((self.url,))

    def content_fields(self) -> dict[str, Any]:
        """What was sent; `rtm.model.files.describe` adds what is known of the file when the event is stored."""
        return self.model_dump(include={"url", "alternative_text"}, exclude_none=True)


class RichMessage(Event):
    """Cards, quick replies, a sticker or products."""

    type: Literal["rich_message"]
    template_id: Literal["cards", "sticker", "quick_replies", "ecommerce"]
    elements: Annotated[list[Element], AtMost(MAX_ELEMENTS)] | None = None

    @property
    def file_ids(self) -> tuple[str, ...]:
        return ids_in(image_urls(self.content_fields()))

    def content_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"template_id": self.template_id}
        if self.elements is not None:
            fields["elements"] = [element.body() for element in self.elements]
        return fields


class Custom(Event):
    """Whatever the integrations at both ends agree on."""

    type: Literal["custom"]
    content: Annotated[dict[str, Any], BoundedJson] | None = None

    def content_fields(self) -> dict[str, Any]:
        return {} if self.content is None else {"content": self.content}


class Form(Event):
    """An empty form for the customer to fill out."""

    type: Literal["form"]
    form_id: Id
    fields: Annotated[list[FormField], AtMost(100)]

    def content_fields(self) -> dict[str, Any]:
        return self.model_dump(include={"form_id", "fields"}, exclude_none=True)


class FilledForm(Event):
    """A form with its answers."""

    type: Literal["filled_form"]
    form_id: Id
    fields: Annotated[list[FilledFormField], AtMost(100)]

    def content_fields(self) -> dict[str, Any]:
        return self.model_dump(include={"form_id", "fields"}, exclude_none=True)


class SystemMessage(Event):
    """What happened, in the server's manner: shown without an author."""

    type: Literal["system_message"]
    text: Annotated[str, AfterValidator(_message_text)] | None = None
    system_message_type: Annotated[str, Text(256, least=1)]
    text_vars: Annotated[dict[PropertyName, PropertyValue], AtMost(100)] | None = None

    has_author: ClassVar[bool] = False

    def content_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {} if self.text is None else {"text": self.text}
        fields["system_message_type"] = self.system_message_type
        if self.text_vars is not None:
            fields["text_vars"] = self.text_vars
        return fields


EventType = TypeVar("EventType", bound=Event)


def visible_to_all(event: EventType) -> EventType:
    """The validator of a place where events cannot be hidden from the customer."""
    if event.visibility != "all":
        raise refusal("must be one of: all", "visibility")
    return event


NewEvent = Annotated[
    Message | File | RichMessage | Custom | Form | FilledForm | SystemMessage,
    Field(discriminator="type"),
]
