"""What the list of archives is filtered by. Threads that exist are due to be indexed, the newest first."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Tokens = sa.Text().with_variant(TSVECTOR(), "postgresql")

_OF_NEW = "INSERT INTO archive_index (rowid, labels, words) VALUES (new.number, new.labels, new.words);"
_OF_OLD = (
    "INSERT INTO archive_index (archive_index, rowid, labels, words)"
    " VALUES ('delete', old.number, old.labels, old.words);"
)
_COLUMNS = "labels, words, content='archive', content_rowid='number', detail='none', columnsize=0, tokenize='ascii'"
_FULL_TEXT_INDEX = (
    f"CREATE VIRTUAL TABLE archive_index USING fts5({_COLUMNS})",
    f"CREATE TRIGGER archive_inserted AFTER INSERT ON archive BEGIN {_OF_NEW} END",
    f"CREATE TRIGGER archive_deleted AFTER DELETE ON archive BEGIN {_OF_OLD} END",
    f"CREATE TRIGGER archive_updated AFTER UPDATE OF labels, words ON archive BEGIN {_OF_OLD} {_OF_NEW} END",
)


def upgrade() -> None:
    op.create_table(
        "archive",
        sa.Column("number", Number, primary_key=True, autoincrement=False),
        sa.Column("thread_id", sa.Text, sa.ForeignKey("threads.id", ondelete="CASCADE"), nullable=False, unique=True),
        sa.Column("chat_id", sa.Text, nullable=False),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Column("events_count", sa.Integer, nullable=False),
        sa.Column("labels", Tokens, nullable=False),
        sa.Column("words", Tokens, nullable=False),
        sa.Index("ix_archive_license_id_number", "license_id", "number"),
        sa.Index("ix_archive_chat_id_number", "chat_id", "number"),
    )
    op.create_table(
        "archive_moments",
        sa.Column("number", Number, sa.ForeignKey("archive.number", ondelete="CASCADE"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("at", sa.Text, primary_key=True),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Index("ix_archive_moments_license_id_kind_at", "license_id", "kind", "at", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "archive_due",
        sa.Column("id", Number, primary_key=True),
        sa.Column("license_id", sa.BigInteger, nullable=False),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("afresh", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Index("ix_archive_due_license_id_id", "license_id", "id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for column in ("labels", "words"):
            op.create_index(
                f"ix_archive_{column}",
                "archive",
                [column],
                postgresql_using="gin",
                postgresql_with={"fastupdate": False},
            )
        # Words are many, and looked up by their index only: apart, they leave the rows short to count.
        op.execute("ALTER TABLE archive ALTER COLUMN labels SET STORAGE MAIN")
        op.execute("ALTER TABLE archive SET (toast_tuple_target = 128)")
    else:
        for statement in _FULL_TEXT_INDEX:
            op.execute(statement)
    op.create_index(
        "ix_threads_active",
        "threads",
        ["license_id", "id"],
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )
    op.create_index("ix_customers_email", "customers", ["license_id", sa.text("lower(email)")])
    op.execute(
        "INSERT INTO archive_due (license_id, thread_id) SELECT license_id, id FROM threads ORDER BY created_at, id"
    )
