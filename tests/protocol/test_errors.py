"""Each API knows its own types of errors: in the contract, `errors_by_api.json`, the same in all versions."""

from http import HTTPStatus

import pytest

from rtm.documents.openapi import error_types
from rtm.protocol.errors import ApiError, LimitReached, MisdirectedRequest, RequesterSuspended, UnsupportedVersion

_BOTH = """
    agent_offline authentication authorization chat_inactive internal license_expired missing_access not_found
    request_timeout service_unavailable too_many_requests validation wrong_product_version
"""
KNOWN = {
    "rtm": set(
        f"""{_BOTH}
        pending_requests_limit_reached requester_already_offline requester_awaiting_approval requester_suspended
        seats_limit_exceeded
        """.split()
    ),
    "web": set(
        f"{_BOTH} entity_too_large license_not_found limit_reached misdirected_request unsupported_version".split()
    ),
}


@pytest.mark.parametrize("door", KNOWN)
def test_a_door_tells_of_the_errors_that_its_api_knows(door: str) -> None:
    assert {error.type for errors in error_types(door).values() for error in errors} == KNOWN[door]


@pytest.mark.parametrize(
    ("error", "door", "told"),
    [
        (RequesterSuspended(), "web", ("authorization", "Requester suspended", HTTPStatus.FORBIDDEN)),
        (RequesterSuspended(), "rtm", ("requester_suspended", "Requester suspended", HTTPStatus.FORBIDDEN)),
        (LimitReached("A lot"), "rtm", ("validation", "A lot", HTTPStatus.BAD_REQUEST)),
        (LimitReached("A lot"), "web", ("limit_reached", "A lot", HTTPStatus.BAD_REQUEST)),
        (UnsupportedVersion("No"), "rtm", ("validation", "No", HTTPStatus.BAD_REQUEST)),
    ],
)
def test_others_are_told_as_one_of_those(error: ApiError, door: str, told: tuple[str, str, HTTPStatus]) -> None:
    shown = error.at(door)
    assert (shown.type, shown.message, shown.status) == told
    assert shown.type in KNOWN[door]


def test_what_a_program_can_use_is_still_there() -> None:
    assert MisdirectedRequest("fra").at("rtm").as_dict() == {
        "type": "authentication",
        "message": "Wrong region",
        "data": {"region": "fra"},
    }
