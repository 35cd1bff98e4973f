"""What `rtm migrate`, `rtm init` and `rtm token` do, beside a server or without one."""

import re
from base64 import b64encode
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.access.founding import found
from rtm.access.scopes import SCOPES, condense, of_role
from rtm.access.tokens import NewToken, TokenKind, mint
from rtm.access.tokens import revoke as revoke_token
from rtm.settings import Settings
from rtm.store import database
from rtm.store.database import Schema, check_schema, make_ready, schema, transaction
from rtm.store.lock import holding_file
from rtm.store.tables import agents, licenses, tokens


class Refused(Exception):
    """What was asked for makes no sense; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token that is asked for; None leaves it to the agent."""

    agent: str
    """E-mail, account id or bot id."""
    license_id: int | None
    kind: TokenKind | None
    scopes: list[str] | None
    lifetime_s: float | None


async def migrate(settings: Settings) -> None:
    """Create the tables or bring them up to date. Raises DatabaseError, also where a server uses an SQLite file."""
    with await _without_server(settings):
        await database.migrate(settings)


async def init(settings: Settings, *, owner: str, name: str, groups: list[str]) -> dict[str, Any]:
    """Create a license; what to tell its owner. Raises Refused, DatabaseError."""
    _check_founding(owner, name, groups)
    with await _without_server(settings):
        await make_ready(settings, create=True)
    async with transaction(settings) as connection:
        others = await connection.scalar(select(func.count()).select_from(licenses)) or 0
        license_, agent = await found(connection, owner=owner, name=name, group_names=groups)
        new = mint(
            "personal",
            license_id=license_["id"],
            agent_id=agent["id"],
            scopes=condense(of_role("owner")),
            region=settings.region,
        )
        await connection.execute(insert(tokens), new.row)
    return {
        "license_id": license_["id"],
        "organization_id": license_["organization_id"],
        "owner": agent["id"],
        **_told("personal", new, agent["account_id"]),
        **({"note": f"a new license, beside {others} in this database"} if others else {}),
    }


async def token(settings: Settings, wanted: Wanted) -> dict[str, Any]:
    """Mint a token; what to tell its holder. Raises Refused, DatabaseError."""
    await check_schema(settings)
    async with transaction(settings) as connection:
        agent = await _agent(connection, wanted)
        is_bot = agent.kind == "bot"
        kind = wanted.kind or ("bot" if is_bot else "access")
        if (kind == "bot") != is_bot:
            raise Refused(f"{agent.id} is {'a bot' if is_bot else 'no bot'}: expected another --kind than {kind}")
        # A bot has the scopes of its client; as long as nobody names them, those of an administrator.
        role = "administrator" if is_bot else agent.role
        new = mint(
            kind,
            license_id=agent.license_id,
            agent_id=agent.id,
            scopes=_scopes(wanted.scopes, role),
            region=settings.region,
            client_id=agent.owner_client_id,
            lifetime_s=wanted.lifetime_s,
        )
        await connection.execute(insert(tokens), new.row)
    return {"id": new.row["id"], "agent": agent.id, **_told(kind, new, agent.id if is_bot else agent.account_id)}


async def revoke(settings: Settings, token_or_id: str) -> None:
    """Revoke a token. Raises Refused, DatabaseError."""
    await check_schema(settings)
    async with transaction(settings) as connection:
        if not await revoke_token(connection, token_or_id):
            raise Refused("there is no such token, or it is revoked already")


async def _without_server(settings: Settings) -> AbstractContextManager[None]:
    """Lets no server use an SQLite file whose tables are to be changed. Raises DatabaseError."""
    is_file = settings.database.get_backend_name() == "sqlite"
    needs_change = await schema(settings) in (Schema.EMPTY, Schema.OLDER)
    return holding_file(settings) if is_file and needs_change else nullcontext()


def _check_founding(owner: str, name: str, groups: list[str]) -> None:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", owner):
        raise Refused(f"expected an e-mail address, not {owner}")
    if not name.strip():
        raise Refused("expected a --name that is not empty")
    if not all(each.strip() for each in groups):
        raise Refused("expected a --group with a name")
    if twice := next((each for each in groups if ["General", *groups].count(each) > 1), None):
        raise Refused(f"there would be two groups {twice}")


async def _agent(connection: AsyncConnection, wanted: Wanted) -> Any:
    statement = select(agents).where(or_(agents.c.id == wanted.agent.lower(), agents.c.account_id == wanted.agent))
    if wanted.license_id is not None:
        statement = statement.where(agents.c.license_id == wanted.license_id)
    rows = (await connection.execute(statement)).all()
    if not rows:
        raise Refused(f"there is no agent {wanted.agent}")
    if len(rows) > 1:
        licenses = ", ".join(str(row.license_id) for row in rows)
        raise Refused(f"there is a {wanted.agent} in each of the licenses {licenses}: expected --license")
    return rows[0]


def _scopes(names: list[str] | None, role: str) -> list[str]:
    held = of_role(role)
    for name in names or ():
        if name not in SCOPES:
            raise Refused(f"there is no scope {name}")
        if name not in held:
            raise Refused(f"the scope {name} is for the role {SCOPES[name]}, not for {role}")
    return sorted(set(names)) if names else condense(held)


def _told(kind: TokenKind, new: NewToken, user: str) -> dict[str, Any]:
    basic = b64encode(f"{user}:{new.token}".encode()).decode()
    return {
        "user": user,
        "token": new.token,
        "authorization": f"Basic {basic}" if kind == "personal" else f"Bearer {new.token}",
    }
