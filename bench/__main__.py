"""`python -m bench`: load a running server, or one that is started for the run, and say what it costs."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench import archives, bus, cluster, fanout, idle, latency, requests
from bench import logins as logins_
from bench.clients import LoadError
from bench.databases import DATABASES
from bench.report import Report
from bench.rounds import SERVERS
from bench.server import CannotStart, Target, raise_open_files
from bench.stage import Via

app = typer.Typer(
    help="Load a server, and say what it costs in CPU time and memory as the operating system counts them.\n\n"
    "Without --credentials a command starts `rtm serve --demo` on a free port of 127.0.0.1, with SQLite in a "
    "directory of its own, and stops it at the end; settings in the environment, such as RTM_DATABASE_URL, reach it."
    "\n\nFigures of one run compare with each other; those of two runs or two machines hardly do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Credentials = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Load a running server: the file of its `rtm serve --credentials`."),
]
_Url = Annotated[str | None, typer.Option(help="Where it is, if not at the base_url of the credentials.")]
_Pid = Annotated[int | None, typer.Option(help="Its process, if here: without it there is no CPU time and no memory.")]
_Server = Annotated[
    list[str] | None,
    typer.Option(
        "--server", help=f"Only this server; may be repeated. One of {', '.join(SERVERS)}.", show_default="all"
    ),
]
_Databases = Annotated[
    list[str] | None,
    typer.Option(
        "--database", help=f"Only this one; may be repeated. One of {', '.join(DATABASES)}.", show_default="both"
    ),
]
_Seconds = Annotated[float, typer.Option(min=0.1, help="How long to measure each server, all rounds together.")]
_Json = Annotated[Path | None, typer.Option("--json", help="Write every sample to this file.")]
_Markdown = Annotated[Path | None, typer.Option(help="Write the table to this file.")]
_Plot = Annotated[Path | None, typer.Option(help="Draw to this file, .png or .svg.")]


@app.command("fanout")
def fanout_command(
    subscribers: Annotated[int, typer.Option(min=1, help="How many are told.")] = 1000,
    burst: Annotated[int, typer.Option(min=1, max=100, help="Messages at once, in the second case.")] = 10,
    size: Annotated[int, typer.Option(min=1, max=16_000, help="Bytes of a push, its envelope included.")] = 300,
    via: Annotated[Via, typer.Option(help="Durable events of a chat, or multicasts, which are not kept.")] = "event",
    server: _Server = None,
    seconds: _Seconds = 10,
    credentials: _Credentials = None,
    url: _Url = None,
    pid: _Pid = None,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """Server CPU for each delivered push: one agent sends, all subscribers of a chat are told."""
    target = Target(credentials, url, pid)
    report = fanout.run(fanout.Settings(_servers(server), subscribers, burst, size, via, seconds, target))
    _leave(report, json, markdown, plot)


@app.command("requests")
def requests_command(
    connections: Annotated[int, typer.Option(min=1, help="Agents that send, each from one connection.")] = 100,
    size: Annotated[int, typer.Option(min=1, max=16_000, help="Bytes of a request, its envelope included.")] = 300,
    server: _Server = None,
    seconds: _Seconds = 10,
    credentials: _Credentials = None,
    url: _Url = None,
    pid: _Pid = None,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """Server CPU for each durable event, its answer and its push to one other agent."""
    target = Target(credentials, url, pid)
    report = requests.run(requests.Settings(_servers(server), connections, size, seconds, target))
    _leave(report, json, markdown, plot)


@app.command("idle")
def idle_command(
    connections: Annotated[int, typer.Option(min=1, help="Agents that log in, and do nothing.")] = 5000,
    steps: Annotated[int, typer.Option(min=1, max=100, help="How often the memory is read on the way.")] = 10,
    credentials: _Credentials = None,
    url: _Url = None,
    pid: _Pid = None,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """Server memory for each logged-in connection."""
    report = idle.run(idle.Settings(connections, min(steps, connections), Target(credentials, url, pid)))
    _leave(report, json, markdown, plot)


@app.command("latency")
def latency_command(
    subscribers: Annotated[int, typer.Option(min=1, help="How many are told.")] = 1000,
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Events a second.")] = 20,
    size: Annotated[int, typer.Option(min=1, max=16_000, help="Bytes of a push, its envelope included.")] = 300,
    stalled: Annotated[
        int, typer.Option(min=0, help="Compare with as many more that never read; try --size 16000 to see them cut.")
    ] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, all phases together.")] = 20,
    credentials: _Credentials = None,
    url: _Url = None,
    pid: _Pid = None,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """How late pushes are at a fixed rate, in percentiles."""
    target = Target(credentials, url, pid)
    report = latency.run(latency.Settings(subscribers, rate, size, stalled, seconds, target))
    _leave(report, json, markdown, plot)


@app.command("cluster")
def cluster_command(
    processes: Annotated[
        list[int] | None,
        typer.Option(min=1, max=64, help="So many processes; may be repeated.", show_default="1, 2, 4"),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="Agents that send, each to one colleague.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Events a second, for the lateness.")] = 500,
    size: Annotated[int, typer.Option(min=1, max=16_000, help="Bytes of a request, its envelope included.")] = 300,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, all phases together.")] = 30,
    database_url: Annotated[
        str | None, typer.Option(help="A PostgreSQL with or without demo data; without it one is started.")
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="A Redis; without it one is started.")] = None,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """CPU and lateness of a durable event in one system of several processes on PostgreSQL and Redis."""
    counts = tuple(processes or (1, 2, 4))
    report = cluster.run(cluster.Settings(counts, connections, rate, size, seconds, database_url, redis_url))
    _leave(report, json, markdown, plot)


@app.command("bus")
def bus_command(
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis, in the forms of `rtm serve --redis-url`; without it one is started.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Pushes a second.")] = 1000,
    burst: Annotated[int, typer.Option(min=2, max=255, help="Pushes at once, in the second case.")] = 20,
    size: Annotated[int, typer.Option(min=1, max=16_000, help="Bytes of a payload.")] = 300,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, all rounds together.")] = 10,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """CPU for each push that one process publishes through Redis and another hears."""
    _leave(bus.run(bus.Settings(redis_url, rate, burst, size, seconds)), json, markdown, plot)


@app.command("archives")
def archives_command(
    database: _Databases = None,
    threads: Annotated[int, typer.Option(min=100, help="Of about ten events each.")] = 200_000,
    requests: Annotated[int, typer.Option(min=1, help="For each filter and database.")] = 100,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """How long list_archives takes, by filter; the history is written first, below TMPDIR, and takes 10 KB a thread."""
    report = archives.run(archives.Settings(_databases(database), threads, requests))
    _leave(report, json, markdown, plot)


@app.command("logins")
def logins_command(
    database: _Databases = None,
    chats: Annotated[int, typer.Option(min=1, max=500, help="Open ones of the agent, each with a customer.")] = 100,
    logins: Annotated[int, typer.Option(min=1, help="How often the agent logs in.")] = 200,
    json: _Json = None,
    markdown: _Markdown = None,
    plot: _Plot = None,
) -> None:
    """What the log-in of an agent with many open chats costs, and how long it takes."""
    _leave(logins_.run(logins_.Settings(_databases(database), chats, logins)), json, markdown, plot)


def _databases(names: list[str] | None) -> tuple[str, ...]:
    for name in names or ():
        if name not in DATABASES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(DATABASES)}", param_hint="--database")
    return tuple(names or DATABASES)


def _servers(names: list[str] | None) -> tuple[str, ...]:
    for name in names or ():
        if name not in SERVERS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(SERVERS)}", param_hint="--server")
    return tuple(names or SERVERS)


def _leave(report: Report, json: Path | None, markdown: Path | None, plot: Path | None) -> None:
    report.show()
    if json is not None:
        json.write_bytes(report.json())
    if markdown is not None:
        markdown.write_text(report.markdown())
    if plot is not None:
        report.plot(plot)


def main() -> None:
    """Run the command; whatever it started ends with it, on SIGTERM too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise_open_files()
    try:
        app()
    except (CannotStart, LoadError, OSError) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
