"""What the Python peers share as processes: `python -m bench.peers.<name> fanout|echo`.

    fanout    what one connection sends goes to all the others
    echo      what a connection sends goes back to it

A peer prints the port it listens on, and ends when its standard input does: it cannot outlive the harness.
"""

import os
import socket
import sys
import threading


def mode() -> str:
    return sys.argv[1]


def ready(listening: socket.socket | int) -> None:
    """Announce the port: connections may come."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    print(listening if isinstance(listening, int) else listening.getsockname()[1], flush=True)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)
