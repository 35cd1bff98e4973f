"""The demo license: agents, groups, customers and a chat to try things on.

It is made once. Its tokens, of which the database has only hashes, are kept in `demo.json` in the data directory
(mode 0600), so that they are the same at every start; where that file is missing, new tokens are added to the old ones.
"""

import secrets
import uuid
from collections.abc import Iterable

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.access.founding import Row, agent_row, bot_row, group_rows, license_row
from rtm.access.scopes import condense, of_role
from rtm.access.tokens import TokenKind, digest, mint
from rtm.demo.chat import conversation, store
from rtm.demo.credentials import AgentCredentials, BotCredentials, Credentials, Named, kept
from rtm.protocol.timestamps import now
from rtm.settings import Settings
from rtm.store.database import DatabaseError, transaction
from rtm.store.tables import agents, clients, customers, group_agents, groups, licenses, tags, tokens

LICENSE_ID = 1
"""`rtm init` numbers from 2 on."""

_GROUPS = ["General", "Sales", "Support"]
_TAGS = {"order": [0, 1], "refund": [1, 2], "bug": [2]}
_CUSTOMERS = {"Ada": "ada@example.net", "Grace": "grace@example.net"}
_AGENTS = {
    "owner@example.com": ("Olivia Owner", "owner", (1, 2)),
    "smith@example.com": ("Agent Smith", "administrator", (1, 2)),
    "jones@example.com": ("Indiana Jones", "normal", (2,)),
}
# Any number, as long as no other program on the same PostgreSQL takes a lock of the same one.
_LOCK = 0x64656D6F


async def ensure(settings: Settings) -> Credentials:
    """Make what is missing of the demo license; its credentials. Raises DatabaseError."""
    path = settings.data_dir / "demo.json"
    async with transaction(settings) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        found = await _organization_id(connection)
        organization_id = found or await _create(connection)
        wanted = [*_AGENTS, *(f"agent{number}@example.com" for number in range(1, settings.demo_agents + 1))]
        await _add_agents(connection, wanted)
        credentials = kept(path, organization_id) or await _new_credentials(connection, organization_id, settings)
        await _add_tokens(connection, credentials, wanted, settings.region)
    if found is None:
        await store(settings, *conversation(LICENSE_ID, str(credentials.customers[0].id)))
    try:
        credentials.keep(path)
    except OSError as error:
        raise DatabaseError(f"cannot write to {path}: {error.strerror}") from error
    return credentials


async def _organization_id(connection: AsyncConnection) -> str | None:
    found: str | None = await connection.scalar(select(licenses.c.organization_id).where(licenses.c.id == LICENSE_ID))
    return found


async def _create(connection: AsyncConnection) -> str:
    """Everything but the agents, the tokens and the chat; returns the organization id."""
    license_ = license_row(LICENSE_ID, plan="demo")
    await connection.execute(insert(licenses), license_)
    await connection.execute(insert(groups), group_rows(LICENSE_ID, _GROUPS))
    await connection.execute(
        insert(tags),
        [
            {
                "license_id": LICENSE_ID,
                "name": name,
                "group_ids": group_ids,
                "author_id": "owner@example.com",
                "created_at": now(),
            }
            for name, group_ids in _TAGS.items()
        ],
    )
    people = [
        {
            "license_id": LICENSE_ID,
            "id": str(uuid.uuid4()),
            "name": name,
            "email": email,
            "created_at": now(),
            "state": {},
        }
        for name, email in _CUSTOMERS.items()
    ]
    await connection.execute(insert(customers), people)
    client = {
        "id": uuid.uuid4().hex,
        "license_id": LICENSE_ID,
        "name": "Demo",
        "secret_hash": digest(secrets.token_urlsafe()),
        "created_at": now(),
    }
    await connection.execute(insert(clients), client)
    bot = bot_row(LICENSE_ID, name="Demo Bot", client_id=str(client["id"]))
    await connection.execute(insert(agents), bot)
    return str(license_["organization_id"])


async def _add_agents(connection: AsyncConnection, wanted: Iterable[str]) -> None:
    existing = set(await connection.scalars(select(agents.c.id).where(agents.c.license_id == LICENSE_ID)))
    new: list[Row] = []
    memberships: list[Row] = []
    for agent_id in wanted:
        if agent_id in existing:
            continue
        name, role, group_ids = _AGENTS.get(agent_id) or (agent_id.partition("@")[0].capitalize(), "normal", ())
        new.append(agent_row(LICENSE_ID, agent_id, name=name, role=role))
        memberships += [{"license_id": LICENSE_ID, "group_id": each, "agent_id": agent_id} for each in group_ids]
    if new:
        await connection.execute(insert(agents), new)
        await connection.execute(
            update(licenses)
            .where(licenses.c.id == LICENSE_ID)
            .values(directory_version=licenses.c.directory_version + 1)
        )
    if memberships:
        await connection.execute(insert(group_agents), memberships)


async def _new_credentials(connection: AsyncConnection, organization_id: str, settings: Settings) -> Credentials:
    """Credentials of the license's client, with a new secret, and of its bot; without agents."""
    client_id = str(await connection.scalar(select(clients.c.id).where(clients.c.license_id == LICENSE_ID)))
    secret = secrets.token_urlsafe()
    await connection.execute(update(clients).where(clients.c.id == client_id).values(secret_hash=digest(secret)))
    credentials = Credentials(organization_id, LICENSE_ID, client_id, secret)

    of_license = agents.c.license_id == LICENSE_ID
    for bot_id in await connection.scalars(select(agents.c.id).where(of_license, agents.c.kind == "bot")):
        token, row = _token("bot", bot_id, "administrator", client_id, settings.region)
        await connection.execute(insert(tokens), row)
        credentials.bots.append(BotCredentials(bot_id, token))
    for table, members in ((groups, credentials.groups), (customers, credentials.customers)):
        listed = select(table.c.id, table.c.name).where(table.c.license_id == LICENSE_ID)
        rows = await connection.execute(listed.order_by(table.c.created_at, table.c.name))
        members += [Named(row.id, row.name) for row in rows]
    return credentials


async def _add_tokens(
    connection: AsyncConnection, credentials: Credentials, wanted: Iterable[str], region: str
) -> None:
    """Tokens for the agents that have none in the credentials."""
    known = {agent.id for agent in credentials.agents}
    missing = [agent_id for agent_id in wanted if agent_id not in known]
    if not missing:
        return
    statement = select(agents.c.id, agents.c.role, agents.c.account_id).where(agents.c.license_id == LICENSE_ID)
    found = {row.id: row for row in await connection.execute(statement)}
    rows: list[Row] = []
    for agent_id in missing:
        agent = found[agent_id]
        personal, personal_row = _token("personal", agent.id, agent.role, None, region)
        access, access_row = _token("access", agent.id, agent.role, credentials.client_id, region)
        rows += [personal_row, access_row]
        credentials.agents.append(AgentCredentials(agent.id, agent.role, agent.account_id, personal, access))
    await connection.execute(insert(tokens), rows)


_SCOPES = {role: condense(of_role(role)) for role in ("owner", "administrator", "normal")}


def _token(kind: TokenKind, agent_id: str, role: str, client_id: str | None, region: str) -> tuple[str, Row]:
    new = mint(kind, license_id=LICENSE_ID, agent_id=agent_id, scopes=_SCOPES[role], region=region, client_id=client_id)
    return new.token, new.row
