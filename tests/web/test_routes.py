"""The Web API's own affairs: who is asked, where, and what status says so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tests.world import SOON_S, Refused, Web, World, basic

WorldWith = Callable[..., Awaitable[World]]
HELLO = {"type": "message", "text": "hello"}


# Who asks


async def test_an_action_is_answered_with_its_payload(world: World) -> None:
    alice = await world.web("alice")
    response = await alice.post("list_chats")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"chats_summary": [], "found_chats": 0}


async def test_no_body_is_an_empty_payload(world: World) -> None:
    alice = await world.web("alice")
    response = await alice.request("POST", "/v3.6/agent/action/list_chats")
    assert response.status_code == 200


async def test_basic_takes_account_id_or_email(world: World) -> None:
    token = (await world.mint("alice")).token
    web = await world.web("alice")
    for user in (world.account_ids[world.id("alice")], world.id("alice"), "ALICE@example.com"):
        assert (await web.post("list_chats", authorization=basic(user, token))).status_code == 200
    response = await web.post("list_chats", authorization=basic("bob@example.com", token))
    assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic !!", "Digest a=b", "Bearer " + "x" * 2000])
async def test_who_is_nobody_is_unauthorized(world: World, authorization: str) -> None:
    web = await world.web("alice")
    response = await web.post("list_chats", authorization=authorization)
    assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication")


async def test_authorization_is_required(world: World) -> None:
    web = await world.web("alice")
    del web._client.headers["authorization"]
    response = await web.post("list_chats")
    assert response.status_code == 401
    assert response.json() == {"error": {"type": "authentication", "message": "`Authorization` header is required"}}


async def test_a_revoked_token_is_refused_within_a_second(world: World) -> None:
    new = await world.mint("alice")
    web = await world.web("alice")
    bearer = f"Bearer {new.token}"
    assert (await web.post("list_chats", authorization=bearer)).status_code == 200
    await world.revoke(new)
    async with asyncio.timeout(SOON_S):
        while (await web.post("list_chats", authorization=bearer)).status_code == 200:
            pass


async def test_a_suspended_agent_is_refused_within_a_second(world: World) -> None:
    dave = await world.web("dave")
    await dave.call("list_chats")
    await world.change_agent("dave", suspended=True)
    async with asyncio.timeout(SOON_S):
        while (response := await dave.post("list_chats")).status_code == 200:
            pass
    assert (response.status_code, response.json()["error"]["type"]) == (403, "authorization")


# The quota


async def test_every_answer_to_somebody_who_is_known_says_what_is_left(world_with: WorldWith) -> None:
    world = await world_with({"requests_per_minute": 10})
    alice = await world.web("alice")
    left = []
    for action in ("list_chats", "no_such_action", "list_chats"):
        headers = (await alice.post(action)).headers
        assert headers["ratelimit-limit"] == "10"
        assert 1 <= int(headers["ratelimit-reset"]) <= 60
        left.append(int(headers["ratelimit-remaining"]))
    assert all(0 < each < 10 for each in left)
    unread = await alice.request("POST", "/v3.6/agent/action/list_chats", content=b"no JSON")
    assert "ratelimit-limit" in unread.headers
    unknown = await alice.post("list_chats", authorization="Bearer x")
    assert "ratelimit-limit" not in unknown.headers


# What is refused before its body is read


async def refused_at_once(world: World, token: str, action: str, size: int, **headers: str) -> Refused:
    """Why a request is refused of whose body nothing comes."""
    named = {"Host": "rtm", "Authorization": token, "Content-Length": str(size)}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    try:
        writer.write(f"POST /v3.6/agent/action/{action} HTTP/1.1\r\n{head}\r\n".encode())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"}}")
    finally:
        writer.close()
    return Refused.read(orjson.loads(answer.partition(b"\r\n\r\n")[2]))


FORM = {"Content_Type": "multipart/form-data; boundary=B"}
MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("action", "size", "headers", "error"),
    [
        ("list_chats", 100, {}, "authorization"),
        ("fly", 100, {}, "not_found"),
        ("list_routing_statuses", MEBIBYTE + 1, {}, "entity_too_large"),
        ("upload_file", 11 * MEBIBYTE, FORM, "entity_too_large"),
        ("upload_file", 3 * MEBIBYTE, FORM, "limit_reached"),
    ],
)
async def test_a_body_in_vain_is_not_read(
    world_with: WorldWith, action: str, size: int, headers: dict[str, str], error: str
) -> None:
    world = await world_with({"unused_upload_bytes": 2 * MEBIBYTE})
    token = await world.token("alice", scopes=["agents--all:ro"])
    assert (await refused_at_once(world, token, action, size, **headers)).type == error


@pytest.mark.parametrize(("action", "headers"), [("list_chats", {}), ("upload_file", FORM)])
async def test_a_body_past_the_quota_is_not_read(world_with: WorldWith, action: str, headers: dict[str, str]) -> None:
    world = await world_with({"requests_per_minute": 1})
    alice = await world.web("alice")
    while (await alice.post("list_chats")).status_code == 200:
        pass
    refusal = await refused_at_once(world, await world.token("alice"), action, 100, **headers)
    assert refusal.type == "too_many_requests"


# Statuses


async def test_statuses_say_the_same_as_errors(world: World) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice, group=2)
    closed = await world.chat(alice)
    await alice.call("deactivate_chat", id=closed.id)
    erin = await world.web("erin")

    async def answer(web: Web, action: str, payload: Any, **headers: str) -> tuple[int, str]:
        response = await web.post(action, payload, **headers)
        return response.status_code, response.json()["error"]["type"]

    assert await answer(alice, "get_chat", {}) == (400, "validation")
    assert await answer(alice, "send_event", {"chat_id": closed.id, "event": HELLO}) == (400, "chat_inactive")
    assert await answer(erin, "get_chat", {"chat_id": chat.id}) == (403, "missing_access")
    assert await answer(erin, "deactivate_chat", {"id": chat.id}) == (403, "missing_access")
    assert await answer(await world.web("alice", scopes=[]), "list_chats", {}) == (403, "authorization")
    assert await answer(alice, "get_chat", {"chat_id": "A"}) == (404, "not_found")
    assert await answer(alice, "fly", {}) == (404, "not_found")
    assert await answer(alice, "list_chats", {}, authorization="Bearer fra:x") == (421, "misdirected_request")
    assert await answer(await world.web("sam"), "list_chats", {}) == (403, "authorization")
    assert await answer(await world.web("nina"), "list_chats", {}) == (403, "authorization")
    await world.change_license(expires_at="2020-01-01T00:00:00.000000Z")
    assert await answer(await world.web("bob"), "list_chats", {}) == (401, "license_expired")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Request is not valid JSON"),
        (b"[]", "Request must be a JSON object"),
        (b"null", "Request must be a JSON object"),
        (b"\xff", "Request is not valid JSON"),
    ],
)
async def test_a_body_is_a_json_object(world: World, body: bytes, message: str) -> None:
    alice = await world.web("alice")
    response = await alice.request("POST", "/v3.6/agent/action/list_chats", content=body)
    assert response.status_code == 400
    assert response.json() == {"error": {"type": "validation", "message": message}}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_actions_are_called_by_post(world: World, method: str) -> None:
    alice = await world.web("alice")
    response = await alice.request(method, "/v3.6/agent/action/list_chats")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["type"] == "validation"


@pytest.mark.parametrize("path", ["/nowhere", "/v3.6/agent/action/", "/v3.6/customer/action/list_chats"])
async def test_a_path_that_leads_nowhere(world: World, path: str) -> None:
    response = await (await world.web("alice")).request("POST", path)
    assert response.status_code == 404
    assert response.json() == {"error": {"type": "not_found", "message": "There is nothing at this path"}}


@pytest.mark.parametrize("path", ["/v1.0/agent/action/list_chats", "/v3/agent/action/list_chats"])
async def test_a_version_that_is_not_served(world: World, path: str) -> None:
    response = await (await world.web("alice")).request("POST", path)
    assert response.status_code == 400
    assert Refused.read(response.json()) == Refused("unsupported_version", "Cannot call unsupported API versions.")


@pytest.mark.parametrize("action", ["login", "logout", "ping", "update_session", "set_away_status"])
async def test_sessions_are_for_sockets(world: World, action: str) -> None:
    refusal = await (await world.web("alice")).refused(action)
    assert refusal == Refused("not_found", f"`action` is for sockets only: {action}")


@pytest.mark.parametrize("end", ["ws", "ws/", "ws?organization_id=1"])
async def test_a_socket_is_asked_for_by_a_handshake(world: World, end: str) -> None:
    web = await world.web("alice")
    response = await web.request("GET", f"/v3.6/agent/rtm/{end}")
    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
    assert "websocket client" in Refused.read(response.json()).message
    assert (await web.request("GET", f"/v1.0/agent/rtm/{end}")).status_code == 404


async def test_a_body_past_the_limit_is_refused(world_with: WorldWith) -> None:
    alice = await (await world_with({"body_size_bytes": 100})).web("alice")
    assert (await alice.post("list_chats", {"filters": {}})).status_code == 200
    response = await alice.post("list_chats", {"filters": {}, "more": "x" * 100})
    assert response.status_code == 413
    assert Refused.read(response.json()) == Refused("entity_too_large", "Request must be at most 100 bytes long")


async def test_errors_may_be_answered_with_200(world_with: WorldWith) -> None:
    alice = await (await world_with(errors_as_200=True)).web("alice")
    response = await alice.post("get_chat", {"chat_id": "A"})
    assert response.status_code == 200
    assert response.json() == {"error": {"type": "not_found", "message": "Chat not found"}}


# Headers of the protocol


async def test_a_region_is_ours_or_another(world: World) -> None:
    alice = await world.web("alice")
    assert (await alice.post("list_chats", x_region="dal")).status_code == 200
    response = await alice.post("list_chats", x_region="fra")
    assert response.status_code == 421
    assert Refused.read(response.json()) == Refused("misdirected_request", "Wrong region", {"region": "dal"})
    response = await alice.post("list_chats", x_region="mars")
    assert Refused.read(response.json()) == Refused("validation", "`X-Region` is unknown")


async def test_the_version_may_be_named_in_a_header(world: World) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    path, body = "/agent/action/send_thinking_indicator", f'{{"chat_id": "{chat.id}"}}'
    assert (await alice.request("POST", path, content=body)).status_code == 200
    preview = await alice.request("POST", "/agent/action/list_chats", headers={"X-API-Version": "3.7"})
    assert set(preview.json()) == {"chats_info", "found_chats"}
    stable = await alice.request("POST", "/agent/action/list_chats")
    assert set(stable.json()) == {"chats_summary", "found_chats"}
    older = await alice.request("POST", path, content=body, headers={"X-API-Version": "3.5"})
    assert older.status_code == 404
    unknown = await alice.request("POST", path, content=body, headers={"X-API-Version": "2.0"})
    assert unknown.json()["error"]["type"] == "unsupported_version"


@pytest.mark.parametrize(("version", "speaks_as_bot"), [("3.4", True), ("3.5", True), ("3.6", False), ("3.7", False)])
async def test_an_author_is_named_in_the_versions_that_have_it(world: World, version: str, speaks_as_bot: bool) -> None:
    alice = await world.web("alice", version=version)
    chat = await world.chat(alice, group=0, users=["robin"])
    robin = world.id("robin")
    response = await alice.post("send_event", {"chat_id": chat.id, "event": HELLO}, x_author_id=robin)
    assert response.status_code == 200
    read = await alice.call("get_chat", chat_id=chat.id)
    assert read["thread"]["events"][0]["author_id"] == (robin if speaks_as_bot else alice.id)
    response = await alice.post("list_chats", x_author_id="bob@example.com")
    assert response.status_code == (400 if speaks_as_bot else 200)


async def test_a_bot_asks_with_its_own_token(world: World) -> None:
    robin = await world.web("robin")
    chat = await world.chat(robin, group=0)
    await robin.call("send_event", chat_id=chat.id, event=HELLO)
    read = await robin.call("get_chat", chat_id=chat.id)
    assert read["thread"]["events"][0]["author_id"] == robin.id


# Pages


PAGE = {"Origin": "https://app.example.com"}


async def test_a_browser_is_told_that_a_page_may_ask(world: World) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-api-version"}
    for path in ("/v3.6/agent/action/list_chats", "/agent/action/list_chats"):
        response = await (await world.web("alice")).request("OPTIONS", path, headers=PAGE | asks)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "*"
        assert "POST" in response.headers["access-control-allow-methods"]
        allowed = response.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type", "x-region", "x-api-version", "x-author-id"} <= set(allowed)


@pytest.mark.parametrize("authorization", [None, "Bearer x"])
async def test_a_page_may_read_every_answer(world: World, authorization: str | None) -> None:
    alice = await world.web("alice")
    headers = PAGE if authorization is None else PAGE | {"Authorization": authorization}
    response = await alice.request("POST", "/v3.6/agent/action/list_chats", headers=headers)
    assert response.status_code == (200 if authorization is None else 401)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "RateLimit-Remaining" in response.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in response.headers


async def test_other_paths_are_not_for_pages(world: World) -> None:
    response = await (await world.web("alice")).request("GET", "/health/live", headers=PAGE)
    assert "access-control-allow-origin" not in response.headers


async def test_the_process_says_that_it_is_up(world: World) -> None:
    web = await world.web("alice")
    assert (await web.request("GET", "/health/live")).json() == {"status": "ok"}
