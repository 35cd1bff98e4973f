"""Whose agents are gone, or do not answer: noted in their chats, and made up for when the time has come.

Routing statuses come from outside the transaction and may be a moment old.
"""

from collections.abc import Iterable, Mapping

from rtm.access.directory import AgentRecord, Directory, GroupRecord
from rtm.model.chat import Absence, Chat
from rtm.protocol.timestamps import seconds_after
from rtm.routing.assignment import PRIORITIES
from rtm.routing.deadlines import Due, due, next_look
from rtm.routing.handover import Handover, Show, longest_first
from rtm.routing.presence import ACCEPTING_CHATS, OFFLINE
from rtm.routing.restart import Return
from rtm.routing.rules import rules_of
from rtm.store.work import Work

PATIENCE_S = 60
"""How long a chat waits on that has waited for long, where there is somebody to wait for."""


def settle(
    directory: Directory,
    statuses: Mapping[str, str],
    grace_s: float,
    show: Show,
    return_: Return,
    chat_ids: Iterable[str],
    work: Work,
) -> None:
    """Do in these chats what `look` has left, if it is still to be done; for a command that may give them to others."""
    handover, now = Handover(work, directory, statuses, show, return_=return_), work.now()
    for chat in longest_first(work, chat_ids):
        if chat.thread is None or chat.due_at is None or chat.due_at > now:
            continue
        rules, again = rules_of(directory, chat.group_ids), None
        match due(chat, rules, grace_s, now):
            case Due.REASSIGN:
                came_back = _attending(chat, directory, statuses)
                if not came_back and not handover.place(chat, chat.thread.unattended_because or "other"):
                    again = return_.over_at
                elif chat.active:
                    chat.miss_no_more()
            case Due.TRANSFER:
                handover.replace_silent(chat, rules.transfer_chat_after_min)
                chat.wait_anew(now)
            case Due.GIVE_UP if return_.concerns(chat, now):
                again = return_.over_at
            case Due.GIVE_UP if not _anybody_may_come(chat, directory, statuses):
                handover.give_up(chat)
            case Due.GIVE_UP:
                again = seconds_after(now, PATIENCE_S)
        if chat.active:
            chat.attend(_attending(chat, directory, statuses))
        chat.set_due(again or next_look(chat, rules, grace_s, now))
    handover.tell_positions()


def miss(
    directory: Directory,
    statuses: Mapping[str, str],
    left: Mapping[str, Absence],
    grace_s: float,
    chat_id: str,
    work: Work,
) -> bool:
    """Note that all agents of the chat are gone, if they are; why is known of those who have just `left`.

    Of others who are offline only those are missed who were connected before.
    """
    chat, now = work.chat(chat_id), work.now()
    agent_ids = chat.assignees()
    if not agent_ids or not chat.routed or _attending(chat, directory, statuses):
        return False
    reasons = [_absence(directory.agents.get(agent_id), left.get(agent_id)) for agent_id in agent_ids]
    because = next((reason for reason in reasons if reason is not None), None)
    if because is None and not set(agent_ids).isdisjoint(chat.active_thread().attended):
        because = "disconnected"
    if because is not None and chat.miss(now, because, anew=not left.keys().isdisjoint(agent_ids)):
        chat.set_due(next_look(chat, rules_of(directory, chat.group_ids), grace_s, now))
    return False


def _absence(agent: AgentRecord | None, left_because: Absence | None) -> Absence | None:
    """Why the agent is gone, where that is known."""
    if agent is None:
        return "deleted"
    return left_because if agent.in_good_standing else "remotely_signed_out"


def attends(agent: AgentRecord | None, statuses: Mapping[str, str]) -> bool:
    """Whether who has a chat is there to look after it; a bot needs no connection for that."""
    if agent is None or not agent.in_good_standing:
        return False
    return agent.kind == "bot" or statuses.get(agent.id) != OFFLINE


def _attending(chat: Chat, directory: Directory, statuses: Mapping[str, str]) -> list[str]:
    """Those of the chat's agents who are there."""
    return [each for each in chat.assignees() if attends(directory.agents.get(each), statuses)]


def _anybody_may_come(chat: Chat, directory: Directory, statuses: Mapping[str, str]) -> bool:
    """Whether somebody of the chat's groups is there; of bots only those count that could be given the chat."""
    groups = [directory.groups[each] for each in chat.group_ids if each in directory.groups]
    return any(
        attends(agent, statuses)
        and not agent.group_ids.isdisjoint(chat.group_ids)
        and (agent.kind == "agent" or _takes_chats(agent, groups, statuses))
        for agent in directory.agents.values()
    )


def _takes_chats(bot: AgentRecord, groups: Iterable[GroupRecord], statuses: Mapping[str, str]) -> bool:
    """Whether the bot may be given chats of the groups."""
    return statuses.get(bot.id) == ACCEPTING_CHATS and any(
        group.priorities.get(bot.id) in PRIORITIES for group in groups
    )
