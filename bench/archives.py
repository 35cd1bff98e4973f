"""How long `list_archives` takes over a year's history, by filter, on SQLite and on PostgreSQL.

The history is written for the run, and removed after it. One agent asks, one request after the other: the first page of
a filter with values drawn anew, then the pages after it. A time is the load's: from the request to the whole answer.
"""

import asyncio
import gc
import random
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import orjson

from bench import databases
from bench.agents import encode_request, logged_in
from bench.clients import Client, LoadError, ping, text_frame
from bench.history import BEGAN_US, YEAR_US, History, write
from bench.report import Report, histogram_us, number, progress
from bench.server import rtm_processes
from rtm import settings as rtm_settings
from rtm.model.requests.archives import OldEventType
from rtm.protocol.timestamps import from_microseconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AGENTS = 30
PAGES = 10
"""In a row."""
A_BOT = "b" * 32
PERCENTILES = (50, 99, 100)
DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    databases: tuple[str, ...]
    threads: int
    requests: int
    """For each filter and database."""


@dataclass(frozen=True, slots=True)
class Case:
    """A filter: its payload, and whether somebody asks who does not see all groups."""

    name: str
    draw: Callable[[History, random.Random], Mapping[str, Any]]
    limited: bool = False
    more: Mapping[str, Any] | None = None


def _span(_: History, draw: random.Random) -> dict[str, str]:
    began = BEGAN_US + draw.randrange(YEAR_US - 30 * DAY_US)
    return {"from": from_microseconds(began), "to": from_microseconds(began + draw.randrange(30 * DAY_US))}


def _any_agent(history: History, draw: random.Random) -> list[str]:
    return [draw.choice(history.agent_ids)]


def _some(ids: Sequence[str], count: int, draw: random.Random) -> list[str]:
    return draw.sample(ids, min(count, len(ids)))


def _words(*ranks: int) -> Callable[[History, random.Random], dict[str, Any]]:
    """Words of about these places in the order of how common they are."""
    return lambda history, draw: {"query": " ".join(history.vocabulary[rank + draw.randrange(5)] for rank in ranks)}


_TAGS = [f"tag {place}" for place in range(99)]

