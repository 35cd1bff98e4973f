"""Custom ids of events: one that comes again in its thread, by the same author, is the event that is there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "event_custom_ids",
        sa.Column("thread_id", sa.Text, sa.ForeignKey("threads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("custom_id", sa.Text, primary_key=True),
        sa.Column("author_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
