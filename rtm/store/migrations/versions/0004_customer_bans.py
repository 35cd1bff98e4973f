"""Which customers may not connect, and until when."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "customer_bans",
        sa.Column("license_id", sa.BigInteger, primary_key=True),
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column("ip", sa.Text),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["license_id", "customer_id"], ["customers.license_id", "customers.id"], ondelete="CASCADE"
        ),
    )
