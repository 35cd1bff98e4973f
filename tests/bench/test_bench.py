"""The harness with little load: what it counts is what was delivered, and nothing it started outlives it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import archives, bus, cluster, fanout, idle, latency, logins, requests
from bench.clients import Client, connected, text_frame, unmasked_text_frame
from bench.peers import PEERS, Mode
from bench.report import Report
from bench.server import Target, peer
from bench.stage import Via
from tests.running import PATIENCE_S, ServerProcess, serving_demo

MESSAGE = b"x" * 300
FILES = {"json": "json", "markdown": "md", "plot": "png"}


@pytest.fixture(scope="module")
def rtm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server with agents enough for every load below."""
    with serving_demo(tmp_path_factory.mktemp("rtm"), "--demo-agents", "20") as server:
        yield server


@pytest.fixture
def target(rtm: ServerProcess) -> Target:
    return Target(rtm.data_dir / "credentials.json", pid=rtm.process.pid)


@pytest.fixture
def clients(request: pytest.FixtureRequest) -> Iterator[list[Client]]:
    """Three connections to a peer, given as its name and mode."""
    name, mode = request.param
    path = None if PEERS[name].raw else "/"
    with peer(name, mode) as server, connected(server.address, 3, path) as clients:
        yield clients


def _each_peer(mode: Mode) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("clients", [pytest.param((name, mode), id=name) for name in PEERS], indirect=True)


def _frame(request: pytest.FixtureRequest) -> bytes:
    name, _ = request.node.callspec.params["clients"]
    return unmasked_text_frame(MESSAGE) if PEERS[name].raw else text_frame(MESSAGE)


@_each_peer("fanout")
def test_a_peer_delivers_to_everybody_else(clients: list[Client], request: pytest.FixtureRequest) -> None:
    *subscribers, publisher = clients
    for _ in range(2):
        publisher.send(_frame(request))
        assert [subscriber.next_messages() for subscriber in subscribers] == [[MESSAGE], [MESSAGE]]


@_each_peer("echo")
def test_a_peer_echoes(clients: list[Client], request: pytest.FixtureRequest) -> None:
    for client in clients:
        client.send(_frame(request))
        assert client.next_messages() == [MESSAGE]


def test_the_kernel_has_a_price_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with peer("kernel", "fanout") as server, connected(server.address, 2, None) as (subscriber, publisher):
        publisher.send(unmasked_text_frame(MESSAGE))
        assert subscriber.next_messages() == [MESSAGE]


@pytest.mark.parametrize("via", ["event", "multicast"])
def test_fanout_of_rtm(target: Target, via: Via) -> None:
    report = fanout.run(fanout.Settings(("kernel", "rtm"), 5, 3, 600, via, 0.2, target))
    assert report.data["size_bytes"] == 600
    for one_at_a_time, three_at_once in _samples(report, "kernel", "rtm"):
        assert one_at_a_time["operations"] > 0
        assert one_at_a_time["operations"] % 5 == 0
        assert three_at_once["operations"] > 0
        assert three_at_once["operations"] % 15 == 0


def test_requests_of_rtm(target: Target) -> None:
    report = requests.run(requests.Settings(("wire", "rtm"), 5, 300, 0.2, target))
    assert report.data["size_bytes"] == 300
    for (sample,) in _samples(report, "wire", "rtm"):
        assert sample["operations"] >= 5
        assert sample["server_cpu_s"] >= 0


def test_idle_connections_of_rtm(target: Target) -> None:
    report = idle.run(idle.Settings(10, 2, target))
    levels = report.data["levels"]
    assert [level["connections"] for level in levels] == [5, 10]
    assert all(level["memory"]["rss_bytes"] >= level["memory"]["pss_bytes"] > 0 for level in levels)


def test_latency_of_rtm_with_a_subscriber_that_never_reads(target: Target) -> None:
    report = latency.run(latency.Settings(5, 100, 300, 1, 0.4, target))
    assert [row[1] for row in report.rows] == ["100", "100"]  # pushes: 5 subscribers, 20 events in each phase
    for condition in report.data["conditions"].values():
        (phase_us,) = condition["phases_us"]
        assert 0 < phase_us["p50"] <= phase_us["p99"] <= phase_us["p100"] < 5_000_000


