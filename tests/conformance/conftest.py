"""A demo server with TLS, for clients that are not ours."""

import time
from collections.abc import Iterator

import pytest
from livechat.utils import ws_client

from tests.running import ServerProcess, serving_demo

_POLL_S = 0.2
"""How long the SDK's sockets sleep before they look for an answer again."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving_demo(tmp_path_factory.mktemp("conformance"), "--tls-self-signed") as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def _impatient_sdk() -> Iterator[None]:
    """Hundreds of requests would spend a minute in its sleep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ws_client, "sleep", lambda seconds: time.sleep(0.005 if seconds == _POLL_S else seconds))
        yield
