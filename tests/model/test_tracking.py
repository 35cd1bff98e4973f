"""Which customers a view has: within its groups and its limit, whatever happens while it is read."""

from rtm.model.tracking import View


def tracked(group_ids: set[int] | None = None, limit: int = 2) -> View:
    return View(group_ids, limit)


def test_a_customer_comes_once_and_leaves_with_the_last_chat() -> None:
    view = tracked()
    assert view.came("ada", "C1", [1])
    assert not view.came("ada", "C2", [1])
    assert not view.came("ada", "C2", [1])
    assert view.closed("C1") is None
    assert "ada" in view
    assert view.closed("C2") == "ada"
    assert (view.closed("C2"), len(view), view.total) == (None, 0, 0)
    assert view.came("ada", "C3", [1])


def test_only_customers_of_its_groups_are_in_it() -> None:
    view = tracked({1, 2})
    assert not view.came("ada", "C1", [0, 3])
    assert view.came("ada", "C2", [3, 2])
    assert view.moved("C2", [1]) is None
    assert view.moved("C2", [3]) == "ada"
    assert "ada" not in view
    assert view.came("ada", "C2", [1])


def test_who_is_past_the_limit_is_counted_only() -> None:
    view = tracked(limit=1)
    assert view.came("ada", "C1", [1])
    assert not view.misses
    assert not view.came("grace", "C2", [1])
    assert (view.misses, view.total, len(view)) == (True, 2, 1)
    assert view.closed("C2") is None
    assert view.closed("C1") == "ada"
    assert view.misses


def test_what_happens_while_it_is_read_is_newer() -> None:
    view = View(None, 5)
    view.expect()
    assert view.came("joan", "C3", [1])
    assert view.closed("C1") is None
    read = [("ada", "C1"), ("grace", "C2"), ("grace", "C4"), ("joan", "C3")]
    assert view.fill(read, 3) == ["grace"]
    assert ("ada" in view, "grace" in view, "joan" in view) == (False, True, True)
    assert view.closed("C1") is None
    assert view.closed("C3") == "joan"
    assert view.closed("C2") is None
    assert view.closed("C4") == "grace"


def test_who_is_missed_is_not_forgotten_when_another_takes_the_place() -> None:
    view = tracked(limit=1)
    view.came("ada", "C1", [1])
    view.came("grace", "C2", [1])
    view.closed("C1")
    assert view.came("joan", "C3", [1])
    assert (view.misses, view.total, len(view)) == (True, 2, 1)


def test_who_comes_past_the_limit_while_it_is_counted_is_missed() -> None:
    view = tracked(limit=1)
    view.came("ada", "C1", [1])
    view.expect()
    view.came("grace", "C2", [1])
    view.fill([("ada", "C1")], 1)
    assert view.misses


def test_who_is_transferred_into_its_groups_unseen_is_missed() -> None:
    view = tracked({1})
    view.came("ada", "C1", [1])
    view.moved("C1", [0, 1])
    assert not view.misses
    view.moved("C2", [1])
    assert view.misses
    view.expect()
    view.moved("C3", [1])
    view.fill([("ada", "C1"), ("grace", "C2")], 2)
    assert view.misses  # perhaps it was read before
    view.expect()
    view.give_up()
    assert view.misses
    assert not view.is_read


def test_with_other_groups_it_has_those_that_are_read_and_came_since() -> None:
    view = tracked({1}, limit=3)
    for customer_id, chat_id in (("ada", "C1"), ("grace", "C2"), ("joan", "C4")):
        view.came(customer_id, chat_id, [1])
    view.regroup({2})
    assert view.misses
    view.expect()
    view.give_up()
    view.expect()
    view.moved("C4", [2])
    assert view.fill([("grace", "C2"), ("mary", "C3")], 2) == ["mary"]
    assert [each in view for each in ("ada", "grace", "joan", "mary")] == [False, True, True, True]
    assert not view.misses
