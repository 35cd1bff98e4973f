"""Agents that act as bots: `author_id` and `X-Author-Id`, in the versions that have them."""

from dataclasses import replace

from rtm.access.directory import Directory
from rtm.access.identity import Identity
from rtm.protocol.errors import AuthorizationError, RequesterSuspended, ValidationError


def as_bot(identity: Identity, directory: Directory, bot_id: str) -> Identity:
    """The same token, speaking as a bot: it must be of the bot's client, or a personal one.

    The reference wants the organization of a personal token to own the bot's client; here nobody knows who owns one.
    Raises ValidationError, AuthorizationError or RequesterSuspended.
    """
    if bot_id == identity.agent_id:
        return identity
    bot = directory.agents.get(bot_id)
    if bot is None or bot.kind != "bot":
        raise ValidationError("`author_id` must be the id of a bot")
    of_its_client = bot.owner_client_id is not None and bot.owner_client_id == identity.client_id
    if not (of_its_client or identity.personal):
        raise AuthorizationError("Token must be personal, or of the client that the bot belongs to")
    if bot.suspended:
        raise RequesterSuspended("Bot suspended")
    return replace(identity, agent_id=bot.id, kind="bot", holder=identity)
