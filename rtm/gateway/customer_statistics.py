"""The push `customer_statistics_updated`, which each process works out of the pushes about chats that it hears.

Nobody publishes it: the numbers are counted in the database, by each process for those of its sessions that are to be
told, and only if there are any. What changes in quick succession is counted and told once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any

import orjson
import structlog

from rtm.actions.agent import structures
from rtm.bus.base import Envelope
from rtm.model.pushes import CustomerStatisticsUpdated
from rtm.outage import reason
from rtm.store.customers import Counted

log = structlog.get_logger(__name__)

CUSTOMER_STATISTICS_UPDATED = "customer_statistics_updated"

PAUSE_S = 0.25
"""Between two readings for a license."""
REST = 4
"""The pause is at least this many times as long as the reading took, where a customer has very many chats."""
READ_TIMEOUT_S = 5.0
MAX_AT_ONCE = 100
"""Customers in one reading."""
MAX_UNTOLD = 10_000
"""Customers who wait to be counted; of those past it nothing is told until their numbers change again."""
_OF_CHATS = frozenset(("incoming_chat", "user_added_to_chat"))

ReadCounted = Callable[[int, Collection[str]], Awaitable[Iterable[Counted]]]
"""license_id, customer_ids -> those who are there"""


class CustomerStatistics:
    """Calls `tell` with a customer's numbers, soon after they have changed, and the agents of the chats by which.

    Only of customers of whom somebody `is_to_hear`, who is asked with the id and those agents.
    """

    def __init__(
        self,
        license_id: int,
        read: ReadCounted,
        is_to_hear: Callable[[str, Collection[str]], bool],
        tell: Callable[[CustomerStatisticsUpdated, Collection[str]], None],
    ) -> None:
        self._license_id = license_id
        self._read = read
        self._is_to_hear = is_to_hear
        self._tell = tell
        self._untold: dict[str, set[str]] = {}
        """Ids of customers and of the agents of their chats, who changed first first."""
        self._telling: asyncio.Task[None] | None = None

    def heard(self, push: Envelope) -> None:
        """Something was told of a chat: a thread has begun, or a customer was added, if the chat's groups are told."""
        if push.name not in _OF_CHATS or not push.audience.groups:
            return
        agent_ids = push.audience.agents
        for user in _users(push.name, orjson.loads(push.payload)):
            if user["type"] == "customer" and self._is_to_hear(user["id"], agent_ids):
                self._changed(user["id"], agent_ids)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._telling is not None:
            self._telling.cancel()

    def _changed(self, customer_id: str, agent_ids: Collection[str]) -> None:
        if customer_id in self._untold or len(self._untold) < MAX_UNTOLD:
            self._untold.setdefault(customer_id, set()).update(agent_ids)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def _tell_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._untold:
                began = loop.time()
                some = {id_: self._untold.pop(id_) for id_ in list(islice(self._untold, MAX_AT_ONCE))}
                counted = await self._count(some)
                took_s = loop.time() - began
                for each in counted:
                    self._tell(structures.customer_statistics(each), some[each.customer.id])
                    await asyncio.sleep(0)  # others have their turn
                await asyncio.sleep(max(PAUSE_S, REST * took_s))
        finally:
            self._telling = None

    async def _count(self, customer_ids: Collection[str]) -> Iterable[Counted]:
        """Of no one if that fails: they are told when they change again."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._read(self._license_id, customer_ids)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next reading may do better
            log.warning("statistics_unknown", license_id=self._license_id, reason=reason(error))
            return ()


def _users(push: str, payload: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return payload["chat"]["users"] if push == "incoming_chat" else [payload["user"]]
