"""Every method of the official Python SDK, at both doors and in every version that it has: done once, refused once.

The methods are found by looking at the SDK's classes; one without a row fails the tests.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from livechat.agent import AgentRTM, AgentWeb
from livechat.utils.structures import AccessToken, TokenType

from rtm.actions import registry
from rtm.actions.registry import AGENT, RTM, WEB
from tests.actions.test_contract import fill
from tests.conformance.test_sdk_rtm import CARDS, JONES, SMITH, VERSIONS, Agent
from tests.conformance.test_sdk_web import client
from tests.running import ServerProcess

OWN = {"open_connection", "close_connection", "get_headers", "modify_header", "remove_header"}
"""Methods that ask the server nothing."""
BEYOND = {
    "get_thread_transcript": (RTM, WEB),
    "change_push_notifications": (RTM,),  # the protocol has it in 3.4 only
    "logout": (WEB,),
}
"""Methods that the SDK has, and no version of the protocol that the SDK speaks."""

OWNER, NOBODY = "owner@example.com", "b7eff798-f8df-4364-8059-649c35c9ed0c"
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A method with arguments that are refused, then, after some other calls, arguments that are not."""

    method: str
    done: Arguments
    error: str
    refused: Arguments
    before: tuple[tuple[str, Arguments], ...] = field(default=(), kw_only=True)


NO_CHAT, CHAT = {"chat_id": "NOSUCHCHAT"}, {"chat_id": "$chat"}
THREAD = CHAT | {"thread_id": "$thread"}
EVENT = THREAD | {"event_id": "$event"}
SET, NAMED = {"properties": {"ns": {"name": 1}}}, {"properties": {"ns": ["name"]}}
JONES_IN_CHAT = {"user_id": JONES, "user_type": "agent"}
HELLO = {"event": {"type": "message", "text": "hello"}}
NOT_FOUND, VALIDATION, AUTHENTICATION = "not_found", "validation", "authentication"

