"""Logging in and out of a socket."""

from collections.abc import Collection, Iterable

from rtm.access.chats import reaches
from rtm.access.directory import Directory
from rtm.access.identity import Identity
from rtm.actions.agent import structures
from rtm.actions.agent.statuses import tell_status
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, RTM, WEB, action
from rtm.model import shown
from rtm.model.customer import Customer
from rtm.model.pushes import IncomingCustomers
from rtm.model.requests.sessions import ChangePushNotifications, GetLicenseInfo, Login, Logout, Ping, UpdateSession
from rtm.model.responses import Done, LicenseInfo, LoggedIn
from rtm.model.tracking import LEVEL, MAX_CUSTOMERS
from rtm.protocol import timestamps
from rtm.protocol.errors import AuthenticationError, MisdirectedRequest, ValidationError
from rtm.routing.followers import may_see
from rtm.store.queries import Snapshot


@action(AGENT, transports=(RTM,), before_login=True)
def ping(context: Context, payload: Ping) -> Done:
    """Show that the client is there; before the log-in it changes nothing."""
    context.require_session().pinged()
    return {}


@action(AGENT, transports=(RTM,), before_login=True, ordered=True)
async def login(context: Context, payload: Login) -> LoggedIn:
    """Begin a session: its license, the agent's profile and open chats; what comes after them comes as pushes."""
    async with context.services.logins:
        return await _log_in(context, payload)


async def _log_in(context: Context, payload: Login) -> LoggedIn:
    session = context.require_session()
    if session.identity is not None:
        raise ValidationError("Already logged in")
    identity = await _authenticate(context, payload.token)
    directory = await context.services.directories.get(identity.license_id)
    agent = directory.agents.get(identity.agent_id)
    if agent is None or not agent.in_good_standing:  # the token may have been looked at a moment earlier
        raise AuthenticationError()
    context.log_in(identity, directory)
    try:
        change = await session.join(identity, directory, payload, context.origin)
        snapshot = await context.services.queries.snapshot(identity.license_id, identity.agent_id)
        customers = await _customers(context, snapshot)
        summaries = await _summaries(context, snapshot, agent.group_ids)
    except BaseException:
        session.disconnect("internal_error")  # half logged in, it could only be left behind
        raise
    monitored: IncomingCustomers = {
        "customer_monitoring_level": session.monitoring_level,
        "customers": [structures.customer(customer) for customer in customers],
    }
    context.after_reply.append(lambda: session.tell("incoming_customers", monitored))
    context.after_reply.append(lambda: session.caught_up(snapshot.sequence))
    tell_status(context, agent, change)
    if any(chat.member(agent.id) is None and not may_see(agent, chat.group_ids) for chat in snapshot.chats):
        context.services.unfollow(identity.license_id, agent.id)  # access was lost while no process looked
    return {
        "license": _license(directory),
        "my_profile": structures.my_profile(agent, change.after),
        "chats_summary": summaries,
    }


async def _summaries(context: Context, of: Snapshot, group_ids: Collection[int]) -> list[shown.ChatSummary]:
    """The chats that the agent may read."""
    summaries = (
        structures.chat_summary(chat, context, of.customers)
        for chat in of.chats
        if reaches(context.identity, "chats", "ro", chat, group_ids)
    )
    return await structures.as_json(shown.ChatSummary, summaries, context.version)


async def _customers(context: Context, snapshot: Snapshot) -> Iterable[Customer]:
    """Those to be told of after the log-in; beside the agent's own, they are tracked from now on."""
    session = context.require_session()
    if "customers:ro" not in context.identity.scopes:
        return ()
    if session.monitoring_level == "my":
        mine = [chat for chat in snapshot.chats if chat.member(context.identity.agent_id) is not None]
        ids = dict.fromkeys(customer_id for chat in mine for customer_id in chat.present_ids("customer"))
        return [snapshot.customers[each] for each in ids if each in snapshot.customers]
    # Who has no open chat is nowhere yet: invited and online customers come with the Customer Chat API.
    group_ids = session.group_ids  # those of the context may have been lost since the log-in began
    view = session.track(LEVEL, group_ids, MAX_CUSTOMERS)
    view.expect()
    here = await context.services.customers.here(context.identity.license_id, group_ids, MAX_CUSTOMERS)
    view.fill(here.open_chats, here.total)
    return [customer for customer in here.customers.values() if customer.id in view]


async def _authenticate(context: Context, token: str) -> Identity:
    """Who holds the token. A token of another region ends the connection: it can be used there only."""
    session = context.require_session()
    try:
        identity = await context.services.authenticator.authenticate(token, session.address, login=True)
    except MisdirectedRequest as error:
        session.disconnect("misdirected_connection", error.data)
        raise
    agent = (await context.services.directories.get(identity.license_id)).agents.get(identity.agent_id)
    if agent is not None and agent.role != identity.role:  # one of the two was read before the other role was given
        context.services.authenticator.forget(identity.token_id)
        identity = await context.services.authenticator.authenticate(token, session.address, login=True)
    if session.organization_id not in (None, identity.organization_id):
        raise AuthenticationError("`organization_id` of the connection is not that of the token")
    return identity


def _license(directory: Directory) -> shown.License:
    license_: shown.License = {
        "id": str(directory.id),
        "organization_id": directory.organization_id,
        "plan": directory.plan,
        "creation_timestamp": timestamps.to_seconds(directory.created_at),
        "in_trial": False,
    }
    if directory.expires_at is not None:
        license_["expiration_timestamp"] = timestamps.to_seconds(directory.expires_at)
    return license_


@action(AGENT, transports=(WEB,))
async def get_license_info(context: Context, payload: GetLicenseInfo) -> LicenseInfo:
    """When the license was made and when it expires, in 3.5."""
    directory = context.directory
    info: LicenseInfo = {"license_id": str(directory.id), "created_at": directory.created_at, "in_trial": False}
    if directory.expires_at is not None:
        info["expires_at"] = directory.expires_at
    return info


@action(AGENT, transports=(RTM,))
async def change_push_notifications(context: Context, payload: ChangePushNotifications) -> Done:
    """Take a device's wish in 3.4; this server sends nothing to devices."""
    return {}


@action(AGENT, transports=(RTM,), ordered=True)
async def logout(context: Context, payload: Logout) -> Done:
    """End the session and, after the answer, the connection; the agent's other connections, on any process, stay."""
    context.after_reply.append(context.require_session().leave)
    return {}


@action(AGENT, transports=(RTM,), ordered=True)
async def update_session(context: Context, payload: UpdateSession) -> Done:
    """Let the session live as long as another token of the same agent."""
    identity = await _authenticate(context, payload.token)
    if (identity.license_id, identity.agent_id) != (context.identity.license_id, context.identity.agent_id):
        raise AuthenticationError("`token` belongs to another agent")
    context.require_session().renew(identity)
    return {}
