"""The archives' index on PostgreSQL: GIN over tsvectors, which finds all threads at once and in no order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

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
FEW = 32
"""Tokens of which one is wanted that one look at GIN is for: it tries each on each thread that it finds."""
MANY = 8
"""Tokens that are not wanted, up to which GIN is for them."""

# Left to itself the planner goes through threads in order, or all of them, where it takes tokens to be common: wrongly,
# if they are not, or only long ago. Both cost more than the index ever does, as does a plan that is for any tokens, to
# have it compiled, or to have other processes join in. To try tokens on a thread costs twenty times what it thinks, and
# numbers of all threads of a license fit into 16 MB.
_BY_TOKENS = text("""
    SELECT set_config('enable_indexscan', :ordered, true), set_config('enable_seqscan', 'off', true),
        set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true),
        set_config('max_parallel_workers_per_gather', '0', true), set_config('cpu_operator_cost', '0.05', true),
        set_config('work_mem', '16MB', true)
""")


async def read(connection: AsyncConnection, search: Search, place: Place) -> tuple[list[int], int]:
    """Numbers from a place on, and how many there are in all, of more than EXACT about how many.

    Each row must be visited to be counted. Also to be put in order; so of many, those next in the list are tried
    first, as pages are found there unless what is asked for is all at the list's other end.
    """
    if search == Search(search.license_id):
        return await _read_all(connection, search, place)
    look = _look(search)
    values = look.values | place.values
    for column in look.refused:
        await connection.execute(_BY_TOKENS, {"ordered": "on"})
        sample = _most_often(column, _next(search, replace(place, after=None), column, SAMPLE))
        often = list(await connection.scalars(text(sample), values | {"refused": look.refused[column]}))
        look.refuse(column, often)
    values |= look.values
    await connection.execute(_BY_TOKENS, {"ordered": "off"})
    some = f"""
        WITH found AS MATERIALIZED ({look.every()} LIMIT {EXACT + 1})
        SELECT (SELECT count(*) FROM found) AS count, ARRAY({_page("found", place)}) AS numbers
    """  # noqa: S608 - nothing but our own text and integers
    found, numbers = (await connection.execute(text(some), values)).one()
    if found > EXACT:
        tried = " AND ".join([OF_LICENSE, *search.bounds("number"), *look.tried])
        estimate = text(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM archive WHERE {tried}")  # noqa: S608
        [plan] = (await connection.execute(estimate, values)).scalar_one()
        found = max(found, int(plan["Plan"]["Plan Rows"]))
        await connection.execute(_BY_TOKENS, {"ordered": "on"})
        near = f"({_next(search, place, '*', NEAR * place.count)}) AS archive"
        numbers = list(await connection.scalars(text(_page(near, place, look.tried)), values))
        if len(numbers) < place.count:
            await connection.execute(_BY_TOKENS, {"ordered": "off"})
            every = _page(f"({look.every()}) AS every", place)
            numbers = list(await connection.scalars(text(every), values))
    await connection.rollback()  # and with it what the planner was told
    return numbers, found


def has_any(column: str, clause: Clause) -> tuple[str, dict[str, object]]:
    """The condition on rows, and what is bound in it, that they are as the clause says."""
    return f"{column} @@ CAST(:tokens AS tsquery)", {"tokens": _tsquery([clause])}


async def _read_all(connection: AsyncConnection, search: Search, place: Place) -> tuple[list[int], int]:
    count = text(f"SELECT count(*) FROM archive WHERE {OF_LICENSE}")  # noqa: S608
    found = (await connection.execute(count, search.values)).scalar_one()
    page = text(_page("archive", place, [OF_LICENSE]))
    return list(await connection.scalars(page, search.values | place.values)), int(found)


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
        WHERE token = ANY(CAST(:refused AS text[])) GROUP BY token ORDER BY count(*) DESC LIMIT {FEW}
    """  # noqa: S608 - nothing but our own text and integers


