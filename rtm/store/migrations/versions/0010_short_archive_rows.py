"""On PostgreSQL the words of a thread are kept apart from its row in the archive, which is read to be counted.

What is kept apart is looked for in rows of more than 2 KB only, though then down to `toast_tuple_target`: most threads'
were shorter, 1.4 KB each. So each row gets 2 KB of blanks, which are compressed to some 40 bytes. They depend on the
words to be made anew with them, as they must be to count.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        blanks = "CASE WHEN words IS NOT NULL THEN repeat(' ', 2048) END"
        op.execute(f"ALTER TABLE archive ADD COLUMN blanks text GENERATED ALWAYS AS ({blanks}) STORED")
        op.execute("ALTER TABLE archive ALTER COLUMN blanks SET STORAGE MAIN")
