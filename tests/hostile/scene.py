"""What payloads can name: chats in each state, the customer of one, the chat of somebody else's license."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

from tests.hostile.target import Socket, Target


@dataclass(frozen=True)
class Scene:
    """A server, and the names that stand for ids in the payloads of the cases."""

    target: Target
    names: dict[str, str]

    @classmethod
    def on(cls, target: Target) -> Self:
        """Set the scene."""
        with target.logged_in(target.token()) as agent, target.logged_in(target.stranger_token) as stranger:
            customer = target.server.credentials["customers"][0]["id"]
            open_ = _started(agent, {"chat": {"users": [{"id": customer, "type": "customer"}]}})
            closed = _started(agent, {})
            assert agent.call("deactivate_chat", {"id": closed["chat_id"]})["success"]
            foreign = _started(stranger, {})
            names = {
                "$chat": open_["chat_id"],
                "$thread": open_["thread_id"],
                "$closed": closed["chat_id"],
                "$foreign": foreign["chat_id"],
                "$foreign_thread": foreign["thread_id"],
                "$customer": customer,
                "$token": target.token(),
                "$stranger_token": target.stranger_token,
            }
            return cls(target, names)

    def agent(self, version: str = "3.6") -> AbstractContextManager[Socket]:
        """An agent of the chats, on a socket."""
        return self.target.logged_in(self.target.token(), version)

    def fill(self, value: Any, **names: str) -> Any:
        """The same with ids in place of the names; `names` win over the scene's."""
        names = self.names | names
        if isinstance(value, dict):
            return {name: self.fill(item, **names) for name, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, **names) for item in value]
        return names.get(value, value) if isinstance(value, str) else value


def _started(client: Socket, payload: dict[str, Any]) -> dict[str, Any]:
    response = client.call("start_chat", payload)
    assert response["success"], response
    started: dict[str, Any] = response["payload"]
    return started
