"""A license with everybody at their doors, and the comparison of what they see with the protocol.

After every step a bell is rung: a change that is stored, and an indicator on each process. A socket is told them after
all that was done before, so nothing has to be waited for and nothing unexpected is missed. What the router is to do by
itself comes a moment later: as long as only that is missing the bell is rung again, for `PATIENCE_S`.
"""

import asyncio
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import orjson
from sqlalchemy import Table, and_, delete, insert, update

from rtm.store import tables
from tests.lifecycle import forms
from tests.lifecycle.given import differences, known
from tests.lifecycle.people import BELLS, PEOPLE, SEATS, SOCKETS, Seat
from tests.lifecycle.protocol import Payload, Push, Refused, Socket
from tests.lifecycle.routing_model import GROUP_PROPERTIES, LIMITS, PRIORITIES, Routed
from tests.world import VISIT, Client, Server, Web, World

PATIENCE_S = 30

CUSTOMERS: dict[str, Payload] = {
    "ada": {
        "name": "Ada",
        "email": "ada@example.net",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "statistics": {"chats_count": 1, "tickets_count": 2},
        "visit": VISIT,
        "phone_number": "+1 555 0100",
    },
    "grace": {"name": "Grace", "email": "grace@example.net", "created_at": "2026-01-01T00:00:00.000000Z"},
}
"""As a chat shows them."""

_NOISE = {
    "customer_banned",
    "customer_left",
    "customer_statistics_updated",
    "customer_transferred",
    "customer_updated",
    "groups_status_updated",
    "incoming_customer",
    "incoming_customers",
    "routing_status_set",
}
"""Who comes and goes, and what is known of customers, is no part of a chat's life."""

Frame = dict[str, Any]


class Request(NamedTuple):
    """Who asks, for what; in the words of 3.6."""

    seat: Seat
    action: str
    payload: Payload


class Answer(NamedTuple):
    """What came: an answer's payload, or the type of an error."""

    request_id: str | None
    payload: Any = None
    refused: str | None = None


