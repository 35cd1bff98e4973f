"""One server for all cases: what one of them breaks, the next one finds broken."""

from collections.abc import Iterator

import pytest

from tests.hostile.target import Target
from tests.running import serving_demo


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with demo data on SQLite."""
    data_dir = tmp_path_factory.mktemp("hostile")
    log = data_dir / "log"
    with log.open("w") as output, serving_demo(data_dir, "--permessage-deflate", log=output) as server:
        yield Target(server, log)


@pytest.fixture
def unharmed(target: Target) -> Iterator[None]:
    """After the test the server is as it was."""
    yield
    target.assert_unharmed()
