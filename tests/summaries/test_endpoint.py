"""A summary by a language model: what it is asked, and what is made of its answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from rtm.settings import SummaryEndpoint
from rtm.summaries import summaries
from rtm.summaries.endpoint import MAX_ANSWER_BYTES, MAX_TEXT, MAX_TRANSCRIPT, Endpoint
from rtm.summaries.summaries import NoSummary
from rtm.summaries.transcript import Said
from tests.summaries.conftest import Model
from tests.world import World, visiting

StartWorld = Callable[..., Awaitable[World]]
SAID = [Said("Customer", "Where is my order?"), Said("Agent", "It leaves today")]


def settings(model: Model, **more: Any) -> SummaryEndpoint:
    given = {"url": model.url, "model": "small", "key": "sk-secret", "timeout_s": 5} | more
    return SummaryEndpoint.model_validate(given)


async def asked(model: Model, said: list[Said] = SAID, **more: Any) -> str:
    endpoint = Endpoint(settings(model, **more))
    try:
        return await endpoint.write(said)
    finally:
        await endpoint.close()


async def test_the_model_is_shown_who_said_what(model: Model) -> None:
    model.says("  • Asks for an order.\0\n")
    assert await asked(model) == "• Asks for an order."
    [question] = model.asked
    assert question["model"] == "small"
    assert [message["role"] for message in question["messages"]] == ["system", "user"]
    assert question["messages"][1]["content"] == "Customer: Where is my order?\nAgent: It leaves today"
    assert model.authorization == ["Bearer sk-secret"]


async def test_of_a_long_thread_it_is_shown_the_beginning_and_the_end(model: Model) -> None:
    said = [Said("Customer", f"{number:05} {'x' * 1000}") for number in range(100)]
    await asked(model, said, key=None)
    shown = model.asked[0]["messages"][1]["content"]
    assert len(shown) <= MAX_TRANSCRIPT + 10
    assert shown.startswith("Customer: 00000 x")
    assert "Customer: 00099 x" in shown
    assert "Customer: 00040 x" not in shown
    assert model.authorization == [None]


async def test_a_long_answer_is_cut(model: Model) -> None:
    model.says("x" * (MAX_TEXT + 1))
    assert await asked(model) == "x" * MAX_TEXT


WRONG: dict[str, tuple[int, Any]] = {
    "refused": (401, {"error": {"message": "Where is my order?"}}),
    "busy": (429, {}),
    "broken": (500, b"<html>"),
    "elsewhere": (302, {}),
    "no JSON": (200, b"{"),
    "no choices": (200, {"choices": []}),
    "no text": (200, {"choices": [{"message": {"content": None}}]}),
    "another form": (200, []),
    "empty": (200, {"choices": [{"message": {"content": " \n"}}]}),
    "endless": (200, b'"' + b"x" * MAX_ANSWER_BYTES + b'"'),
}


@pytest.mark.parametrize(("status", "body"), WRONG.values(), ids=WRONG)
async def test_what_is_no_summary(model: Model, status: int, body: Any) -> None:
    model.status, model.body = status, body
    with pytest.raises(NoSummary) as failed:
        await asked(model)
    assert "order" not in str(failed.value)
    assert failed.value.__cause__ is None


async def test_one_that_falls_silent_is_given_up(model: Model) -> None:
    model.answering.clear()
    began = time.monotonic()
    with pytest.raises(NoSummary):
        await asked(model, timeout_s=0.2)
    assert time.monotonic() - began < 5


async def test_nobody_there() -> None:
    endpoint = Endpoint(SummaryEndpoint(url="http://127.0.0.1:1/v1", model="small"))
    with pytest.raises(NoSummary):
        await endpoint.write(SAID)
    await endpoint.close()


# In the server


async def in_a_chat(world: World, *texts: str) -> tuple[Any, dict[str, str]]:
    alice = await world.agent("alice")
    chat = await world.chat(alice, users=["ada"], texts=texts)
    return alice, {"chat_id": chat.id, "thread_id": chat.thread_id}


async def test_its_words_become_the_summary(world_with: StartWorld, model: Model) -> None:
    world = await world_with(summary=settings(model))
    alice, place = await in_a_chat(world, "hello")
    await alice.call("request_thread_summary", **place)
    push = await alice.next_push("thread_summary_set")
    assert push["summary"]["text"] == "• The customer asks for an order."
    assert model.asked[0]["messages"][1]["content"] == "Agent: hello"


async def test_nothing_waits_for_it_and_its_failure_is_told_and_logged_without_words(
    world_with: StartWorld, model: Model
) -> None:
    world = await world_with(summary=settings(model))
    alice, place = await in_a_chat(world, "a secret")
    model.answering.clear()
    await alice.call("request_thread_summary", **place)
    await alice.call("send_event", chat_id=place["chat_id"], event={"type": "message", "text": "another secret"})
    await alice.next_push("incoming_event")
    model.status = 503

    with capture_logs() as logs:
        model.answering.set()
        assert await alice.next_push("incoming_error") == {"action": "set_thread_summary", **place}

    [line] = [line for line in logs if line["event"] == "summary_failed"]
    assert line["reason"] == "status 503"
    assert "secret" not in str(logs)
    model.status = 200
    await alice.call("request_thread_summary", **place)
    await alice.next_push("thread_summary_set")


async def test_one_license_leaves_place_for_others(
    world_with: StartWorld, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "MAX_OF_LICENSE", 1)
    world = await world_with(summary=settings(model))
    model.answering.clear()
    alice, place = await in_a_chat(world, "hello")
    other = await world.chat(alice, texts=["hello"])
    await alice.call("request_thread_summary", **place)
    await alice.call("request_thread_summary", chat_id=other.id, thread_id=other.thread_id)
    assert (await alice.next_push("incoming_error"))["thread_id"] == other.thread_id
    async with visiting(world.server) as elsewhere:
        stranger, place = await in_a_chat(elsewhere, "hello")
        await stranger.call("request_thread_summary", **place)
        model.answering.set()
        await stranger.next_push("thread_summary_set")
    await alice.next_push("thread_summary_set")
    await alice.next_push("incoming_event")
    await alice.call("request_thread_summary", chat_id=other.id, thread_id=other.thread_id)
    assert (await alice.next_push("thread_summary_set"))["thread_id"] == other.thread_id


async def test_every_chat_that_ends_waits_for_its_own_and_keeps_nobody_from_asking(
    world_with: StartWorld, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "MAX_OF_LICENSE", 2)
    monkeypatch.setattr(summaries, "MAX_WAITING", 2)
    world = await world_with(summary=settings(model))
    await world.change_license(properties={"chats": {"auto_summary_enabled": True}})
    alice = await world.agent("alice", pushes={"3.6": ["thread_summary_set", "incoming_error"]})
    chats = [await world.chat(alice, texts=["hello"]) for _ in range(5)]
    model.answering.clear()
    with capture_logs() as logs:
        for chat in chats[:4]:
            await alice.call("deactivate_chat", id=chat.id)
        await alice.call("request_thread_summary", chat_id=chats[4].id, thread_id=chats[4].thread_id)
        model.answering.set()
        summarized = {(await alice.next_push("thread_summary_set"))["chat_id"] for _ in range(4)}

    assert summarized == {chat.id for chat in (*chats[:3], chats[4])}
    failed = [(line["thread_id"], line["reason"]) for line in logs if line["event"] == "summary_failed"]
    assert failed == [(chats[3].thread_id, "too many wait")]


async def test_a_summary_that_lacks_the_end_of_its_thread_is_not_the_last(world_with: StartWorld, model: Model) -> None:
    world = await world_with(summary=settings(model))
    await world.change_license(properties={"chats": {"auto_summary_enabled": True}})
    alice, place = await in_a_chat(world, "hello")
    model.answering.clear()
    await alice.call("request_thread_summary", **place)
    await until(lambda: len(model.asked) == 1)
    await alice.call("send_event", chat_id=place["chat_id"], event={"type": "message", "text": "goodbye"})
    await alice.call("deactivate_chat", id=place["chat_id"])
    await alice.forget()

    model.answering.set()

    for _ in range(2):
        await alice.next_push("thread_summary_set")
    [_, question] = model.asked
    assert question["messages"][1]["content"] == "Agent: hello\nAgent: goodbye"
    refusal = await alice.refused("request_thread_summary", **place)
    assert refusal.message == "`thread_id` is of a closed thread that has its summary"
    await alice.hears_nothing_more()


@pytest.mark.parametrize("status", [200, 503])
async def test_all_who_ask_hear_of_it(world_with: StartWorld, model: Model, status: int) -> None:
    world = await world_with(summary=settings(model))
    alice, place = await in_a_chat(world, "hello")
    olivia = await world.agent("olivia")  # neither of the chat nor of its group
    model.status = status
    model.answering.clear()
    await alice.call("request_thread_summary", **place)
    await until(lambda: len(model.asked) == 1)
    await olivia.call("request_thread_summary", **place)
    await olivia.call("request_thread_summary", **place)

    model.answering.set()

    push = "thread_summary_set" if status == 200 else "incoming_error"
    for client in (alice, olivia):
        assert (await client.next_push(push))["thread_id"] == place["thread_id"]
    await olivia.hears_nothing_more()
    assert len(model.asked) == 1


async def until(it_is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not it_is_so():
            await asyncio.sleep(0.01)


async def test_a_server_that_stops_does_not_wait_for_it(world_with: StartWorld, model: Model) -> None:
    world = await world_with(summary=settings(model, timeout_s=60))
    alice, place = await in_a_chat(world, "hello")
    model.answering.clear()
    await alice.call("request_thread_summary", **place)
    while not model.asked:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await world.server.stop()
    assert time.monotonic() - began < 20
