"""The connections of one process: those that read are in pools of their own where nobody is to wait for the others."""

from pathlib import Path
from typing import NamedTuple

from rtm.settings import Settings
from rtm.store.database import Database, connect, dsn
from rtm.store.postgresql import PostgresqlStore
from rtm.store.sqlite import SqliteStore

STATEMENT_TIMEOUT_S = 10.0
"""Less than a request has."""


class Pools(NamedTuple):
    """Each opens its first connection when it is used, and is to be closed."""

    database: Database
    """What handlers read, which may take seconds."""
    prompt: Database
    """Who comes in, and what rooms have missed."""
    watched: Database
    """A revocation, and a look at the health."""


def pools(settings: Settings) -> Pools:
    """Those of the settings' database. Raises DatabaseError."""
    return Pools(*(connect(settings, statement_timeout_s=STATEMENT_TIMEOUT_S) for _ in Pools._fields))


def write_store(settings: Settings) -> SqliteStore | PostgresqlStore:
    """The writer's side of the same database."""
    url = settings.database
    return SqliteStore(Path(str(url.database))) if url.get_backend_name() == "sqlite" else PostgresqlStore(dsn(url))
