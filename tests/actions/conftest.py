"""What is the same through both doors is tried through both."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.world import Client, Web, World

Enter = Callable[..., Awaitable[Client | Web]]


@pytest.fixture(params=["agent", "web"], ids=["socket", "http"])
def enter(request: pytest.FixtureRequest, world: World) -> Any:
    """`await enter("alice")` is Alice on a socket, or at the Web API."""
    return getattr(world, request.param)
