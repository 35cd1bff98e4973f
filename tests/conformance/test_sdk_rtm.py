"""The official Python SDK, unmodified: two agents hold a conversation over TLS."""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import pytest
from livechat.agent import AgentRTM
from livechat.utils.structures import AccessToken, RtmResponse, TokenType

from tests.running import PATIENCE_S, ServerProcess

VERSIONS: Final = ["3.5", "3.6", "3.7"]
"""All that the SDK has."""

SMITH, JONES = "smith@example.com", "jones@example.com"


BUTTON = {"text": "Yes", "postback_id": "yes"}
CARDS = {"type": "rich_message", "template_id": "cards", "elements": [{"title": "Well?", "buttons": [BUTTON]}]}


class Agent:
    """One client of the SDK."""

    def __init__(self, server: ServerProcess, version: str) -> None:
        self.rtm = AgentRTM.get_client(version=version, base_url=server.address)
        self.rtm.open_connection(response_timeout=PATIENCE_S)
        self._websocket = self.rtm.ws.sock

    def close(self) -> None:
        self.rtm.close_connection()
        self._websocket.shutdown()  # which the SDK's websocket library forgets when the server closed first

    def heard(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The push of which the payload is wanted, once it has come; the SDK keeps what it receives in a list."""
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            for frame in list(self.rtm.ws.messages):
                if (frame["type"], frame["action"]) == ("push", name) and wanted(frame["payload"]):
                    found: dict[str, Any] = frame
                    return found
            time.sleep(0.005)
        raise AssertionError(f"{name} has not come; the last messages: {self.rtm.ws.messages[:5]}")


def done(response: RtmResponse) -> Any:
    """The payload of a response, which is a success."""
    assert response.success, response.payload
    return response.payload


def listed(version: str, payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The chats of a list, by the version's name for them."""
    chats: list[dict[str, Any]] = payload["chats_info" if version == "3.7" else "chats_summary"]
    return chats


def refused(response: RtmResponse) -> str:
    """The type of the error in a response."""
    assert not response.success, response.payload
    assert set(response.payload["error"]) >= {"type", "message"}
    error_type: str = response.payload["error"]["type"]
    return error_type


@dataclass
class Conversation:
    """Two agents who have logged in, and their chat."""

    version: str
    smith: Agent
    jones: Agent
    logins: dict[str, Any]
    chat_id: str
    thread_id: str

    @property
    def demo_chat(self) -> dict[str, Any]:
        """The summary of the customer's chat, which was there before."""
        found: list[dict[str, Any]] = [
            chat
            for chat in listed(self.version, self.logins[SMITH])
            if "customer" in {user["type"] for user in chat["users"]}
        ]
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="module", params=VERSIONS)
def conversation(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Conversation]:
    version: str = request.param
    with closing(Agent(server, version)) as smith, closing(Agent(server, version)) as jones:
        logins = {
            agent_id: done(agent.rtm.login(token=AccessToken(server.token(agent_id), TokenType.BEARER), away=False))
            for agent_id, agent in ((SMITH, smith), (JONES, jones))
        }
        chat = {"users": [{"id": JONES, "type": "agent"}], "thread": {"events": [{"type": "message", "text": "Hello"}]}}
        started = done(smith.rtm.start_chat(chat=chat, continuous=True))
        yield Conversation(version, smith, jones, logins, started["chat_id"], started["thread_id"])


def test_login(conversation: Conversation, server: ServerProcess) -> None:
    answer = conversation.logins[SMITH]
    assert answer["license"]["organization_id"] == server.credentials["organization_id"]
    assert (answer["my_profile"]["id"], answer["my_profile"]["routing_status"]) == (SMITH, "accepting_chats")
    last_thread = "last_thread_info" if conversation.version == "3.7" else "last_thread_summary"
    assert conversation.demo_chat[last_thread]["active"]


def test_the_other_agent_hears_of_the_chat(conversation: Conversation) -> None:
    push = conversation.jones.heard("incoming_chat", lambda payload: payload["chat"]["id"] == conversation.chat_id)
    assert push["version"] == conversation.version
    assert push["payload"]["requester_id"] == SMITH
    assert [event["text"] for event in push["payload"]["chat"]["thread"]["events"]] == ["Hello"]


