"""Which customers a connection is told of: those with an open chat, as far as anybody else knows where they are.

The views of a connection are its own: one for its `customer_monitoring_level`, and one for each subscription.
Source: the public reference, "Login" and "Subscribe Customers".
"""

from collections.abc import Collection, Iterable

LEVEL = ""
"""The id of the view that follows from the level; no subscription has it."""
MAX_SUBSCRIPTIONS = 10
"""Of one connection."""
MAX_CUSTOMERS = 500
"""In one view, and so in one frame."""


class View:
    """Customers who chat in some groups, or in any group if `group_ids` is None; at most `limit` of them."""

    __slots__ = (
        "_came",
        "_chats",
        "_closed",
        "_customers",
        "_doubted",
        "_doubts",
        "_stale",
        "group_ids",
        "limit",
        "told",
        "total",
    )

    def __init__(self, group_ids: Collection[int] | None, limit: int) -> None:
        self.group_ids = group_ids
        self.limit = limit
        self.total = 0
        """How many there are, as far as is known: where some are missed it is exact when they are counted."""
        self.told = 0
        """The total that the client was told last, if any."""
        self._chats: dict[str, set[str]] = {}
        """Of each customer the open chats that are known."""
        self._customers: dict[str, str] = {}
        """Who is in each of those."""
        self._closed: set[str] | None = None
        """Chats that are closed while it is being read."""
        self._came: set[str] = set()
        """Chats that are heard of while it is being read."""
        self._stale = False
        """Whether somebody may be in its groups who is not in it."""
        self._doubts = self._doubted = False
        """Whether somebody may be in it who is not in its groups; whether so, as it is being read."""

    def __contains__(self, customer_id: str) -> bool:
        return customer_id in self._chats

    def __len__(self) -> int:
        return len(self._chats)

    @property
    def misses(self) -> bool:
        """Whether there are more than it may have, or others than it has."""
        return self._stale or self.total > len(self._chats)

    @property
    def is_read(self) -> bool:
        """Whether it is being read."""
        return self._closed is not None

    def expect(self) -> None:
        """What it has is being read: what is told meanwhile is newer."""
        self._closed, self._came = set(), set()
        self._stale, self._doubted, self._doubts = False, self._doubts, False

    def give_up(self) -> None:
        """It could not be read."""
        self._closed, self._came = None, set()
        self._stale, self._doubts = True, self._doubts or self._doubted

    def regroup(self, group_ids: Collection[int]) -> None:
        """It is of other groups from now on; whom it has and should not is gone when it is read."""
        self.group_ids = group_ids
        self._stale = self._doubts = True

    def fill(self, open_chats: Iterable[tuple[str, str]], total: int) -> list[str]:
        """These were there when it was read, by (customer_id, chat_id); the customers who are new and have a place."""
        closed, self._closed = self._closed or (), None
        came, self._came = self._came, set()
        if self._doubted:
            open_chats = list(open_chats)
            for chat_id in self._customers.keys() - came - {chat_id for _, chat_id in open_chats}:
                self.closed(chat_id)
        new: dict[str, None] = {}
        left, there = set(), set(self._chats)
        for customer_id, chat_id in open_chats:
            if chat_id in closed:
                left.add(customer_id)
                continue
            there.add(customer_id)
            is_new = customer_id not in self._chats
            if self._add(customer_id, chat_id) and is_new:
                new[customer_id] = None
        self.total = max(total - len(left - there), len(self._chats))
        return list(new)

    def came(self, customer_id: str, chat_id: str, group_ids: Iterable[int]) -> bool:
        """The customer has an open chat in these groups; whether that is new, and within the limit."""
        if self.group_ids is not None and not any(each in self.group_ids for each in group_ids):
            return False
        is_new = customer_id not in self._chats
        missed = self.total > len(self._chats)
        has_place = self._add(customer_id, chat_id)
        if self.is_read:
            self._came.add(chat_id)
            self._stale |= not has_place  # perhaps it was counted before
        if missed:
            self.total += is_new  # who was missed and is counted twice now is counted anew soon
        else:
            self.total = len(self._chats) + (not has_place)
        return is_new and has_place

    def closed(self, chat_id: str) -> str | None:
        """The chat is closed; the customer who has no other."""
        if self._closed is not None:
            self._closed.add(chat_id)
        customer_id = self._customers.pop(chat_id, None)
        if customer_id is None:
            return None
        chats = self._chats[customer_id]
        chats.discard(chat_id)
        if chats:
            return None
        del self._chats[customer_id]
        self.total = max(0, self.total - 1)
        return customer_id

    def moved(self, chat_id: str, group_ids: Iterable[int]) -> str | None:
        """The chat is in these groups now; the customer who is therefore out of sight."""
        if self.group_ids is None:
            return None
        if any(each in self.group_ids for each in group_ids):
            if chat_id not in self._customers:
                self._stale = True
            elif self.is_read:
                self._came.add(chat_id)
            return None
        return self.closed(chat_id)

    def _add(self, customer_id: str, chat_id: str) -> bool:
        if customer_id not in self._chats and len(self._chats) >= self.limit:
            return False
        self._chats.setdefault(customer_id, set()).add(chat_id)
        self._customers[chat_id] = customer_id
        return True
