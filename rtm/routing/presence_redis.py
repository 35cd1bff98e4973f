"""The presence of many processes, in Redis.

    rtm:presence:{<license>}:states          hash: agent -> what `State` holds, as JSON, its connections by process
    rtm:presence:{<license>}:given-up        sorted set: processes that were given up here -> when
    rtm:presence:{<license>}:of:<process>    set: agents that the process has written of
    rtm:presence:of:<process>                set: licenses that the process has written of
    rtm:presence:{processes}:heard           sorted set: process -> when it was last heard
    rtm:presence:{processes}:dead            sorted set: process -> until when another one is burying it

A process writes how many connections an agent has with it, never a difference, so that a write that was lost is made
good by the next. Each change is one call of presence.lua, which also publishes the push that follows: every process
hears the changes of an agent in the order in which they were made, each once, and none is lost with who made it.

Every fifth of `heartbeat_limit_s` a process says that it lives: one call of heartbeat.lua, however many licenses it
serves, in which it also hears which others have been silent for seven tenths of it. Their connections leave license by
license, some agents at a time; an agent that is connected elsewhere by then keeps its status, and nobody is told. Each
step is atomic and does not mind being repeated, so who dies at it is relieved by another. Time in which Redis heard
nobody counts for nobody's silence.

Who was given up and is not dead (it was frozen, or cut off), or finds Redis empty, takes another id and writes what it
has once more. Nobody's session ends in the time that the others need for the same, `settled_statuses` are none, and
whoever asks for statuses with patience waits.

While Redis is away connections come and go, and their agents' statuses are those of this process alone; what they are
then is told to everybody when it is back. The statuses chosen for the agents connected here, and for the bots here, are
remembered for a Redis that comes back empty. One that is silent is waited for by those who ask at that moment; then
nobody asks until it has answered a heartbeat, so that thousands who log in do not wait for it in turn.

Measured: a change takes Redis 50 to 60 µs and this process 140 to 200; a heartbeat 26 and 106, whatever there is. The
5,000 agents of a dead process take Redis 0.1 s in all, 1 ms at a time on average.
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from importlib.resources import files
from itertools import islice
from typing import Any, Literal

import orjson
import structlog
from redis.exceptions import RedisClusterException, RedisError

from rtm.bus.base import Origin
from rtm.bus.redis_script import publication
from rtm.outage import Outage
from rtm.protocol.errors import ServiceUnavailable
from rtm.redis_client import RedisUrl, cancelled
from rtm.routing.presence import (
    Agent,
    Buried,
    Change,
    Evict,
    Member,
    MemoryPresence,
    State,
    TooManyConnections,
    hearers,
    nobody_listens,
)
from rtm.settings import Limits

CALL_TIMEOUT_S = 2.0
"""The longest that Redis may take to answer, waiting for a connection included."""
_CONNECTIONS = 8
_AT_A_TIME = 50
"""How many agents are written, or leave with their process, before others have their turn; licenses likewise."""

_PRESENCE = files("rtm.routing").joinpath("presence.lua").read_text()
_HEARTBEAT = files("rtm.routing").joinpath("heartbeat.lua").read_text()
_PROCESSES = ["rtm:presence:{processes}:heard", "rtm:presence:{processes}:dead"]

# Of the limit: a process is heard every fifth, is dead after seven tenths without a word, which somebody notices within
# another fifth, and has a tenth left to bury it.
_BEAT, _SILENCE, _BEAT_TIMEOUT, _RETURN = 0.2, 0.7, 0.1, 0.4

_AWAY = "Presence is not available"
_UNANSWERED = (RedisError, RedisClusterException, TimeoutError)  # the second is none of the first

Key = tuple[int, str]
"""A license's id and an agent's."""
Tell = Literal["changed", "known", "always"]
"""When to push the status that is written: if it is another one; if also the one before is known, which it is not by an
empty Redis; or in any case, since some have been told otherwise."""

logger = structlog.get_logger(__name__)


class RedisPresence:
    """See `rtm.routing.presence.Presence`."""

    def __init__(
        self,
        url: str,
        heartbeat_limit_s: float,
        limits: Limits | None = None,
    ) -> None:
        redis_url = RedisUrl.parse(url)
        self._client = redis_url.client(timeout_s=CALL_TIMEOUT_S, max_connections=_CONNECTIONS)
        self._pulse = redis_url.client(timeout_s=CALL_TIMEOUT_S, max_connections=1)
        """Apart, so that the heart beats also when thousands log in."""
        self._sharded = redis_url.topology == "cluster"
        self._presence = self._client.register_script(_PRESENCE)
        self._heartbeat = self._pulse.register_script(_HEARTBEAT)
        self._heartbeat_limit_s = heartbeat_limit_s
        self._limits = limits or Limits()
        self._evict: Evict = nobody_listens
        self._buried: Buried = nobody_listens
        self._here = MemoryPresence(self._limits)
        self._process_id = secrets.token_hex(8)
        self._known_as = ""
        """The id under which the others know that this process lives."""
        self._revision = 0
        self._own: dict[Key, Member] = {}  # who has connections here
        self._unsure: dict[Key, tuple[Member, Tell]] = {}  # what Redis may not know
        self._chosen: dict[Key, tuple[Member, str, int]] = {}  # with the number of the choice
        self._entered: set[int] = set()  # licenses in which this process is known to have written of agents
        self._others_are_back_at = 0.0
        self._settled_at = 0.0
        """When all can have written what they did while Redis was away; never, while no heartbeat is answered."""
        self._former: dict[str, float] = {}  # ids that this process had, and until when something may come under them
        self._due = asyncio.Event()
        """There is something to write again."""
        self._silent = False
        """Redis has not answered in time, nor a heartbeat since: nobody else is to wait for it in vain."""
        self._beat_now = asyncio.Event()
        self._outage = Outage(logger, "presence_away", _UNANSWERED)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._burials: dict[str, asyncio.Task[None]] = {}

    def listen(self, evict: Evict, buried: Buried) -> None:
        self._evict, self._buried = evict, buried
        self._here.listen(evict, buried)

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(work()) for work in (self._keep_alive, self._make_good)]

    async def stop(self) -> None:
        self._stopping.set()
        self._due.set()
        self._beat_now.set()
        await _ended({*self._tasks, *self._burials.values()})
        with contextlib.suppress(ServiceUnavailable):  # else the others do it
            async with _answered():
                await self._bury(self._process_id)
                await self._pulse.zrem(_PROCESSES[0], self._process_id)
        await self._client.aclose()
        await self._pulse.aclose()

    async def join(
        self, member: Member, connection_id: str, *, away: bool, reconnect: bool, origin: Origin | None = None
    ) -> Change:
        here = await self._here.join(member, connection_id, away=away, reconnect=reconnect)
        self._own[member.license_id, member.agent_id] = member
        try:
            change = await self._count(member, joining=connection_id, restore=reconnect, origin=origin)
        except TooManyConnections:
            await self._here.leave(member, connection_id)
            self._disown_if_gone(member)
            raise
        return change or _told_later(here)

    async def leave(self, member: Member, connection_id: str) -> Change:
        known = self._here.knows(member.license_id, member.agent_id, connection_id)
        here = await self._here.leave(member, connection_id)
        if not known:
            return here
        self._disown_if_gone(member)
        if self._others_are_to_come_back() and not self._here.connections(member.license_id, member.agent_id):
            self._doubt(member, "always")
            return _told_later(here)
        return await self._count(member) or _told_later(here)

    async def set_away(self, member: Member, connection_id: str, away: bool, origin: Origin | None = None) -> Change:
        here = await self._here.set_away(member, connection_id, away)
        if not self._here.knows(member.license_id, member.agent_id, connection_id):
            return here
        return await self._count(member, origin=origin) or _told_later(here)

    async def set_status(self, member: Member, status: str, origin: Origin | None = None) -> Change:
        async with self._answering():
            asked = _named(member) | {"status": status}
            reply = await self._call(self._process_id, "choose", member.license_id, origin, asked)
        await self._here.set_status(member, status)
        self._remember_choice(member, reply)
        return Change(reply["before"], reply["after"], reply["told"])

    async def statuses(self, license_id: int, agents: Mapping[str, Agent], *, patience_s: float = 0) -> dict[str, str]:
        if patience_s:
            await self._find_out_if_known(license_id)
            others_come_back_in_s = self._others_are_back_at - asyncio.get_running_loop().time()
            await asyncio.sleep(min(others_come_back_in_s, patience_s))
        if not agents:
            return {}
        async with self._answering():
            documents: list[Any] = await self._client.hmget(_states_key(license_id), list(agents))
        return {
            agent_id: _state(document).status(agent.default_status, agent.kind == "bot")
            for (agent_id, agent), document in zip(agents.items(), documents, strict=True)
        }

    async def settled_statuses(self, license_id: int, agents: Mapping[str, Agent]) -> dict[str, str]:
        statuses = await self.statuses(license_id, agents)
        await self._find_out_if_known(license_id)
        is_settled = asyncio.get_running_loop().time() >= self._settled_at
        if not is_settled or any((license_id, agent_id) in self._unsure for agent_id in agents):
            raise ServiceUnavailable(_AWAY)
        return statuses

    async def _find_out_if_known(self, license_id: int) -> None:
        """See whether Redis is one that knows this process; else come back."""
        async with self._answering():
            process_id = self._process_id
            if license_id not in self._entered:
                await self._beat()
            elif not await self._client.exists(_written_key(license_id, process_id)):
                self._come_back(process_id)

    # What is here

    def _disown_if_gone(self, member: Member) -> None:
        key = member.license_id, member.agent_id
        if not self._here.connections(*key):
            self._own.pop(key, None)
            if not member.is_bot:
                self._chosen.pop(key, None)

    def _remember_choice(self, member: Member, reply: Mapping[str, Any]) -> None:
        key = member.license_id, member.agent_id
        if "chosen" not in reply:
            self._chosen.pop(key, None)
        elif member.is_bot or key in self._own:
            self._chosen[key] = member, reply["chosen"], reply["choice"]

    async def _count(
        self,
        member: Member,
        *,
        joining: str | None = None,
        restore: bool = True,
        tell: Tell = "changed",
        origin: Origin | None = None,
    ) -> Change | None:
        """Write what is here of the agent; None if it is to be written once more. Raises TooManyConnections."""
        process_id = self._process_id
        asked = self._counted(member) | {"restore": restore, "tell": tell}
        if joining is not None:
            asked["joining"] = joining
        try:
            async with self._answering():
                await self._enter(process_id, member.license_id)
                reply = await self._call(process_id, "count", member.license_id, origin, asked)
        except ServiceUnavailable:
            self._doubt(member, "always" if tell == "changed" else tell)
            return None
        if "refused" in reply:
            raise TooManyConnections
        if "forgotten" in reply:
            self._come_back(process_id)
            if joining is not None:
                return await self._count(member, joining=joining, restore=restore, origin=origin)
            self._doubt(member, "always")
            return None
        if process_id == self._process_id:
            self._entered.add(member.license_id)
        self._remember_choice(member, reply)
        if reply["evicted"]:
            self._evict(member.license_id, reply["evicted"])
        return Change(reply["before"], reply["after"], reply["told"])

    def _counted(self, member: Member) -> dict[str, Any]:
        self._revision += 1
        connections = self._here.connections(member.license_id, member.agent_id)
        counted = _named(member) | {
            "connections": len(connections),
            "away": sum(connection.away for connection in connections.values()),
            "revision": self._revision,
            "limit": self._limits.connections_per_agent,
            "refuse": self._limits.connections_per_agent_policy == "refuse",
        }
        if connections:
            oldest = next(iter(connections))
            counted |= {"oldest": oldest, "oldest_at": connections[oldest].joined_at}
        choice = self._chosen.get((member.license_id, member.agent_id))
        if choice is not None:
            counted |= {"chosen": choice[1], "choice": choice[2]}
        return counted

    # What Redis may not know

    def _doubt(self, member: Member, tell: Tell) -> None:
        key = member.license_id, member.agent_id
        _, before = self._unsure.get(key, (member, tell))
        self._unsure[key] = member, "always" if before == "always" else tell
        self._due.set()

    def _doubt_all(self) -> None:
        self._entered.clear()
        for member in [*self._own.values(), *(member for member, _, _ in self._chosen.values())]:
            self._doubt(member, "known")

    def _come_back(self, was: str) -> None:
        """This process is not known by its id any more: be another one, and write everything again."""
        if self._process_id == was:
            logger.warning("presence_forgotten", process=was)
            now = asyncio.get_running_loop().time()
            self._process_id = secrets.token_hex(8)
            self._others_are_back_at = self._settled_at = now + self._heartbeat_limit_s * _RETURN
            self._former[was] = now + self._heartbeat_limit_s
            self._doubt_all()

    def _others_are_to_come_back(self) -> bool:
        """Redis may not know of the others' connections yet: nobody's session ends meanwhile."""
        return asyncio.get_running_loop().time() < self._others_are_back_at

    async def _make_good(self) -> None:
        while not self._stopping.is_set():
            await self._due.wait()
            if not self._silent:
                self._due.clear()
                await self._write_unsure()
            await self._rest(_BEAT / 2)

    async def _write_unsure(self) -> None:
        unsure, self._unsure = self._unsure, {}
        gone = [key for key in unsure if key not in self._own] if self._others_are_to_come_back() else []
        for key in gone:
            self._doubt(*unsure.pop(key))
        await _in_turns(self._write_again(member, tell) for member, tell in unsure.values())

    async def _write_again(self, member: Member, tell: Tell) -> None:
        try:
            await self._count(member, tell=tell)
        except Exception:
            logger.exception("presence_failed", license_id=member.license_id)
            self._doubt(member, tell)

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Like `_answered`; while Redis is silent it raises at once."""
        if self._silent:
            raise ServiceUnavailable(_AWAY)
        try:
            async with _answered():
                yield
        except ServiceUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                self._silent = True
                self._beat_now.set()
            raise

    # Who lives

    async def _keep_alive(self) -> None:
        was_away = False
        while not self._stopping.is_set():
            self._beat_now.clear()
            try:
                async with _answered(self._heartbeat_limit_s * _BEAT_TIMEOUT):
                    await self._beat()
            except ServiceUnavailable as error:
                was_away |= not isinstance(error.__cause__, TimeoutError)
                self._settled_at = math.inf
                self._outage.noticed(error.__cause__ or error)
                await self._rest(_BEAT / 4)
            except Exception:  # without a heartbeat the others take it for dead
                logger.exception("heartbeat_failed")
                await self._rest(_BEAT / 4)
            else:
                self._outage.over()
                if was_away:  # it may know less than the one before: a replica that took its place
                    self._doubt_all()
                if self._settled_at == math.inf:
                    self._settled_at = asyncio.get_running_loop().time() + self._heartbeat_limit_s * _RETURN
                was_away = False
                self._silent = False
                await self._rest(_BEAT, self._beat_now)

    async def _rest(self, part: float, until: asyncio.Event | None = None) -> None:
        """Wait for this part of the limit, or until that happens, by default that it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat_limit_s * part):
                await (until or self._stopping).wait()

    async def _beat(self) -> None:
        process_id = self._process_id
        is_known, *dead = await self._say_alive(process_id)
        if is_known:
            self._known_as = process_id
        else:
            self._come_back(process_id)
        now = asyncio.get_running_loop().time()
        former = [each for each, until in self._former.items() if until < now]
        for each in (*former, *(each.decode() for each in dead)):
            self._former.pop(each, None)
            self._begin_burial(each)

    async def _say_alive(self, process_id: str) -> Any:
        lifetimes_ms = (int(self._heartbeat_limit_s * part * 1000) for part in (_BEAT, _SILENCE))
        was_heard = int(self._known_as == process_id)
        return await self._heartbeat(keys=_PROCESSES, args=[process_id, *lifetimes_ms, was_heard])

    async def _enter(self, process_id: str, license_id: int) -> None:
        """Say where this process's connections are to be looked for when it is dead, before there are any."""
        if self._known_as != process_id:
            await self._beat()
        if license_id not in self._entered:
            await self._client.sadd(_licenses_key(process_id), license_id)

    def _begin_burial(self, process_id: str) -> None:
        if process_id not in self._burials:
            logger.warning("process_buried", process=process_id)
            burial = asyncio.create_task(self._see_to_burial(process_id))
            self._burials[process_id] = burial
            burial.add_done_callback(lambda _: self._burials.pop(process_id))

    async def _see_to_burial(self, process_id: str) -> None:
        try:
            await self._bury(process_id)
        except ServiceUnavailable as error:  # whoever hears next that it is dead tries again
            self._outage.noticed(error.__cause__ or error)

    async def _bury(self, process_id: str) -> None:
        """Take a dead process's connections away. Raises ServiceUnavailable."""
        async with _answered():
            licenses = await self._client.smembers(_licenses_key(process_id))
        await _in_turns(self._bury_in(int(license_id), process_id) for license_id in licenses)
        async with _answered():
            await self._pulse.zrem(_PROCESSES[1], process_id)

    async def _bury_in(self, license_id: int, process_id: str) -> None:
        buried = _AT_A_TIME
        while buried == _AT_A_TIME:
            async with _answered():
                buried = await self._call(process_id, "bury", license_id, None, {"count": _AT_A_TIME})
        async with _answered():
            await self._client.srem(_licenses_key(process_id), license_id)
        self._buried(license_id)

    async def _call(
        self, process_id: str, operation: str, license_id: int, origin: Origin | None, asked: Mapping[str, Any]
    ) -> Any:
        """Run presence.lua."""
        given_up = f"rtm:presence:{{{license_id}}}:given-up"
        keys = [_states_key(license_id), given_up, _written_key(license_id, process_id)]
        audience = hearers(of_bot=asked.get("bot", False))  # with a process no bot loses its status
        publishing = publication(license_id, "routing_status_set", audience, origin, sharded=self._sharded)
        document = {"operation": operation, "process": process_id, **publishing, **asked}
        return orjson.loads(await self._presence(keys=keys, args=[orjson.dumps(document)]))


