"""The connections of one process, in pools of their own where nobody is to wait for the others."""

from typing import NamedTuple

from rtm.settings import Settings
from rtm.store.database import Database, connect

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
