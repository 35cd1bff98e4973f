"""The end of a process, for its sockets: each is told to go in its turn, so that they do not come back as one wave."""

import asyncio
import math
from collections.abc import Set as AbstractSet
from typing import Any

from rtm.gateway.wire import Wire

_TURN_S = 0.1
"""Those who are due within it are told together."""


async def drain(connections: AbstractSet[Any], over_s: float) -> None:
    """Tell the sockets among `connections` to go, evenly over this time; return when the last of them has been told.

    Those whose turn has not come are served as ever, and those that arrive meanwhile get a turn as well.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + over_s
    told: set[Wire] = set()
    while waiting := [each for each in connections if isinstance(each, Wire) and each not in told]:
        left_s = max(0.0, end - loop.time())
        due = math.ceil(len(waiting) * min(1.0, _TURN_S / left_s)) if left_s else len(waiting)
        for wire in waiting[:due]:
            told.add(wire)
            wire.shutdown()
        if due < len(waiting):
            await asyncio.sleep(left_s * due / len(waiting))
