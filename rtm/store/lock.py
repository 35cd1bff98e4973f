"""One SQLite file is served by one process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtm.settings import Settings
from rtm.store.database import DatabaseError


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """Hold the SQLite file for this process; the system lets go of it however the process ends.

    Raises DatabaseError when another process serves the file. PostgreSQL needs no such thing, and short commands may
    write to the file beside the server: they take this lock only to change its tables.
    """
    if settings.database.get_backend_name() != "sqlite":
        yield
        return
    path = Path(f"{settings.database.database}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseError(f"cannot write to {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DatabaseError(
            f"another process serves {settings.database.database}: stop it, or use PostgreSQL for several processes"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
