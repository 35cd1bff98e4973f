"""Chats whose time came while no server ran: nobody has had the time to log in again when they are found."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from rtm.protocol import timestamps
from rtm.protocol.timestamps import seconds_after
from rtm.settings import Settings
from rtm.store import tables
from tests.routing.test_router import leave, next_of, set_group
from tests.routing.test_timers import with_rules
from tests.world import SUPPORT, Chat, Client, Server, Web, World, visiting

GRACE_S = 5
LONG_AGO = "2026-01-01T00:00:00.000000Z"


async def make_due(world: World, chat: Chat, **thread: Any) -> None:
    """Let the chat be due, with this in its thread, while no server runs."""
    of_chat = tables.chats.c.id == chat.id
    async with world.server.database.engine.begin() as connection:
        state = (await connection.execute(select(tables.chats.c.state).where(of_chat))).scalar_one()
        state |= {"thread": state["thread"] | thread, "due_at": LONG_AGO, "written_at": {}}
        await connection.execute(update(tables.chats).where(of_chat).values(due_at=LONG_AGO, state=state))


async def looked_at_until(world: World, chat: Chat, at: str) -> None:
    """The chat is looked at, and is to be looked at again at this time or later."""
    async with asyncio.timeout(20), world.server.database.engine.connect() as connection:
        while True:
            due_at = await connection.scalar(select(tables.chats.c.due_at).where(tables.chats.c.id == chat.id))
            assert due_at is not None, "the chat was closed"
            if due_at >= at:
                return
            await asyncio.sleep(0.05)


def is_with(agent: Client, chat: Any) -> bool:
    return any(user["id"] == agent.id and user["present"] for user in chat["users"])


async def shown_when(web: Web, chat: Chat, is_so: Callable[[Any], bool]) -> Any:
    """The chat, when that is so."""
    async with asyncio.timeout(10 + GRACE_S):
        while not is_so(shown := await web.call("get_chat", chat_id=chat.id)):
            await asyncio.sleep(0.1)
    return shown


async def test_agents_may_come_back_before_chats_are_closed_for_want_of_them(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, disconnect_grace_s=GRACE_S, drain_s=0)
    async with Server(settings) as server, visiting(server) as world:
        await with_rules(world, archive_chat_after_min=30)
        await set_group(world, SUPPORT, **{"queue.enabled.override": 0})
        bob, carol = await world.agent("bob", away=True), await world.agent("carol")
        waiting = await world.chat(bob, users=["ada"])
        await leave(bob, waiting)
        await next_of(bob, "chat_transferred")
        left = await world.chat(carol, group=SUPPORT, users=["grace"])
        await server.stop()
        now = timestamps.now()
        await make_due(world, waiting, created_at=LONG_AGO, queued_at=LONG_AGO)
        await make_due(
            world,
            left,
            created_at=seconds_after(now, -60),
            unattended_since=LONG_AGO,
            unattended_because="disconnected",
        )

        over_at = seconds_after(now, GRACE_S)
        async with Server(settings) as world.server:
            for chat in (waiting, left):
                await looked_at_until(world, chat, over_at)
            dave, web = await world.agent("dave"), await world.web("olivia")
            shown = await shown_when(web, waiting, lambda chat: is_with(dave, chat))
            assert shown["thread"]["active"]
            shown = await shown_when(web, left, lambda chat: not chat["thread"]["active"])
            assert shown["thread"]["events"][-1]["system_message_type"] == "routing.archived_disconnected"
