"""Following ends with access: nobody goes on hearing what they could not ask for."""

from collections.abc import Iterable

from rtm.access.directory import AgentRecord, Directory
from rtm.access.scopes import of_role
from rtm.model.audience import Audience
from rtm.model.chat import Chat
from rtm.model.pushes import ChatUnfollowed
from rtm.store.work import Work


def unfollow_strangers(directory: Directory, work: Work, chat: Chat) -> None:
    """Let those go who follow the chat and may not see it, whatever token they hold."""
    for agent_id in list(chat.followers):
        agent = directory.agents.get(agent_id)
        if agent is None or not may_see(agent, chat.group_ids):
            chat.unfollow(agent_id)
            if chat.member(agent_id) is None:  # else it goes on hearing as such
                told: ChatUnfollowed = {"chat_id": chat.id}
                work.push("chat_unfollowed", told, Audience(agents=(agent_id,)))


def with_less_access(before: Directory, after: Directory) -> set[str]:
    """Agents who may see fewer chats than before."""
    return {
        agent.id
        for agent in before.agents.values()
        if (now := after.agents.get(agent.id)) is None or not _may_see_all_of(agent, now)
    }


def may_see(agent: AgentRecord, group_ids: Iterable[int]) -> bool:
    """Whether some token of the agent reaches what these groups have access to, though it takes no part in it."""
    return _may_see_all(agent) or not agent.group_ids.isdisjoint(group_ids)


def _may_see_all(agent: AgentRecord) -> bool:
    """A bot's scopes are its client's, up to those of an administrator, whatever its own role is called."""
    return agent.kind == "bot" or "chats--all:ro" in of_role(agent.role)


def _may_see_all_of(before: AgentRecord, now: AgentRecord) -> bool:
    return _may_see_all(now) or (now.role == before.role and now.group_ids >= before.group_ids)
