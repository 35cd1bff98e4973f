"""Pushes that a script in Redis publishes, in the step in which it changes what they tell of."""

from rtm.bus.base import Envelope, Origin
from rtm.bus.redis_shard import channel_of
from rtm.model.audience import Audience

_NOBODY = "-" * 16
"""In the place of a process's id: every process hears it, none drops it as its own."""
_NO_PAYLOAD = '"payload":null'  # as orjson writes it; in no string, where quotes are escaped


def publication(
    license_id: int, name: str, audience: Audience, origin: Origin | None, *, sharded: bool
) -> dict[str, str]:
    """What the script needs to publish a payload: `redis.call(publish, channel, head .. payload .. tail)`.

    `sharded` as the bus is on a Cluster, where the channel is on the shard of the keys with `{<license>}`.
    """
    envelope = Envelope(license_id, name, b"null", audience, origin=origin)
    head, _, tail = envelope.encode().decode().partition(_NO_PAYLOAD)
    return {
        "publish": "SPUBLISH" if sharded else "PUBLISH",
        "channel": channel_of(license_id).decode(),
        "head": f"{_NOBODY}\n{head}" + _NO_PAYLOAD.removesuffix("null"),
        "tail": tail,
    }
