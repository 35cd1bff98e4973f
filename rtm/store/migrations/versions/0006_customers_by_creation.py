"""Customers are listed by their creation."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_customers_license_id_created_at", "customers", ["license_id", "created_at", "id"])
