"""The archives' index on SQLite: FTS5, which goes through the threads in order and stops with the page.

It counts some twenty million of them a second, so all are counted.
"""

from collections.abc import Sequence

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.labels import token
from rtm.store.archive_search import OF_LICENSE, Clause, Place, Search

_WIDTH = 8


async def read(connection: AsyncConnection, search: Search, place: Place) -> tuple[list[int], int]:
    """Numbers from a place on, and how many there are in all."""
    clauses = search.clauses + search.implied
    table, number, sign = ("archive_index", "rowid", "+") if clauses else ("archive", "number", "")
    conditions = [
        "archive_index MATCH :match" if clauses else OF_LICENSE,
        *search.bounds(number),
        # FTS5 would look each of them up, were it not for the sign; which is better for a few threads only.
        *(f"{sign if column == 'chat_id' else ''}{number} IN ({_having(column)})" for column in search.ids),
        *(f"{sign}{number} IN ({numbers})" for numbers in search.moments()),
    ]
    values = search.values | {column: orjson.dumps(ids).decode() for column, ids in search.ids.items()}
    if clauses:
        values["match"] = _match(search.license_id, clauses)
    found = f"FROM {table} WHERE {' AND '.join(conditions)}"
    page = f"SELECT {number} {' AND '.join([found, *place.then(number)])} {place.first(number)}"
    numbers = list(await connection.scalars(text(page), values | place.values))
    if place.after is None and len(numbers) < place.count:
        return numbers, len(numbers)
    return numbers, int((await connection.execute(text(f"SELECT count(*) {found}"), values)).scalar_one())


def has_any(column: str, clause: Clause) -> tuple[str, dict[str, object]]:
    """The condition on rows, and what is bound in it, that they are as the clause says."""
    any_of = f"EXISTS (SELECT 1 FROM json_each(:tokens) WHERE instr({column}, value))"  # noqa: S608
    return any_of, {"tokens": orjson.dumps(clause.tokens).decode()}


def _having(column: str) -> str:
    return f"SELECT number FROM archive WHERE {column} IN (SELECT value FROM json_each(:{column}))"  # noqa: S608


def _match(license_id: int, clauses: Sequence[Clause]) -> str:
    wanted = [_any(clause.tokens) for clause in clauses if not clause.negated]
    refused = [" AND ".join(clause.tokens) for clause in clauses if clause.negated]
    # Always with the license: tokens are short, and another license's may be the same as one that is asked for.
    match = " AND ".join([token(license_id, "license"), *(f"({each})" for each in wanted)])
    return f"({match}) NOT ({_any([f'({each})' for each in refused])})" if refused else match


def _any(terms: Sequence[str]) -> str:
    """FTS5's words for one of these at least.

    FTS5 looks at each term of an OR for each thread that it finds, so a long one becomes a tree of short ones. It would
    make them one again, were there not something between them: a NOT of what is no thread's token.
    """
    while len(terms) > _WIDTH:
        terms = [f"(({' OR '.join(terms[i : i + _WIDTH])}) NOT none)" for i in range(0, len(terms), _WIDTH)]
    return " OR ".join(terms)
