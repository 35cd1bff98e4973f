"""Matches are marked where they are, and not without end."""

from rtm.model import search


def test_words_are_marked_up_to_a_number_in_a_text_and_in_all() -> None:
    event = {"type": "message", "text": "a " * 8192}

    marks = search.Marks({"a"}, "<em>", "</em>")
    shown = [marks.highlighted(event)["text"] for _ in range(60)]

    assert shown[0] == "<em>a</em> " * search.MAX_MARKS_IN_TEXT + "a " * (8192 - search.MAX_MARKS_IN_TEXT)
    assert sum(text.count("<em>") for text in shown) == search.MAX_MARKS
    assert shown[-1] == event["text"]


def test_what_overlaps_is_marked_once() -> None:
    marks = search.Marks({"注文", "文", "a"}, "[", "]")
    assert marks.highlighted({"text": "A注文する, a"})["text"] == "[A][注文]する, [a]"
