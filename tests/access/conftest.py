"""A database with one license: an owner, an agent and a bot, and a way to give them tokens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import insert, update

from rtm.access.founding import agent_row, bot_row, group_rows, license_row
from rtm.access.scopes import of_role
from rtm.access.tokens import NewToken, mint
from rtm.settings import Settings
from rtm.store.database import Database, connect, migrate
from rtm.store.tables import agents, group_agents, groups, licenses, tokens

LICENSE_ID = 7
OWNER = "owner@example.org"
AGENT = "agent@example.org"


@dataclass(frozen=True, slots=True)
class World:
    """The license, and changes to it as another process would make them."""

    database: Database
    bot_id: str
    account_ids: dict[str, str]

    async def token(self, agent_id: str, **options: Any) -> NewToken:
        """A token, stored."""
        defaults: dict[str, Any] = {"scopes": of_role("owner"), "region": "dal"}
        kind = options.pop("kind", "access")
        new = mint(kind, license_id=LICENSE_ID, agent_id=agent_id, **(defaults | options))
        async with self.database.engine.begin() as connection:
            await connection.execute(insert(tokens), new.row)
        return new

    async def change_license(self, **values: Any) -> None:
        async with self.database.engine.begin() as connection:
            await connection.execute(update(licenses).values(**values))

    async def change_agent(self, agent_id: str, **values: Any) -> None:
        """Change the agent, as an action does: the directory has another version then."""
        async with self.database.engine.begin() as connection:
            await connection.execute(update(agents).where(agents.c.id == agent_id).values(**values))
            await connection.execute(update(licenses).values(directory_version=licenses.c.directory_version + 1))


@pytest.fixture
async def world(either_database: Settings) -> AsyncIterator[World]:
    await migrate(either_database)
    people = [
        agent_row(LICENSE_ID, OWNER, name="Olivia", role="owner"),
        agent_row(LICENSE_ID, AGENT, name="Agnes", role="normal"),
        bot_row(LICENSE_ID, name="Bot", client_id="client"),
    ]
    async with connect(either_database) as database:
        async with database.engine.begin() as connection:
            await connection.execute(insert(licenses), license_row(LICENSE_ID))
            await connection.execute(insert(agents), people)
            await connection.execute(insert(groups), group_rows(LICENSE_ID, ["General", "Sales"]))
            await connection.execute(
                insert(group_agents), {"license_id": LICENSE_ID, "group_id": 1, "agent_id": AGENT, "priority": "first"}
            )
        yield World(database, people[2]["id"], {each["id"]: each["account_id"] for each in people})
