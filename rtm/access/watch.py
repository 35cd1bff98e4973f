"""Notices within half a second what another process, or the command line, has revoked or changed."""

import time
from collections.abc import Callable

import structlog
from sqlalchemy import bindparam, select

from rtm.access.directory import Directories
from rtm.outage import Outage, again_and_again
from rtm.protocol.timestamps import from_seconds
from rtm.store.database import Database
from rtm.store.tables import tokens

_INTERVAL_S = 0.5
_TIMEOUT_S = 5.0
# Each look goes back this much further than the last one: the clocks of two machines differ, and a revocation is
# dated before it is committed.
_OVERLAP_S = 30

_REVOKED = select(tokens.c.id).where(tokens.c.revoked_at > bindparam("since"))

log = structlog.get_logger(__name__)


class Watch:
    """Looks at the database every half second, for as long as `run` runs.

    `database` is for the watch alone: it needs one connection, which it must not have to wait for when there is much
    to do.
    Each `on_revoked(token_id)` is called once for each token that was revoked. Directories that have changed are
    reloaded, which tells their own `on_replaced`.
    """

    def __init__(self, database: Database, directories: Directories, *on_revoked: Callable[[str], None]) -> None:
        self._database = database
        self._directories = directories
        self._on_revoked = on_revoked
        self._looked_at = time.time()
        self._reported: set[str] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        await again_and_again(self.look, Outage(log, "watch_failing"), every_s=_INTERVAL_S, timeout_s=_TIMEOUT_S)

    async def look(self) -> None:
        """Look once. Raises what the database driver raises."""
        now = time.time()
        since = from_seconds(self._looked_at - _OVERLAP_S)
        async with self._database.engine.connect() as connection:
            ids = set(await connection.scalars(_REVOKED, {"since": since}))
            for token_id in ids - self._reported:
                for hear in self._on_revoked:
                    hear(token_id)
            self._reported = ids
            self._looked_at = now
            await self._directories.refresh(connection)