def test_an_event_and_its_push(conversation: Conversation) -> None:
    event = {"type": "message", "text": "How are you?", "visibility": "all"}
    sent = done(conversation.smith.rtm.send_event(chat_id=conversation.chat_id, event=event))

    push = conversation.jones.heard("incoming_event", lambda payload: payload["event"]["id"] == sent["event_id"])
    assert "request_id" not in push
    assert push["payload"]["event"].items() >= {"author_id": SMITH, **event}.items()
    assert "request_id" in conversation.smith.heard(
        "incoming_event", lambda payload: payload["event"]["id"] == sent["event_id"]
    )


def test_customers(conversation: Conversation, server: ServerProcess) -> None:
    smith, customer_id = conversation.smith.rtm, server.credentials["customers"][1]["id"]
    assert done(smith.update_customer(id=customer_id, name="Grace H")) == {}
    push = conversation.jones.heard("customer_updated", lambda payload: payload["id"] == customer_id)
    assert push["payload"]["name"] == "Grace H"
    assert done(smith.get_customer(id=customer_id))["name"] == "Grace H"
    assert done(smith.ban_customer(id=customer_id, ban={"days": 1})) == {}
    push = conversation.jones.heard("customer_banned", lambda payload: payload["customer_id"] == customer_id)
    assert push["payload"]["ban"] == {"days": 1}
    assert refused(smith.get_customer(id="nobody")) == "not_found"
    assert refused(smith.update_customer(id=customer_id)) == "validation"
    assert refused(smith.ban_customer(id=customer_id)) == "validation"
    if conversation.version == "3.5":
        created = done(smith.create_customer(name="Joan"))["customer_id"]
        push = conversation.jones.heard("incoming_customer", lambda payload: payload["id"] == created)
        assert push["payload"]["name"] == "Joan"
        assert refused(smith.create_customer(name="Joan" * 100)) == "validation"
        page = done(smith.list_customers(limit=1, sort_order="desc"))
        assert [customer["id"] for customer in page["customers"]] == [created]
        older = done(smith.list_customers(page_id=page["next_page_id"]))
        assert older["total_customers"] == page["total_customers"]
        assert refused(smith.list_customers(sort_by="email")) == "validation"


def test_a_refused_event(conversation: Conversation) -> None:
    rtm = conversation.smith.rtm
    assert refused(rtm.send_event(chat_id="NOSUCHCHAT", event={"type": "message", "text": "?"})) == "not_found"
    assert refused(rtm.send_event(chat_id=conversation.chat_id, event={"type": "message"})) == "validation"


def test_typing(conversation: Conversation) -> None:
    done(conversation.jones.rtm.send_typing_indicator(chat_id=conversation.chat_id, visibility="all", is_typing=True))
    push = conversation.smith.heard(
        "incoming_typing_indicator", lambda payload: payload["chat_id"] == conversation.chat_id
    )
    assert push["payload"]["typing_indicator"].items() >= {"author_id": JONES, "is_typing": True}.items()


def test_seen_events(conversation: Conversation) -> None:
    seen_up_to = "2030-01-01T00:00:00.000000Z"
    done(conversation.jones.rtm.mark_events_as_seen(chat_id=conversation.chat_id, seen_up_to=seen_up_to))
    push = conversation.smith.heard("events_marked_as_seen", lambda payload: payload["chat_id"] == conversation.chat_id)
    assert push["payload"].pop("seen_up_to") < seen_up_to, "nobody has read into the future"
    assert push["payload"] == {"user_id": JONES, "chat_id": conversation.chat_id}


def test_reading_chats(conversation: Conversation) -> None:
    rtm = conversation.smith.rtm
    page = done(rtm.list_chats(limit=1))
    assert [chat["id"] for chat in listed(conversation.version, page)] == [conversation.chat_id]
    older = done(rtm.list_chats(page_id=page["next_page_id"]))
    assert older["found_chats"] == page["found_chats"]
    assert conversation.chat_id not in [chat["id"] for chat in listed(conversation.version, older)]

    threads = done(rtm.list_threads(chat_id=conversation.chat_id, sort_order="asc"))
    assert [thread["id"] for thread in threads["threads"]] == [conversation.thread_id]
    assert threads["threads"][0]["events"][0]["text"] == "Hello"

    chat = done(rtm.get_chat(chat_id=conversation.chat_id))
    assert chat["thread"] == threads["threads"][0]
    assert {user["id"] for user in chat["users"]} == {SMITH, JONES}


