"""Thousands of clients come back to one process at the same moment: all get in, in turn, and none fails."""

import re
from pathlib import Path

import pytest

from bench.server import raise_open_files
from tests.faults.stampede import Stampede
from tests.running import serving_demo

AGENTS = 50
PATIENCE_S = 120
BACK_PRESSURE = {"request_timeout", "service_unavailable", "too_many_requests", "connection_timeout"}
"""What asks a client to come again; on a machine that is not short of time there is none."""
CLIENT_BYTES = 30 << 10
"""Of memory, at most, at any time; a client at rest takes a third of it."""
OVERHEAD_BYTES = 32 << 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize("clients", [1000, pytest.param(5000, marks=pytest.mark.soak)])
def test_all_who_come_back_at_once_are_logged_in_again(tmp_path: Path, clients: int) -> None:
    raise_open_files()
    with serving_demo(tmp_path, "--demo-agents", str(AGENTS), "--log-level", "warning") as server:
        before_bytes = peak_bytes(server.process.pid)
        tokens = [agent["access_token"] for agent in server.credentials["agents"][:AGENTS]]
        stampede = Stampede(server.port, [tokens[number % AGENTS] for number in range(clients)])
        try:
            for coming in ("coming", "coming back"):
                stampede.cut()
                stampede.run(PATIENCE_S)
                each_bytes = (peak_bytes(server.process.pid) - before_bytes) / clients
                half_s, all_s = stampede.in_at_s[clients // 2], stampede.in_at_s[-1]
                print(  # noqa: T201
                    f"{clients:,} clients {coming} at once: half were in after {half_s:.1f} s, all after {all_s:.1f} s,"
                    f" {clients / all_s:,.0f} a second; had to begin again: {dict(stampede.setbacks) or 'none'};"
                    f" at most {each_bytes / 1024:.1f} KiB for each"
                )
                assert set(stampede.setbacks) <= BACK_PRESSURE
                assert each_bytes * clients <= OVERHEAD_BYTES + CLIENT_BYTES * clients
            assert stampede.ping() == clients
        finally:
            stampede.cut()


def peak_bytes(pid: int) -> int:
    """The most memory that the process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