def _told_later(here: Change) -> Change:
    """The change as this process sees it; whether the agent is elsewhere it cannot say, so nobody is told yet."""
    return Change(here.before, here.after, told=True)


def _named(member: Member) -> dict[str, Any]:
    return {"agent": member.agent_id, "default": member.default_status, "bot": member.is_bot}


def _states_key(license_id: int) -> str:
    """The braces keep a license's keys on one shard of a cluster."""
    return f"rtm:presence:{{{license_id}}}:states"


def _written_key(license_id: int, process_id: str) -> str:
    return f"rtm:presence:{{{license_id}}}:of:{process_id}"


def _licenses_key(process_id: str) -> str:
    return f"rtm:presence:of:{process_id}"


def _state(document: bytes | None) -> State:
    if document is None:
        return State()
    state: dict[str, Any] = orjson.loads(document)
    return State(
        chosen=state.get("chosen"),
        last=state.get("last"),
        in_session=state.get("in_session", False),
        defies_away=state.get("defies_away", False),
        connections=sum(of["connections"] for of in state["processes"].values()),
        away=sum(of["away"] for of in state["processes"].values()),
    )


async def _in_turns(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Do it all, _AT_A_TIME. Raises what one of them raises, after the others of its turn."""
    iterator = iter(work)
    while turn := list(islice(iterator, _AT_A_TIME)):
        for outcome in await asyncio.gather(*turn, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Let them end, within CALL_TIMEOUT_S; then end them."""
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=CALL_TIMEOUT_S)
    await cancelled(tasks)


@contextlib.asynccontextmanager
async def _answered(timeout_s: float | None = None) -> AsyncIterator[None]:
    """Raise ServiceUnavailable when Redis does not answer in time, by default within CALL_TIMEOUT_S."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S if timeout_s is None else timeout_s):
            yield
    except _UNANSWERED as error:
        raise ServiceUnavailable(_AWAY) from error
