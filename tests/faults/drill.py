"""A drill: clients under load at several processes, something that goes wrong, and the judge.

Written so:

    async with Drill.prepared(doors, cast) as drill:   chats are started, everybody is logged in
        async with drill.load():                       events at a fixed rate
            with drill.log.fault("kill -9"):
                ...                                    what goes wrong
        await drill.judge()                            fails with what is wrong, in words
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.checker import Wrong, check, late
from tests.faults.load import PING_INTERVAL_S, Client, Door, Person, Talker, Visitor
from tests.faults.log import History, Log, Stored
from tests.running import PATIENCE_S, ServerProcess, serving, serving_demo
from tests.world import Client as Asker

logger = logging.getLogger(__name__)

EVENTS_PER_S = 500
CHATS = 10
SETTLE_S = 30
"""How long what is stored may take to reach everybody who is there, on a busy machine."""
MAX_SHOWN = 12
"""Of all that is wrong: the first are the ones to look at."""


@dataclass(frozen=True)
class Cast:
    """Who takes part: talkers are users of all chats, listeners and visitors follow them."""

    talkers: Sequence[Person]
    listeners: Sequence[Person]
    visitors: Sequence[Person]

    @classmethod
    def of_demo(cls, credentials: dict[str, Any]) -> "Cast":
        """Agents and the bot of a demo license with DEMO_AGENTS further agents."""
        by_id = {agent["id"]: agent["access_token"] for agent in credentials["agents"]}
        people = [Person(id_, token) for id_, token in by_id.items() if id_.startswith("agent")]
        bots = [Person(bot["id"], bot["access_token"]) for bot in credentials["bots"]]
        return cls([*bots[:1], *people[:3]], people[3:7], people[7:9])


DEMO_AGENTS = 9


class Drill:
    """The clients, and what they have seen."""

    def __init__(self, doors: Sequence[Door], cast: Cast, per_second: float, *, repeats: bool = False) -> None:
        self.log = Log()
        self.doors = doors
        self.cast = cast
        self.chat_ids: list[str] = []
        self._per_second = per_second
        self._repeats = repeats
        self.talkers: list[Talker] = []
        self.others: list[Client] = []

    @classmethod
    @asynccontextmanager
    async def prepared(
        cls, doors: Sequence[Door], cast: Cast, *, per_second: float = EVENTS_PER_S, repeats: bool = False
    ) -> AsyncIterator["Drill"]:
        """Chats are started and everybody is logged in, until the end of the block."""
        drill = cls(doors, cast, per_second, repeats=repeats)
        await drill._start_chats()
        drill._send_in()
        async with drill._running(*(client.run() for client in drill.clients), drill._keep_alive()):
            async with asyncio.timeout(PATIENCE_S):
                for client in drill.clients:
                    await client.logged_in.wait()
            yield drill

    @property
    def clients(self) -> list[Client]:
        """All of them."""
        return [*self.talkers, *self.others]

    async def _start_chats(self) -> None:
        first, *others = self.cast.talkers
        users = [{"id": other.id, "type": "agent"} for other in others]
        async with self._asker(first) as asker:
            for _ in range(CHATS):
                started = await asker.call("start_chat", chat={"users": users}, continuous=True)
                self.chat_ids.append(started["chat_id"])
        for follower in (*self.cast.listeners, *self.cast.visitors):
            async with self._asker(follower) as asker:
                for chat_id in self.chat_ids:
                    await asker.call("follow_chat", id=chat_id)

    def _send_in(self) -> None:
        """One talker of each home is told of events, its own among them."""
        rate = self._per_second / len(self.cast.talkers)
        for number, person in enumerate(self.cast.talkers):
            part, listens = self._part("talker", number, person), number < len(self.doors)
            self.talkers.append(Talker(*part, per_second=rate, listens=listens, repeats=self._repeats))
        for number, person in enumerate(self.cast.listeners):
            self.others.append(Client(*self._part("listener", number, person)))
        for number, person in enumerate(self.cast.visitors):
            self.others.append(Visitor(*self._part("visitor", number, person)))

    def _part(self, kind: str, number: int, person: Person) -> tuple[Log, str, Person, list[Door], list[str]]:
        """What a client begins with; the first of each kind is at home behind the first door, and so on in turn."""
        home = number % len(self.doors)
        return self.log, f"{kind} {number + 1}", person, [*self.doors[home:], *self.doors[:home]], self.chat_ids

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """The talkers talk; at the end all that can be answered has been."""
        async with self._running(*(talker.talk() for talker in self.talkers)):
            yield
        async with asyncio.timeout(PATIENCE_S):
            while not all(talker.quiet for talker in self.talkers):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _running(self, *works: Any) -> AsyncIterator[None]:
        """Run these beside the block; one that fails fails it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            yield
            for task in tasks:
                task.cancel()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            for client in self.clients:
                client.look_after()

    async def homecoming(self) -> None:
        """Those who have fled come home, and who is turned away there tries again."""
        async with asyncio.timeout(PATIENCE_S):
            while away := [client for client in self.clients if not client.at_home and not isinstance(client, Visitor)]:
                for client in away:
                    if client.connection is not None:
                        client.leave()
                await asyncio.sleep(0.1)

    # The judge

    async def judge(self, *, late_s: float | None = None) -> None:
        """Compare what everybody saw with the history and the promises; fails with what is wrong."""
        wrongs = await self.wrongs(late_s=late_s)
        logger.info("%s", self.log)
        first = "\n".join(str(wrong) for wrong in wrongs[:MAX_SHOWN])
        assert not wrongs, f"{len(wrongs)} wrongs, of which the first:\n{first}"

    async def wrongs(self, *, late_s: float | None = None, settle_s: float = SETTLE_S) -> list[Wrong]:
        """All that is wrong, once everybody has been told or has had the time to be."""
        history = await self.history()
        await self._settle(history, time.monotonic() + settle_s)
        found = check(self.log, history)
        return found + (late(self.log, late_s) if late_s is not None else [])

    async def history(self) -> History:
        """The events of all chats, read back through the API."""
        history: History = {}
        async with self._asker(self.cast.talkers[0]) as asker:
            for chat_id in self.chat_ids:
                threads = (await asker.call("list_threads", chat_id=chat_id, sort_order="asc"))["threads"]
                history[chat_id] = [
                    Stored(event["id"], event.get("custom_id", "")) for thread in threads for event in thread["events"]
                ]
        return history

    async def _settle(self, history: History, deadline: float) -> None:
        last = {stored[-1].event_id for stored in history.values() if stored}
        for client in self.clients:
            while client.listens and time.monotonic() < deadline and not self._up_to_date(client, last):
                await asyncio.sleep(0.02)

    def _up_to_date(self, client: Client, last: set[str]) -> bool:
        connection = client.connection
        if connection is None:
            return False
        recent = {told.event_id for told in connection.told[-len(last) * 200 :]}
        return last <= recent | set(connection.shown.values())

    @asynccontextmanager
    async def _asker(self, person: Person) -> AsyncIterator[Asker]:
        """Who asks one thing after the other, where the door is open."""
        port = next(door.port for door in self.doors if door.port is not None)
        asker = await Asker.open(port)
        try:
            await asker.call("login", token=f"Bearer {person.token}", pushes={"3.6": []})
            yield asker
        finally:
            await asker.close()


