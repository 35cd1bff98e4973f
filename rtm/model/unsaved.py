"""What has changed of a chat since it was stored, by the tables that tell it: what has not is not written again."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtm.model.chat import Thread


@dataclass(slots=True)
class Unsaved:
    """Begins anew whenever the chat is stored."""

    state: bool = False
    """More than its events tell; all below is part of it."""
    keys: bool = False
    """What chats are asked for by: whether it is active, waits or is due, and its last thread."""
    groups: bool = False
    """Who has access to it."""
    properties: bool = False
    """Its own, by which the list of archives finds all of its threads."""
    users: dict[str, None] = field(default_factory=dict)
    """Ids of those who came, left, followed or unfollowed."""
    threads: dict[str, "Thread"] = field(default_factory=dict)
    """By id, what is shown of these."""
    labels: dict[str, bool] = field(default_factory=dict)
    """Ids of the threads that the list of archives finds by others, and whether by those of earlier events, too."""
