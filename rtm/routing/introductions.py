"""Who is given a chat by itself is shown it, as one that comes in: from now on they hear all of it.

In a command of its own, for which the events are read: those of all who wait are too many to read for those given out.
Nobody waits for it: the router has others to give out. Of one that fails only the log tells, and `get_chat` helps.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import structlog

from rtm.access.directory import Directory
from rtm.model.audience import Audience
from rtm.model.chat import Chat
from rtm.model.shown import TransferredFrom
from rtm.protocol.errors import ApiError
from rtm.store.work import Command, Needs, Work
from rtm.store.writer import Writer

log = structlog.get_logger(__name__)


class Introduction(NamedTuple):
    """An agent who has been given a chat and did not hear of it before, but for key changes."""

    chat_id: str
    agent_id: str
    to: Audience
    left: TransferredFrom


Show = Callable[[Directory, Work, Chat, Audience, TransferredFrom], None]
"""Pushes the chat, with where it was before, to an audience."""


class Introductions:
    """Made with `show`, for a command that needs users and events of the chat."""

    def __init__(self, writer: Writer, show: Show) -> None:
        self._writer = writer
        self._show = show

    def make(self, directory: Directory, introductions: Iterable[Introduction]) -> None:
        """All of one license's, a little later."""

        def done(outcome: Any) -> None:
            if isinstance(outcome, ApiError):
                log.warning("introduction_failed", license_id=directory.id, reason=str(outcome))

        for each in introductions:
            needs = Needs((each.chat_id,), users_of_chats=True, events_of_chats=True)
            introduce = partial(self._introduce, directory, each)
            self._writer.submit(Command(directory.id, needs, introduce, done))

    def _introduce(self, directory: Directory, introduction: Introduction, work: Work) -> None:
        chat = work.chat(introduction.chat_id)
        if chat.active and chat.member(introduction.agent_id) is not None:
            self._show(directory, work, chat, introduction.to, introduction.left)
