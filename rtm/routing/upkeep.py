"""What the router does with a chat when its time has come: commands, which see it as it is then.

Two processes may find the same chat: the second sees by its `due_at` that it has been looked at, and leaves it alone.
"""

from rtm.access.directory import Directory
from rtm.model.system_messages import system_message
from rtm.routing.closing import archive
from rtm.routing.deadlines import Due, due, next_look
from rtm.routing.rules import rules_of
from rtm.store.work import Work


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


def _shown(minutes: float) -> str:
    return f"{minutes:g}"
