"""What is due to be indexed is noted once: threads, and chats whose properties all of their threads are found by."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TEMPORARY TABLE due_once AS
        SELECT max(id) AS id, license_id, thread_id, max(CASE WHEN afresh THEN 1 ELSE 0 END) = 1 AS afresh
        FROM archive_due GROUP BY license_id, thread_id
        """
    )
    op.execute("DELETE FROM archive_due")
    op.create_index("ix_archive_due_thread_id", "archive_due", ["thread_id"], unique=True)
    op.execute(
        """
        INSERT INTO archive_due (id, license_id, thread_id, afresh)
        SELECT id, license_id, thread_id, afresh FROM due_once ORDER BY id
        """
    )
    op.execute("DROP TABLE due_once")
    op.create_table(
        "archive_due_chats",
        sa.Column("license_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chat_id", sa.Text, primary_key=True),
        sa.Column("before", sa.Text, nullable=False, server_default="9"),
        sa.Column("again", sa.Boolean, nullable=False, server_default=sa.false()),
        sqlite_with_rowid=False,
    )
