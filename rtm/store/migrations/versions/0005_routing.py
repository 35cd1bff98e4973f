"""Who waits for an agent, what the router must look at, and who is how busy."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_LICENSE_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_OF_CUSTOMER = """
    EXISTS (SELECT 1 FROM customers WHERE customers.license_id = chat_users.license_id AND customers.id = user_id)
"""


def upgrade() -> None:
    op.add_column("groups", sa.Column("properties", _JSON, nullable=False, server_default="{}"))
    op.add_column("chats", sa.Column("queued_at", sa.Text))
    op.add_column("chats", sa.Column("due_at", sa.Text))
    op.add_column("chat_users", sa.Column("type", sa.Text, nullable=False, server_default="agent"))
    op.create_table(
        "routing_turns",
        sa.Column("license_id", _LICENSE_ID, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("given_at", sa.Text, nullable=False),
    )
    op.execute(f"UPDATE chat_users SET type = 'customer' WHERE {_OF_CUSTOMER}")  # noqa: S608 - our own text
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    with_due_at = (
        "json_set(state, '$.due_at', sorted_at)" if is_sqlite else "state || jsonb_build_object('due_at', sorted_at)"
    )
    op.execute(
        f"UPDATE chats SET due_at = sorted_at, state = {with_due_at} WHERE active"  # noqa: S608
        " AND EXISTS (SELECT 1 FROM chat_users WHERE chat_id = chats.id AND type = 'customer')"
    )
    _create_index("ix_chats_queue", "chats", ["license_id", "queued_at"], "queued_at IS NOT NULL")
    _create_index("ix_chats_due", "chats", ["due_at"], "due_at IS NOT NULL")
    _create_index(
        "ix_chat_users_busy", "chat_users", ["license_id", "user_id", "chat_id"], "present AND type = 'agent'"
    )


def _create_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
