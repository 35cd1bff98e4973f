"""What is kept of chats: never more than there is room for, never what is out of date."""

import pytest

from rtm.model.chat import Chat
from rtm.store import kept_chats
from rtm.store.kept_chats import Bounds, KeptChats


def chat(license_id: int, name: str) -> Chat:
    return Chat(name, license_id, "2026-01-01T00:00:00.000000Z", [0])


def kept(chats: KeptChats, license_id: int, *names: str) -> str:
    return "".join(name for name in names if chats.find(license_id, name))


def test_chats_are_kept_until_their_license_has_another_version() -> None:
    chats = KeptChats()
    chats.locked(1, "a")
    chats.locked(2, "a")
    for each in (chat(1, "x"), chat(1, "y"), chat(2, "z")):
        chats.keep(each, 0)

    chats.committed(1, "b")
    chats.locked(1, "b")
    assert kept(chats, 1, "x", "y", "z") == "xy"
    chats.locked(1, "c")
    assert kept(chats, 1, "x", "y", "z") == ""
    assert kept(chats, 2, "x", "y", "z") == "z"


def test_what_was_changed_and_not_stored_is_forgotten() -> None:
    chats = KeptChats()
    chats.locked(1, "a")
    chats.keep(changed := chat(1, "x"), 0)
    chats.keep(chat(1, "y"), 0)
    chats.forget(changed)
    chats.forget(chat(2, "z"))
    assert kept(chats, 1, "x", "y") == "y"


def test_the_license_that_was_used_before_all_others_gives_way_and_then_the_oldest_chats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Bounds, "max_chats", 3)
    chats = KeptChats()
    for license_id in (1, 2, 1):
        chats.locked(license_id, "a")
    for license_id, name in ((1, "u"), (1, "v"), (2, "w"), (2, "x")):
        chats.keep(chat(license_id, name), 0)
    chats.make_room()
    assert kept(chats, 1, "u", "v") + kept(chats, 2, "w", "x") == "uv"
    for name in "yz":
        chats.keep(chat(1, name), 0)
    chats.make_room()
    assert kept(chats, 1, "u", "v", "y", "z") == "vyz"


def test_of_one_license_the_chats_give_way_that_have_not_been_used_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bounds, "max_chats", 2)
    chats = KeptChats()
    chats.locked(1, "a")
    for name in "xy":
        chats.keep(chat(1, name), 0)
    assert kept(chats, 1, "x") == "x"
    chats.keep(chat(1, "z"), 0)
    chats.make_room()
    assert kept(chats, 1, "x", "y", "z") == "xz"


def test_licenses_of_which_nothing_is_kept_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_chats, "MAX_LICENSES", 3)
    chats = KeptChats()
    for license_id in range(10):
        chats.locked(license_id, "a")
        chats.keep(chat(license_id, str(license_id)), 0)
    chats.make_room()
    assert [license_id for license_id in range(10) if kept(chats, license_id, str(license_id))] == [7, 8, 9]


def test_large_chats_take_the_room_of_many() -> None:
    chats = KeptChats()
    chats.locked(1, "a")
    for name in "vwxyz":
        chats.keep(chat(1, name), Bounds.max_bytes // 4)
    chats.make_room()
    assert kept(chats, 1, *"vwxyz") == "wxyz"
    chats.grown("z", Bounds.max_bytes // 4)
    chats.make_room()
    assert kept(chats, 1, *"vwxyz") == "xyz"
    chats.locked(1, "b")
    chats.keep(chat(1, "v"), Bounds.max_bytes)
    chats.make_room()
    assert kept(chats, 1, *"vwxyz") == "v"
