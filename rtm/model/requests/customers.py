"""Payloads about customers."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from rtm.model.payload import AtMost, Between, BoundedJson, Expected, Id, Payload, Text, Url
from rtm.protocol.validation import refusal

MAX_SESSION_FIELDS = 100
MAX_BAN_DAYS = 36_500
"""A hundred years."""

_UUID4 = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"

CustomerId = Annotated[str, Field(pattern=_UUID4), Expected("must be a UUID v4")]
PhoneNumber = Annotated[
    str, Field(pattern="^[+][1-9][0-9]{1,14}$"), Expected("must be a phone number in E.164 form, such as +14155552671")
]
ShortText = Annotated[str, Text(256)]
SessionField = Annotated[dict[Annotated[str, Text(128, least=1)], Annotated[str, Text(4096)]], AtMost(100)]


def _few(fields: list[dict[str, str]]) -> list[dict[str, str]]:
    if sum(map(len, fields)) > MAX_SESSION_FIELDS:
        raise refusal(f"must have at most {MAX_SESSION_FIELDS} keys")
    return fields


SessionFields = Annotated[list[SessionField], Field(max_length=MAX_SESSION_FIELDS), AfterValidator(_few), BoundedJson]


class GetCustomer(Payload):
    """`get_customer`"""

    id: Id


class CreateCustomer(Payload):
    """`create_customer`, of the versions before 3.6."""

    name: ShortText | None = None
    email: ShortText | None = None
    avatar: Url | None = None
    session_fields: SessionFields | None = None


class FbMessenger(Payload):
    """The customer on Facebook Messenger."""

    id: Id
    name: ShortText | None = None
    first_name: ShortText | None = None
    last_name: ShortText | None = None
    profile_pic: Annotated[str, Text(2048)] | None = None
    gender: ShortText | None = None
    locale: ShortText | None = None
    is_verified_user: bool | None = None


class Twilio(Payload):
    """The customer on the telephone."""

    phone_number: PhoneNumber


class Omnichannel(Payload):
    """The customer on other channels; one that is not named stays as it is."""

    fbmessenger: FbMessenger | None = None
    twilio: Twilio | None = None


class Address(Payload):
    """Where the customer lives; a part that is not named stays as it is."""

    address: Annotated[str, Text(1024)] | None = None
    city: ShortText | None = None
    country: ShortText | None = None
    state: ShortText | None = None
    postal_code: ShortText | None = None


class UpdateCustomer(Payload):
    """`update_customer`; what is not named stays as it is, an empty text or list takes a field away."""

    id: CustomerId
    name: ShortText | None = None
    email: ShortText | None = None
    avatar: Url | None = None
    phone_number: PhoneNumber | None = None
    session_fields: SessionFields | None = None
    omnichannel: Omnichannel | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        first, *others = [name for name in type(self).model_fields if name != "id"]
        if all(getattr(self, name) is None for name in (first, *others)):
            raise refusal(f"is required, or one of: {', '.join(others)}", first)
        return self


class Ban(Payload):
    """For how long."""

    days: Annotated[int, Between(1, MAX_BAN_DAYS)]


class BanCustomer(Payload):
    """`ban_customer`"""

    id: Id
    ban: Ban
