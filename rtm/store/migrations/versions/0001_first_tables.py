"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(JSONB(), "postgresql")
LicenseId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "licenses",
        sa.Column("id", LicenseId, primary_key=True, autoincrement=False),
        sa.Column("organization_id", sa.Text, nullable=False, unique=True),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("properties", Json, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("directory_version", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "agents",
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("avatar", sa.Text),
        sa.Column("job_title", sa.Text),
        sa.Column("max_chats_count", sa.Integer, nullable=False, server_default="6"),
        sa.Column("default_status", sa.Text, nullable=False, server_default="accepting_chats"),
        sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("awaiting_approval", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("owner_client_id", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "groups",
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("language_code", sa.Text, nullable=False, server_default="en"),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "group_agents",
        sa.Column("license_id", sa.BigInteger, primary_key=True),
        sa.Column("group_id", sa.Integer, primary_key=True),
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("priority", sa.Text, nullable=False, server_default="normal"),
        sa.ForeignKeyConstraint(["license_id", "group_id"], ["groups.license_id", "groups.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["license_id", "agent_id"],
            ["agents.license_id", "agents.id"],
            name="fk_group_agents_agent",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "tags",
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("group_ids", Json, nullable=False),
        sa.Column("author_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "customers",
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("state", Json, nullable=False),
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("revoked_at", sa.Text),
        sa.ForeignKeyConstraint(["license_id", "agent_id"], ["agents.license_id", "agents.id"], ondelete="CASCADE"),
        sa.Index("ix_tokens_revoked_at", "revoked_at"),
        sa.Index("ix_tokens_license_id_agent_id", "license_id", "agent_id"),
    )
    op.create_table(
        "chats",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("last_thread_id", sa.Text),
        sa.Column("sorted_at", sa.Text, nullable=False),
        sa.Column("properties", Json, nullable=False),
        sa.Column("state", Json, nullable=False),
        sa.Index("ix_chats_license_id_sorted_at", "license_id", "sorted_at", "id"),
    )
    op.create_table(
        "chat_groups",
        sa.Column("chat_id", sa.Text, sa.ForeignKey("chats.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("group_id", sa.Integer, primary_key=True),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Index("ix_chat_groups_license_id_group_id", "license_id", "group_id", "chat_id"),
    )
    op.create_table(
        "chat_users",
        sa.Column("chat_id", sa.Text, sa.ForeignKey("chats.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("follows", sa.Boolean, nullable=False),
        sa.Index("ix_chat_users_license_id_user_id", "license_id", "user_id", "chat_id"),
    )
    op.create_table(
        "threads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("chat_id", sa.Text, sa.ForeignKey("chats.id", ondelete="CASCADE"), nullable=False),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("state", Json, nullable=False),
        sa.Index("ix_threads_chat_id_created_at", "chat_id", "created_at"),
        sa.Index("ix_threads_license_id_created_at", "license_id", "created_at"),
    )
    op.create_table(
        "events",
        sa.Column("thread_id", sa.Text, sa.ForeignKey("threads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", Json, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("license_id", LicenseId, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("envelope", Json, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
