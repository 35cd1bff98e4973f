"""What the router does with a chat when its time has come: commands, which see it as it is then.

Two processes may find the same chat: the second sees by its `due_at` that it has been looked at, and leaves it alone.
"""

from collections.abc import Iterable

from rtm.access.directory import Directory
from rtm.model.chat import Chat, EventBody
from rtm.model.pushes import ChatDeactivated
from rtm.model.system_messages import system_message
from rtm.routing.deadlines import Due, due, next_look
from rtm.routing.rules import Rules
from rtm.store.work import Work


def rules_of(directory: Directory, group_ids: Iterable[int]) -> Rules:
    """The rules for chats of these groups."""
    groups = (directory.groups.get(group_id) for group_id in group_ids)
    return Rules.of(directory.properties, *(group.properties for group in groups if group is not None))


def look(directory: Directory, here: frozenset[str], grace_s: float, chat_id: str, work: Work) -> bool:
    """Do with the chat what is due, and remember when to look again; `here` are those of its agents who are there.

    True if there is more to do, for which one must know who could have the chat: `attendance.settle` does it.
    """
    chat, now = work.chat(chat_id), work.now()
    if chat.thread is None or chat.due_at is None or chat.due_at > now:
        return False
    chat.attend(here)
    rules = rules_of(directory, chat.group_ids)
    match due(chat, rules, grace_s, now):
        case Due.ARCHIVE:
            after_min = rules.archive_offline_chat_after_min if chat.continuous else rules.archive_chat_after_min
            archive(work, chat, system_message("routing.archived_inactive", now, duration=_shown(after_min)))
        case Due.IDLE:
            work.set_routing(chat, idle=True)
            work.post(chat, system_message("routing.idle", now, duration=_shown(rules.chat_inactive_after_min)))
        case None:
            pass
        case _:
            return True
    chat.set_due(next_look(chat, rules, grace_s, now))
    return False


def archive(work: Work, chat: Chat, why: EventBody, agent_id: str | None = None) -> None:
    """Close the open thread, for the agent if one asks for it; the event `why` is its last."""
    work.post(chat, why)
    audience = chat.key_audience()
    thread = chat.close_thread(why["created_at"])
    told: ChatDeactivated = {"chat_id": chat.id, "thread_id": thread.id}
    if agent_id is not None:
        chat.unpin()
        told["user_id"] = agent_id
    work.push("chat_deactivated", told, audience)


def _shown(minutes: float) -> str:
    return f"{minutes:g}"
