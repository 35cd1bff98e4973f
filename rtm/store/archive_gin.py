"""The archives' index on PostgreSQL: GIN over tsvectors, which finds all threads at once and in no order."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.model.labels import token
from rtm.store.archive_search import COLUMNS, OF_LICENSE, Clause, Column, Place, Search

EXACT = 10_000
"""Up to here what is found is counted, which is then 10 to 20 ms."""
NEAR = 40
"""Of more than EXACT, a page is looked for among so many threads for each on it, before it is among all."""
SAMPLE = 500
"""The first threads of the list, which tell what is common in it."""
OFTEN = 32
"""So many tokens that are not wanted GIN is told, of those that are common,"""
MANY = 8
"""if there are more than so many; the first so many of them are tried first."""

# Left to itself the planner goes through threads in order, or all of them, where it takes tokens to be common: wrongly,
# if they are not, or only long ago. Both cost more than the index ever does, as does a plan that is for any tokens, to
# have it compiled, or to have other processes join in. To try tokens on a thread costs twenty times what it thinks, and
# several, of which one is wanted, so much that each row that is not visited is worth any look at the index
# (`cpu_tuple_cost`). Numbers of all threads of a license fit into 16 MB.
_BY_TOKENS = text("""
    SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'off', true),
        set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true),
        set_config('max_parallel_workers_per_gather', '0', true), set_config('cpu_operator_cost', '0.05', true),
        set_config('cpu_tuple_cost', :row_cost, true), set_config('work_mem', '16MB', true)
