"""When a summary is made, where it is kept, and who is told.

It is made beside everything else, after the request for it has been answered. If the process dies meanwhile there is
no summary, and it can be asked for again. Source: the public reference, "Request Thread Summary".
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from rtm.store.work import Needs, Work
from rtm.store.writer import Writer
from rtm.summaries.extract import NOTHING_SAID
from rtm.summaries.transcript import Said, transcript

log = structlog.get_logger(__name__)

AT_ONCE = 8
MAX_UNDERWAY = 1000
MAX_OF_LICENSE = 100
"""With those that wait for their turn; past either what an agent asks for fails at once."""
MAX_WAITING = 10_000
"""Of all licenses: for chats that have ended, until half of the places above are free; some 300 bytes each."""
MAX_ASKING = 100
"""For one summary."""
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


class _Underway:
    """A summary that is being made."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.asking: dict[str, Wanted] = {}
        """By requester, the first first."""
        self.again: dict[str | None, Wanted] = {}
        """Those for whom this one comes too early."""
        self.final = False
        """Whether it is of a thread that was closed when its events were read."""
        self.told = False
        """Whether it is settled who is told of it."""
        self.join(wanted)

    def join(self, wanted: Wanted) -> bool:
        """Serve this one too, or have another made for it; False if there are too many."""
        requester_id = wanted.requester_id
        if requester_id is None:
            if wanted is not self.wanted:
                self.again[None] = wanted
            return True
        places = self.again if self.told else self.asking
        if requester_id not in places and len(places) >= MAX_ASKING:
            return False
        places.setdefault(requester_id, wanted)
        return True


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
        self._underway: dict[str, _Underway] = {}
        """By thread."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_license: Counter[int] = Counter()
        """How many of them there are."""
        self._waiting: dict[int, deque[Wanted]] = {}
        """By license, whose turn is next first: those that nobody asks for."""

    async def stop(self) -> None:
        """Make no more of them."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scribe.close()

    def request(self, wanted: Wanted) -> None:
        """Begin, unless a summary of the thread is underway already; nothing is waited for."""
        underway = self._underway.get(wanted.thread_id)
        if underway is not None:
            if not underway.join(wanted):
                self._fail(wanted, [wanted], "too many ask for it")
            return
        if self._has_room(wanted):
            self._begin(wanted)
        elif wanted.requester_id is not None:
            self._fail(wanted, [wanted], "too many underway")
        elif sum(map(len, self._waiting.values())) < MAX_WAITING:
            self._waiting.setdefault(wanted.license_id, deque()).append(wanted)
        else:
            self._fail(wanted, (), "too many wait")

    def _has_room(self, wanted: Wanted) -> bool:
        """What nobody asks for leaves half of the places to agents."""
        share = 1 if wanted.requester_id is not None else 2
        of_license = self._of_license[wanted.license_id]
        return len(self._underway) * share < MAX_UNDERWAY and of_license * share < MAX_OF_LICENSE

    def _begin(self, wanted: Wanted) -> None:
        underway = self._underway[wanted.thread_id] = _Underway(wanted)
        self._of_license[wanted.license_id] += 1
        task = asyncio.get_running_loop().create_task(self._make(underway))
        self._tasks.add(task)
        task.add_done_callback(partial(self._made, underway))

    def _begin_waiting(self) -> None:
        """There may be room for one of them."""
        for license_id, waiting in self._waiting.items():
            if self._has_room(waiting[0]):
                wanted = waiting.popleft()
                del self._waiting[license_id]
                if waiting:  # others are next
                    self._waiting[license_id] = waiting
                self.request(wanted)
                return

    def _made(self, underway: _Underway, task: asyncio.Task[None]) -> None:
        license_id = underway.wanted.license_id
        self._tasks.discard(task)
        del self._underway[underway.wanted.thread_id]
        self._of_license[license_id] -= 1
        if not self._of_license[license_id]:
            del self._of_license[license_id]
        if not task.cancelled():
            for wanted in underway.again.values():
                if wanted.requester_id is not None or not underway.final:
                    self.request(wanted)
            self._begin_waiting()

    def heard(self, pushes: Sequence[Envelope]) -> None:
        """Begin one for each chat that ends, for licenses that want it (`chats.auto_summary_enabled`)."""
        for push in pushes:
            if push.name == "chat_deactivated" and self._of_every_chat(push.license_id):
                ended = orjson.loads(push.payload)
                self.request(Wanted(push.license_id, ended["chat_id"], ended["thread_id"]))

    async def _make(self, underway: _Underway) -> None:
        wanted = underway.wanted
        try:
            async with asyncio.timeout(PATIENCE_S):
                async with self._turns:
                    said = await self._said(underway)
                    if not said and not underway.asking:
                        return
                    text = await self._scribe.write(said) if said else NOTHING_SAID
                    await self._keep(underway, text)
        except (NoSummary, ApiError) as error:
            self._fail(wanted, underway.asking.values(), str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is; what it says may be of the conversation
            self._fail(wanted, underway.asking.values(), type(error).__name__)
        finally:
            underway.told = True

    def _of_every_chat(self, license_id: int) -> bool:
        directory = self._directories.find(license_id)
        return directory is not None and directory.properties.get("chats", {}).get("auto_summary_enabled") is True

    async def _said(self, underway: _Underway) -> list[Said]:
        wanted = underway.wanted
        chat = await self._queries.chat(wanted.license_id, wanted.chat_id)
        found = await self._queries.thread(wanted.chat_id, wanted.thread_id)
        if chat is None or found is None:
            return []
        underway.final = not found.thread.active
        return transcript(chat, await found.events())

    async def _keep(self, underway: _Underway, text: str) -> None:
        wanted = underway.wanted
        needs = Needs((wanted.chat_id,), thread_ids=(wanted.thread_id,))
        await self._writer.perform(wanted.license_id, needs, partial(_keep, underway, text), wanted.origin)

    def _fail(self, of: Wanted, asking: Iterable[Wanted], reason: str) -> None:
        log.warning("summary_failed", license_id=of.license_id, thread_id=of.thread_id, reason=reason)
        error: IncomingError = {"action": "set_thread_summary", "chat_id": of.chat_id, "thread_id": of.thread_id}
        for wanted in asking:
            if wanted.requester_id is not None:
                audience = Audience(agents=(wanted.requester_id,))
                self._publish([Envelope.ephemeral(of.license_id, "incoming_error", error, audience, wanted.origin)])


def is_final(thread: Thread) -> bool:
    """Whether the thread has been summarized since it was closed, so that it cannot be again."""
    return not thread.active and thread.summary is not None and thread.summary["final"]


def _keep(underway: _Underway, text: str, work: Work) -> None:
    wanted = underway.wanted
    chat = work.chat(wanted.chat_id)
    thread = work.thread(chat, wanted.thread_id)
    underway.told = True
    asking = tuple(underway.asking)
    if thread.summary is not None and is_final(thread):  # another process was quicker
        if asking:
            asked = Audience(readers=asking, read_by=tuple(thread.group_ids))
            work.push("thread_summary_set", _told(chat, thread, thread.summary), asked)
        return
    summary = {"status": "ok", "text": text, "updated_at": work.now(), "final": underway.final}
    chat.set_thread_summary(thread, summary)
    work.push("thread_summary_set", _told(chat, thread, summary), _audience(chat, thread, asking))
    if thread.active and asking:
        work.post(chat, summary_event(work.now(), text, asking[0]))


def _told(chat: Chat, thread: Thread, summary: Mapping[str, Any]) -> ThreadSummarySet:
    return {
        "chat_id": chat.id,
        "thread_id": thread.id,
        "summary": {"status": "ok", "text": summary["text"], "updated_at": summary["updated_at"]},
    }


def _audience(chat: Chat, thread: Thread, asking: Iterable[str]) -> Audience:
    """Agents with access to the thread, and who asked: of a closed one there are no members to tell."""
    groups = tuple(thread.group_ids)
    readers = tuple(dict.fromkeys((*chat.followers, *asking)))
    return Audience(agents=tuple(chat.present_ids("agent")), groups=groups, readers=readers, read_by=groups)
