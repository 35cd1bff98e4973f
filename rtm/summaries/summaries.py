"""When a summary is made, where it is kept, and who is told.

It is made beside everything else, after the request for it has been answered. If the process dies meanwhile there is
no summary, and it can be asked for again. Source: the public reference, "Request Thread Summary".
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import orjson
import structlog

from rtm.access.directory import Directories
from rtm.bus.base import Envelope, Origin
from rtm.model.audience import Audience
from rtm.model.chat import Chat, Thread
from rtm.model.pushes import IncomingError, ThreadSummarySet
from rtm.model.system_events import summary_event
from rtm.protocol.errors import ApiError
from rtm.store.queries import Queries
from rtm.store.work import Command, Needs, Work
from rtm.store.writer import Writer
from rtm.summaries.extract import NOTHING_SAID
from rtm.summaries.transcript import Said, transcript

log = structlog.get_logger(__name__)

AT_ONCE = 8
MAX_UNDERWAY = 1000
MAX_OF_LICENSE = 100
"""With those that wait for their turn; past either a summary fails at once."""
PATIENCE_S = 300.0
"""For a turn and for the summary."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A summary of this thread, for an agent, or for nobody where every chat that ends gets one."""

    license_id: int
    chat_id: str
    thread_id: str
    requester_id: str | None = None
    origin: Origin | None = None


class NoSummary(Exception):
    """There is none; the message says why, and repeats nothing of the conversation."""


class Scribe(Protocol):
    """Who writes them."""

    async def write(self, said: Sequence[Said]) -> str:
        """A summary of what was said, which is not nothing, in some lines of Markdown. Raises NoSummary."""
        ...

    async def close(self) -> None:
        """There is nothing more to write."""


class Summaries:
    """Those that are being made in this process."""

    def __init__(
        self,
        scribe: Scribe,
        queries: Queries,
        writer: Writer,
        directories: Directories,
        publish: Callable[[Sequence[Envelope]], None],
    ) -> None:
        self._scribe = scribe
        self._queries = queries
        self._writer = writer
        self._directories = directories
        self._publish = publish
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._underway: dict[str, asyncio.Task[None]] = {}
        """By thread."""
        self._of_license: Counter[int] = Counter()
        """How many of them there are."""

    async def stop(self) -> None:
        """Make no more of them."""
        for task in self._underway.values():
            task.cancel()
        await asyncio.gather(*self._underway.values(), return_exceptions=True)
        await self._scribe.close()

    def request(self, wanted: Wanted) -> None:
        """Begin, unless a summary of the thread is underway already; nothing is waited for."""
        if wanted.thread_id in self._underway:
            return
        if len(self._underway) >= MAX_UNDERWAY or self._of_license[wanted.license_id] >= MAX_OF_LICENSE:
            self._fail(wanted, "too many underway")
            return
        task = asyncio.get_running_loop().create_task(self._make(wanted))
        self._underway[wanted.thread_id] = task
        self._of_license[wanted.license_id] += 1
        task.add_done_callback(lambda _: self._made(wanted))

    def _made(self, wanted: Wanted) -> None:
        del self._underway[wanted.thread_id]
        self._of_license[wanted.license_id] -= 1
        if not self._of_license[wanted.license_id]:
            del self._of_license[wanted.license_id]

    def heard(self, pushes: Sequence[Envelope]) -> None:
        """Begin one for each chat that ends, for licenses that want it (`chats.auto_summary_enabled`)."""
        for push in pushes:
            if push.name == "chat_deactivated":
                ended = orjson.loads(push.payload)
                self.request(Wanted(push.license_id, ended["chat_id"], ended["thread_id"]))

    async def _make(self, wanted: Wanted) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                if wanted.requester_id is None and not await self._of_every_chat(wanted.license_id):
                    return
                async with self._turns:
                    said = await self._said(wanted)
                    if not said and wanted.requester_id is None:
                        return
                    text = await self._scribe.write(said) if said else NOTHING_SAID
                    await self._keep(wanted, text)
        except (NoSummary, ApiError) as error:
            self._fail(wanted, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is; what it says may be of the conversation
            self._fail(wanted, type(error).__name__)

    async def _of_every_chat(self, license_id: int) -> bool:
        properties = (await self._directories.get(license_id)).properties
        return properties.get("chats", {}).get("auto_summary_enabled") is True

    async def _said(self, wanted: Wanted) -> list[Said]:
        chat = await self._queries.chat(wanted.license_id, wanted.chat_id)
        found = await self._queries.thread(wanted.chat_id, wanted.thread_id)
        return transcript(chat, found.events) if chat is not None and found is not None else []

    async def _keep(self, wanted: Wanted, text: str) -> None:
        kept: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        needs = Needs((wanted.chat_id,), thread_ids=(wanted.thread_id,))

        def done(outcome: Any) -> None:
            if not kept.done():
                kept.set_result(outcome)

        keep = partial(_keep, wanted, text)
        self._writer.submit(Command(wanted.license_id, needs, keep, done, origin=wanted.origin))
        outcome = await kept
        if isinstance(outcome, ApiError):
            raise outcome

    def _fail(self, wanted: Wanted, reason: str) -> None:
        log.warning("summary_failed", license_id=wanted.license_id, thread_id=wanted.thread_id, reason=reason)
        if wanted.requester_id is not None:
            error: IncomingError = {
                "action": "set_thread_summary",
                "chat_id": wanted.chat_id,
                "thread_id": wanted.thread_id,
            }
            audience = Audience(agents=(wanted.requester_id,))
            self._publish([Envelope.ephemeral(wanted.license_id, "incoming_error", error, audience, wanted.origin)])


def is_final(thread: Thread) -> bool:
    """Whether the thread has been summarized since it was closed, so that it cannot be again."""
    return not thread.active and thread.summary is not None and thread.summary["final"]


def _keep(wanted: Wanted, text: str, work: Work) -> None:
    chat = work.chat(wanted.chat_id)
    thread = work.thread(chat, wanted.thread_id)
    if is_final(thread):  # another process was quicker
        return
    at = work.now()
    chat.set_thread_summary(thread, {"status": "ok", "text": text, "updated_at": at, "final": not thread.active})
    push: ThreadSummarySet = {
        "chat_id": chat.id,
        "thread_id": thread.id,
        "summary": {"status": "ok", "text": text, "updated_at": at},
    }
    work.push("thread_summary_set", push, _audience(chat, thread, wanted.requester_id))
    if thread.active and wanted.requester_id is not None:
        work.post(chat, summary_event(work.now(), text, wanted.requester_id))


def _audience(chat: Chat, thread: Thread, requester_id: str | None) -> Audience:
    """Agents with access to the thread: of a closed one there are no members to tell.

    Who follows the chat need not have access to a thread before the last.
    """
    audience = chat.audience("agents") if thread is chat.thread else Audience(agents=tuple(chat.present_ids("agent")))
    requester = () if requester_id is None or requester_id in audience.agents else (requester_id,)
    return replace(audience, agents=(*audience.agents, *requester), groups=tuple(thread.group_ids))
