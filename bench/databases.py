"""A database for a server of the run's own."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.server import CannotStart

DATABASES = ("sqlite", "postgresql")


@contextmanager
def database(name: str) -> Iterator[dict[str, str]]:
    """An empty one of them, as a server's environment names it; it is removed at the end. Raises CannotStart."""
    with ExitStack() as stack:
        environment = {"RTM_DATA_DIR": stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))}
        if name == "postgresql":
            try:
                from tests.servers import PostgresServer

                server = stack.enter_context(PostgresServer(durable=True))
            except (ImportError, RuntimeError) as error:
                raise CannotStart(str(error)) from error
            environment["RTM_DATABASE_URL"] = asyncio.run(server.create_database())
        yield environment
