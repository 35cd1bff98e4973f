"""What the log-in of an agent with many open chats costs the server, and how long it takes."""

import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from bench import databases
from bench.agents import PATH, Agent, call, encode_request
from bench.clients import LoadError, connected, text_frame
from bench.report import Report, histogram_us, number, progress
from bench.server import Server, rtm_processes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUND = 20
"""Log-ins of which the CPU is read together; the system counts it in steps of 10 ms."""
EVENTS = 5
"""Of each chat."""


@dataclass(frozen=True, slots=True)
class Settings:
    databases: tuple[str, ...]
    chats: int
    logins: int


def run(settings: Settings) -> Report:
    """Raises CannotStart, LoadError, OSError."""
    rows = []
    samples: dict[str, list[float]] = {}
    with progress(2 * len(settings.databases)) as tick:
        for database in settings.databases:
            tick(f"{database}: chats")
            with _server(database, settings.chats) as (server, agent):
                tick(f"{database}: log-ins")
                before, size, times_s = server.cpu_s() or 0, 0, array("d")
                for _ in range(max(1, settings.logins // ROUND)):
                    size = _log_in(server, agent, settings.chats, times_s)
                cpu_ms = ((server.cpu_s() or 0) - before) / len(times_s) * 1e3
            samples[database] = list(times_s)
            found = histogram_us(times_s)
            of_time = [number(found.get_value_at_percentile(at) / 1e3) for at in (50, 99)]
            rows.append([database, number(cpu_ms), *of_time, f"{size:,}"])
    return _report(settings, rows, samples)


@contextmanager
def _server(database: str, chats: int) -> Iterator[tuple[Server, Agent]]:
    """A server, and an agent of it who has so many open chats, each with a customer."""
    with ExitStack() as stack:
        environment = stack.enter_context(databases.database(database))
        [server], credentials = stack.enter_context(rtm_processes(1, 1, environment))
        agent = credentials.agents[0]
        thread = {"events": [{"type": "message", "text": f"message {place} of a few words"} for place in range(EVENTS)]}
        # The last version that makes customers.
        with connected(server.address, 1, "/v3.5/agent/rtm/ws") as [client]:
            call(client, "login", {"token": f"Bearer {agent.access_token}"})
            for place in range(chats):
                customer = call(client, "create_customer", {"name": f"Customer {place}", "email": "c@example.net"})
                users = [{"id": customer["customer_id"], "type": "customer"}]
                call(client, "start_chat", {"chat": {"users": users, "thread": thread}, "continuous": True})
        yield server, agent


def _log_in(server: Server, agent: Agent, chats: int, times_s: "array[float]") -> int:
    """ROUND log-ins, one after the other; the size of the last answer."""
    request = text_frame(encode_request("login", {"token": f"Bearer {agent.access_token}"}))
    message = b""
    with connected(server.address, ROUND, PATH) as clients:
        for client in clients:
            began = time.perf_counter()
            client.send(request)
            message = client.next_messages()[0]
            times_s.append(time.perf_counter() - began)
    shown = orjson.loads(message)["payload"].get("chats_summary", ())
    if len(shown) != chats:
        raise LoadError(f"the log-in showed {len(shown)} of {chats} chats")
    return len(message)


def _report(settings: Settings, rows: list[list[str]], samples: dict[str, list[float]]) -> Report:
    def draw(axes: "Axes") -> None:
        for database, times_s in samples.items():
            axes.plot(sorted(each * 1e3 for each in times_s), label=database)
        axes.set_ylabel("ms")
        axes.legend()

    return Report(
        title=f"logins: an agent with {settings.chats} open chats of {EVENTS} events",
        columns=["database", "CPU ms/log-in", "p50 ms", "p99 ms", "bytes"],
        rows=rows,
        data={"times_s": samples},
        draw=draw,
        notes=[
            f"log-ins: {settings.logins}, one after the other; CPU is the server's, with the connection's beginning"
        ],
    )