CASES = (
    Case("none", lambda *_: {}),
    Case("none, 100 on a page", lambda *_: {}, more={"limit": 100}),
    Case("none, the oldest first", lambda *_: {}, more={"sort_order": "asc"}),
    Case("none, seen by some groups", lambda *_: {}, limited=True),
    Case("from, to", _span),
    Case("chat_ids: 1,000", lambda history, draw: {"chat_ids": _some(history.chat_ids, 1000, draw)}),
    Case("thread_ids: 20", lambda history, draw: {"thread_ids": _some(history.thread_ids, 20, draw)}),
    Case("group_ids: 1", lambda _, draw: {"group_ids": [draw.randrange(20)]}),
    Case("group_ids: 200", lambda *_: {"group_ids": list(range(200))}),
    Case("properties: values", lambda *_: {"properties": {"rating": {"score": {"values": [1]}}}}),
    Case("properties: exclude_values", lambda *_: {"properties": {"rating": {"score": {"exclude_values": [1]}}}}),
    Case("agents: values", lambda history, draw: {"agents": {"values": _any_agent(history, draw)}}),
    Case("agents: exclude_values", lambda history, draw: {"agents": {"exclude_values": _any_agent(history, draw)}}),
    Case("agents: exists false", lambda *_: {"agents": {"exists": False}}),
    Case("tags: half of all", lambda *_: {"tags": {"values": ["half"]}}),
    Case("tags: one in 10,000", lambda *_: {"tags": {"values": ["rare"]}}),
    Case("tags: every of two", lambda *_: {"tags": {"values": ["half", "tenth"], "require_every_value": True}}),
    Case("tags: exists false", lambda *_: {"tags": {"exists": False}}),
    Case("sales: exists", lambda *_: {"sales": {"exists": True}}),
    Case("goals: exists false", lambda *_: {"goals": {"exists": False}}),
    Case("forms: type, values", lambda *_: {"forms": [{"type": "pre_chat", "values": ["answer1", "answer2"]}]}),
    Case("forms: from, to", lambda history, draw: {"forms": [_span(history, draw)]}),
    Case("event_types: values", lambda *_: {"event_types": {"values": ["message", "filled_form"]}}),
    Case("event_types: exclude_values", lambda *_: {"event_types": {"exclude_values": ["filled_form", "file"]}}),
    Case("greetings: values", lambda _, draw: {"greetings": {"values": [draw.randint(1, 20)]}}),
    Case("greetings: from, to", lambda history, draw: {"greetings": _span(history, draw)}),
    Case(
        "agent_response: first",
        lambda history, draw: {"agent_response": {"first": True, "agents": {"values": _any_agent(history, draw)}}},
    ),
    Case("agent_types: any of two", lambda *_: {"agent_types": {"any_values": ["chatbot", "ai_agent"]}}),
    Case("customer_countries: values", lambda *_: {"customer_countries": {"values": ["PL", "AU"]}}),
    Case("customer_id", lambda history, draw: {"customer_id": draw.choice(history.customer_ids)}),
    Case(
        "customer_email",
        lambda history, draw: {"customer_email": f"{draw.choice(history.customer_ids)[:8]}@example.net"},
    ),
    Case(
        "six at once",
        lambda history, draw: {
            **_span(history, draw),
            "agents": {"values": [history.agent_ids[0]]},
            "tags": {"exclude_values": ["tenth"]},
            "properties": {"rating": {"score": {"values": [1]}}},
            "event_types": {"values": ["filled_form"]},
            "customer_countries": {"exclude_values": ["DE"]},
        },
    ),
    Case("from, to, with a tag, the oldest first", lambda history, draw: {
        **_span(history, draw), "tags": {"values": ["half"]},
    }, more={"sort_order": "asc"}),
    Case("to, with what half do not have", lambda history, draw: {
        "to": _span(history, draw)["to"], "tags": {"exclude_values": ["half"]}, "agents": {"exists": True},
    }),
    Case("from, to, group_ids: 200", lambda history, draw: {**_span(history, draw), "group_ids": list(range(200))}),
    Case("group_ids: 200, seen by some groups", lambda *_: {"group_ids": list(range(200))}, limited=True),
    Case("chat_ids: 1,000, with a word", lambda history, draw: {
        "chat_ids": _some(history.chat_ids, 1000, draw), **_words(0)(history, draw),
    }),
    Case("agents: all but one excluded", lambda history, _: {
        "agents": {"exclude_values": list(history.agent_ids[:-1])},
    }),
    Case("tags: 100 values", lambda *_: {"tags": {"values": ["half", *_TAGS]}}),
    Case("tags: 100 exclude_values", lambda *_: {"tags": {"exclude_values": ["half", *_TAGS]}}),
    Case("properties: exists, of three", lambda *_: {"properties": {
        "rating": {"score": {"exists": True}}, "source": {"client_id": {"values": ["a", "b", "c"]}},
        "lc2": {"greeting_id": {"exists": False}},
    }}),
    Case("forms: from, to, the oldest first", lambda history, draw: {"forms": [_span(history, draw)]},
         more={"sort_order": "asc"}),
    Case("forms: half a year, with a tag, the oldest first", lambda *_: {
        "forms": [{"from": from_microseconds(BEGAN_US + YEAR_US // 2)}], "tags": {"values": ["half"]},
    }, more={"sort_order": "asc"}),
    Case("forms: four, of 200 groups each", lambda *_: {"forms": [
        {"groups": {"values": list(range(first, first + 200))}} for first in range(4)
    ]}),
    Case("event_types: any of seven, with a tag", lambda *_: {
        "event_types": {"values": list(get_args(OldEventType))}, "tags": {"values": ["half"]},
    }),
    Case("query: the most common words", _words(0), more={"highlights": {}}),
    Case("query: a rare word", _words(4000), more={"highlights": {}}),
    Case("query: two words", _words(5, 50)),
    Case("query: three words", _words(0, 10, 300)),
    Case("query: a word, with a tag and a group", lambda history, draw: {
        **_words(20)(history, draw), "tags": {"values": ["half"]}, "group_ids": [0, 1],
    }),
    Case("query: a word, seen by some groups", _words(0), limited=True),
    Case("query: a word, with a group, seen by some groups", lambda history, draw: {
        **_words(0)(history, draw), "group_ids": [0, 1],
    }, limited=True),
    Case("query: a word, from, to", lambda history, draw: {**_words(0)(history, draw), **_span(history, draw)}),
    Case("query: fifty common words", lambda history, _: {"query": " ".join(history.vocabulary[:50])}),
    Case("query: a word that nobody said", lambda *_: {"query": "never"}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    case: str
    database: str
    found: int
    """By the last request."""
    times_s: "array[float]"

    def ms(self, percentile: float) -> float:
        return float(histogram_us(self.times_s).get_value_at_percentile(percentile)) / 1e3


def run(settings: Settings) -> Report:
    """Raises CannotStart, LoadError, OSError."""
    results: list[Result] = []
    batches = settings.threads // 1000
    with progress(len(settings.databases) * (batches + len(CASES))) as tick, ExitStack() as stack:
        for database in settings.databases:
            with _server(database, settings.threads, tick) as (history, clients):
                # What the load keeps is not looked through for garbage meanwhile, in 0.1 s of the server's time.
                gc.collect()
                gc.freeze()
                for case in CASES:
                    tick(f"{database}: {case.name}")
                    ping(list(clients.values()))  # one of them waits for its turn
                    results.append(_measure(case, database, history, clients[case.limited], settings.requests))
        stack.close()
    return _report(settings, results)


@contextmanager
def _server(
    database: str, threads: int, tick: Callable[[str], None]
) -> Iterator[tuple[History, Mapping[bool, Client]]]:
    """A server with the history: an owner's connection to it, and that of an agent who sees some groups only."""
    with ExitStack() as stack:
        environment = stack.enter_context(databases.database(database))
        with rtm_processes(1, AGENTS, environment) as (_, credentials):
            agents = credentials.agents
        history = History(threads, [agent.id for agent in agents[:AGENTS]], [A_BOT])
        where: dict[str, Any] = {name.removeprefix("RTM_").lower(): value for name, value in environment.items()}
        asyncio.run(write(rtm_settings.Settings(**where), history, tick))
        [server], _ = stack.enter_context(rtm_processes(1, AGENTS, environment))
        asking = [agents[0], next(agent for agent in agents if agent.role == "normal")]
        owner, limited = stack.enter_context(logged_in(server.address, asking, []))
        yield history, {False: owner, True: limited}


def _measure(case: Case, database: str, history: History, client: Client, requests: int) -> Result:
    draw = random.Random(case.name)
    times_s = array("d")
    answer: dict[str, Any] = {}
    for place in range(requests):
        page_id = answer.get("next_page_id") if place % PAGES else None
        payload = {"page_id": page_id} if page_id else {"filters": case.draw(history, draw), **(case.more or {})}
        frame = text_frame(encode_request("list_archives", payload))
        began = time.perf_counter()
        client.send(frame)
        [message] = client.next_messages()
        times_s.append(time.perf_counter() - began)
        response = orjson.loads(message)
        if not response["success"]:
            raise LoadError(f"{case.name}: {response['payload']}")
        answer = response["payload"]
    return Result(case.name, database, answer["found_chats"], times_s)


def _report(settings: Settings, results: list[Result]) -> Report:
    cells: dict[str, list[str]] = {}
    for result in results:
        row = cells.setdefault(result.case, [result.case, f"{result.found:,}"])
        row += [number(result.ms(percentile)) for percentile in PERCENTILES]
    named = [f"{database} {name}" for database in settings.databases for name in ("p50 ms", "p99 ms", "max ms")]

    def draw(axes: "Axes") -> None:
        for database in settings.databases:
            of_database = [result for result in results if result.database == database]
            axes.plot([result.ms(99) for result in of_database], marker="o", label=database)
        axes.set_xticks(range(len(cells)), list(cells), rotation=90, fontsize=7)
        axes.set_ylabel("p99 ms")
        axes.legend()

    return Report(
        title=f"archives: {settings.threads:,} threads of about 10 events each, one request at a time",
        columns=["filter", "found", *named],
        rows=list(cells.values()),
        data={"results": [asdict(result) | {"times_s": list(result.times_s)} for result in results]},
        draw=draw,
        notes=[
            f"requests for each filter and database: {settings.requests}, {PAGES} pages in a row; 10 threads a page"
        ],
    )
