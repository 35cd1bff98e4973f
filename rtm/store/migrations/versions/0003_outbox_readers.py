"""How far each process has come with the outbox, so that it can be trimmed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox_readers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("passed_at", sa.Text, nullable=False),
    )
