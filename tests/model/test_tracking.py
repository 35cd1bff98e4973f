"""Which customers a view has: within its groups and its limit, whatever happens while it is read."""

import random
import tracemalloc
from collections.abc import Collection, Iterable

from rtm.model.tracking import OpenChat, View, Whereabouts

IN_1 = frozenset((1,))


class Views(list[View]):
    """Those of a license."""

    def __init__(self) -> None:
        self.whereabouts = Whereabouts()

    def begin(self, group_ids: Collection[int] | None, limit: int) -> View:
        self.append(View(self.whereabouts, group_ids, limit))
        return self[-1]

    def closed(self, chat_id: str) -> list[str | None]:
        """Whom each has lost."""
        lost = [view.closed(chat_id) for view in self]
        self.whereabouts.closed(chat_id)
        return lost

    def moved(self, chat_id: str, group_ids: Collection[int]) -> list[str | None]:
        """The same."""
        lost = [view.moved(chat_id, group_ids) for view in self]
        self.whereabouts.moved(chat_id, group_ids)
        return lost


def test_a_customer_comes_once_and_leaves_with_the_last_chat() -> None:
    views = Views()
    view = views.begin(None, 2)
    assert view.came("ada", "C1", [1])
    assert not view.came("ada", "C2", [1])
    assert not view.came("ada", "C2", [1])
    assert views.closed("C1") == [None]
    assert "ada" in view
    assert views.closed("C2") == ["ada"]
    assert (views.closed("C2"), len(view), view.total) == ([None], 0, 0)
    assert view.came("ada", "C3", [1])


def test_only_customers_of_its_groups_are_in_it() -> None:
    views = Views()
    view = views.begin({1, 2}, 2)
    assert not view.came("ada", "C1", [0, 3])
    assert view.came("ada", "C2", [3, 2])
    assert views.moved("C2", [1]) == [None]
    assert views.moved("C2", [3]) == ["ada"]
    assert "ada" not in view
    assert view.came("ada", "C2", [1])


def test_who_is_past_the_limit_is_counted_only() -> None:
    views = Views()
    view = views.begin(None, 1)
    assert view.came("ada", "C1", [1])
    assert not view.misses
    assert not view.came("grace", "C2", [1])
    assert (view.misses, view.total, len(view)) == (True, 2, 1)
    assert views.closed("C2") == [None]
    assert views.closed("C1") == ["ada"]
    assert view.misses


def test_what_happens_while_it_is_read_is_newer() -> None:
    views = Views()
    view = views.begin(None, 5)
    view.expect()
    assert view.came("joan", "C3", [1])
    assert views.closed("C1") == [None]
    read = [("ada", "C1", IN_1), ("grace", "C2", IN_1), ("grace", "C4", IN_1), ("joan", "C3", IN_1)]
    assert view.fill(read, 3) == ["grace"]
    assert ("ada" in view, "grace" in view, "joan" in view) == (False, True, True)
    assert views.closed("C1") == [None]
    assert views.closed("C3") == ["joan"]
    assert views.closed("C2") == [None]
    assert views.closed("C4") == ["grace"]


def test_who_is_missed_is_not_forgotten_when_another_takes_the_place() -> None:
    views = Views()
    view = views.begin(None, 1)
    view.came("ada", "C1", [1])
    view.came("grace", "C2", [1])
    views.closed("C1")
    assert view.came("joan", "C3", [1])
    assert (view.misses, view.total, len(view)) == (True, 2, 1)


def test_who_comes_past_the_limit_while_it_is_counted_is_missed() -> None:
    views = Views()
    view = views.begin(None, 1)
    view.came("ada", "C1", [1])
    view.expect()
    view.came("grace", "C2", [1])
    view.fill([("ada", "C1", IN_1)], 1)
    assert view.misses