@dataclass(slots=True)
class _Look:
    """How threads are found."""

    license_id: int
    conditions: list[str]
    """That the index answers."""
    tried: list[str]
    """The same, as they are best tried on one thread after the other."""
    values: dict[str, object]
    """What is bound in both."""
    refused: dict[Column, list[str]] = field(default_factory=dict)
    """What is true of none of the threads: tokens, or with `&` several that none has all of."""

    def refuse(self, column: Column, often: Sequence[str]) -> None:
        """Have GIN refuse what is common: few threads have to be told from the others then."""
        self.values[f"{column}_refused"] = [each for each in self.refused[column] if each not in often]
        is_there = token(self.license_id, "license")
        # Apart, as what has one of the first is not tried for the others then.
        for name, tokens in ((f"{column}_first", often[:MANY]), (f"{column}_often", often[MANY:])):
            if tokens:
                self.conditions.append(f"{column} @@ CAST(:{name} AS tsquery)")
                self.values[name] = f"{is_there} & !{_tree('|', tokens)}"

    def every(self) -> str:
        """A statement that finds all; whoever reads only some of them has no other plan made for that.

        What is refused stands apart, or the planner would rather remember all that is not.
        """
        where = " AND ".join(self.conditions)
        every = f"every AS MATERIALIZED (SELECT number FROM archive WHERE {where})"  # noqa: S608
        if not self.refused:
            return f"WITH {every} SELECT number FROM every"  # noqa: S608
        having = " UNION ALL ".join(_having(column, f"{column}_refused") for column in self.refused)
        is_refused = "SELECT 1 FROM refused WHERE refused.number = every.number"
        return (
            f"WITH refused AS MATERIALIZED ({having}), {every}"  # noqa: S608
            f" SELECT number FROM every WHERE NOT EXISTS ({is_refused})"
        )


def _look(search: Search) -> _Look:
    others = [
        *(f"archive.number IN ({numbers})" for numbers in search.moments()),
        *(f"{column} = ANY(CAST(:{column} AS text[]))" for column in search.ids),
    ]
    look = _Look(search.license_id, [OF_LICENSE, *search.bounds("archive.number"), *others], [*others], search.values)
    look.values |= {column: list(ids) for column, ids in search.ids.items()}
    clauses = list(search.clauses)
    for column in COLUMNS:
        of_column = [clause for clause in clauses if clause.column == column]
        if of_column:
            look.tried.append(f"{column} @@ CAST(:{column}_tried AS tsquery)")
            look.values[f"{column}_tried"] = _tsquery(of_column)
    if search.ids:
        look.conditions += look.tried
        return look
    for column in COLUMNS:
        refused = [" & ".join(each.tokens) for each in clauses if each.negated and each.column == column]
        if len(refused) > MANY:
            look.refused[column] = refused
            clauses = [each for each in clauses if not (each.negated and each.column == column)]
    wide = next((clause for clause in clauses if _is_wide(clause)), None)
    if wide is not None:
        # One of them is looked up with the rest; the sum keeps the planner from trying it on all of the license's.
        clauses = [clause for clause in clauses if clause is not wide]
        look.conditions[0] = "license_id + 0 = :license_id"
        look.conditions.append(f"{wide.column} @@ ANY(CAST(:wide AS tsquery[]))")
        look.values["wide"] = list(wide.tokens)
    for column in COLUMNS:
        _look_up(look, column, [clause for clause in clauses if clause.column == column])
    return look


def _is_wide(clause: Clause) -> bool:
    return not clause.negated and len(clause.tokens) > FEW


def _look_up(look: _Look, column: Column, clauses: Sequence[Clause]) -> None:
    """The conditions on the tokens of one column: as many as can be are one, which only the index answers."""
    at_once = [clause for clause in clauses if not _is_wide(clause)]
    if at_once and all(clause.negated for clause in at_once):
        # Without something that is there GIN would be of no use.
        at_once.append(Clause(column, (token(look.license_id, "license"),)))
    if at_once:
        look.conditions.append(f"{column} @@ CAST(:{column} AS tsquery)")
        look.values[column] = _tsquery(at_once)
    for place, clause in enumerate(filter(_is_wide, clauses)):
        look.conditions.append(f"archive.number IN ({_having(column, f'{column}_{place}')})")
        look.values[f"{column}_{place}"] = list(clause.tokens)


def _having(column: Column, name: str) -> str:
    """Numbers of threads that one of these is true of at least. OFFSET keeps it from being tried on each thread."""
    return f"SELECT o.number FROM archive o WHERE o.{column} @@ ANY(CAST(:{name} AS tsquery[])) OFFSET 0"  # noqa: S608


def _tsquery(clauses: Iterable[Clause]) -> str:
    return _tree("&", [_of_clause(clause) for clause in clauses])


def _of_clause(clause: Clause) -> str:
    return f"!{_tree('&', clause.tokens)}" if clause.negated else _tree("|", clause.tokens)


def _tree(operator: str, terms: Sequence[str]) -> str:
    """PostgreSQL descends into what is on the left of an operator: into a long list once for each of its terms."""
    while len(terms) > 1:
        terms = [f"({f' {operator} '.join(terms[i : i + 2])})" for i in range(0, len(terms), 2)]
    return terms[0]