def test_following(conversation: Conversation) -> None:
    demo_chat = conversation.demo_chat["id"]
    rtm = conversation.jones.rtm
    done(rtm.follow_chat(id=demo_chat))
    assert conversation.jones.heard("incoming_chat", lambda payload: payload["chat"]["id"] == demo_chat)

    sent = done(conversation.smith.rtm.send_event(chat_id=demo_chat, event={"type": "message", "text": "Of course"}))
    assert conversation.jones.heard("incoming_event", lambda payload: payload["event"]["id"] == sent["event_id"])

    done(rtm.unfollow_chat(id=demo_chat))
    assert conversation.jones.heard("chat_unfollowed", lambda payload: payload == {"chat_id": demo_chat})


def test_members(conversation: Conversation) -> None:
    jones = {"chat_id": conversation.chat_id, "user_id": JONES, "user_type": "agent"}
    done(conversation.smith.rtm.remove_user_from_chat(**jones))
    removed = conversation.jones.heard("user_removed_from_chat", lambda payload: payload["user_id"] == JONES)
    assert removed["payload"].items() >= {"chat_id": conversation.chat_id, "requester_id": SMITH}.items()

    done(conversation.smith.rtm.add_user_to_chat(**jones, visibility="all"))
    added = conversation.jones.heard("user_added_to_chat", lambda payload: payload["user"]["id"] == JONES)
    assert added["payload"].items() >= {"chat_id": conversation.chat_id, "requester_id": SMITH}.items()


def test_properties_and_tags(conversation: Conversation) -> None:
    rtm, chat_id = conversation.smith.rtm, conversation.chat_id
    sent = done(rtm.send_event(chat_id=chat_id, event=CARDS))
    places = {"chat": {"chat_id": chat_id}, "thread": {"chat_id": chat_id, "thread_id": conversation.thread_id}}
    places["event"] = {**places["thread"], **sent}
    for of, place in places.items():
        update, delete = getattr(rtm, f"update_{of}_properties"), getattr(rtm, f"delete_{of}_properties")
        at = {"id": chat_id} if of == "chat" else place
        done(update(**at, properties={"ns": {"kept": 1, "gone": True}}))
        updated = {**place, "properties": {"ns": {"kept": 1, "gone": True}}}
        assert conversation.jones.heard(f"{of}_properties_updated", updated.__eq__)
        done(delete(**at, properties={"ns": ["gone"]}))
        deleted = {**place, "properties": {"ns": ["gone"]}}
        assert conversation.jones.heard(f"{of}_properties_deleted", deleted.__eq__)
        assert refused(update(**at, properties={"ns": 1})) == "validation"
        assert refused(delete(**at, properties={"ns": {}})) == "validation"

    thread = places["thread"]
    done(rtm.tag_thread(**thread, tag="order"))
    assert conversation.jones.heard("thread_tagged", lambda payload: payload == {**thread, "tag": "order"})
    assert refused(rtm.tag_thread(**thread, tag="nonsense")) == "not_found"
    done(rtm.untag_thread(**thread, tag="order"))
    assert conversation.jones.heard("thread_untagged", lambda payload: payload == {**thread, "tag": "order"})
    assert refused(rtm.untag_thread(chat_id=chat_id, thread_id="NOSUCH", tag="order")) == "not_found"

    postback = {"id": "yes", "toggled": True}
    done(rtm.send_rich_message_postback(**places["event"], postback=postback))
    pressed = {"user_id": SMITH, **places["event"], "postback": postback}
    assert conversation.jones.heard("incoming_rich_message_postback", pressed.__eq__)
    assert refused(rtm.send_rich_message_postback(**places["event"], postback={})) == "validation"


def test_routing_statuses(conversation: Conversation) -> None:
    rtm = conversation.smith.rtm
    done(rtm.set_routing_status(status="not_accepting_chats"))
    wanted = {"agent_id": SMITH, "status": "not_accepting_chats"}
    assert conversation.jones.heard("routing_status_set", lambda payload: payload == wanted)

    statuses = done(rtm.list_routing_statuses(filters={"group_ids": [0]}))
    assert wanted in statuses
    assert {"agent_id": JONES, "status": "accepting_chats"} in statuses

    assert refused(rtm.set_routing_status(status="asleep")) == "validation"
    assert refused(conversation.jones.rtm.set_routing_status(status="accepting_chats", agent_id=SMITH)) == (
        "authorization"
    )
    done(rtm.set_routing_status(status="accepting_chats"))