class Pair:
    """Two processes, `here` and `there`, each of which can be killed and started again; `here` has further options."""

    names: Sequence[str] = ("here", "there")

    def __init__(
        self, data_dir: Path, *options: str | Path, here: Sequence[str | Path] = (), **environment: str
    ) -> None:
        self.doors = [Door(name) for name in self.names]
        self._data_dir = data_dir
        self._options = {"here": [*options, *here], "there": options}
        self._environment = environment
        self._stacks: dict[str, contextlib.ExitStack] = {}
        self.servers: dict[str, ServerProcess] = {}
        self.credentials: dict[str, Any] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pair"]:
        """Both, until the end of the block."""
        async with AsyncExitStack() as stack:
            for door in self.doors:
                stack.push_async_callback(self.stop, door.name)
                await self.start(door.name)
            yield self

    async def start(self, name: str) -> None:
        """Start it; its door opens."""
        stack = self._stacks[name] = contextlib.ExitStack()
        make = serving if self.credentials else serving_demo
        demo = () if self.credentials else ("--demo-agents", str(DEMO_AGENTS))
        started = make(self._data_dir, *self._options[name], *demo, log=None, **self._environment)
        server = await asyncio.to_thread(stack.enter_context, started)
        self.credentials = self.credentials or server.credentials
        self.servers[name] = server
        self._door(name).port = server.port

    async def kill(self, name: str) -> None:
        """`kill -9`; its door closes."""
        self._door(name).port = None
        self.servers[name].kill()
        await self.stop(name)

    async def stop(self, name: str) -> None:
        """SIGTERM; its door closes, and it must end well."""
        self._door(name).port = None
        stack = self._stacks.pop(name, None)
        if stack is not None:
            await asyncio.to_thread(stack.close)

    def _door(self, name: str) -> Door:
        return next(door for door in self.doors if door.name == name)


class Single(Pair):
    """One process alone."""

    names = ("here",)
