"""The load side's protocol: agents that log in over RTM 3.6, ask, and wait for the answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.clients import BATCH, Client, LoadError, connected, text_frame

PATH = "/v3.6/agent/rtm/ws"


@dataclass(frozen=True, slots=True)
class Agent:
    id: str
    role: str
    access_token: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """The file that `rtm serve --demo --credentials FILE` writes, as far as the load needs it. Owners come first."""

    base_url: str
    agents: list[Agent]

    @classmethod
    def load(cls, path: Path) -> "Credentials":
        content = orjson.loads(path.read_bytes())
        agents = [Agent(agent["id"], agent["role"], agent["access_token"]) for agent in content["agents"]]
        return cls(content["base_url"], sorted(agents, key=lambda agent: agent.role != "owner"))


@contextmanager
def logged_in(
    address: tuple[str, int], agents: Sequence[Agent], pushes: Sequence[str], narrow: bool = False
) -> Iterator[list[Client]]:
    """A connection for each of `agents`, that is told of `pushes` only."""
    with connected(address, len(agents), PATH, narrow) as clients:
        requests = [{"token": f"Bearer {agent.access_token}", "pushes": {"3.6": list(pushes)}} for agent in agents]
        call_each(clients, "login", requests)
        yield clients


def encode_request(action: str, payload: dict[str, Any]) -> bytes:
    return orjson.dumps({"action": action, "request_id": action, "payload": payload})


def encode_message(chat_id: str, text: str) -> bytes:
    """A `send_event` request."""
    return encode_request("send_event", {"chat_id": chat_id, "event": {"type": "message", "text": text}})


def call(client: Client, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload of the answer. Raises LoadError if it is an error."""
    client.send(text_frame(encode_request(action, payload)))
    return answers(client, 1)[0]


def call_each(clients: Sequence[Client], action: str, payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One request from each client, BATCH at a time, so that the server may commit them together."""
    found = []
    for first in range(0, len(clients), BATCH):
        batch = clients[first : first + BATCH]
        for client, payload in zip(batch, payloads[first : first + BATCH], strict=True):
            client.send(text_frame(encode_request(action, payload)))
        found += [answers(client, 1)[0] for client in batch]
    return found


def answers(client: Client, count: int) -> list[dict[str, Any]]:
    """The payloads of the next `count` answers; pushes among them are passed over. Raises LoadError at an error."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        for message in client.next_messages():
            frame = orjson.loads(message)
            if frame["type"] != "response":
                continue
            if not frame["success"]:
                raise LoadError(f"{frame['action']} was refused: {frame['payload']['error']['message']}")
            found.append(frame["payload"])
    return found


def next_push(client: Client) -> bytes:
    """The next push, as it came."""
    while True:
        for message in client.next_messages():
            if orjson.loads(message)["type"] == "push":
                return message
