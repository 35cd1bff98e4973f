"""Giving a chat to other agents and groups."""

from collections.abc import Iterable, Sequence

from rtm.access.chats import check_access, check_present, check_reach, scopes_for
from rtm.access.directory import Directory
from rtm.actions.agent.chats import check_agent, introduce
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, RTM, action
from rtm.model.chat import Chat
from rtm.model.requests.chats import ListAgentsForTransfer, TransferChat, TransferTarget
from rtm.model.responses import AgentForTransfer, Done
from rtm.model.system_messages import system_message
from rtm.protocol.errors import AgentOffline, NotFound
from rtm.routing.followers import unfollow_strangers
from rtm.routing.handover import Handover, needs_of
from rtm.routing.presence import OFFLINE, PATIENCE_S
from rtm.routing.situation import Situation
from rtm.store.work import Needs, Work


def _needs_of_transfer(payload: TransferChat) -> Needs:
    return needs_of([payload.id])


@action(
    AGENT,
    scopes=scopes_for("chats", "rw"),
    pushes=(
        "chat_transferred",
        "incoming_chat",
        "chat_access_updated",
        "user_removed_from_chat",
        "user_added_to_chat",
        "chat_unfollowed",
        "chat_properties_updated",
        "thread_properties_updated",
        "incoming_event",
    ),
    needs=_needs_of_transfer,
    statuses=True,
)
def transfer_chat(context: Context, work: Work, payload: TransferChat) -> Done:
    """Give the chat to another agent, who then has it alone, or let it wait for one.

    Who had access hears of the transfer. Who has it only now is shown the chat as one that comes in, and so is who is
    given it, on all of their connections.
    """
    chat = work.chat(payload.id)
    check_reach(context.identity, "chats", "rw", chat, context.group_ids)
    chat.active_thread()
    if not payload.ignore_requester_presence:
        check_present(context.identity, chat)
    requester_id = context.identity.agent_id
    handover = Handover(work, context.directory, context.statuses, introduce, requester_id=requester_id)
    group_ids = _group_ids(context.directory, chat, payload.target)
    agent_id = _find_agent(context, handover.situation, chat, group_ids, payload.target)
    if agent_id is None and not (payload.ignore_agents_availability and handover.situation.may_wait(chat, group_ids)):
        raise AgentOffline("No agent of `target` is available" if payload.target else "No other agent is available")
    handover.transfer(chat, "manual", agent_id, group_ids)
    unfollow_strangers(context.directory, work, chat)
    initiator, targets = context.directory.name_of(requester_id), _names(context.directory, chat, payload)
    work.post(chat, system_message("chat_transferred", work.now(), initiator=initiator, targets=targets))
    return {}


def _group_ids(directory: Directory, chat: Chat, target: TransferTarget | None) -> list[int]:
    """The groups that the chat is to be in. Raises NotFound."""
    if target is None or target.type == "agent":
        return chat.group_ids
    for group_id in target.group_ids:
        if group_id not in directory.groups:
            raise NotFound(f"Group not found: {group_id}")
    return target.group_ids


def _find_agent(
    context: Context, situation: Situation, chat: Chat, group_ids: Sequence[int], target: TransferTarget | None
) -> str | None:
    """Who is to have the chat: of agents named whoever is not offline. Raises NotFound, MissingAccess."""
    if target is None or target.type == "group":
        found = situation.find_agent(chat, group_ids, again=True)
        return found or _least_busy(context, situation, _may_keep_it(context, chat, group_ids))
    for agent_id in target.agent_ids:
        check_agent(context, agent_id, group_ids)
    return _least_busy(context, situation, target.agent_ids)


def _least_busy(context: Context, situation: Situation, agent_ids: Iterable[str]) -> str | None:
    """Who of those who are not offline has the fewest chats."""
    return situation.least_busy(each for each in agent_ids if context.statuses.get(each, OFFLINE) != OFFLINE)


def _may_keep_it(context: Context, chat: Chat, group_ids: Sequence[int]) -> list[str]:
    """Those of the groups who have the chat and do not ask for it to go to others."""
    assignees, requester_id = chat.assignees(), context.identity.agent_id
    if requester_id not in assignees and set(group_ids) == set(chat.group_ids):
        return []  # it is to go to others
    return [
        each
        for each in assignees
        if each != requester_id and not context.directory.groups_of(each).isdisjoint(group_ids)
    ]


def _names(directory: Directory, chat: Chat, payload: TransferChat) -> str:
    """To whom the chat was transferred, for people."""
    if payload.target is not None and payload.target.type == "agent":
        return ", ".join(map(directory.name_of, payload.target.agent_ids))
    return ", ".join(directory.groups[each].name for each in chat.group_ids if each in directory.groups)


@action(AGENT)
async def list_agents_for_transfer(context: Context, payload: ListAgentsForTransfer) -> list[AgentForTransfer]:
    """The agents and bots that are here and have access to the chat, those with the fewest active chats first."""
    license_id, services = context.identity.license_id, context.services
    chat = await services.queries.chat(license_id, payload.chat_id)
    if chat is None:
        raise NotFound("Chat not found")
    check_access(context.identity, chat, context.group_ids)
    agents = {
        agent.id: agent
        for agent in context.directory.agents.values()
        if agent.in_good_standing and not agent.group_ids.isdisjoint(chat.group_ids)
    }
    statuses = await services.presence.statuses(license_id, agents, patience_s=PATIENCE_S)
    loads = await services.queries.loads(license_id)
    here = sorted((loads[agent_id], agent_id) for agent_id, status in statuses.items() if status != OFFLINE)
    if context.transport == RTM:  # as the samples of the reference have it
        return [{"agent_id": agent_id, "active_chats": load} for load, agent_id in here]
    return [{"agent_id": agent_id, "total_active_chats": load} for load, agent_id in here]
