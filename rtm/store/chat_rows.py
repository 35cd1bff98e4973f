"""How chats are read: a row's state may be some events old, and those that came after it tell the rest.

So an event writes its chat's state seldom, and is written itself in any case.
"""

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from rtm.model.chat import Chat
from rtm.store.tables import Json, chats, events


class _JsonArray(FunctionElement[Any]):
    """The values of a JSON column as one array, in any order."""

    type = Json
    inherit_cache = True


@compiles(_JsonArray, "sqlite")
def _on_sqlite(function: _JsonArray, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_array(json({compiler.process(function.clauses, **options)}))"


@compiles(_JsonArray, "postgresql")
def _on_postgresql(function: _JsonArray, compiler: SQLCompiler, **options: Any) -> str:
    return f"coalesce(jsonb_agg({compiler.process(function.clauses, **options)}), '[]')"


AFTER_STATE = (
    events.c.thread_id == chats.c.last_thread_id,
    events.c.number > chats.c.state["thread", "events_count"].as_integer(),
)
"""Of a chat's events, those that its state does not know."""

CHATS = select(
    chats,
    select(_JsonArray(events.c.body))
    .where(*AFTER_STATE)
    .correlate(chats)
    .scalar_subquery()
    .label("events_after_state"),
)
"""For `as_chat`."""


def as_chat(row: Row[Any]) -> Chat:
    """A chat as it is now."""
    return Chat.load(row.id, row.license_id, row.properties, row.state, row.events_after_state)
