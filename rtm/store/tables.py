"""Every table, in one vocabulary for SQLite and PostgreSQL. Times are text in the protocol's form, which sorts.

What is asked for by a filter or a key is a column; the rest of a chat, thread, event or customer is its JSON `state`
or `body`, so that one row is read per chat and command. A chat's `state` may be some events old: see `chat_rows`.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    column,
    false,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
Json = JSON().with_variant(JSONB(), "postgresql")
Tokens = Text().with_variant(TSVECTOR(), "postgresql")  # in SQLite with spaces between them


def _partial_index(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


licenses = Table(
    "licenses",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("organization_id", Text, nullable=False, unique=True),
    Column("plan", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text),
    Column("properties", Json, nullable=False),
    # The place of the license's newest push; its row lock puts the license's changes in commit order.
    Column("sequence", BigInteger, nullable=False, server_default="0"),
    # Counts changes of agents, groups and tags, so that a process knows when its directory is out of date.
    Column("directory_version", BigInteger, nullable=False, server_default="0"),
)

agents = Table(
    "agents",
    metadata,
    Column("license_id", ForeignKey(licenses.c.id), primary_key=True),
    Column("id", Text, primary_key=True),  # an agent's e-mail, or a bot's 32 hexadecimal digits
    Column("kind", Text, nullable=False),  # agent, bot
    Column("account_id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),  # owner, viceowner, administrator, normal
    Column("avatar", Text),
    Column("job_title", Text),
    Column("max_chats_count", Integer, nullable=False, server_default="6"),
    Column("default_status", Text, nullable=False, server_default="accepting_chats"),
    Column("suspended", Boolean, nullable=False, server_default=false()),
    Column("awaiting_approval", Boolean, nullable=False, server_default=false()),
    Column("owner_client_id", Text),  # bots: the client that may act for them
    Column("created_at", Text, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("license_id", ForeignKey(licenses.c.id), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),  # 0 is everybody
    Column("name", Text, nullable=False),
    Column("language_code", Text, nullable=False, server_default="en"),
    Column("created_at", Text, nullable=False),
    Column("properties", Json, nullable=False, server_default="{}"),
)

group_agents = Table(
    "group_agents",
    metadata,
    Column("license_id", BigInteger, primary_key=True),
    Column("group_id", Integer, primary_key=True),
    Column("agent_id", Text, primary_key=True),
    Column("priority", Text, nullable=False, server_default="normal"),
    ForeignKeyConstraint(["license_id", "group_id"], ["groups.license_id", "groups.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(
        ["license_id", "agent_id"],
        ["agents.license_id", "agents.id"],
        name="fk_group_agents_agent",
        ondelete="CASCADE",
    ),
)

tags = Table(
    "tags",
    metadata,
    Column("license_id", ForeignKey(licenses.c.id), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("group_ids", Json, nullable=False),
    Column("author_id", Text, nullable=False),
    Column("created_at", Text, nullable=False),
)

customers = Table(
    "customers",
    metadata,
    Column("license_id", ForeignKey(licenses.c.id), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("email", Text),
    Column("created_at", Text, nullable=False),
    Column("state", Json, nullable=False),  # avatar, session_fields, statistics, visit, ... as the reference has them
    Index("ix_customers_license_id_created_at", "license_id", "created_at", "id"),
    Index("ix_customers_email", "license_id", text("lower(email)")),
)

customer_bans = Table(
    "customer_bans",
    metadata,
    Column("license_id", BigInteger, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("ip", Text),
    Column("agent_id", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    ForeignKeyConstraint(["license_id", "customer_id"], ["customers.license_id", "customers.id"], ondelete="CASCADE"),
)

clients = Table(
    "clients",
    metadata,
    Column("id", Text, primary_key=True),
    Column("license_id", ForeignKey(licenses.c.id), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),  # SHA-256; the token itself is never stored
    Column("kind", Text, nullable=False),  # personal, access, bot
    Column("license_id", BigInteger, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("client_id", Text),
    Column("scopes", Json, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text),
    Column("revoked_at", Text),
    ForeignKeyConstraint(["license_id", "agent_id"], ["agents.license_id", "agents.id"], ondelete="CASCADE"),
    Index("ix_tokens_revoked_at", "revoked_at"),
    Index("ix_tokens_license_id_agent_id", "license_id", "agent_id"),
)

chats = Table(
    "chats",
    metadata,
    Column("id", Text, primary_key=True),
    Column("license_id", ForeignKey(licenses.c.id), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("last_thread_id", Text),
    Column("sorted_at", Text, nullable=False),  # creation of the last thread, or of the chat while it has none
    Column("queued_at", Text),  # in the queue since
    Column("due_at", Text),  # the router looks at it then, or later
    Column("properties", Json, nullable=False),
    Column("state", Json, nullable=False),  # model.chat.Chat without what has a column of its own
    Index("ix_chats_license_id_sorted_at", "license_id", "sorted_at", "id"),
    _partial_index("ix_chats_queue", "license_id", "queued_at", where="queued_at IS NOT NULL"),
    _partial_index("ix_chats_due", "due_at", where="due_at IS NOT NULL"),
)

chat_groups = Table(
    "chat_groups",
    metadata,
    Column("chat_id", ForeignKey(chats.c.id, ondelete="CASCADE"), primary_key=True),
    Column("group_id", Integer, primary_key=True),
    Column("license_id", BigInteger, nullable=False),
    Index("ix_chat_groups_license_id_group_id", "license_id", "group_id", "chat_id"),
)

chat_users = Table(
    "chat_users",
    metadata,
    Column("chat_id", ForeignKey(chats.c.id, ondelete="CASCADE"), primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("license_id", BigInteger, nullable=False),
    Column("type", Text, nullable=False, server_default="agent"),  # agent, customer
    Column("present", Boolean, nullable=False),
    Column("follows", Boolean, nullable=False),
    Index("ix_chat_users_license_id_user_id", "license_id", "user_id", "chat_id"),
    _partial_index("ix_chat_users_busy", "license_id", "user_id", "chat_id", where="present AND type = 'agent'"),
)

routing_turns = Table(
    "routing_turns",
    metadata,
    Column("license_id", ForeignKey(licenses.c.id), primary_key=True),
    Column("agent_id", Text, primary_key=True),
    Column(
        "given_at", Text, nullable=False
    ),  # when the agent was last given a chat: of equals, who waited longest is next
)

threads = Table(
    "threads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("chat_id", ForeignKey(chats.c.id, ondelete="CASCADE"), nullable=False),
    Column("license_id", BigInteger, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("state", Json, nullable=False),  # model.chat.Thread without what has a column of its own
    Index("ix_threads_chat_id_created_at", "chat_id", "created_at"),
    Index("ix_threads_license_id_created_at", "license_id", "created_at"),
    _partial_index("ix_threads_active", "license_id", "id", where="active"),
)

events = Table(
    "events",
    metadata,
    Column("thread_id", ForeignKey(threads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("body", Json, nullable=False),  # the event as 3.6 shows it
)

# What is to be read: on SQLite the newest events are in the table `new_events`, which only the migrations name.
all_events = table("all_events", column("thread_id", Text), column("number", Integer), column("body", Json))

event_custom_ids = Table(
    "event_custom_ids",
    metadata,
    Column("thread_id", ForeignKey(threads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("custom_id", Text, primary_key=True),
    Column("author_id", Text, primary_key=True),
    Column("number", Integer, nullable=False),  # the event's
    sqlite_with_rowid=False,  # the key is nearly all there is
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("license_id", ForeignKey(licenses.c.id), nullable=False),
    Column("origin", Text, nullable=False),  # by which its uploader reaches the server
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text),  # until an event shows it
    _partial_index("ix_files_expires_at", "expires_at", where="expires_at IS NOT NULL"),
    _partial_index("ix_files_unused", "license_id", "size", "expires_at", where="expires_at IS NOT NULL"),
)

file_parts = Table(
    "file_parts",
    metadata,
    Column("file_id", ForeignKey(files.c.id, ondelete="CASCADE"), primary_key=True),
    Column("variant", Integer, primary_key=True, autoincrement=False),  # 0 the file, 1 and 2 its thumbnails
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),  # store.files.PART_BYTES, the last one less
)

# What the list of archives is filtered by, a row a thread; see store.indexer. Its tokens have inverted indexes, which
# only the migrations name: on SQLite the FTS5 table `archive_index`, where triggers add and remove whole rows and the
# indexer what changes in one, on PostgreSQL GIN. There a row has `blanks`, too, for which its words are kept apart.
archive = Table(
    "archive",
    metadata,
    # By creation of the thread, microseconds since 1970 times 1024; the rest tells threads of one microsecond apart.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("thread_id", ForeignKey(threads.c.id, ondelete="CASCADE"), nullable=False, unique=True),
    Column("chat_id", Text, nullable=False),
    Column("license_id", BigInteger, nullable=False),
    Column("events_count", Integer, nullable=False),  # so many of the thread's events are in `words`
    Column("labels", Tokens, nullable=False),  # model.labels.of_thread
    Column("words", Tokens, nullable=False),  # model.labels.of_events
    Index("ix_archive_license_id_number", "license_id", "number"),
    Index("ix_archive_chat_id_number", "chat_id", "number"),
)

# When those events of a thread happened that can be asked for by their time.
archive_moments = Table(
    "archive_moments",
    metadata,
    Column("number", ForeignKey(archive.c.number, ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),  # form, greeting
    Column("at", Text, primary_key=True),
    Column("license_id", BigInteger, nullable=False),
    Index("ix_archive_moments_license_id_kind_at", "license_id", "kind", "at", "number"),
    sqlite_with_rowid=False,
)

# Threads that have changed since their row in `archive` was written, in the order of their last changes.
archive_due = Table(
    "archive_due",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # another at each change
    Column("license_id", BigInteger, nullable=False),
    Column("thread_id", Text, nullable=False),
    Column("afresh", Boolean, nullable=False, server_default=false()),  # events that it knew have changed
    Index("ix_archive_due_thread_id", "thread_id", unique=True),
    Index("ix_archive_due_license_id_id", "license_id", "id"),
)

# Chats whose properties have changed since the rows of all of their threads were written, of which there may be many.
archive_due_chats = Table(
    "archive_due_chats",
    metadata,
    Column("license_id", BigInteger, primary_key=True, autoincrement=False),
    Column("chat_id", Text, primary_key=True),
    Column("before", Text, nullable=False, server_default="9"),  # the threads that were created before this are left
    Column("again", Boolean, nullable=False, server_default=false()),  # then all once more: they have changed since
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    Column("license_id", ForeignKey(licenses.c.id), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("created_at", Text, nullable=False),
    Column("envelope", Json, nullable=False),  # bus.base.Envelope
    sqlite_with_rowid=False,  # it grows at its end only: one tree to write to instead of two
)

outbox_readers = Table(
    "outbox_readers",
    metadata,
    Column("id", Text, primary_key=True),  # a process, as long as it runs
    Column("passed_at", Text, nullable=False),  # all that was stored before has been delivered by it
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),  # what it is for, for instance page_ids
    Column("value", LargeBinary, nullable=False),  # 32 random bytes, made by the first process that asks
)
