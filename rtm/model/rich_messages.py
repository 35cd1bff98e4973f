"""What a rich message is made of: elements with images, buttons and products.

Source: the public reference, "Data structures" and "Rich Messages".
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rtm.model.payload import AtMost, Between, Id, Payload, Text, Url, check_together
from rtm.protocol.errors import LimitReached, ValidationError
from rtm.protocol.validation import refusal

MAX_ELEMENTS = 10
MAX_BUTTONS = 13
MAX_BUTTON_USERS = 100

Label = Annotated[str, Text(1024)]
Words = Annotated[str, Text(4096)]
Pixels = Annotated[int, Between(0, 2**31 - 1)]


class Image(Payload):
    """A picture by its URL; sizes in bytes and pixels."""

    name: Label | None = None
    url: Url
    content_type: Label | None = None
    size: Pixels | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    alternative_text: Words | None = None


class Button(Payload):
    """A button; `user_ids` are those who have toggled it."""

    type: Literal["webview", "message", "url", "phone"] | None = None
    text: Annotated[str, Text(1024, least=1)]
    value: Words | None = None
    webview_height: Literal["compact", "full", "tall"] | None = None
    postback_id: Id
    user_ids: Annotated[list[Id], AtMost(MAX_BUTTON_USERS), Field(default_factory=list)]
    target: Literal["new", "current"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check_together(self, "type", "value")
        if self.type == "webview" and self.webview_height is None:
            raise refusal("is required for a button of type webview", "webview_height")
        return self


class ProductOption(Payload):
    """A variant of a product."""

    option_id: Id
    label: Label
    price: Label | None = None
    regular_price: Label | None = None
    currency: Label | None = None
    color: Label | None = None
    image_url: Url | None = None
    image_thumbnail_url: Url | None = None
    available: bool | None = None
    selected: bool | None = None


class ProductAddon(Payload):
    """Something shown beside a product."""

    addon_type: Label
    range_from: Label | None = None
    range_to: Label | None = None
    currency: Label | None = None


class Product(Payload):
    """What an element of the `ecommerce` template offers."""

    view_type: Literal["tags", "swatch", "images", "select"]
    product_id: Id
    label: Label | None = None
    options: Annotated[list[ProductOption], AtMost(100)] | None = None
    addons: Annotated[list[ProductAddon], AtMost(100)] | None = None


class Element(Payload):
    """One card, or one row of replies."""

    title: Words | None = None
    subtitle: Words | None = None
    image: Image | None = None
    buttons: Annotated[list[Button], AtMost(MAX_BUTTONS)] | None = None
    ecommerce: Product | None = None

    def body(self) -> dict[str, Any]:
        """The fields that were given, and `user_ids` of every button."""
        return self.model_dump(exclude_none=True)


def image_urls(body: Mapping[str, Any]) -> Iterator[str]:
    """The URLs of all images of a rich message."""
    for element in body.get("elements", ()):
        if "image" in element:
            yield element["image"]["url"]
        for option in element.get("ecommerce", {}).get("options", ()):
            yield from (option[name] for name in ("image_url", "image_thumbnail_url") if name in option)


def toggle(body: dict[str, Any], postback_id: str, user_id: str, *, toggled: bool) -> bool:
    """Let a user have the buttons of this postback pressed or not; False for who has. Raises an ApiError.

    `body` is that of a rich message, and is changed in place.
    """
    pressed = [
        button
        for element in body.get("elements", ())
        for button in element.get("buttons", ())
        if button["postback_id"] == postback_id
    ]
    if not pressed:
        raise ValidationError("`postback.id` must be the `postback_id` of a button of the event")
    changed = [button for button in pressed if (user_id in button["user_ids"]) != toggled]
    if toggled and any(len(button["user_ids"]) >= MAX_BUTTON_USERS for button in changed):
        raise LimitReached(f"A button has at most {MAX_BUTTON_USERS} users")
    for button in changed:
        others = [each for each in button["user_ids"] if each != user_id]
        button["user_ids"] = [*others, user_id] if toggled else others
    return bool(changed)
