"""The pushes about where customers are, which each process works out of those about their chats.

Nobody publishes them: all processes hear of chats in the same order, and each tells those of its sessions that have
asked for more than the customers of their own chats, which they see in the chats. Source: the public reference,
"Customers" of the pushes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import orjson
import structlog

from rtm.actions.agent import structures
from rtm.bus.base import Envelope
from rtm.model.pushes import CustomerLeft, CustomerTransferred
from rtm.model.tracking import LEVEL, MAX_SUBSCRIPTIONS, View, Whereabouts
from rtm.outage import Outage, again_and_again
from rtm.protocol import timestamps
from rtm.protocol.errors import LimitReached
from rtm.store.customers import Here

log = structlog.get_logger(__name__)

S = TypeVar("S")
Tell = Callable[[str, Any, Collection[S]], None]
"""push, payload, sessions"""
ReadHere = Callable[[int, Collection[int] | None, int], Awaitable[Here]]
"""license_id, group_ids, limit -> customers with an open chat"""

RECOUNT_S = 10.0
RECOUNT_TIMEOUT_S = 5.0
"""For a room."""
VIEWS_AT_ONCE = 20
"""Between two of them others have their turn; to fill one takes up to some 0.1 ms."""
_OF_CHATS = frozenset(("incoming_chat", "user_added_to_chat", "chat_access_updated", "chat_deactivated"))
_OF_CHAT_ONLY = ("present", "events_seen_up_to")


class Trackers(dict[S, dict[str, View]]):
    """The views of a room's sessions that have any, by id; `tell` is given what they are to hear."""

    def __init__(self, tell: Tell[S]) -> None:
        super().__init__()
        self._tell = tell
        self._whereabouts = Whereabouts()

    def track(self, session: S, view_id: str, group_ids: Collection[int] | None, limit: int) -> View:
        """A new view of the session's. Raises LimitReached."""
        views = self.setdefault(session, {})
        if len(views.keys() - {LEVEL}) >= MAX_SUBSCRIPTIONS:
            raise LimitReached(f"A connection has at most {MAX_SUBSCRIPTIONS} subscriptions")
        view = views[view_id] = View(self._whereabouts, group_ids, limit)
        return view

    def untrack(self, session: S, view_id: str) -> bool:
        """End a view; False for an id that is not there."""
        view = self.get(session, {}).pop(view_id, None)
        if view is None:
            return False
        view.end()
        if not self[session]:
            self.forget(session)
        return True

    def forget(self, session: S) -> None:
        """End all of the session's views."""
        for view in self.pop(session, {}).values():
            view.end()
        if not self:
            self._whereabouts = Whereabouts()  # nothing is heard until there are others

    def of(self, customer_id: str) -> Iterator[S]:
        """Who tracks the customer."""
        return (session for session, views in self.items() if any(customer_id in view for view in views.values()))

    def heard(self, push: Envelope) -> None:
        """Something was told of a chat; what is not stored, or is for one agent alone, shows again what there was."""
        if push.name not in _OF_CHATS or not push.sequence:
            return
        payload = orjson.loads(push.payload)
        match push.name:
            case "incoming_chat" if push.audience.groups or push.audience.readers:
                self._chat(payload["chat"])
            case "user_added_to_chat" if payload["user"]["type"] == "customer":
                self._came(payload["user"], payload["chat_id"], push.audience.groups)
            case "chat_access_updated":
                self._moved(payload["id"], payload["access"]["group_ids"])
            case "chat_deactivated":
                self._closed(payload["chat_id"])

    def _chat(self, chat: Mapping[str, Any]) -> None:
        if chat.get("thread", {}).get("active"):
            for user in chat["users"]:
                if user["type"] == "customer" and user["present"]:
                    self._came(user, chat["id"], chat["access"]["group_ids"])

    def _came(self, user: Mapping[str, Any], chat_id: str, group_ids: Collection[int]) -> None:
        told = self._where(lambda view: view.came(user["id"], chat_id, group_ids))
        if told:
            customer = {name: value for name, value in user.items() if name not in _OF_CHAT_ONLY}
            self._tell("incoming_customer", customer, told)

    def _closed(self, chat_id: str) -> None:
        lost = self._by_customer(lambda view: view.closed(chat_id))
        self._whereabouts.closed(chat_id)
        for customer_id, sessions in lost.items():
            left: CustomerLeft = {"id": customer_id, "left_at": timestamps.now()}
            self._tell("customer_left", left, sessions)

    def _moved(self, chat_id: str, group_ids: list[int]) -> None:
        lost = self._by_customer(lambda view: view.moved(chat_id, group_ids))
        self._whereabouts.moved(chat_id, group_ids)
        for customer_id, sessions in lost.items():
            transferred: CustomerTransferred = {
                "id": customer_id,
                "transferred_to": {"group_ids": group_ids},
                "followed": False,
            }
            self._tell("customer_transferred", transferred, sessions)

    def _where(self, is_so: Callable[[View], bool]) -> list[S]:
        found = []
        for session, views in self.items():
            is_so_of = [is_so(view) for view in views.values()]  # each has to be told
            if any(is_so_of):
                found.append(session)
        return found

    def _by_customer(self, lost: Callable[[View], str | None]) -> dict[str, list[S]]:
        """Who has lost whom from all of its views."""
        found: dict[str, list[S]] = {}
        for session, views in self.items():
            for customer_id in {each for view in views.values() if (each := lost(view)) is not None}:
                if not any(customer_id in view for view in views.values()):
                    found.setdefault(customer_id, []).append(session)
        return found