@dataclass
class Outcome:
    """What there should be after some requests."""

    protocol: Routed
    """Its sockets have what they are to be pushed."""
    wrongs: list[str] = field(default_factory=list)
    """Where the answers are others."""
    routed: bool = False
    """Whether the router had something to do."""

    def routes(self) -> "Iterator[Outcome]":
        """What there may be after the router has come, too."""
        if self.protocol.is_settled():
            return
        for way in self.protocol.ways():
            after = copy.deepcopy(self)
            after.protocol.route(way)
            after.routed = True
            yield after


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers that are one system: the way to its database, and the port of each process."""

    server: Server
    ports: Sequence[int]


class Scene:
    """One license; `protocol` is what should be, the doors show what is."""

    def __init__(self, stage: Stage, world: World) -> None:
        self._ports = stage.ports
        self._bells = BELLS[: len(stage.ports)]
        self._world = world
        self._tokens: dict[str, str] = {}
        self._sockets: dict[Seat, Client] = {}
        self._webs: dict[Seat, Web] = {}
        self._request_ids = map(str, itertools.count(1))
        self._rung = 0
        self.protocol = Routed({name: world.id(name) for name in (*PEOPLE, *CUSTOMERS)}, CUSTOMERS)

    @classmethod
    async def open(cls, stage: Stage) -> Self:
        """A new license, with everybody logged in and in reach of the bell."""
        world = await stage.server.world()
        await _employ(world)
        scene = cls(stage, world)
        try:
            await scene._enter()
        except BaseException:
            await scene.close()
            raise
        return scene

    async def close(self) -> None:
        """Hang up everywhere."""
        doors: list[Client | Web] = [*self._sockets.values(), *self._webs.values()]
        await asyncio.gather(*(door.close() for door in doors))

    async def _enter(self) -> None:
        for name, person in PEOPLE.items():
            self._tokens[name] = await self._world.token(name, scopes=person.scopes)
        for seat in (*SEATS, *self._bells):
            if seat.transport == "web":
                self._webs[seat] = Web(self._port(seat), seat.version, self._tokens[seat.name])
        erin = {"id": self._world.id("erin"), "type": "agent"}  # cannot follow: she reaches her own chats only
        start = Request(self._bells[0], "start_chat", {"chat": {"users": [erin]}})
        answer = await self._ask(start)
        self._agree(self.protocol, start, answer)
        busy = {"status": "not_accepting_chats"}
        follow = {seat.name: seat for seat in SOCKETS if seat.name != "erin"}.values()
        await self.perform(
            *(Request(seat, "login", {}) for seat in SOCKETS),
            *(Request(seat, "follow_chat", {"id": self.bell_id}) for seat in follow),
            *(Request(SOCKETS[0], "set_routing_status", {"agent_id": self._world.id(name), **busy}) for name in LIMITS),
        )

    def _port(self, seat: Seat) -> int:
        return self._ports[seat.process % len(self._ports)]

    @property
    def bell_id(self) -> str:
        """The chat that all hear."""
        chat_id: str = self.protocol.chats[0].id.value
        return chat_id

    # Steps

    async def perform(self, *requests: Request) -> None:
        """Ask for one thing after the other. Raises AssertionError."""
        answers = [await self._ask(request) for request in requests]
        await self._compare([list(zip(requests, answers, strict=True))])

    async def perform_in_a_row(self, *requests: Request) -> None:
        """The same on one socket, without waiting for answers: changes happen in the order they were asked for."""
        client = self._sockets[requests[0].seat]
        request_ids = [await self._send(client, request) for request in requests]
        answers = [await self._answer(client, request_id) for request_id in request_ids]
        await self._compare([list(zip(requests, answers, strict=True))])

    async def perform_at_once(self, *requests: Request) -> None:
        """Ask for all at the same time, each from another seat: it must be as if they had come in some order."""
        answers = await asyncio.gather(*(self._ask(request) for request in requests))
        await self._compare(list(map(list, itertools.permutations(zip(requests, answers, strict=True)))))

    async def _compare(self, orders: Sequence[Sequence[tuple[Request, Answer]]]) -> None:
        """Raises AssertionError unless all is as after the requests in one of these orders."""
        may_be = [outcome for order in orders for outcome in self._outcomes(order, alone=len(orders) == 1)]
        heard = await self._hear()
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while True:
            told: list[str] = []
            for outcome in may_be:
                wrongs = list(self._wrongs(outcome, heard, in_order=len(orders) == 1))
                if not wrongs:
                    self._accept(outcome.protocol)
                    return
                told += [*wrongs, ""]
            if loop.time() > until or not any(self._is_late(outcome, heard) for outcome in may_be):
                raise AssertionError("\n".join(told))
            for seat, frames in (await self._hear()).items():
                heard[seat] += frames

    def _accept(self, protocol: Routed) -> None:
        bell = {"bell": {"rung": self._rung}}
        protocol.chats[0].properties = protocol.chats[0].properties | bell
        for socket in protocol.sockets:
            socket.expected = []
        self.protocol = protocol

    def _outcomes(self, order: Sequence[tuple[Request, Answer]], *, alone: bool) -> list[Outcome]:
        """What may come of requests in this order: the router comes in between, or does not, and comes in the end."""
        outcomes = [Outcome(self.protocol if alone else copy.deepcopy(self.protocol))]
        for place, (request, answer) in enumerate(order):
            if place > 0:
                outcomes += [after for outcome in outcomes for after in outcome.routes()]
            for outcome in outcomes:
                outcome.wrongs += self._agree(outcome.protocol, request, answer)
        return [after for outcome in outcomes for after in list(outcome.routes()) or [outcome]]

    def _wrongs(self, outcome: Outcome, heard: dict[Seat, list[Frame]], *, in_order: bool) -> Iterator[str]:
        """Where answers and pushes differ from those of the outcome."""
        yield from outcome.wrongs
        for socket in outcome.protocol.sockets:
            expected, frames = self._expected(socket), heard[socket.seat]
            should, came = [_frame(push) for push in expected if push.stored], list(filter(_is_stored, frames))
            yield from _compared(socket.seat, should, came)
            should = [_frame(push) for push in expected if not push.stored]
            came = list(itertools.filterfalse(_is_stored, frames))
            if not in_order:  # what is not stored has an order only if it comes from one process
                should, came = sorted(should, key=_subject), sorted(came, key=_subject)
            yield from _compared(socket.seat, should, came)
        yield from outcome.protocol.contradictions()

    def _is_late(self, outcome: Outcome, heard: dict[Seat, list[Frame]]) -> bool:
        """Whether what has come so far is how the outcome begins, and the router may be about to do the rest."""
        if outcome.wrongs or not outcome.routed:
            return False
        missing = 0
        for socket in outcome.protocol.sockets:
            should = [push.name for push in self._expected(socket) if push.stored]
            came = [frame["action"] for frame in heard[socket.seat] if _is_stored(frame)]
            if came != should[: len(came)]:
                return False
            missing += len(should) - len(came)
        return missing > 0

    def _expected(self, socket: Socket) -> list[Push]:
        """All but what is told of the bell's chat."""
        return [push for push in socket.expected if _chat_id(push.payload) != self.bell_id]

    def _agree(self, protocol: Routed, request: Request, answer: Answer) -> list[str]:
        """Perform it on the model; where the answer differs."""
        about = f"{request.seat} {request.action} {request.payload}"
        try:
            expected = protocol.perform(
                protocol.asker(request.seat, answer.request_id), request.action, request.payload
            )
        except Refused as refused:
            if answer.refused == refused.type:
                return []
            return [f"{about}: expected to be refused with {refused.type}, came {answer}"]
        if answer.refused is not None:
            return [f"{about}: expected to be answered, came {answer}"]
        return list(differences(forms.shown(request.seat.version, expected), answer.payload, about))

    # Doors

    async def _ask(self, request: Request) -> Answer:
        seat, action, payload = request
        if action == "login":
            return await self._log_in(seat)
        if seat.transport == "web":
            response = await self._webs[seat].post(action, forms.request(seat.version, payload))
            body = orjson.loads(response.content)
            return Answer(None, body) if response.is_success else Answer(None, refused=body["error"]["type"])
        client = self._sockets[seat]
        return await self._answer(client, await self._send(client, request))

    async def _send(self, client: Client, request: Request) -> str:
        payload = forms.request(request.seat.version, request.payload)
        return await client.send(request.action, next(self._request_ids), **payload)

    async def _answer(self, client: Client, request_id: str) -> Answer:
        response = await client.answer(request_id)
        if response["success"]:
            return Answer(request_id, response["payload"])
        return Answer(request_id, refused=response["payload"]["error"]["type"])

    async def _log_in(self, seat: Seat) -> Answer:
        """On a new connection, in place of the one there was."""
        if seat in self._sockets:
            await self._sockets.pop(seat).close()
        client = self._sockets[seat] = await Client.open(self._port(seat), seat.version)
        client.noise = _NOISE
        pushes = {"pushes": dict(seat.pushes)} if seat.pushes is not None else {}
        greeting = await client.call("login", token=self._tokens[seat.name], reconnect=True, **pushes)
        shown = ("chats_summary", "chats_info")
        return Answer(None, {name: value for name, value in greeting.items() if name in shown})

    def _ringing(self) -> list[Request]:
        change = {"id": self.bell_id, "properties": {"bell": {"rung": self._rung}}}
        return [
            Request(self._bells[0], "update_chat_properties", change),
            *(
                Request(bell, "send_typing_indicator", {"chat_id": self.bell_id, "is_typing": bell.process == 0})
                for bell in self._bells
            ),
        ]

    async def _hear(self) -> dict[Seat, list[Frame]]:
        """What each socket has been told since the bell was last heard, but for the bell."""
        self._rung += 1
        for answer in await asyncio.gather(*(self._ask(request) for request in self._ringing())):
            assert answer.refused is None, answer
        heard = await asyncio.gather(*(self._until_rung(seat) for seat in self._sockets))
        return dict(zip(self._sockets, heard, strict=True))

    async def _until_rung(self, seat: Seat) -> list[Frame]:
        frames: list[Frame] = []
        unheard: set[Any] = {("rung", self._rung), *(bell.process for bell in self._bells)}
        while unheard:
            try:
                frame = await self._sockets[seat].next()
            except TimeoutError:
                raise AssertionError(f"{seat} does not hear the bell; it has heard {frames}") from None
            if _chat_id(frame["payload"]) != self.bell_id:
                frames.append(frame)
            elif frame["action"] == "chat_properties_updated":
                unheard.discard(("rung", frame["payload"]["properties"]["bell"]["rung"]))
            elif frame["action"] == "incoming_typing_indicator":
                unheard.discard(int(not frame["payload"]["typing_indicator"]["is_typing"]))
        return frames


