"""Who accepts chats."""

from rtm.access.directory import AgentRecord
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.pushes import RoutingStatusSet
from rtm.model.requests.sessions import ListRoutingStatuses, SetAwayStatus, SetRoutingStatus
from rtm.model.responses import AgentStatus, Done
from rtm.protocol.errors import AuthorizationError, NotFound, ValidationError
from rtm.routing.presence import ACCEPTING_CHATS, PATIENCE_S, Change, Member, hearers


def tell_status(context: Context, agent: AgentRecord, change: Change) -> None:
    """Push the new status, if it is another one, after the answer; who accepts chats now may be given one."""
    if change.before != change.after == ACCEPTING_CHATS:
        context.after_reply.append(lambda: context.services.poke(context.identity.license_id))
    if change.before != change.after and not change.told:
        told: RoutingStatusSet = {"agent_id": agent.id, "status": change.after}
        context.publish("routing_status_set", told, hearers(of_bot=agent.kind == "bot"))


@action(
    AGENT,
    scopes=("agents--my:rw", "agents--all:rw", "agents-bot--my:rw", "agents-bot--all:rw"),
    pushes=("routing_status_set",),
    ordered=True,
)
async def set_routing_status(context: Context, payload: SetRoutingStatus) -> Done:
    """Set an agent's status until its session ends, or a bot's."""
    agent = context.directory.agents.get(payload.agent_id or context.identity.agent_id)
    if agent is None:
        raise NotFound("Agent not found")
    _check_scope(context, agent)
    if payload.status == "offline" and agent.kind != "bot":
        raise ValidationError("`status` must be one of: accepting_chats, not_accepting_chats")
    change = await context.services.presence.set_status(
        Member.of(context.identity.license_id, agent), payload.status, context.origin
    )
    tell_status(context, agent, change)
    return {}


def _check_scope(context: Context, agent: AgentRecord) -> None:
    """Raises AuthorizationError unless the token may set the status of this agent or bot."""
    resource = "agents" if agent.kind == "agent" else "agents-bot"
    identity = context.identity
    mine = agent.id == identity.agent_id or (
        agent.kind == "bot" and agent.owner_client_id is not None and agent.owner_client_id == identity.client_id
    )
    reach = "my" if mine else "all"
    if f"{resource}--{reach}:rw" not in identity.scopes:
        raise AuthorizationError(f"Token lacks the scope: {resource}--{reach}:rw")


@action(AGENT, scopes=("agents--all:ro", "agents-bot--all:ro"))
async def list_routing_statuses(context: Context, payload: ListRoutingStatuses) -> list[AgentStatus]:
    """The status of every agent and bot that the token may see, or of those in the groups named."""
    wanted = payload.filters.group_ids if payload.filters else None
    kinds = {
        kind
        for kind, scope in (("agent", "agents--all:ro"), ("bot", "agents-bot--all:ro"))
        if scope in context.identity.scopes
    }
    agents = {
        agent.id: agent
        for agent in context.directory.agents.values()
        if agent.kind in kinds and (wanted is None or not agent.group_ids.isdisjoint(wanted))
    }
    presence, license_id = context.services.presence, context.identity.license_id
    statuses = await presence.statuses(license_id, agents, patience_s=PATIENCE_S)
    return [{"agent_id": agent_id, "status": status} for agent_id, status in statuses.items()]


@action(AGENT, scopes=("agents--my:rw",), pushes=("routing_status_set",), transports=("rtm",), ordered=True)
async def set_away_status(context: Context, payload: SetAwayStatus) -> Done:
    """Mark this connection as away; when all of the agent's are, the agent accepts no chats."""
    session = context.require_session()
    agent = context.directory.agents[context.identity.agent_id]
    change = await context.services.presence.set_away(
        Member.of(context.identity.license_id, agent), session.connection_id, payload.away, context.origin
    )
    tell_status(context, agent, change)
    return {}
