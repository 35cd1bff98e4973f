"""When the router has something to do with a chat. No clock and no store: what there is to know is in the chat.

Times are in the protocol's form, which sorts.
"""

from enum import Enum, auto

from rtm.model.chat import Chat
from rtm.protocol.timestamps import seconds_after
from rtm.routing.rules import Rules

MAX_AHEAD_S = 300
"""The longest between two looks at a chat: rules may have changed meanwhile."""


class Due(Enum):
    """What is to be done; of several that are due, the first here comes first."""

    ARCHIVE = auto()
    """Nobody has written for too long."""
    GIVE_UP = auto()
    """It has waited in the queue for as long, and may have nobody to wait for."""
    REASSIGN = auto()
    """Its agents are gone for good, or it has none."""
    TRANSFER = auto()
    """Its agents leave the customer without an answer."""
    IDLE = auto()
    """Nobody has written for a while."""


def deadlines(chat: Chat, rules: Rules, grace_s: float) -> dict[Due, str]:
    """When each thing is to be done if nothing happens before; without those that never are.

    `grace_s` is the time in which agents who have lost their connection may come back.
    """
    thread = chat.thread
    if thread is None or not chat.routed:
        return {}
    quiet_since = max([thread.created_at, *chat.written_at.values()])
    archive_after_min = rules.archive_offline_chat_after_min if chat.continuous else rules.archive_chat_after_min
    if thread.queued_at is not None:
        return _after({Due.GIVE_UP: (max(quiet_since, thread.queued_at), archive_after_min)})
    found = {Due.ARCHIVE: (quiet_since, archive_after_min)}
    if not chat.idle:
        found[Due.IDLE] = (quiet_since, rules.chat_inactive_after_min)
    if thread.unanswered_since is not None and chat.assignees():
        found[Due.TRANSFER] = (thread.unanswered_since, rules.transfer_chat_after_min)
    times = _after(found)
    if thread.unattended_since is not None:
        times[Due.REASSIGN] = thread.unattended_since
        if thread.unattended_because == "disconnected":
            # Who writes without a connection, over HTTP, is there.
            missed_since = max(thread.unattended_since, chat.written_at.get("agent", ""))
            times[Due.REASSIGN] = seconds_after(missed_since, grace_s)
    elif not chat.assignees() and not chat.left_alone:
        times[Due.REASSIGN] = thread.created_at
    return times


def due(chat: Chat, rules: Rules, grace_s: float, now: str) -> Due | None:
    """What is to be done now."""
    times = deadlines(chat, rules, grace_s)
    return next((each for each in Due if each in times and times[each] <= now), None)


def next_look(chat: Chat, rules: Rules, grace_s: float, now: str) -> str | None:
    """When something may be due next, whatever is written until then; None for a chat that is not routed."""
    if not chat.routed:
        return None
    # What is written from now on may be left without an answer, or be the last word.
    times_of_silence = [each * 60 for each in (rules.transfer_chat_after_min, rules.chat_inactive_after_min) if each]
    ahead_s = min([MAX_AHEAD_S, *times_of_silence])
    return max(now, min(seconds_after(now, ahead_s), *deadlines(chat, rules, grace_s).values()))


def _after(limits: dict[Due, tuple[str, float]]) -> dict[Due, str]:
    """So many minutes after each time; 0 is never."""
    return {each: seconds_after(since, minutes * 60) for each, (since, minutes) in limits.items() if minutes}
