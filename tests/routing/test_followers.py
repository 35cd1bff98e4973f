"""Who loses access to a chat no longer follows it."""

import asyncio
from dataclasses import replace
from pathlib import Path

from rtm.settings import Settings
from tests.world import SALES, SUPPORT, Server, World

HELLO = {"type": "message", "text": "hello"}


async def test_who_leaves_the_groups_of_a_chat_no_longer_hears_it(either_world: World) -> None:
    alice, dave = await either_world.agents("alice", "dave")
    chats = [await either_world.chat(alice, group=group) for group in (SALES, 0)]
    for chat in chats:
        await dave.call("follow_chat", id=chat.id)
        await dave.next_push("incoming_chat")

    await either_world.set_groups("dave")
    assert await dave.next_push("chat_unfollowed") == {"chat_id": chats[0].id}
    for chat in chats:
        await alice.call("send_event", chat_id=chat.id, event=HELLO)
    assert (await dave.next_push("incoming_event"))["chat_id"] == chats[1].id
    await dave.hears_nothing_more()


async def test_nor_does_who_left_them_while_no_server_ran(tmp_path: Path) -> None:
    async with Server(Settings(data_dir=tmp_path)) as server:
        world = await server.world()
        alice, dave = await world.agents("alice", "dave")
        chat = await world.chat(alice, group=SALES)
        await dave.call("follow_chat", id=chat.id)
        await world.close()
        await server.stop()
        await world.set_groups("dave")
    async with Server(Settings(data_dir=tmp_path)) as server:
        world = replace(world, server=server)
        alice, dave = await world.agents("alice", "dave")
        assert await dave.next_push("chat_unfollowed") == {"chat_id": chat.id}
        await world.close()


async def test_who_has_a_lesser_role_no_longer_follows_what_only_the_other_role_sees(world: World) -> None:
    carol, bob = await world.agents("carol", "bob")
    chat = await world.chat(carol, group=SUPPORT)
    await bob.call("follow_chat", id=chat.id)
    await world.change_agent("bob", role="normal")
    assert (await bob.ended())[0] == {"reason": "role_permissions_changed"}

    async with asyncio.timeout(10):
        while "chat_unfollowed" not in [push["name"] for push in await world.stored_pushes()]:
            await asyncio.sleep(0.02)

    back = await world.agent("bob", scopes=["chats--access:ro"])
    await carol.call("send_event", chat_id=chat.id, event=HELLO)
    await back.hears_nothing_more()
