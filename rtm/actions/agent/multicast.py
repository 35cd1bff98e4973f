"""Messages apart from chats, kept nowhere."""

from rtm.actions.context import Context
from rtm.actions.registry import AGENT, action
from rtm.model.audience import Audience
from rtm.model.pushes import IncomingMulticast
from rtm.model.requests.events import Multicast
from rtm.model.responses import Done
from rtm.store.work import Needs, Work


def _nothing(payload: Multicast) -> Needs:
    return Needs()


@action(AGENT, scopes=("multicast:rw",), pushes=("incoming_multicast",), needs=_nothing, stores=False)
def multicast(context: Context, work: Work, payload: Multicast) -> Done:
    """Send any JSON to agents by id, by group, or to all of the license."""
    agents = payload.recipients.agents
    message: IncomingMulticast = {"author_id": context.identity.agent_id, "content": payload.content}
    if payload.type is not None:
        message["type"] = payload.type
    audience = Audience(agents=tuple(agents.ids), groups=tuple(agents.groups), everyone=agents.all)
    work.push("incoming_multicast", message, audience, stored=False)
    return {}