def test_an_agent_who_is_away_accepts_no_chats(conversation: Conversation) -> None:
    done(conversation.jones.rtm.set_away_status(away=True))
    wanted = {"agent_id": JONES, "status": "not_accepting_chats"}
    assert conversation.smith.heard("routing_status_set", lambda payload: payload == wanted)
    done(conversation.jones.rtm.set_away_status(away=False))


def test_multicast(conversation: Conversation) -> None:
    recipients = {"agents": {"ids": [JONES]}}
    done(conversation.smith.rtm.multicast(recipients=recipients, content={"lunch": True}, type="note"))
    push = conversation.jones.heard("incoming_multicast", lambda payload: payload.get("type") == "note")
    assert push["payload"] == {"author_id": SMITH, "content": {"lunch": True}, "type": "note"}
    assert refused(conversation.smith.rtm.multicast(recipients={}, content="nobody")) == "validation"


@pytest.mark.parametrize("conversation", ["3.6", "3.7"], indirect=True)
def test_what_3_6_has_more(conversation: Conversation, server: ServerProcess) -> None:
    rtm, chat_id = conversation.smith.rtm, conversation.chat_id
    done(rtm.send_event_preview(chat_id=chat_id, event={"type": "message", "text": "I am wri"}))
    done(rtm.send_thinking_indicator(chat_id=chat_id, title="Looking"))
    assert conversation.jones.heard("incoming_thinking_indicator", lambda payload: payload["title"] == "Looking")
    place = {"chat_id": chat_id, "thread_id": conversation.thread_id}
    done(rtm.request_thread_summary(**place))
    assert conversation.jones.heard("thread_summary_set", lambda payload: payload["chat_id"] == chat_id)
    assert refused(rtm.request_thread_summary(chat_id=chat_id)) == "validation"
    done(rtm.update_session(token=f"Bearer {server.token(SMITH)}"))
    assert refused(rtm.update_session(token=f"Bearer {server.token(JONES)}")) == "authentication"


def test_a_chat_ends_and_goes_on(conversation: Conversation) -> None:
    rtm, chat_id = conversation.smith.rtm, conversation.chat_id
    done(rtm.deactivate_chat(id=chat_id))
    ended = {"chat_id": chat_id, "thread_id": conversation.thread_id, "user_id": SMITH}
    assert conversation.jones.heard("chat_deactivated", lambda payload: payload == ended)
    assert refused(rtm.deactivate_chat(id=chat_id)) == "chat_inactive"

    resumed = done(rtm.resume_chat(chat={"id": chat_id, "users": [{"id": JONES, "type": "agent"}]}))
    push = conversation.jones.heard(
        "incoming_chat", lambda payload: payload["chat"].get("thread", {}).get("id") == resumed["thread_id"]
    )
    assert push["payload"]["chat"]["thread"]["previous_thread_id"] == conversation.thread_id


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_from_login_to_logout(server: ServerProcess, version: str) -> None:
    jones = next(agent for agent in server.credentials["agents"] if agent["id"] == JONES)
    pair = f"{jones['account_id']}:{jones['personal_access_token']}"
    token = AccessToken(b64encode(pair.encode()).decode(), TokenType.BASIC)

    with closing(Agent(server, version)) as agent:
        assert refused(agent.rtm.list_chats()) == "authentication"
        assert refused(agent.rtm.login(token="Bearer dal:nobody")) == "authentication"
        assert done(agent.rtm.login(token=token))["my_profile"]["id"] == JONES
        done(agent.rtm.logout())


def test_a_bot_holds_a_socket(server: ServerProcess, conversation: Conversation) -> None:
    bot = server.credentials["bots"][0]
    chat_id = conversation.chat_id
    with closing(Agent(server, conversation.version)) as agent:
        profile = done(agent.rtm.login(token=AccessToken(bot["access_token"], TokenType.BEARER)))["my_profile"]
        assert profile["id"] == bot["id"]
        done(
            conversation.smith.rtm.add_user_to_chat(
                chat_id=chat_id, user_id=bot["id"], user_type="agent", visibility="all"
            )
        )
        assert agent.heard("user_added_to_chat", lambda payload: payload["user"]["id"] == bot["id"])
        sent = done(agent.rtm.send_event(chat_id=chat_id, event={"type": "message", "text": "I am a bot"}))
        push = conversation.jones.heard("incoming_event", lambda payload: payload["event"]["id"] == sent["event_id"])
        assert push["payload"]["event"]["author_id"] == bot["id"]
