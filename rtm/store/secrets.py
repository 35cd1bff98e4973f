"""Secrets that all processes of a system share, made by the first that asks."""

import secrets as random

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from rtm.store.database import Database
from rtm.store.tables import secrets

LENGTH_BYTES = 32


async def shared_secret(database: Database, name: str) -> bytes:
    """The secret of that name."""
    wanted = select(secrets.c.value).where(secrets.c.name == name)
    async with database.engine.connect() as connection:
        found = (await connection.execute(wanted)).scalar_one_or_none()
    if found is not None:
        return bytes(found)
    try:
        async with database.engine.begin() as connection:
            await connection.execute(insert(secrets).values(name=name, value=random.token_bytes(LENGTH_BYTES)))
    except IntegrityError:
        pass  # another process was first
    async with database.engine.connect() as connection:
        return bytes((await connection.execute(wanted)).scalar_one())
