"""Which customers a connection is told of: those with an open chat, as far as anybody else knows where they are.

The views of a connection are its own: one for its `customer_monitoring_level`, and one for each subscription. What is
the same for all of a license's connections, who has which chats in which groups, they have in common (`Whereabouts`);
of each customer a view has a bit. Source: the public reference, "Login" and "Subscribe Customers".
"""

from collections.abc import Collection, Iterable, Iterator

LEVEL = ""
"""The id of the view that follows from the level; no subscription has it."""
MAX_SUBSCRIPTIONS = 10
"""Of one connection."""
MAX_CUSTOMERS = 500
"""In one view, and so in one frame."""

OpenChat = tuple[str, str, frozenset[int]]
"""customer_id, chat_id, group_ids"""


class _Customer:
    """Somebody with open chats; no two who are here at a time have the same number."""

    __slots__ = ("chat_ids", "id", "number")

    def __init__(self, id_: str, number: int) -> None:
        self.id = id_
        self.number = number
        self.chat_ids: tuple[str, ...] = ()


class Whereabouts:
    """The open chats of customers whom a view has or had; each of their changes is told to all views and then here."""

    def __init__(self) -> None:
        self._customers: dict[str, _Customer] = {}
        self._by_number: list[_Customer | None] = []
        self._free: list[int] = []
        self._chats: dict[str, tuple[_Customer, frozenset[int]]] = {}

    def customer(self, customer_id: str) -> _Customer | None:
        """The customer of that id."""
        return self._customers.get(customer_id)

    def customer_of(self, chat_id: str) -> _Customer | None:
        """Who is in the chat."""
        customer, _ = self._chats.get(chat_id, (None, None))
        return customer

    def of_numbers(self, bits: int) -> Iterator[_Customer]:
        """The customers of the numbers whose bits are set."""
        while bits:
            lowest = bits & -bits
            customer = self._by_number[lowest.bit_length() - 1]
            assert customer is not None
            yield customer
            bits ^= lowest

    def groups_of(self, customer: _Customer, but: str = "") -> Iterator[frozenset[int]]:
        """Those of each of the customer's chats, but for one."""
        return (self._chats[chat_id][1] for chat_id in customer.chat_ids if chat_id != but)

    def opened(self, customer_id: str, chat_id: str, group_ids: Iterable[int]) -> _Customer:
        """The customer, who has this chat."""
        customer = self._customers.get(customer_id)
        if customer is None:
            customer = self._customers[customer_id] = self._numbered(customer_id)
        if chat_id not in self._chats:
            customer.chat_ids += (chat_id,)
            self._chats[chat_id] = customer, frozenset(group_ids)
        return customer

    def moved(self, chat_id: str, group_ids: Iterable[int]) -> None:
        """The chat is in these groups now."""
        customer = self.customer_of(chat_id)
        if customer is not None:
            self._chats[chat_id] = customer, frozenset(group_ids)

    def closed(self, chat_id: str) -> None:
        """The chat is closed; a customer without others is forgotten."""
        customer, _ = self._chats.pop(chat_id, (None, None))
        if customer is None:
            return
        customer.chat_ids = tuple(each for each in customer.chat_ids if each != chat_id)
        if not customer.chat_ids:
            del self._customers[customer.id]
            self._by_number[customer.number] = None
            self._free.append(customer.number)

    def _numbered(self, customer_id: str) -> _Customer:
        if self._free:
            number = self._free.pop()
        else:
            number = len(self._by_number)
            self._by_number.append(None)
        customer = self._by_number[number] = _Customer(customer_id, number)
        return customer


