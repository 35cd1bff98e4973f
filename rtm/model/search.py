"""What of an event can be searched for, as which words, and how matches are shown.

A word is a run of letters and digits, compared without case and accents; of scripts that are written without spaces
each character is a word, and so is each pair of neighbours. A search finds whole words, all of them, in any order and
in any events of a thread.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from rtm.model.chat import EventBody

MAX_WORD_LENGTH = 64
"""What is longer is cut, in texts and in queries alike."""
MAX_MARKS_IN_TEXT = 100
MAX_MARKS = 5000
"""Matches of one answer that are marked, those of its first texts; further ones are shown as they are."""

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Chinese characters
_RUN = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[\u0300-\u036f])+")
_ASCII_RUN = re.compile("[a-z0-9]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")

_SEARCHED = frozenset({"text", "name", "alternative_text", "title", "subtitle", "label", "answer", "answers"})
_CONTAINERS = frozenset({"elements", "buttons", "fields"})


class _Found(NamedTuple):
    word: str
    start: int
    end: int


def words(text: str) -> set[str]:
    """All words of a text."""
    if text.isascii():  # as most are, and this is ten times as fast
        return {word[:MAX_WORD_LENGTH] for word in _ASCII_RUN.findall(text.lower())}
    return {found.word for found in _words(text)}


def wanted(query: str) -> set[str]:
    """The words that a query asks for."""
    return {found.word for found in _words(query, pairs_only=True)}


def texts(event: EventBody) -> list[str]:
    """The texts of an event that can be searched for."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    _visited(event, note)
    return found


class Marks:
    """Puts `before` and `after` around these words in the texts of events, MAX_MARKS times in all."""

    def __init__(self, words: Collection[str], before: str, after: str) -> None:
        self._words = words
        self._before = before
        self._after = after
        self._left = MAX_MARKS

    def highlighted(self, event: EventBody) -> EventBody:
        """The event with its marks."""
        if not self._left:
            return event
        shown: EventBody = _visited(event, self._marked)
        return shown

    def _marked(self, text: str) -> str:
        spans = _spans(text, self._words)[: min(MAX_MARKS_IN_TEXT, self._left)]
        self._left -= len(spans)
        pieces: list[str] = []
        place = 0
        for start, end in spans:
            pieces += (text[place:start], self._before, text[start:end], self._after)
            place = end
        return "".join([*pieces, text[place:]])


def _visited(value: Any, change: Callable[[str], str], *, searched: bool = False) -> Any:
    """The value with each of its texts changed."""
    if isinstance(value, str):
        return change(value) if searched else value
    if isinstance(value, list):
        return [_visited(item, change, searched=searched) for item in value]
    if isinstance(value, dict):
        return {
            name: _visited(item, change, searched=name in _SEARCHED)
            if name in _SEARCHED or name in _CONTAINERS
            else item
            for name, item in value.items()
        }
    return value


def _words(text: str, *, pairs_only: bool = False) -> Iterator[_Found]:
    for run in _RUN.finditer(text):
        start, end = run.span()
        if not _IS_UNSPACED.match(text, start):
            yield _Found(_folded(run[0]), start, end)
            continue
        if not (pairs_only and end - start > 1):
            for place in range(start, end):
                yield _Found(text[place], place, place + 1)
        for place in range(start, end - 1):
            yield _Found(text[place : place + 2], place, place + 2)


def _folded(run: str) -> str:
    if run.isascii():
        return run.lower()[:MAX_WORD_LENGTH]
    letters = unicodedata.normalize("NFKD", run.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))[:MAX_WORD_LENGTH]


def _spans(text: str, words: Collection[str]) -> list[tuple[int, int]]:
    """Where these words are, in order; those that overlap are one."""
    spans: list[tuple[int, int]] = []
    for found in sorted((each for each in _words(text) if each.word in words), key=lambda each: each.start):
        if spans and found.start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], found.end))
        else:
            spans.append((found.start, found.end))
    return spans
