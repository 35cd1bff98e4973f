"""pydantic's complaints in the protocol's words."""

from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field

from rtm.protocol.validation import MAX_MESSAGE_LENGTH, explain


class Cat(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["cat"]
    lives: Annotated[list[int], Field(max_length=9)] = Field(default_factory=list)


class Dog(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["dog"]
    tricks: dict[Annotated[str, Field(max_length=8)], bool] = Field(default_factory=dict)


class Home(BaseModel):
    model_config = ConfigDict(strict=True)

    pets: list[Annotated[Cat | Dog, Field(discriminator="type")]]
    door: str = ""


def explained(payload: dict[str, Any]) -> str:
    with pytest.raises(pydantic.ValidationError) as caught:
        Home.model_validate(payload)
    return explain(caught.value, payload).message


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "`pets` is required"),
        ({"pets": {}}, "`pets` must be an array"),
        ({"pets": [{}]}, "`pets[0].type` is required"),
        ({"pets": [{"type": "fish"}]}, "`pets[0].type` must be one of: cat, dog"),
        ({"pets": [{"type": "cat", "lives": [1, "two"]}]}, "`pets[0].lives[1]` must be an integer"),
        ({"pets": [{"type": "cat", "lives": [1] * 10}]}, "`pets[0].lives` must have at most 9 elements"),
        ({"pets": [{"type": "dog", "tricks": {"roll": 1}}]}, "`pets[0].tricks.roll` must be a boolean"),
        (
            {"pets": [{"type": "dog", "tricks": {"somersault": True}}]},
            "`pets[0].tricks` has a name that must be at most 8 characters long",
        ),
        ({"pets": [{"type": "fish"}], "door": 1}, "`pets[0].type` must be one of: cat, dog"),
    ],
)
def test_names_the_field_and_what_was_expected(payload: dict[str, Any], message: str) -> None:
    assert explained(payload) == message


def test_a_name_of_the_client_s_own_is_cut() -> None:
    class Box(BaseModel):
        things: dict[str, dict[str, int]]

    payload = {"things": {"x" * 10_000: {"y" * 10_000: "no"}}}
    with pytest.raises(pydantic.ValidationError) as caught:
        Box.model_validate(payload, strict=True)
    message = explain(caught.value, payload).message
    assert message == f"`things.{'x' * 64}.{'y' * 64}` must be an integer"
    assert len(message) <= MAX_MESSAGE_LENGTH