def test_two_processes_on_databases_started_for_the_run() -> None:
    report = cluster.run(cluster.Settings((2,), 6, 100, 300, 0.8))
    (system,) = report.data["systems"].values()
    ((busy,), (paced,)) = system["busy"], system["paced"]
    assert busy["events"] >= 6
    assert paced["events"] == 40
    assert set(busy["cpu_s"]) == {"rtm", "PostgreSQL", "Redis"}
    assert 0 < system["late_us"]["p50"] <= system["late_us"]["p100"] < 20_000_000


def test_databases_that_somebody_else_has_started(postgres_url: str, redis_url: str) -> None:
    settings = cluster.Settings((1,), 2, 50, 300, 0.4, postgres_url, redis_url)
    report = cluster.run(settings)
    assert [row[3:5] for row in report.rows] == [["-", "-"]]


def test_the_bus_between_two_processes(redis_url: str) -> None:
    report = bus.run(bus.Settings(redis_url, 1000, 5, 300, 0.4))
    for case in report.data["cases"].values():
        (sample,) = case["samples"]
        assert sample["pushes"] == 200
        assert sample["receiver_cpu_s"] > 0
        assert 0 < case["delay_us"][50] <= case["delay_us"][100] < 20_000_000


def test_the_command_leaves_json_a_table_and_a_plot(tmp_path: Path) -> None:
    files = [f"--{name}={tmp_path / name}.{suffix}" for name, suffix in FILES.items()]
    done = _bench("requests", "--server", "kernel", "--connections", "2", "--seconds", "0.1", *files)
    assert done.returncode == 0, done.stderr
    assert "C loop" in done.stdout or "Python (no C compiler) loop" in done.stdout
    assert json.loads((tmp_path / "json.json").read_bytes())["connections"] == 2
    assert (tmp_path / "markdown.md").read_text().startswith("### requests: 2 connections")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_load_that_cannot_be_made_is_a_clear_line(rtm: ServerProcess) -> None:
    done = _bench("idle", "--connections", "1000", "--credentials", str(rtm.data_dir / "credentials.json"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "this load needs 1000" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_is_started_for_the_run_and_stopped() -> None:
    before = psutil.Process().children(recursive=True)
    report = fanout.run(fanout.Settings(("rtm",), 2, 1, 300, "event", 0.1, Target()))
    assert _samples(report, "rtm")
    assert psutil.Process().children(recursive=True) == before


# A process in the background of a shell ignores SIGINT, and so do its children.
_INTERRUPTIBLE = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


@pytest.mark.parametrize("end", [signal.SIGTERM, *[signal.SIGINT] * _INTERRUPTIBLE])
def test_nothing_outlives_an_interrupted_run(end: signal.Signals) -> None:
    command = _command("fanout", "--subscribers", "2", "--server", "wire")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not (started := psutil.Process(process.pid).children(recursive=True)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(end)
        assert process.wait(PATIENCE_S) != 0
    _, alive = psutil.wait_procs(started, timeout=0)
    assert alive == []


def _samples(report: Report, *servers: str) -> list[list[dict[str, Any]]]:
    """Of each server, the only sample of each case."""
    assert all(report.data[server]["remark"] == "" for server in servers)
    cases = [report.data[server]["cases"] for server in servers]
    assert all(len(samples) == 1 for of_server in cases for samples in of_server.values())
    return [[samples[0] for samples in of_server.values()] for of_server in cases]


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", *arguments]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_archives_of_rtm(database: str) -> None:
    report = archives.run(archives.Settings((database,), threads=200, requests=2))
    found = {row[0]: row[1] for row in report.rows}
    assert found["none"] == "202"  # two are the demo license's own
    assert found["thread_ids: 20"] == "20"
    assert 0 < int(found["query: the most common words"]) <= 200


def test_logins_of_rtm() -> None:
    report = logins.run(logins.Settings(("sqlite",), chats=3, logins=1))
    [[database, cpu_ms, *_]] = report.rows
    assert database == "sqlite"
    assert float(cpu_ms) > 0
