"""Fields of `form` and `filled_form` events.

Source: the public reference, "Data structures", "Form fields" and "Filled form fields".
"""

from typing import Annotated, Literal, Self

from pydantic import model_validator

from rtm.model.payload import AtMost, Expected, GroupId, Id, Json, Payload, Text
from rtm.protocol.validation import refusal

FieldType = Literal["checkbox", "email", "name", "question", "subject", "textarea", "group_chooser", "radio", "select"]
Label = Annotated[str, Text(4096)]


class Choice(Payload):
    """One of the answers to choose from; `group_id` where it chooses a group."""

    id: Annotated[Id | int, Expected("must be a string or an integer")]
    label: Label
    group_id: GroupId | None = None


class FormField(Payload):
    """A question, not yet answered."""

    type: FieldType
    id: Id
    label: Label
    required: bool | None = None
    options: Annotated[list[Choice], AtMost(100)] | None = None


class FilledFormField(Payload):
    """A question with its `answer`, or its `answers` where several may be chosen."""

    type: FieldType
    id: Id
    label: Label
    answer: Json = None
    answers: Annotated[list[Choice], AtMost(100)] | None = None

    @model_validator(mode="after")
    def _answered(self) -> Self:
        if self.answer is None and self.answers is None:
            raise refusal("is required", "answer")
        return self
