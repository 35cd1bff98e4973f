"""The order of those who wait for an agent, and the place of each.

A license has one order: higher priority of the groups first, then the longer wait, then the older thread. A chat's
position counts those before it that are in one of its groups.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from rtm.model import shown as structures
from rtm.model.chat import Chat, Thread

WAIT_FOR_EACH_S = 60
"""What is told of a wait is this for each place: nobody knows how long agents will take."""


def in_order(queue: Iterable[Chat], priority: Callable[[Chat], int]) -> list[Chat]:
    """The chats that wait, the next one first."""
    return sorted(queue, key=lambda chat: (-priority(chat), chat.queued_at or "", chat.sorted_at, chat.id))


def positions(in_order: Sequence[Chat]) -> Mapping[str, int]:
    """By chat, its position, from 1."""
    found: dict[str, int] = {}
    before: Counter[frozenset[int]] = Counter()  # of few sets of groups there are many chats
    for chat in in_order:
        group_ids = frozenset(chat.group_ids)
        found[chat.id] = 1 + sum(count for each, count in before.items() if not each.isdisjoint(group_ids))
        before[group_ids] += 1
    return found


def wait(position: int) -> structures.Queue:
    """The position and the wait that it means."""
    return {"position": position, "wait_time": position * WAIT_FOR_EACH_S}


def shown(thread: Thread) -> structures.Queue:
    """Where a thread that waits was last told to be."""
    queue = wait(thread.queue_position)
    if thread.queued_at is not None:
        queue["queued_at"] = thread.queued_at
    return queue
