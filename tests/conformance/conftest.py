"""A demo server with TLS, for clients that are not ours."""

from collections.abc import Iterator

import pytest

from tests.running import ServerProcess, serving_demo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving_demo(tmp_path_factory.mktemp("conformance"), "--tls-self-signed") as server:
        yield server