def test_who_is_transferred_into_its_groups_unseen_is_missed() -> None:
    views = Views()
    view = views.begin({1}, 2)
    view.came("ada", "C1", [1])
    views.moved("C1", [0, 1])
    assert not view.misses
    views.moved("C2", [1])
    assert view.misses
    view.expect()
    views.moved("C3", [1])
    view.fill([("ada", "C1", IN_1), ("grace", "C2", IN_1)], 2)
    assert view.misses  # perhaps it was read before
    view.expect()
    view.give_up()
    assert view.misses
    assert not view.is_read


def test_with_other_groups_it_has_those_that_are_read_and_came_since() -> None:
    views = Views()
    view = views.begin({1}, 3)
    for customer_id, chat_id in (("ada", "C1"), ("grace", "C2"), ("joan", "C4")):
        view.came(customer_id, chat_id, [1])
    view.regroup({2})
    assert view.misses
    view.expect()
    view.give_up()
    view.expect()
    views.moved("C4", [2])
    assert view.fill([("grace", "C2", frozenset((1, 2))), ("mary", "C3", frozenset((2,)))], 2) == ["mary"]
    assert [each in view for each in ("ada", "grace", "joan", "mary")] == [False, True, True, True]
    assert not view.misses


def test_who_takes_the_place_of_somebody_who_is_read_has_that_one_counted() -> None:
    view = Views().begin(None, 1)
    view.expect()
    view.came("ada", "C1", [1])
    assert view.fill([("grace", "C2", IN_1)], 1) == []
    assert (view.misses, view.total) == (True, 2)


def test_what_one_view_knows_of_a_chat_all_know() -> None:
    views = Views()
    of_sales, of_support = views.begin({1}, 5), views.begin({2}, 5)
    assert [view.came("ada", "C1", [1]) for view in views] == [True, False]
    assert [view.came("ada", "C2", [2]) for view in views] == [False, True]
    assert views.moved("C2", [1]) == [None, "ada"]
    assert not of_sales.misses
    assert views.closed("C1") == [None, None]
    assert views.closed("C2") == ["ada", None]
    assert [view.came("grace", "C3", [2]) for view in views] == [False, True]
    assert ["grace" in view for view in views] == [False, True]  # though nobody has her place in ada's
    assert of_support.total == 1


def test_views_tell_the_same_as_the_chats_whatever_happens() -> None:
    choose = random.Random(7)
    for _ in range(200):
        views, open_chats = Views(), dict[str, tuple[str, frozenset[int]]]()
        of_groups = [views.begin(group_ids, 500) for group_ids in (None, IN_1, {2}, {1, 3})]
        for number in range(50):
            chat_id, groups = choose.choice([*open_chats, str(number)]), frozenset(choose.choices((1, 2, 3), k=2))
            if chat_id not in open_chats:
                open_chats[chat_id] = choose.choice("abcdef"), groups
                for view in views:
                    view.came(open_chats[chat_id][0], chat_id, list(groups))
            elif choose.random() < 0.5:
                open_chats[chat_id] = open_chats[chat_id][0], groups
                views.moved(chat_id, list(groups))
            else:
                del open_chats[chat_id]
                views.closed(chat_id)
            for view in [view for view in of_groups if view.misses]:
                read = list(_read(open_chats, view))
                view.expect()
                view.fill(read, len({customer_id for customer_id, _, _ in read}))
            for view in of_groups:
                expected = {customer_id for customer_id, _, _ in _read(open_chats, view)}
                assert {each for each in "abcdef" if each in view} == expected
                assert len(view) == view.total == len(expected)


def _read(open_chats: dict[str, tuple[str, frozenset[int]]], view: View) -> Iterable[OpenChat]:
    for chat_id, (customer_id, groups) in open_chats.items():
        if view.group_ids is None or groups.intersection(view.group_ids):
            yield customer_id, chat_id, groups


def test_a_view_more_takes_no_memory_for_each_customer() -> None:
    read = [(f"customer {number}", f"C{number}", IN_1) for number in range(500)]
    views = Views()
    views.begin(IN_1, 500).fill(read, 500)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            views.begin(IN_1, 500).fill(read, 500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100 * 1000
