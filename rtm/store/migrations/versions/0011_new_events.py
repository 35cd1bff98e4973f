"""On SQLite new events wait in a small table to be filed many at a time: see `rtm.store.sqlite`."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    everywhere = "SELECT thread_id, number, body FROM events"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            """
            CREATE TABLE new_events (
                thread_id TEXT NOT NULL REFERENCES threads (id) ON DELETE CASCADE,
                number INTEGER NOT NULL,
                body JSON NOT NULL,
                PRIMARY KEY (thread_id, number)
            )
            """
        )
        everywhere += " UNION ALL SELECT thread_id, number, body FROM new_events"
    op.execute(f"CREATE VIEW all_events AS {everywhere}")
