"""What a stop does not wait for."""

import socket
import ssl
import time
from pathlib import Path

from tests.running import serving

SOON_S = 5
"""Well below the 10 s that a stop gives to requests in hand."""


def test_an_idle_client_over_tls_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-self-signed") as server:
        trust = ssl.create_default_context(cafile=tmp_path / "tls" / "authority.pem")
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: rtm\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")

            started = time.monotonic()
            server.process.terminate()
            assert server.process.wait() == 0

    assert time.monotonic() - started < SOON_S