""")


async def read(connection: AsyncConnection, search: Search, place: Place) -> tuple[list[int], int]:
    """Numbers from a place on, and how many there are in all, of more than EXACT about how many.

    Each row must be visited to be counted, and to be put in order. So where the planner takes them to be many, those
    next in the list are tried first: a page is found there unless what is asked for is all at the list's other end.
    """
    if search == Search(search.license_id):
        return await _read_all(connection, search, place)
    look = _Look(search)
    for column in look.refused:
        sample = _most_often(column, _next(search, replace(place, after=None), column, SAMPLE))
        often = await connection.scalars(text(sample), look.values | {"refused": look.refused[column]})
        look.refuse(column, list(often))
    values = look.values | place.values
    about = 0 if search.ids else await _estimated(connection, look)
    numbers: list[int] = []
    if about > EXACT:
        near = f"({_next(search, place, '*', NEAR * place.count)}) AS archive"
        numbers = list(await connection.scalars(text(_page(near, place, look.tried)), values))
    await connection.execute(_BY_TOKENS, {"row_cost": look.row_cost})
    if len(numbers) == place.count:
        count = f"SELECT count(*) FROM ({look.every()} LIMIT {EXACT + 1}) AS found"  # noqa: S608
        found = (await connection.execute(text(count), values)).scalar_one()
    else:
        every = f"""
            WITH found AS MATERIALIZED ({look.every()})
            SELECT (SELECT count(*) FROM found) AS count, ARRAY({_page("found", place)}) AS numbers
        """  # noqa: S608 - nothing but our own text and integers
        found, numbers = (await connection.execute(text(every), values)).one()
    await connection.rollback()  # and with it what the planner was told
    return numbers, found if min(found, about) <= EXACT else about


def has_any(column: str, clause: Clause) -> tuple[str, dict[str, object]]:
    """The condition on rows, and what is bound in it, that they are as the clause says."""
    return f"{column} @@ CAST(:tokens AS tsquery)", {"tokens": _tsquery([clause])}


async def _read_all(connection: AsyncConnection, search: Search, place: Place) -> tuple[list[int], int]:
    count = text(f"SELECT count(*) FROM archive WHERE {OF_LICENSE}")  # noqa: S608
    found = (await connection.execute(count, search.values)).scalar_one()
    page = text(_page("archive", place, [OF_LICENSE]))
    return list(await connection.scalars(page, search.values | place.values)), int(found)


async def _estimated(connection: AsyncConnection, look: "_Look") -> int:
    """How many the planner takes them to be."""
    tried = " AND ".join([OF_LICENSE, *look.tried])
    estimate = text(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM archive WHERE {tried}")  # noqa: S608
    [plan] = (await connection.execute(estimate, look.values)).scalar_one()
    return int(plan["Plan"]["Plan Rows"])


def _page(threads: str, place: Place, conditions: Sequence[str] = ()) -> str:
    """A statement that reads the numbers of a page of these."""
    where = " AND ".join(["true", *conditions, *place.then("number")])
    return f"SELECT number FROM {threads} WHERE {where} {place.first('number')}"  # noqa: S608


def _next(search: Search, place: Place, what: str, count: int) -> str:
    """A statement that reads the next threads of the list, whatever their tokens."""
    where = " AND ".join([OF_LICENSE, *search.bounds("number"), *place.then("number")])
    return f"SELECT {what} FROM archive WHERE {where} {place.order('number')} LIMIT {count}"  # noqa: S608


def _most_often(column: Column, threads: str) -> str:
    """A statement that reads which of the tokens that are not wanted these threads have most often."""
    return f"""
        SELECT token FROM ({threads}) AS first, unnest(tsvector_to_array({column})) AS token
        WHERE token = ANY(CAST(:refused AS text[])) GROUP BY token ORDER BY count(*) DESC LIMIT {OFTEN}
    """  # noqa: S608 - nothing but our own text and integers


class _Look:
    """How threads are found."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._moments = search.moments()
        self.row_cost = "0.01"
        """That the planner is told."""
        self.values = search.values | {column: list(ids) for column, ids in search.ids.items()}
        among = [f"{column} = ANY(CAST(:{column} AS text[]))" for column in search.ids]
        self.tried = [*search.created("number"), *among, *(f"number IN ({numbers})" for numbers in self._moments)]
        """What is true of all, as it is best tried on one thread after the other."""
        for column in COLUMNS:
            of_column = [clause for clause in search.clauses if clause.column == column]
            if of_column:
                self.tried.append(f"{column} @@ CAST(:{column}_tried AS tsquery)")
                self.values[f"{column}_tried"] = _tsquery(of_column)
        self.refused: dict[Column, list[str]] = {}
        """What is true of none: tokens, or with `&` several that none has all of."""
        clauses = dict.fromkeys((*search.clauses, *search.implied))
        # Tokens are of a license, so to look for all of the license's threads as well is of no use.
        of_license = OF_LICENSE if search.bounds("number") or not clauses else f"({OF_LICENSE}) IS TRUE"
        self._conditions = [of_license, *search.bounds("number")]
        if search.ids:
            self._conditions += self.tried
            return
        self._conditions += [f"number IN (TABLE moments_{place})" for place in range(len(self._moments))]
        for column in COLUMNS:
            of_column = [clause for clause in clauses if clause.column == column]
            refused = [clause for clause in of_column if clause.negated]
            if len(refused) > MANY:
                self.refused[column] = [" & ".join(clause.tokens) for clause in refused]
                of_column = [clause for clause in of_column if not clause.negated]
            self._look_up(column, of_column)

    def _look_up(self, column: Column, clauses: Iterable[Clause]) -> None:
        """Add conditions on the tokens of one column, which only the index answers."""
        any_of = [clause for clause in clauses if not clause.negated and len(clause.tokens) > 1]
        at_once = [clause for clause in clauses if clause not in any_of]
        if at_once and all(clause.negated for clause in at_once):
            # Without something that is there GIN would be of no use.
            at_once.append(self._of_license(column))
        if at_once:
            self._conditions.append(f"{column} @@ CAST(:{column} AS tsquery)")
            self.values[column] = _tsquery(at_once)
        for place, clause in enumerate(any_of):
            # GIN would try each on each thread that it finds, so each is looked up on its own. Of several conditions
            # with ANY all combinations would be, unless each is part of another OR: then the bitmaps of what is found
            # are combined. Not that of one which the planner takes to be true of all: so none is, as it takes `none`,
            # the token of no thread, to be rare only.
            either = f"{column} @@ ANY(CAST(:{column}_{place} AS tsquery[])) OR {column} @@ 'none & none{place}'"
            self._conditions.append(f"({either})")
            self.values[f"{column}_{place}"] = [f"{each} & !none" for each in clause.tokens]
            self.row_cost = "100000"

    def refuse(self, column: Column, often: Sequence[str]) -> None:
        """Have GIN refuse what is common: few threads have to be told from the others then."""
        self.values[f"{column}_refused"] = [each for each in self.refused[column] if each not in often]
        # Apart, as what has one of the first is not tried for the others then.
        parts = [f"!{_tree('|', part)}" for part in (often[:MANY], often[MANY:]) if part]
        for place, query in enumerate([_tsquery([self._of_license(column)]), *parts]):
            self._conditions.append(f"{column} @@ CAST(:{column}_often_{place} AS tsquery)")
            self.values[f"{column}_often_{place}"] = query

    def _of_license(self, column: Column) -> Clause:
        return Clause(column, (token(self._search.license_id, "license"),))

    def every(self) -> str:
        """A statement that finds all; whoever reads only some of them has no other plan made for that.

        What is refused stands apart, or the planner would rather remember all that is not.
        """
        parts = {f"moments_{place}": numbers for place, numbers in enumerate(self._moments)}
        parts["every"] = f"SELECT number FROM archive WHERE {' AND '.join(self._conditions)}"  # noqa: S608
        every = "SELECT number FROM every"
        if self.refused:
            parts["refused"] = " UNION ALL ".join(
                f"SELECT number FROM archive WHERE {column} @@ ANY(CAST(:{column}_refused AS tsquery[]))"  # noqa: S608
                for column in self.refused
            )
            every += " WHERE NOT EXISTS (SELECT 1 FROM refused WHERE refused.number = every.number)"
        materialized = (f"{name} AS MATERIALIZED ({numbers})" for name, numbers in parts.items())
        return f"WITH {', '.join(materialized)} {every}"


def _tsquery(clauses: Iterable[Clause]) -> str:
    return _tree("&", [_of_clause(clause) for clause in clauses])


def _of_clause(clause: Clause) -> str:
    return f"!{_tree('&', clause.tokens)}" if clause.negated else _tree("|", clause.tokens)


def _tree(operator: str, terms: Sequence[str]) -> str:
    """PostgreSQL descends into what is on the left of an operator: into a long list once for each of its terms."""
    while len(terms) > 1:
        terms = [f"({f' {operator} '.join(terms[i : i + 2])})" for i in range(0, len(terms), 2)]
    return terms[0]
