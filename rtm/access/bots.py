"""Agents that act as bots: `author_id` and `X-Author-Id`, in the versions that have them."""

from dataclasses import replace

from rtm.access.directory import Directory
from rtm.access.identity import Identity
from rtm.protocol.errors import AuthorizationError, ValidationError


def as_bot(identity: Identity, directory: Directory, bot_id: str) -> Identity:
    """The same token, speaking as a bot that it may change. Raises ValidationError, AuthorizationError."""
    if bot_id == identity.agent_id:
        return identity
    bot = directory.agents.get(bot_id)
    if bot is None or bot.kind != "bot":
        raise ValidationError("`author_id` must be the id of a bot")
    reach = "my" if bot.owner_client_id is not None and bot.owner_client_id == identity.client_id else "all"
    scope = f"agents-bot--{reach}:rw"
    if scope not in identity.scopes:
        raise AuthorizationError(f"Token lacks the scope: {scope}")
    return replace(identity, agent_id=bot.id, kind="bot")
