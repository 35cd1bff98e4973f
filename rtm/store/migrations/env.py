"""Run by alembic: applies the scripts in `versions` over the connection that `store.database` gives it."""

from alembic import context
from sqlalchemy import Connection

from rtm.store.tables import metadata

# Any number, as long as no other program on the same PostgreSQL takes a lock of the same one.
_LOCK = 0x72746D


def _run(connection: Connection) -> None:
    # All scripts together are one transaction, and two processes never migrate at once.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, render_as_batch=True)
    context.run_migrations()
    connection.commit()


_run(context.config.attributes["connection"])
