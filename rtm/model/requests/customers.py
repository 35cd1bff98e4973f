"""Payloads about customers."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rtm.model.payload import (
    AtMost,
    Between,
    BoundedJson,
    Expected,
    GroupId,
    GroupIds,
    Id,
    Payload,
    SortOrder,
    Text,
    Timestamp,
    Url,
    UrlOrNothing,
    check_alone,
    check_one,
)
from rtm.model.requests.chats import Limit, Page
from rtm.model.tracking import MAX_CUSTOMERS
from rtm.protocol.validation import refusal

MAX_SESSION_FIELDS = 100
MAX_BAN_DAYS = 36_500
"""A hundred years."""

_UUID4 = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"

CustomerId = Annotated[str, Field(pattern=_UUID4), Expected("must be a UUID v4")]
_E164 = Expected("must be a phone number in E.164 form, such as +14155552671")
PhoneNumber = Annotated[str, Field(pattern="^[+][1-9][0-9]{1,14}$"), _E164]
PhoneNumberOrNothing = Annotated[str, Field(pattern="^([+][1-9][0-9]{1,14})?$"), _E164]
ChatGroupIds = Annotated[list[GroupId], AtMost(40)]
Count = Annotated[int, Between(0, 2**31 - 1)]
SortedBy = Literal["created_at", "threads_count", "visits_count", "agent_last_event", "customer_last_event"]
ShortText = Annotated[str, Text(256)]
SessionField = Annotated[dict[Annotated[str, Text(128, least=1)], Annotated[str, Text(4096)]], AtMost(100)]


def _few(fields: list[dict[str, str]]) -> list[dict[str, str]]:
    if sum(map(len, fields)) > MAX_SESSION_FIELDS:
        raise refusal(f"must have at most {MAX_SESSION_FIELDS} keys")
    return fields


SessionFields = Annotated[list[SessionField], AtMost(MAX_SESSION_FIELDS), AfterValidator(_few), BoundedJson]


class _Either(Payload):
    """One of these values, or none of them."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        check_one(self, "values", "exclude_values")
        return self


class GetCustomer(Payload):
    """`get_customer`"""

    id: Id


class TextFilter(_Either):
    """What a text is, or is not."""

    values: Annotated[list[ShortText], AtMost(100)] | None = None
    exclude_values: Annotated[list[ShortText], AtMost(100)] | None = None


class GroupFilter(_Either):
    """Groups that a customer has chats in, or has none in."""

    values: ChatGroupIds | None = None
    exclude_values: ChatGroupIds | None = None


class CountFilter(Payload):
    """A number within bounds."""

    lte: Count | None = None
    lt: Count | None = None
    gte: Count | None = None
    gt: Count | None = None
    eq: Count | None = None


class TimeFilter(Payload):
    """A time within bounds."""

    lte: Timestamp | None = None
    lt: Timestamp | None = None
    gte: Timestamp | None = None
    gt: Timestamp | None = None
    eq: Timestamp | None = None


class CustomersFilters(Payload):
    """What customers must be like, all of it together."""

    country: TextFilter | None = None
    email: TextFilter | None = None
    name: TextFilter | None = None
    customer_id: TextFilter | None = None
    chats_count: CountFilter | None = None
    threads_count: CountFilter | None = None
    visits_count: CountFilter | None = None
    created_at: TimeFilter | None = None
    agent_last_event_created_at: TimeFilter | None = None
    customer_last_event_created_at: TimeFilter | None = None
    chat_group_ids: GroupFilter | None = None
    include_customers_without_chats: bool = True


class ListCustomers(Page):
    """`list_customers`, of the versions before 3.6."""

    filters: CustomersFilters | None = None
    sort_by: SortedBy = "created_at"
    sort_order: SortOrder = "desc"
    limit: Limit = 10

    @model_validator(mode="after")
    def _sorted_as_the_first(self) -> Self:
        check_alone(self, "page_id", "sort_by")
        return self


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
    avatar: UrlOrNothing | None = None
    phone_number: PhoneNumberOrNothing | None = None
    session_fields: SessionFields | None = None
    omnichannel: Omnichannel | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        first, *others = [name for name in type(self).model_fields if name != "id"]
        if all(getattr(self, name) is None for name in (first, *others)):
            raise refusal("is required, or one of: {names}", first, others)
        return self


class Ban(Payload):
    """For how long."""

    days: Annotated[int, Between(1, MAX_BAN_DAYS)]


class BanCustomer(Payload):
    """`ban_customer`"""

    id: Id
    ban: Ban


class SubscribeCustomers(Payload):
    """`subscribe_customers`; customers of any group if none is named."""

    group_ids: GroupIds | None = None
    limit: Annotated[
        int, Between(1, MAX_CUSTOMERS), Field(description="How many to be told of; those past it are only counted.")
    ] = 100


class UnsubscribeCustomers(Payload):
    """`unsubscribe_customers`"""

    subscription_id: Annotated[str, Text(64, least=1)]
