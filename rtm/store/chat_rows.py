"""How chats are read: a row's state may be some events old, and those that came after it tell the rest.

So an event writes its chat's state seldom, and is written itself in any case.
"""

from typing import Any

from sqlalchemy import Row, column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from rtm.model.chat import Chat
from rtm.store.tables import Json, chats


def _after_state(events: str, known: str) -> str:
    return f"SELECT body FROM {events} WHERE thread_id = chats.last_thread_id AND number > {known}"  # noqa: S608


# Not from the view `all_events`: what is joined or counted, SQLite would make of every event there is.
AFTER_STATE_ON_SQLITE = " UNION ALL ".join(
    _after_state(events, "json_extract(chats.state, '$.thread.events_count')") for events in ("events", "new_events")
)
AFTER_STATE_ON_POSTGRESQL = _after_state("events", "(chats.state #>> '{thread,events_count}')::int")
"""The bodies of those events of a row of `chats` that its state does not know."""


class _AfterState(FunctionElement[Any]):
    inherit_cache = True


@compiles(_AfterState, "sqlite")
def _after_state_on_sqlite(*_: Any, **_options: Any) -> str:
    return f"({AFTER_STATE_ON_SQLITE})"


@compiles(_AfterState, "postgresql")
def _after_state_on_postgresql(*_: Any, **_options: Any) -> str:
    return f"({AFTER_STATE_ON_POSTGRESQL})"


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


after_state = _AfterState().table_valued(column("body", Json), name="after_state")
"""A `body` for each of those events; for subqueries of a query of `chats`."""

CHATS = select(chats, select(_JsonArray(after_state.c.body)).scalar_subquery().label("events_after_state"))
"""For `as_chat`."""


def as_chat(row: Row[Any]) -> Chat:
    """A chat as it is now."""
    return Chat.load(row.id, row.license_id, row.properties, row.state, row.events_after_state)
