"""The rows that a license begins with, and the license itself."""

import uuid
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.protocol.timestamps import now
from rtm.store.tables import agents, groups, licenses

Row = dict[str, Any]


def license_row(license_id: int, organization_id: str | None = None, plan: str = "self-hosted") -> Row:
    """A license that does not expire."""
    return {
        "id": license_id,
        "organization_id": organization_id or str(uuid.uuid4()),
        "plan": plan,
        "created_at": now(),
        "properties": {},
    }


def agent_row(license_id: int, email: str, *, name: str, role: str) -> Row:
    """An agent, known by their e-mail."""
    return _member(license_id, email.lower(), "agent", name, role, None)


def bot_row(license_id: int, *, name: str, client_id: str) -> Row:
    """A bot that belongs to a client."""
    return _member(license_id, uuid.uuid4().hex, "bot", name, "normal", client_id)


def _member(license_id: int, agent_id: str, kind: str, name: str, role: str, owner_client_id: str | None) -> Row:
    return {
        "license_id": license_id,
        "id": agent_id,
        "kind": kind,
        "account_id": str(uuid.uuid4()),
        "name": name,
        "role": role,
        "owner_client_id": owner_client_id,
        "created_at": now(),
    }


def group_rows(license_id: int, names: list[str]) -> list[Row]:
    """Groups numbered from 0, which is everybody."""
    return [
        {"license_id": license_id, "id": number, "name": name, "created_at": now()} for number, name in enumerate(names)
    ]


async def found(connection: AsyncConnection, *, owner: str, name: str, group_names: list[str]) -> tuple[Row, Row]:
    """A new license with its owner and groups; the rows of the license and of the owner."""
    last = await connection.scalar(select(func.max(licenses.c.id)))
    license_ = license_row(max(last or 0, 1) + 1)  # 1 is the demo license
    agent = agent_row(license_["id"], owner, name=name, role="owner")
    await connection.execute(insert(licenses), license_)
    await connection.execute(insert(agents), agent)
    await connection.execute(insert(groups), group_rows(license_["id"], ["General", *group_names]))
    return license_, agent