async def _employ(world: World) -> None:
    """Everybody may have as many chats, in the order, as `routing_model` says, before anybody has logged in."""
    of_license = {"license_id": world.license_id}

    def of(table: Table, **key: Any) -> Any:
        return and_(*(table.c[name] == value for name, value in (of_license | key).items()))

    async with world.server.database.engine.begin() as connection:
        for name, limit in LIMITS.items():
            change = update(tables.agents).where(of(tables.agents, id=world.id(name)))
            await connection.execute(change.values(max_chats_count=limit))
        for (name, group_id), priority in PRIORITIES.items():
            place = {"group_id": group_id, "agent_id": world.id(name)}
            await connection.execute(delete(tables.group_agents).where(of(tables.group_agents, **place)))
            await connection.execute(insert(tables.group_agents), of_license | place | {"priority": priority})
        for group_id, properties in GROUP_PROPERTIES.items():
            change = update(tables.groups).where(of(tables.groups, id=group_id))
            await connection.execute(change.values(properties={"chats": properties}))


def _is_stored(frame: Frame) -> bool:
    """Indicators are not, nor is the chat that a new follower is shown, which nobody has asked to start, or given."""
    if frame["action"] == "incoming_chat":
        return "requester_id" in frame["payload"] or "transferred_from" in frame["payload"]
    return frame["action"] not in ("incoming_typing_indicator", "incoming_thinking_indicator")


def _frame(push: Push) -> Frame:
    frame = {
        "version": push.version,
        "action": push.name,
        "type": "push",
        "payload": forms.shown(push.version, push.payload),
    }
    return frame if push.request_id is None else frame | {"request_id": push.request_id}


def _chat_id(payload: Any) -> Any:
    """Of what chat a push tells, or of what chat first."""
    if isinstance(payload, list):
        payload = payload[0]
    return known(payload.get("chat_id") or payload.get("id") or payload["chat"]["id"])


def _subject(frame: Frame) -> str:
    payload = frame["payload"]
    is_typing = payload.get("typing_indicator", {}).get("is_typing")
    return f"{frame['version']} {frame['action']} {_chat_id(payload)} {is_typing}"


def _compared(seat: Seat, expected: list[Frame], came: list[Frame]) -> Iterator[str]:
    names, came_names = [push["action"] for push in expected], [push["action"] for push in came]
    if names != came_names:
        yield f"{seat}: expected to be pushed {names}, came {came_names}: {came}"
        return
    for place, (one, other) in enumerate(zip(expected, came, strict=True)):
        yield from differences(one, other, f"{seat}, push {place + 1}")