ROWS = [
    Row("login", {"token": "$token"}, AUTHENTICATION, {"token": "Bearer dal:nobody"}),
    Row("logout", {}, AUTHENTICATION, {}, before=(("login", {"token": "$token"}),)),
    Row("list_chats", {"limit": 1}, VALIDATION, {"limit": 0}),
    Row("list_threads", CHAT, NOT_FOUND, NO_CHAT),
    Row("get_chat", THREAD, NOT_FOUND, NO_CHAT),
    Row("list_archives", {"limit": 1}, VALIDATION, {"limit": 0}),
    Row("start_chat", {"continuous": True}, NOT_FOUND, {"chat": {"users": [{"id": "nobody", "type": "agent"}]}}),
    Row(
        "resume_chat",
        {"chat": {"id": "$chat"}},
        NOT_FOUND,
        {"chat": {"id": "NOSUCHCHAT"}},
        before=(("deactivate_chat", {"id": "$chat"}),),
    ),
    Row("deactivate_chat", {"id": "$chat"}, NOT_FOUND, {"id": "NOSUCHCHAT"}),
    Row("follow_chat", {"id": "$others_chat"}, NOT_FOUND, {"id": "NOSUCHCHAT"}),
    Row(
        "unfollow_chat",
        {"id": "$others_chat"},
        NOT_FOUND,
        {"id": "NOSUCHCHAT"},
        before=(("follow_chat", {"id": "$others_chat"}),),
    ),
    Row(
        "transfer_chat",
        {"id": "$chat", "target": {"type": "agent", "ids": [OWNER]}, "ignore_agents_availability": True},
        NOT_FOUND,
        {"id": "NOSUCHCHAT", "target": {"type": "group", "ids": [0]}},
    ),
    Row("list_agents_for_transfer", CHAT, NOT_FOUND, NO_CHAT),
    Row(
        "add_user_to_chat",
        CHAT | JONES_IN_CHAT | {"visibility": "all"},
        VALIDATION,
        CHAT | JONES_IN_CHAT | {"visibility": "nobody"},
        before=(("remove_user_from_chat", CHAT | JONES_IN_CHAT),),
    ),
    Row("remove_user_from_chat", CHAT | JONES_IN_CHAT, NOT_FOUND, NO_CHAT | JONES_IN_CHAT),
    Row("send_event", CHAT | HELLO, NOT_FOUND, NO_CHAT | HELLO),
    Row("send_event_preview", CHAT | HELLO, NOT_FOUND, NO_CHAT | HELLO),
    Row("upload_file", {"file": {"file": ("a.txt", b"a")}}, VALIDATION, {"file": {"file": ("a.exe", b"MZ")}}),
    Row(
        "send_rich_message_postback",
        EVENT | {"postback": {"id": "yes", "toggled": True}},
        VALIDATION,
        EVENT | {"postback": {}},
    ),
    Row("request_thread_summary", THREAD, NOT_FOUND, THREAD | NO_CHAT),
    Row("get_thread_transcript", THREAD, NOT_FOUND, THREAD | NO_CHAT),
    Row("update_chat_properties", {"id": "$chat"} | SET, NOT_FOUND, {"id": "NOSUCHCHAT"} | SET),
    Row(
        "delete_chat_properties",
        {"id": "$chat"} | NAMED,
        NOT_FOUND,
        {"id": "NOSUCHCHAT"} | NAMED,
        before=(("update_chat_properties", {"id": "$chat"} | SET),),
    ),
    Row("update_thread_properties", THREAD | SET, NOT_FOUND, THREAD | SET | NO_CHAT),
    Row(
        "delete_thread_properties",
        THREAD | NAMED,
        NOT_FOUND,
        THREAD | NAMED | NO_CHAT,
        before=(("update_thread_properties", THREAD | SET),),
    ),
    Row("update_event_properties", EVENT | SET, NOT_FOUND, EVENT | SET | NO_CHAT),
    Row(
        "delete_event_properties",
        EVENT | NAMED,
        NOT_FOUND,
        EVENT | NAMED | NO_CHAT,
        before=(("update_event_properties", EVENT | SET),),
    ),
    Row("tag_thread", THREAD | {"tag": "order"}, NOT_FOUND, THREAD | {"tag": "nonsense"}),
    Row(
        "untag_thread",
        THREAD | {"tag": "order"},
        NOT_FOUND,
        THREAD | {"tag": "order"} | NO_CHAT,
        before=(("tag_thread", THREAD | {"tag": "order"}),),
    ),
    Row("get_customer", {"id": "$customer"}, NOT_FOUND, {"id": NOBODY}),
    Row("list_customers", {"limit": 1}, VALIDATION, {"limit": 0}),
    Row("create_customer", {"name": "Joan"}, VALIDATION, {"name": "Joan" * 100}),
    Row("update_customer", {"id": "$customer", "name": "Grace"}, NOT_FOUND, {"id": NOBODY, "name": "Grace"}),
    Row("ban_customer", {"id": "$customer", "ban": {"days": 1}}, VALIDATION, {"id": "$customer", "ban": {"days": -1}}),
    Row("set_routing_status", {"status": "accepting_chats"}, VALIDATION, {"status": "asleep"}),
    Row("set_away_status", {"away": False}, VALIDATION, {"away": "a little"}),
    Row("list_routing_statuses", {"filters": {"group_ids": [0]}}, VALIDATION, {"filters": {"group_ids": 0}}),
    Row("update_session", {"token": "$token"}, AUTHENTICATION, {"token": "Bearer dal:nobody"}),
    Row("change_push_notifications", {"enabled": False}, VALIDATION, {"enabled": "maybe"}),
    Row("mark_events_as_seen", CHAT | {"seen_up_to": "2030-01-01T00:00:00.000000Z"}, VALIDATION, CHAT),
    Row("send_typing_indicator", CHAT | {"is_typing": True}, NOT_FOUND, NO_CHAT | {"is_typing": True}),
    Row("send_thinking_indicator", CHAT | {"title": "Looking"}, NOT_FOUND, NO_CHAT | {"title": "Looking"}),
    Row(
        "multicast",
        {"recipients": {"agents": {"all": True}}, "content": "lunch"},
        VALIDATION,
        {"recipients": {}, "content": "lunch"},
    ),
    Row("get_license_info", {}, "misdirected_request", {"headers": {"X-Region": "fra"}}),
]


def sdk(version: str, door: str) -> Any:
    """A client of the SDK that asks nobody anything."""
    if door == RTM:
        return AgentRTM.get_client(version=version, base_url="nowhere")
    return AgentWeb.get_client(AccessToken("none", TokenType.BEARER), version=version, base_url="nowhere")


