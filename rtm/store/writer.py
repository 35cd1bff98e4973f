"""Group commit: commands that arrive together are committed together, in the order they arrived.

While one transaction is being written the next batch collects, and then for as long as each turn of the loop brings
more: else the first to come after a commit would have one for themselves, and the rest another. A batch loads the chats
concerned in one query, applies each command in order as plain Python, writes events, chats and outbox in bulk, commits,
and only then answers everybody: first a command's requester, then the audience of its pushes. Alone, a command waits
for one turn.

A command that is refused changes nothing and harms nobody: if it had changed a chat already, the batch starts again
without it, and what its license asked after it is left to the next batch: others wait once, however many such commands
a license sends. So is what a license asks after commands that push very much, for a batch is applied, made rows of and
told of without a pause. A batch that cannot be stored is refused as a whole, and its chats are forgotten. What goes
wrong after the commit, in telling of it, is in the log: everybody is answered that it is stored.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import Any, NamedTuple, Protocol

import structlog
from prometheus_client import Histogram

from rtm.bus.base import Envelope, Origin
from rtm.model.chat import ChangedEvent, Chat, NewEvent
from rtm.model.customer import Customer, CustomerBan
from rtm.outage import Outage
from rtm.protocol import timestamps
from rtm.protocol.errors import ApiError, InternalError, RequestTimeout, ServiceUnavailable
from rtm.store.database import StoreUnavailable
from rtm.store.work import Clock, Command, Loaded, Needs, Turn, Work

log = structlog.get_logger(__name__)

MAX_BATCH = 256
"""Commands in one transaction: past some dozens the price per command no longer falls, but the wait grows."""
MAX_GATHERING_S = 0.002
"""How long the first command of a batch waits for others, at most: less than a commit on most disks."""
MAX_PUSHED_BYTES = 4 << 20
"""By the commands of one batch, all but the last of them; it is some 50 ms of work."""
MAX_PUSHED_BYTES_OF_ONE = 1 << 20
"""Of one license."""
MAX_SHOWN = 8
"""Commands of one batch that read all events of a thread."""
_PUSH_BYTES = 1 << 10
"""What a push counts for besides its payload: to make it, its event and their rows."""
_CHAT_SHARE = 4
"""To read and write a chat takes so many times less than to push what takes as much memory."""


@dataclass(slots=True)
class Changes:
    """What a batch stores."""

    new_chats: list[Chat] = field(default_factory=list)
    changed_chats: list[Chat] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    changed_events: list[ChangedEvent] = field(default_factory=list)
    """To be written before `events`: what the batch has added is there in its last form, and in no table yet."""
    customers: list[Customer] = field(default_factory=list)
    bans: list[CustomerBan] = field(default_factory=list)
    kept_file_ids: list[str] = field(default_factory=list)
    """Files that events show now."""
    turns: list[Turn] = field(default_factory=list)
    outbox: list[Envelope] = field(default_factory=list)
    sequences: dict[int, int] = field(default_factory=dict)
    at: str = ""

    def __bool__(self) -> bool:
        return bool(self.new_chats or self.changed_chats or self.customers or self.bans or self.outbox)


class Applied(NamedTuple):
    """How far the commands of a batch have come."""

    works: list[tuple[Command, Work, Any]]
    """Those that have run, and their outcomes."""
    put_off: list[Command]
    """Those that are too much for this batch."""
    refused: int | None
    """The place of one that was refused after it had changed a chat, so that none may be stored."""


class WriteStore(Protocol):
    """The side of a database that the writer uses; one batch at a time."""

    async def begin(self, commands: Sequence[Command]) -> Loaded:
        """Load what the commands need; where others write too, hold their licenses until the end of the batch."""

    async def commit(self, changes: Changes) -> None:
        """Store the changes for good. Raises StoreUnavailable, and then nothing of the batch is stored."""

    async def rollback(self) -> None:
        """End the batch without storing anything, and forget its chats if they had been changed."""


class Writer:
    """Takes commands and commits them; `said` is told the license and the events of each before its answer."""

    def __init__(
        self,
        store: WriteStore,
        request_timeout_s: float,
        said: Callable[[int, Sequence[NewEvent]], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._hearers: tuple[Callable[[Sequence[Envelope]], None], ...] = ()
        self._said = said
        self._timeout_s = request_timeout_s
        self._queue: deque[Command] = deque()
        self._unanswered: deque[Command] = deque()
        self._arrived = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None
        self._clock = Clock(lambda: time_ns() // 1000)
        self._at_once: dict[int, int] = {}
        """Of licenses whose commands were too much for a batch lately: how many may be in the next one."""
        self._committing: dict[int, int] = {}  # license: the first place among those being committed
        self.outage = Outage(log, "store_unavailable")
        self.batches = 0
        self.batch_sizes = Histogram(
            "rtm_batch_commands",
            "Commands that were committed together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, MAX_BATCH),
            registry=None,
        )
        self.commit_seconds = Histogram(
            "rtm_commit_seconds",
            "Time to store a batch for good.",
            buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=None,
        )

    def deliver_to(self, *hearers: Callable[[Sequence[Envelope]], None]) -> None:
        """Give these the pushes of each command after its answer."""
        self._hearers = hearers

    def submit(self, command: Command) -> None:
        """Queue the command; its `done` is called once, within the limit on time."""
        self._queue.append(command)
        self._arrived.set()
        if self._timeout_s:
            # One that has waited for its turn knows better.
            command.expires_at = command.expires_at or monotonic() + self._timeout_s
            self._unanswered.append(command)
            if self._sweeper is None:
                self._sweep()

    async def perform(
        self, license_id: int, needs: Needs, apply: Callable[[Work], Any], origin: Origin | None = None
    ) -> Any:
        """Run a command that no request waits for, and wait for it; what `apply` gives. Raises ApiError."""
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if not outcome.done():  # somebody waits still
                outcome.set_result(result)

        self.submit(Command(license_id, needs, apply, done, origin=origin))
        result = await outcome
        if isinstance(result, ApiError):
            raise result
        return result

    def settled(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """Of one license's pushes, read from the outbox in order: those before what is being committed here.

        A commit is seen by readers before the writer knows of it. The rest is delivered after the answer.
        """
        place = self._committing.get(envelopes[0].license_id) if envelopes else None
        return envelopes if place is None else [envelope for envelope in envelopes if envelope.sequence < place]

    async def run(self) -> None:
        """Commit batches until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._gather()
                await self._commit(self._next_batch())

    async def _gather(self) -> None:
        """Let the queue grow while each turn of the loop brings more."""
        waiting, ends_at = 0, monotonic() + MAX_GATHERING_S
        while waiting < len(self._queue) < MAX_BATCH and monotonic() < ends_at:
            waiting = len(self._queue)
            await asyncio.sleep(0)

    def _next_batch(self) -> list[Command]:
        """The commands that are next; of a license no more than lately fitted in: what others need is read in vain."""
        batch: list[Command] = []
        left: list[Command] = []
        taken, shown = Counter[int](), 0
        while self._queue and len(batch) < MAX_BATCH and shown < MAX_SHOWN:
            command = self._queue.popleft()
            if command.answered:
                continue
            if self._at_once:
                if taken[command.license_id] >= self._at_once.get(command.license_id, MAX_BATCH):
                    left.append(command)
                    continue
                taken[command.license_id] += 1
            batch.append(command)
            shown += command.needs.events_of_chats
        self._queue.extendleft(reversed(left))
        return batch

    def _put_off(self, commands: Sequence[Command], works: Iterable[tuple[Command, Work, Any]]) -> None:
        """Leave commands to the next batch, for which as many of their licenses are taken as have run now."""
        self._queue.extendleft(reversed(commands))
        if not (commands or self._at_once):
            return
        done = Counter(command.license_id for command, _, _ in works)
        late = {command.license_id for command in commands}
        for license_id in self._at_once.keys() & done.keys() - late:
            self._at_once[license_id] *= 2
            if self._at_once[license_id] > MAX_BATCH:
                del self._at_once[license_id]
        self._at_once |= {license_id: max(1, done[license_id]) for license_id in late}

    async def _commit(self, batch: list[Command]) -> None:
        try:
            while batch:
                loaded = await self._store.begin(batch)
                works, put_off, refused = self._apply(batch, loaded)
                if refused is None:
                    self._put_off(put_off, works)
                    batch = [command for command, _, _ in works]
                    changes = self._changes(works, loaded)
                    self._committing = {each.license_id: each.sequence for each in reversed(changes.outbox)}
                    began = monotonic()
                    await (self._store.commit(changes) if changes else self._store.rollback())
                    if changes:
                        self.commit_seconds.observe(monotonic() - began)
                        self.outage.over()
                    self._answer(works)
                    return
                await self._store.rollback()
                batch = self._without(batch, refused)
        except StoreUnavailable as error:
            self.outage.noticed(error)
            self._refuse(batch, ServiceUnavailable(error.message))
        except Exception:
            log.exception("batch_failed", commands=len(batch))
            await self._store.rollback()
            self._refuse(batch, InternalError())
        finally:
            self._committing = {}

    def _without(self, batch: Sequence[Command], place: int) -> list[Command]:
        """The batch without the command at this place; what its license asked after it comes first in the next one."""
        license_id, later = batch[place].license_id, batch[place + 1 :]
        self._queue.extendleft(command for command in reversed(later) if command.license_id == license_id)
        return [*batch[:place], *(command for command in later if command.license_id != license_id)]

    def _apply(self, batch: Sequence[Command], loaded: Loaded) -> Applied:
        """Run the commands in order, up to one that is refused after it had changed a chat."""
        applied = Applied([], [], None)
        pushed, pushed_by_all, weighed = Counter[int](), 0, set[str]()
        for place, command in enumerate(batch):
            license_id = command.license_id
            if pushed_by_all >= MAX_PUSHED_BYTES or pushed[license_id] >= MAX_PUSHED_BYTES_OF_ONE:
                applied.put_off.append(command)
                continue
            work = Work(command, loaded, self._now)
            outcome = self._outcome(command, work)
            if isinstance(outcome, ApiError):
                if work.changed_before_failing() or work.pushes:
                    self._finish(command, outcome)
                    return applied._replace(refused=place)
                work = Work(command, loaded, self._now)
            applied.works.append((command, work, outcome))
            for chat in work.new_chats:
                loaded.chats[chat.id] = chat
            size = sum(len(envelope.payload) + _PUSH_BYTES for envelope in work.pushes)
            for chat_id in command.needs.chat_ids:
                if chat_id not in weighed:
                    weighed.add(chat_id)
                    size += loaded.sizes.get(chat_id, 0) // _CHAT_SHARE
            pushed[license_id] += size
            pushed_by_all += size
        return applied

    def _outcome(self, command: Command, work: Work) -> Any:
        """What the command answers, or the error that refuses it."""
        try:
            return command.apply(work)
        except ApiError as error:
            return error.with_traceback(None)  # whose frames hold the outcome, and with it the batch
        except Exception:
            request_id = command.origin.request_id if command.origin is not None else None
            log.exception("command_failed", license_id=command.license_id, request_id=request_id)
            return InternalError()

    def _changes(self, works: Iterable[tuple[Command, Work, Any]], loaded: Loaded) -> Changes:
        changes = Changes(
            at=self._now(),
            customers=list(loaded.changed_customers.values()),
            bans=list(loaded.bans.values()),
            turns=list(loaded.new_turns.values()),
        )
        new: set[str] = set()
        for _, work, _ in works:
            changes.new_chats += work.new_chats
            changes.events += work.events
            changes.changed_events += work.changed_events
            changes.kept_file_ids += work.kept_file_ids
            new.update(chat.id for chat in work.new_chats)
            for envelope in work.pushes:
                if envelope.sequence:
                    changes.outbox.append(envelope)
                    changes.sequences[envelope.license_id] = envelope.sequence
        changes.changed_chats = [chat for chat in loaded.chats.values() if chat.revision and chat.id not in new]
        return changes

    def _answer(self, works: Sequence[tuple[Command, Work, Any]]) -> None:
        self.batches += 1
        self.batch_sizes.observe(len(works))
        for command, work, outcome in works:
            if work.events:
                self._tell(command, self._said, command.license_id, work.events)
            self._finish(command, outcome)
            if work.pushes:
                for hear in self._hearers:
                    self._tell(command, hear, work.pushes)
        self._forget_answered()

    def _refuse(self, batch: Iterable[Command], error: ApiError) -> None:
        for command in batch:
            self._finish(command, error)

    def _finish(self, command: Command, outcome: Any) -> None:
        if not command.answered:
            command.answered = True
            self._tell(command, command.done, outcome)

    def _tell(self, command: Command, hear: Callable[..., None], *told: Any) -> None:
        """What goes wrong here changes nothing of what is stored, and harms nobody else."""
        try:
            hear(*told)
        except Exception:
            log.exception("telling_failed", license_id=command.license_id)

    def _sweep(self) -> None:
        """Answer what is overdue, to the second; one timer serves all."""
        now = monotonic()
        for command in [each for each in self._unanswered if each.expires_at <= now]:
            self._finish(command, RequestTimeout())
        self._forget_answered()
        self._sweeper = None
        if self._unanswered:
            self._sweeper = asyncio.get_running_loop().call_later(1, self._sweep)

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0].answered:
            self._unanswered.popleft()

    def _now(self) -> str:
        return timestamps.from_microseconds(self._clock.tick())