class View:
    """Customers who chat in some groups, or in any group if `group_ids` is None; at most `limit` of them."""

    __slots__ = (
        "_bits",
        "_heard",
        "_regrouped",
        "_stale",
        "_whereabouts",
        "group_ids",
        "limit",
        "told",
        "total",
    )

    def __init__(self, whereabouts: Whereabouts, group_ids: Collection[int] | None, limit: int) -> None:
        self.group_ids = group_ids
        self.limit = limit
        self.total = 0
        """How many there are, as far as is known: where some are missed it is exact when they are counted."""
        self.told = 0
        """The total that the client was told last, if any."""
        self._whereabouts = whereabouts
        self._bits = 0
        """At the numbers of the customers that it has."""
        self._heard: dict[str, Collection[int]] | None = None
        """While it is being read, the chats that are heard of, with their groups; none of one that is gone."""
        self._stale = False
        """Whether somebody may be in its groups who is not in it."""
        self._regrouped = False
        """Whether somebody may be in it who is not in its groups."""

    def __contains__(self, customer_id: str) -> bool:
        return self._has(self._whereabouts.customer(customer_id))

    def __len__(self) -> int:
        return self._bits.bit_count()

    @property
    def misses(self) -> bool:
        """Whether there are more than it may have, or others than it has."""
        return self._stale or self.total > len(self)

    @property
    def is_read(self) -> bool:
        """Whether it is being read."""
        return self._heard is not None

    def expect(self) -> None:
        """What it has is being read: what is told meanwhile is newer."""
        self._heard = {}
        self._stale = False

    def give_up(self) -> None:
        """It could not be read."""
        self._heard = None
        self._stale = True

    def regroup(self, group_ids: Collection[int]) -> None:
        """It is of other groups from now on; whom it has and should not is gone when it is read."""
        self.group_ids = group_ids
        self._stale = self._regrouped = True

    def end(self) -> None:
        """It is told nothing any more: what is still read for it concerns no other."""
        self._whereabouts, self._bits = Whereabouts(), 0

    def fill(self, open_chats: Collection[OpenChat], total: int) -> list[str]:
        """These were there when it was read; the customers who are new and have a place."""
        heard, self._heard = self._heard or {}, None
        newest = ((customer_id, chat_id, heard.get(chat_id, groups)) for customer_id, chat_id, groups in open_chats)
        still_open = [each for each in newest if each[2] and self._is_of(each[2])]
        for _, chat_id, group_ids in still_open:
            self._whereabouts.moved(chat_id, group_ids)
        if self._regrouped:
            self._drop_others()
        read, still_here = {each[0] for each in open_chats}, {each[0] for each in still_open}
        left = [customer_id for customer_id in read - still_here if customer_id not in self]
        new, without_place = [], set()
        for customer_id, chat_id, group_ids in still_open:
            is_new = customer_id not in self
            if not self._add(customer_id, chat_id, group_ids):
                without_place.add(customer_id)  # somebody who came meanwhile, and is not in `total`, has it
            elif is_new:
                new.append(customer_id)
        self.total = max(total - len(left), len(self) + len(without_place))
        self._stale |= total > len(read) and any(heard.values())  # who came may not be in `total`
        return new

    def came(self, customer_id: str, chat_id: str, group_ids: Collection[int]) -> bool:
        """The customer has an open chat in these groups; whether that is new, and within the limit."""
        if not self._is_of(group_ids):
            return False
        is_new = customer_id not in self
        missed = self.total > len(self)
        has_place = self._add(customer_id, chat_id, group_ids)
        if self._heard is not None:
            self._heard[chat_id] = group_ids
            self._stale |= not has_place  # perhaps it was counted before
        if missed:
            self.total += is_new  # who was missed and is counted twice now is counted anew soon
        else:
            self.total = len(self) + (not has_place)
        return is_new and has_place

    def closed(self, chat_id: str) -> str | None:
        """The chat is about to be closed; the customer who has no other."""
        if self._heard is not None:
            self._heard[chat_id] = ()
        customer = self._whereabouts.customer_of(chat_id)
        if customer is None or not self._has(customer) or self._should_have(customer, but=chat_id):
            return None
        self._bits ^= 1 << customer.number
        self.total = max(0, self.total - 1)
        return customer.id

    def moved(self, chat_id: str, group_ids: Collection[int]) -> str | None:
        """The chat is about to be in these groups; the customer who is therefore out of sight."""
        if not self._is_of(group_ids):
            return self.closed(chat_id)
        if self._heard is not None:
            self._heard[chat_id] = group_ids
        if self.group_ids is not None and not self._has(self._whereabouts.customer_of(chat_id)):
            self._stale = True
        return None

    def _is_of(self, group_ids: Iterable[int]) -> bool:
        return self.group_ids is None or any(each in self.group_ids for each in group_ids)

    def _has(self, customer: _Customer | None) -> bool:
        return customer is not None and self._bits >> customer.number & 1 == 1

    def _should_have(self, customer: _Customer, but: str = "") -> bool:
        return any(map(self._is_of, self._whereabouts.groups_of(customer, but)))

    def _add(self, customer_id: str, chat_id: str, group_ids: Iterable[int]) -> bool:
        if customer_id not in self and len(self) >= self.limit:
            return False
        self._bits |= 1 << self._whereabouts.opened(customer_id, chat_id, group_ids).number
        return True

    def _drop_others(self) -> None:
        self._regrouped = False
        for customer in self._whereabouts.of_numbers(self._bits):
            if not self._should_have(customer):
                self._bits ^= 1 << customer.number
