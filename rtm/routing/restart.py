"""After a start agents come back one by one: until they had the time for it, nobody is missed for good."""

from dataclasses import dataclass
from typing import Self

from rtm.model.chat import Chat
from rtm.protocol import timestamps
from rtm.protocol.timestamps import seconds_after


@dataclass(frozen=True, slots=True)
class Return:
    """The time after a start in which those who were connected before may come back, as after a lost connection."""

    began_at: str
    over_at: str

    @classmethod
    def begins(cls, grace_s: float) -> Self:
        """This process starts now."""
        began_at = timestamps.now()
        return cls(began_at, seconds_after(began_at, grace_s))

    def concerns(self, chat: Chat, now: str) -> bool:
        """Whether the chat is older, so that its open thread is not to be closed yet for want of agents."""
        return now < self.over_at and chat.active_thread().created_at < self.began_at