def methods(version: str, door: str) -> set[str]:
    """What the SDK asks servers of that version at that door."""
    found = inspect.getmembers(type(sdk(version, door)), inspect.isfunction)
    return {name for name, _ in found if not name.startswith("_")} - OWN


SURFACE = [(version, door, methods(version, door)) for version in VERSIONS for door in (RTM, WEB)]


def test_every_method_of_the_sdk_has_a_row() -> None:
    assert {row.method for row in ROWS} == set().union(*(names for _, _, names in SURFACE))


@pytest.mark.parametrize(("version", "door", "names"), [pytest.param(*each, id="-".join(each[:2])) for each in SURFACE])
def test_every_method_of_the_sdk_is_served(version: str, door: str, names: set[str]) -> None:
    missing = {name for name in names if registry.find(AGENT, name, version, door) is None}
    assert missing == {name for name in names if door in BEYOND.get(name, ())}


@dataclass(frozen=True)
class Caller:
    """Smith, who uses the SDK at one door, and the names of what there is."""

    sdk: Any
    names: dict[str, str]

    def call(self, method: str, arguments: Arguments) -> str | dict[str, Any] | list[Any]:
        """The payload of what is answered, or the type of the error."""
        response = getattr(self.sdk, method)(**fill(arguments, self.names))
        payload = response.json() if hasattr(response, "json") else response.payload
        answer: str | dict[str, Any] | list[Any] = payload["error"]["type"] if "error" in payload else payload
        return answer


@pytest.fixture(scope="module")
def callers(server: ServerProcess) -> Iterator[dict[tuple[str, str], Any]]:
    """A client for each version and door; those of sockets have logged in."""
    token = AccessToken(server.token(SMITH), TokenType.BEARER)
    with ExitStack() as stack:
        found = {}
        for version in VERSIONS:
            found[version, RTM] = stack.enter_context(closing(Agent(server, version))).rtm
            assert found[version, RTM].login(token=token).success
            found[version, WEB] = client(server, version, token)
            stack.enter_context(found[version, WEB].session)
        yield found


@pytest.fixture(scope="module")
def others_chat(server: ServerProcess) -> str:
    """A chat that Smith takes no part in."""
    owner = client(server, "3.6", AccessToken(server.token(OWNER), TokenType.BEARER))
    with owner.session:
        chat_id: str = owner.start_chat(continuous=True).json()["chat_id"]
    return chat_id


@pytest.fixture
def caller(
    request: pytest.FixtureRequest, server: ServerProcess, callers: dict[tuple[str, str], Any], others_chat: str
) -> Iterator[Caller]:
    version, door, row = request.param
    names = {"$token": f"Bearer {server.token(SMITH)}", "$customer": str(server.credentials["customers"][1]["id"])}
    with ExitStack() as stack:
        if row.method in ("login", "logout") and door == RTM:
            yield Caller(stack.enter_context(closing(Agent(server, version))).rtm, names)
            return
        started = Caller(callers[version, WEB], {}).call(
            "start_chat", {"chat": {"users": [{"id": JONES, "type": "agent"}], "thread": {"events": [CARDS]}}}
        )
        assert isinstance(started, dict)
        names |= {
            "$others_chat": others_chat,
            "$chat": started["chat_id"],
            "$thread": started["thread_id"],
            "$event": started["event_ids"][0],
        }
        yield Caller(callers[version, door], names)


CASES = [
    pytest.param((version, door, row), row, id=f"{row.method}-{version}-{door}")
    for version, door, names in SURFACE
    for row in ROWS
    if row.method in names
]


@pytest.mark.parametrize(("caller", "row"), CASES, indirect=["caller"])
def test_a_method_is_refused_and_done(request: pytest.FixtureRequest, caller: Caller, row: Row) -> None:
    _, door, _ = request.node.callspec.params["caller"]
    if door in BEYOND.get(row.method, ()):
        assert caller.call(row.method, row.done) == NOT_FOUND
        return
    assert caller.call(row.method, row.refused) == row.error
    for method, arguments in row.before:
        assert not isinstance(caller.call(method, arguments), str)
    assert not isinstance(caller.call(row.method, row.done), str)
