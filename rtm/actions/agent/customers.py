"""Who customers are, keeping them away, and hearing of them.

What is told of a customer is told to the agents of their open chats, to who asked, and to who tracks them
(`rtm.model.tracking`); of one without an open chat, whom nobody can track, to every agent who may read customers.
"""

from typing import Any, cast
from uuid import uuid4

from rtm.actions.agent import structures
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, RTM, WEB, action
from rtm.model.audience import Audience
from rtm.model.customer import Customer, CustomerBan
from rtm.model.pushes import CustomerBanned, CustomerUpdated
from rtm.model.requests.customers import (
    BanCustomer,
    CreateCustomer,
    GetCustomer,
    SubscribeCustomers,
    UnsubscribeCustomers,
    UpdateCustomer,
)
from rtm.model.responses import CustomerCreated, CustomersSubscribed, Done
from rtm.model.shown import CustomerWithChats
from rtm.model.system_messages import customer_updated, system_message
from rtm.protocol.errors import NotFound
from rtm.protocol.timestamps import days_after
from rtm.routing.closing import archive
from rtm.store.work import Needs, Work

_EVERYONE = Audience(everyone=True)


@action(AGENT, scopes=("customers:ro",))
async def get_customer(context: Context, payload: GetCustomer) -> CustomerWithChats:
    """All that is known of a customer."""
    found = await context.services.customers.get(context.identity.license_id, payload.id)
    if found is None:
        raise NotFound("Customer not found")
    return structures.customer_with_chats(found)


def _nobody(payload: CreateCustomer) -> Needs:
    return Needs()


@action(AGENT, scopes=("customers:rw",), pushes=("incoming_customer",), needs=_nobody)
def create_customer(context: Context, work: Work, payload: CreateCustomer) -> CustomerCreated:
    """Add a customer, in the versions before 3.6."""
    unknown = Customer(str(uuid4()), context.identity.license_id, None, None, work.now(), {})
    customer = unknown.updated(payload.model_dump(exclude_none=True))
    work.save(customer)
    work.push("incoming_customer", structures.customer(customer), _EVERYONE)
    return {"customer_id": customer.id}


def _by_id(payload: UpdateCustomer | BanCustomer) -> Needs:
    return Needs(customer_ids=(payload.id,), open_chats_of_customers=True)


@action(AGENT, scopes=("customers:rw",), pushes=("customer_updated", "incoming_event"), needs=_by_id)
def update_customer(context: Context, work: Work, payload: UpdateCustomer) -> Done:
    """Change some of a customer's fields; the push has those, each as it is now.

    The agents of the customer's open chats, of a hundred at most, read there of another name or e-mail address.
    """
    customer = work.customer(payload.id)
    changed = _changed(customer, payload)
    work.save(customer.updated(changed))
    told = cast("CustomerUpdated", {"id": customer.id, "type": "customer", **changed})
    work.push("customer_updated", told, _hearers(context, work, customer))
    name = payload.name if payload.name and payload.name != customer.name else None
    email = payload.email if payload.email and payload.email != customer.email else None
    if name or email:
        for chat in work.open_chats_of(customer):
            work.post(chat, customer_updated(work.now(), initiator=_initiator(context), name=name, email=email))
    return {}


def _initiator(context: Context) -> str | None:
    """What the requester is called; None for an integration: a bot, or an application at the Web API."""
    identity = context.identity
    if identity.kind == "bot" or (context.transport == WEB and identity.client_id is not None):
        return None
    return context.directory.name_of(identity.agent_id)


def _hearers(context: Context, work: Work, customer: Customer) -> Audience:
    chats = work.open_chats_of(customer)
    if not chats:
        return _EVERYONE
    agents = [agent_id for chat in chats for agent_id in chat.present_ids("agent")]
    return Audience(agents=tuple(dict.fromkeys((*agents, context.identity.agent_id))))


def _changed(customer: Customer, payload: UpdateCustomer) -> dict[str, Any]:
    changed: dict[str, Any] = payload.model_dump(exclude={"id", "omnichannel"}, exclude_none=True)
    if payload.omnichannel is not None:
        given = payload.omnichannel.model_dump(exclude_none=True)
        named = {"fbmessenger": "fb_messenger", "twilio": "twilio"}
        channels = {named[channel]: [contact] for channel, contact in given.items()}
        changed["omnichannel"] = customer.state.get("omnichannel", {}) | channels
    if payload.address is not None:
        address = customer.state.get("address", {}) | changed["address"]
        changed["address"] = {part: text for part, text in address.items() if text}
    return changed


@action(
    AGENT,
    scopes=("customers.ban:rw",),
    pushes=("customer_banned", "incoming_event", "chat_deactivated"),
    needs=_by_id,
)
def ban_customer(context: Context, work: Work, payload: BanCustomer) -> Done:
    """Keep a customer away for some days from now, and close their chats."""
    customer = work.customer(payload.id)
    now = work.now()
    work.ban(
        CustomerBan(
            license_id=customer.license_id,
            customer_id=customer.id,
            ip=customer.state.get("visit", {}).get("ip"),
            agent_id=context.identity.agent_id,
            created_at=now,
            expires_at=days_after(now, payload.ban.days),
        )
    )
    told: CustomerBanned = {"customer_id": customer.id, "ban": {"days": payload.ban.days}}
    work.push("customer_banned", told, _hearers(context, work, customer))
    agent = context.directory.name_of(context.identity.agent_id)
    for chat in work.open_chats_of(customer):
        why = system_message("customer_banned", work.now(), agent=agent, duration=payload.ban.days)
        archive(work, chat, why, context.identity.agent_id)
    return {}


@action(AGENT, scopes=("customers:ro",), transports=(RTM,), ordered=True)
async def subscribe_customers(context: Context, payload: SubscribeCustomers) -> CustomersSubscribed:
    """Track the customers of some groups, or of all, on this connection; those past the limit are only counted."""
    session, license_id = context.require_session(), context.identity.license_id
    group_ids = frozenset(payload.group_ids) if payload.group_ids else None
    subscription_id = uuid4().hex
    view = session.track(subscription_id, group_ids, payload.limit)
    view.expect()
    try:
        here = await context.services.customers.here(license_id, group_ids, payload.limit)
    except BaseException:
        session.untrack(subscription_id)
        raise
    view.fill(here.open_chats, here.total)
    if view.misses:
        view.told = view.total
        totals = {subscription_id: view.total}
        context.after_reply.append(lambda: session.tell("subscribed_customers_totals_updated", totals))
    customers = [structures.customer(customer) for customer in here.customers.values() if customer.id in view]
    return {"subscription_id": subscription_id, "customers": customers}


@action(AGENT, scopes=("customers:ro",), transports=(RTM,), ordered=True)
async def unsubscribe_customers(context: Context, payload: UnsubscribeCustomers) -> Done:
    """End a subscription of this connection."""
    if not context.require_session().untrack(payload.subscription_id):
        raise NotFound("Subscription not found")
    return {}
