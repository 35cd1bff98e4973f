"""What a process knows of a license, and that it does not stay behind."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, event, update

from rtm.access import directory as directory_module
from rtm.access.directory import Directories, Directory
from rtm.access.founding import license_row
from rtm.protocol.errors import LicenseNotFound
from rtm.store.tables import agents, group_agents, groups, licenses, tags
from tests.access.conftest import AGENT, LICENSE_ID, OWNER, World


async def test_a_directory_holds_agents_groups_and_priorities(world: World) -> None:
    directory = await Directories(world.database).get(LICENSE_ID)

    agent = directory.agents[AGENT]
    assert (agent.email, agent.role, agent.group_ids) == (AGENT, "normal", frozenset({0, 1}))
    assert agent.in_good_standing
    bot = directory.agents[world.bot_id]
    assert (bot.kind, bot.email, bot.owner_client_id, bot.group_ids) == ("bot", None, "client", frozenset({0}))
    assert {group.id: group.name for group in directory.groups.values()} == {0: "General", 1: "Sales"}
    assert directory.groups[1].priorities == {AGENT: "first"}
    assert directory.groups[1].properties == {}


async def test_tags_know_their_groups(world: World) -> None:
    async with world.database.engine.begin() as connection:
        row = {"license_id": 7, "name": "bug", "group_ids": [1], "author_id": OWNER, "created_at": "t"}
        await connection.execute(tags.insert(), row)
    assert (await Directories(world.database).get(LICENSE_ID)).tags == {"bug": {1}}


async def test_an_unknown_license_is_not_found(world: World) -> None:
    directories = Directories(world.database)
    for _ in range(2):
        with pytest.raises(LicenseNotFound):
            await directories.get(8)


async def test_many_who_ask_at_once_share_one_load(world: World) -> None:
    directories = Directories(world.database)
    loads = loads_of(world)

    found = await asyncio.gather(*(directories.get(LICENSE_ID) for _ in range(20)))

    assert len(loads) == 1
    assert len({id(directory) for directory in found}) == 1
    assert await directories.get(LICENSE_ID) is found[0]


def loads_of(world: World) -> list[str]:
    """The statements, from now on, that begin to read a directory."""
    loads: list[str] = []
    event.listen(
        world.database.engine.sync_engine,
        "before_cursor_execute",
        lambda *args: loads.append(args[2]) if "licenses.organization_id" in args[2] else None,
    )
    return loads


async def refresh(world: World, directories: Directories) -> None:
    async with world.database.engine.connect() as connection:
        await directories.refresh(connection)


async def test_one_who_gives_up_does_not_take_the_others_answer(world: World) -> None:
    directories = Directories(world.database)
    first, second = asyncio.create_task(directories.get(LICENSE_ID)), asyncio.create_task(directories.get(LICENSE_ID))
    await asyncio.sleep(0)

    first.cancel()

    assert (await second).id == LICENSE_ID
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_has_changed_is_reloaded_and_told(world: World) -> None:
    told: list[tuple[Directory, Directory | None]] = []
    directories = Directories(world.database)
    directories.on_replaced(lambda before, after: told.append((before, after)))
    before = await directories.get(LICENSE_ID)

    await refresh(world, directories)
    assert told == []
    await world.change_agent(AGENT, name="Agathe")
    await refresh(world, directories)

    after = await directories.get(LICENSE_ID)
    assert after.agents[AGENT].name == "Agathe"
    assert told == [(before, after)]


async def test_of_thousands_only_those_are_asked_for_that_have_changed(world: World) -> None:
    async with world.database.engine.begin() as connection:
        await connection.execute(licenses.insert(), [license_row(1000 + number) for number in range(5000)])
    directories = Directories(world.database)
    unchanged = await directories.get(LICENSE_ID)
    held = [replace(unchanged, id=1000 + number) for number in range(5000)]
    directories._in_use.update({each.id: each for each in held})
    asked: list[Any] = []
    engine = world.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[3]))

    await refresh(world, directories)

    [parameters] = asked
    assert len(parameters) == 1
    async with world.database.engine.begin() as connection:
        await connection.execute(update(licenses).where(licenses.c.id == 1234).values(directory_version=9))
    await refresh(world, directories)
    assert directories.find(1235) is held[235]
    changed = await directories.get(1234)
    assert changed.version == 9


@pytest.mark.parametrize("column", ["suspended", "awaiting_approval"])
async def test_who_may_not_work_is_not_in_good_standing(world: World, column: str) -> None:
    await world.change_agent(AGENT, **{column: True})

    agents = (await Directories(world.database).get(LICENSE_ID)).agents
    assert not agents[AGENT].in_good_standing
    assert agents[OWNER].in_good_standing


async def test_a_license_that_is_gone_is_told(world: World) -> None:
    told: list[tuple[Directory, Directory | None]] = []
    directories = Directories(world.database)
    directories.on_replaced(lambda before, after: told.append((before, after)))
    before = await directories.get(LICENSE_ID)
    async with world.database.engine.begin() as connection:
        for table in (group_agents, agents, groups, licenses):
            await connection.execute(delete(table))

    await refresh(world, directories)

    assert told == [(before, None)]
    with pytest.raises(LicenseNotFound):
        await directories.get(LICENSE_ID)


async def test_the_last_few_are_kept_and_those_that_somebody_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "_MAX_RECENT", 2)
    async with world.database.engine.begin() as connection:
        for license_id in (1, 2, 3, 4):
            await connection.execute(licenses.insert(), license_row(license_id))
    told: list[int] = []
    directories = Directories(world.database)
    directories.on_replaced(lambda before, _: told.append(before.id))
    held = await directories.get(1)
    loads = loads_of(world)
    for license_id in (2, 3, 2, 4):
        await directories.get(license_id)
    assert len(loads) == 3

    await world.change_license(directory_version=2)
    await refresh(world, directories)
    assert sorted(told) == [1, 2, 4]
    assert await directories.get(1) is not held
