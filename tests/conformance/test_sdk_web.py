"""The official Python SDK, unmodified: an integration uses the Web API over TLS."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from httpx import Response
from livechat.agent import AgentWeb
from livechat.utils.structures import AccessToken, TokenType

from tests.conformance.test_sdk_rtm import CARDS, JONES, SMITH, VERSIONS, listed
from tests.running import ServerProcess


def done(response: Response) -> Any:
    """The body of a response, which is a success."""
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: Response) -> tuple[int, str]:
    """The status of a response and the type of the error in it."""
    return response.status_code, response.json()["error"]["type"]


def client(server: ServerProcess, version: str, token: AccessToken) -> Any:
    """A client that trusts any certificate."""
    return AgentWeb.get_client(token, version=version, base_url=server.address, verify=False, disable_logging=True)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture(scope="module")
def smith(server: ServerProcess, version: str) -> Iterator[Any]:
    web = client(server, version, AccessToken(server.token(SMITH), TokenType.BEARER))
    with web.session:
        yield web


@pytest.fixture
def chat(smith: Any) -> dict[str, Any]:
    """What `start_chat` answers for a chat of Smith's and Jones'."""
    started: dict[str, Any] = done(smith.start_chat(chat={"users": [{"id": JONES, "type": "agent"}]}, continuous=True))
    return started


def test_events(smith: Any, chat: dict[str, Any]) -> None:
    sent: list[dict[str, Any]] = [
        {"type": "message", "text": "Hello", "custom_id": "greeting"},
        {"type": "system_message", "text": "The chat is recorded", "system_message_type": "recorded"},
        {"type": "custom", "content": {"coupon": 7}},
        {"type": "rich_message", "template_id": "quick_replies", "elements": [{"title": "Well?"}]},
    ]
    ids = [done(smith.send_event(chat_id=chat["chat_id"], event=event))["event_id"] for event in sent]

    stored = done(smith.get_chat(chat_id=chat["chat_id"]))["thread"]["events"]
    assert [event["id"] for event in stored] == ids
    for event, wanted in zip(stored, sent, strict=True):
        assert event.items() >= wanted.items()


def test_reading_chats(smith: Any, chat: dict[str, Any], version: str) -> None:
    page = done(smith.list_chats(limit=1))
    assert [summary["id"] for summary in listed(version, page)] == [chat["chat_id"]]
    following = done(smith.list_chats(page_id=page["next_page_id"]))
    assert chat["chat_id"] not in [summary["id"] for summary in listed(version, following)]

    done(smith.deactivate_chat(id=chat["chat_id"]))
    inactive = {"include_active": False} if version == "3.5" else {"active": False}
    summaries = listed(version, done(smith.list_chats(filters=inactive)))
    assert chat["chat_id"] in [summary["id"] for summary in summaries]

    threads = done(smith.list_threads(chat_id=chat["chat_id"]))
    assert [thread["id"] for thread in threads["threads"]] == [chat["thread_id"]]


def test_a_chat_ends_and_goes_on(smith: Any, chat: dict[str, Any]) -> None:
    assert done(smith.deactivate_chat(id=chat["chat_id"])) == {}
    assert refused(smith.deactivate_chat(id=chat["chat_id"])) == (400, "chat_inactive")
    resumed = done(smith.resume_chat(chat={"id": chat["chat_id"]}))
    assert done(smith.get_chat(chat_id=chat["chat_id"]))["thread"]["id"] == resumed["thread_id"]


def test_who_takes_part(server: ServerProcess, smith: Any, chat: dict[str, Any]) -> None:
    chat_id, customer_id = chat["chat_id"], server.credentials["customers"][0]["id"]
    done(smith.add_user_to_chat(chat_id=chat_id, user_id=customer_id, user_type="customer", visibility="all"))
    done(smith.remove_user_from_chat(chat_id=chat_id, user_id=JONES, user_type="agent"))
    present = {user["id"]: user["present"] for user in done(smith.get_chat(chat_id=chat_id))["users"]}
    assert present == {SMITH: True, JONES: False, customer_id: True}


def test_small_things(smith: Any, chat: dict[str, Any], version: str) -> None:
    chat_id = chat["chat_id"]
    assert done(smith.send_typing_indicator(chat_id=chat_id, visibility="all", is_typing=True)) == {}
    assert done(smith.mark_events_as_seen(chat_id=chat_id, seen_up_to="2030-01-01T00:00:00.000000Z")) == {}
    assert done(smith.multicast(recipients={"agents": {"all": True}}, content="Lunch!")) == {}
    if version != "3.5":
        assert done(smith.send_event_preview(chat_id=chat_id, event={"type": "message", "text": "H"})) == {}
        assert done(smith.send_thinking_indicator(chat_id=chat_id, title="Looking")) == {}
        assert done(smith.request_thread_summary(chat_id=chat_id, thread_id=chat["thread_id"])) == {}
        assert refused(smith.request_thread_summary(chat_id=chat_id, thread_id="NOSUCH")) == (404, "not_found")


def test_properties_and_tags(smith: Any, chat: dict[str, Any]) -> None:
    chat_id, thread_id = chat["chat_id"], chat["thread_id"]
    sent = done(smith.send_event(chat_id=chat_id, event=CARDS))
    places = {"chat": {"id": chat_id}, "thread": {"chat_id": chat_id, "thread_id": thread_id}}
    places["event"] = {**places["thread"], **sent}
    for of, place in places.items():
        update, delete = getattr(smith, f"update_{of}_properties"), getattr(smith, f"delete_{of}_properties")
        assert done(update(**place, properties={"ns": {"kept": 1, "gone": True}})) == {}
        assert done(delete(**place, properties={"ns": ["gone"]})) == {}
        assert refused(update(**place, properties={"ns": 1})) == (400, "validation")
        assert refused(delete(**place, properties={"ns": {}})) == (400, "validation")
    assert done(smith.tag_thread(**places["thread"], tag="order")) == {}
    assert refused(smith.tag_thread(**places["thread"], tag="nonsense")) == (404, "not_found")
    postback = {"id": "yes", "toggled": True}
    assert done(smith.send_rich_message_postback(**places["event"], postback=postback)) == {}
    assert refused(smith.send_rich_message_postback(**places["event"], postback={})) == (400, "validation")

    read = done(smith.get_chat(chat_id=chat_id))
    event = read["thread"]["events"][0]
    assert [each["properties"]["ns"] for each in (read, read["thread"], event)] == [{"kept": 1}] * 3
    assert event["elements"][0]["buttons"][0]["user_ids"] == [SMITH]
    assert read["thread"]["tags"] == ["order"]
    assert done(smith.untag_thread(**places["thread"], tag="order")) == {}
    assert refused(smith.untag_thread(chat_id=chat_id, thread_id="NOSUCH", tag="order")) == (404, "not_found")


def test_following(server: ServerProcess, version: str, chat: dict[str, Any]) -> None:
    owner = client(server, version, AccessToken(server.token("owner@example.com"), TokenType.BEARER))
    with owner.session:
        assert done(owner.follow_chat(id=chat["chat_id"])) == {}
        assert done(owner.get_chat(chat_id=chat["chat_id"]))["is_followed"]
        assert done(owner.unfollow_chat(id=chat["chat_id"])) == {}
        assert not done(owner.get_chat(chat_id=chat["chat_id"]))["is_followed"]


def test_customers(server: ServerProcess, smith: Any, version: str) -> None:
    customer_id = server.credentials["customers"][1]["id"]
    assert done(smith.update_customer(id=customer_id, name="Grace H", session_fields=[{"a": "b"}])) == {}
    shown = done(smith.get_customer(id=customer_id))
    assert (shown["name"], shown["session_fields"]) == ("Grace H", [{"a": "b"}])
    assert done(smith.ban_customer(id=customer_id, ban={"days": 1})) == {}
    if version == "3.5":
        assert done(smith.get_customer(id=done(smith.create_customer(name="Joan"))["customer_id"]))["name"] == "Joan"
        assert refused(smith.create_customer(name="Joan" * 100)) == (400, "validation")
        listed = done(smith.list_customers(filters={"name": {"values": ["Grace H"]}}, sort_by="threads_count"))
        assert [customer["id"] for customer in listed["customers"]] == [customer_id]
        assert refused(smith.list_customers(limit=0)) == (400, "validation")
        assert done(smith.get_license_info())["license_id"].isdecimal()
    for call in (smith.get_customer, smith.update_customer, smith.ban_customer):
        assert refused(call()) == (400, "validation")


def test_routing_statuses(smith: Any) -> None:
    assert done(smith.set_routing_status(status="not_accepting_chats")) == {}
    assert {"agent_id": SMITH, "status": "not_accepting_chats"} in done(smith.list_routing_statuses())


def test_refusals(server: ServerProcess, smith: Any, version: str) -> None:
    assert refused(smith.get_chat(chat_id="NOSUCHCHAT")) == (404, "not_found")
    assert refused(smith.get_chat()) == (400, "validation")
    with client(server, version, AccessToken("dal:nobody", TokenType.BEARER)).session as session:
        url = f"{smith.api_url}/list_chats"
        assert refused(session.post(url, json={})) == (401, "authentication")


def test_a_personal_access_token(server: ServerProcess, version: str) -> None:
    jones = next(agent for agent in server.credentials["agents"] if agent["id"] == JONES)
    pair = f"{jones['account_id']}:{jones['personal_access_token']}"
    web = client(server, version, AccessToken(b64encode(pair.encode()).decode(), TokenType.BASIC))
    with web.session:
        assert done(web.list_chats())["found_chats"] > 0
        assert refused(web.set_routing_status(status="accepting_chats", agent_id=SMITH)) == (403, "authorization")
