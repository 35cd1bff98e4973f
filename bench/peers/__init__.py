"""What rtm is compared with: each a process of its own that does with bytes what rtm does with a push or a request.

process.py            how they behave
wire.py               rtm's wire with a session that does nothing
websockets_server.py  the server of `websockets`
starlette_server.py   Starlette on uvicorn
uwebsockets.py        uWebSockets, in C++
send_loop.py          a loop around send(), where there is no compiler for send_loop.c
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Mode = Literal["fanout", "echo"]


@dataclass(frozen=True, slots=True)
class Peer:
    """`command(mode, directory)` starts it, and may build it in `directory`; None: not installed."""

    label: str
    command: Callable[[Mode, Path], list[str] | None]
    # A bare socket: no handshake, and the server sends on whatever it reads.
    raw: bool = False


def _module(name: str, *, needs: str) -> Callable[[Mode, Path], list[str] | None]:
    def command(mode: Mode, _directory: Path) -> list[str] | None:
        return [sys.executable, "-m", f"bench.peers.{name}", mode] if _installed(needs) else None

    return command


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _compiler() -> str | None:
    return shutil.which("cc")


def _send_loop(mode: Mode, directory: Path) -> list[str]:
    compiler = _compiler()
    if compiler is None:
        return [sys.executable, "-m", "bench.peers.send_loop", mode]
    program = directory / "send_loop"
    subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name("send_loop.c")], check=True)
    return [str(program), mode]


PEERS = {
    "kernel": Peer(f"{'C' if _compiler() else 'Python (no C compiler)'} loop around send()", _send_loop, raw=True),
    "uwebsockets": Peer("uWebSockets (C++, socketify)", _module("uwebsockets", needs="socketify")),
    "wire": Peer("rtm's wire, bare session", _module("wire", needs="rtm.gateway.wire")),
    "websockets": Peer("websockets server", _module("websockets_server", needs="websockets")),
    "starlette": Peer("Starlette on uvicorn", _module("starlette_server", needs="starlette")),
}
