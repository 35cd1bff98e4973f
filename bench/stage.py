"""rtm with one chat that many agents follow, and an owner who sends: the stage of `fanout` and `latency`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from bench.agents import Agent, answers, call, call_each, encode_message, encode_request, logged_in, next_push
from bench.clients import Client, text_frame
from bench.server import Server, Target, rtm

Via = Literal["event", "multicast"]
PUSHES = {"event": "incoming_event", "multicast": "incoming_multicast"}


@dataclass(frozen=True, slots=True)
class Stage:
    """`publisher` hears answers only; `subscribers` hear the pushes of `via` only; `spare` agents are not logged in."""

    server: Server
    via: Via
    chat_id: str
    publisher: Client
    subscribers: list[Client]
    spare: list[Agent]

    def request(self, text: str) -> bytes:
        """The frame that has `text` pushed to everybody."""
        if self.via == "event":
            return text_frame(encode_message(self.chat_id, text))
        multicast = {"recipients": {"agents": {"all": True}}, "content": {"text": text}}
        return text_frame(encode_request("multicast", multicast))

    def sized_request(self, size_bytes: int) -> tuple[bytes, bytes]:
        """A request whose push has `size_bytes`, or as few as a push can have; and such a push."""
        frame = self.request("x")
        push = self._deliver(frame)
        if len(push) >= size_bytes:
            return frame, push
        frame = self.request("x" * (1 + size_bytes - len(push)))
        return frame, self._deliver(frame)

    def follow(self, clients: list[Client]) -> None:
        call_each(clients, "follow_chat", [{"id": self.chat_id}] * len(clients))

    def _deliver(self, frame: bytes) -> bytes:
        self.publisher.send(frame)
        answers(self.publisher, 1)
        pushes = [next_push(subscriber) for subscriber in self.subscribers]
        return pushes[0]


@contextmanager
def staged(target: Target, subscribers: int, via: Via = "event", spare: int = 0) -> Iterator[Stage]:
    """Raises CannotStart, LoadError, OSError."""
    with rtm(target, 1 + subscribers + spare) as (server, credentials):
        owner, audience = credentials.agents[0], credentials.agents[1 : 1 + subscribers]
        others = credentials.agents[1 + subscribers : 1 + subscribers + spare]
        with (
            logged_in(server.address, [owner], []) as (publisher,),
            logged_in(server.address, audience, [PUSHES[via]]) as clients,
        ):
            chat_id = call(publisher, "start_chat", {"continuous": True})["chat_id"]
            stage = Stage(server, via, chat_id, publisher, clients, others)
            if via == "event":
                stage.follow(clients)
            yield stage