class _Room(Protocol):
    @property
    def license_id(self) -> int: ...

    @property
    def trackers(self) -> Mapping[Any, Mapping[str, View]]: ...


class Recounts:
    """Counts anew for views that may not have all they see, and tells subscribers what has changed."""

    def __init__(self, rooms: Callable[[], Iterable[_Room]], read: ReadHere) -> None:
        self._rooms = rooms
        self._read = read

    async def run(self) -> None:
        """Do it until cancelled."""
        await again_and_again(self._recount_all, Outage(log, "recount_failing"), every_s=RECOUNT_S)

    async def _recount_all(self) -> None:
        """What fails in a room keeps no other one from its turn."""
        failure: Exception | None = None
        for room in list(self._rooms()):
            try:
                async with asyncio.timeout(RECOUNT_TIMEOUT_S):
                    await self._recount(room)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
        if failure is not None:
            raise failure

    async def _recount(self, room: _Room) -> None:
        missing = [
            (session, id_, view)
            for session, views in room.trackers.items()
            for id_, view in views.items()
            if view.misses and not view.is_read
        ]
        for _, _, view in missing:
            view.expect()
        unread = {view for _, _, view in missing}
        read: dict[tuple[Any, int], Here] = {}
        try:
            for number, (session, id_, view) in enumerate(missing, 1):
                asked = (view.group_ids, view.limit)
                here = read[asked] = read.get(asked) or await self._read(room.license_id, *asked)
                unread.discard(view)
                if room.trackers.get(session, {}).get(id_) is view:
                    self._fill(session, id_, view, here)
                if number % VIEWS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            for view in unread:
                view.give_up()

    def _fill(self, session: Any, id_: str, view: View, here: Here) -> None:
        for customer_id in view.fill(here.open_chats, here.total):
            session.tell("incoming_customer", structures.customer(here.customers[customer_id]))
        if view.misses and len(view) < view.limit:
            return  # somebody left meanwhile: who has the place now is read next time, and then all are counted
        if view.total != view.told and (view.told or view.misses) and id_ != LEVEL:
            view.told = view.total
            session.tell("subscribed_customers_totals_updated", {id_: view.total})
