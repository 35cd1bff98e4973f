"""rtm's own wire with nothing behind it: what the rest of rtm costs is the difference to this."""

import socket
from collections.abc import Mapping
from typing import ClassVar

import uvicorn
from starlette.applications import Starlette

from bench.peers.process import mode, ready
from rtm.gateway.wire import Wire, Wires, encode_text_frame
from rtm.settings import Limits

wires: set[Wire] = set()


class Echo:
    handshake_headers: ClassVar[Mapping[str, str]] = {}

    def opened(self, wire: Wire, path: str, query: str, address: str | None) -> None:
        self._wire = wire

    def received(self, message: bytes) -> None:
        self._wire.send(message)

    def pinged(self) -> None:
        pass

    def closed(self) -> None:
        pass

    def shutdown(self) -> None:
        self._wire.close(1001)


class Fanout(Echo):
    def opened(self, wire: Wire, path: str, query: str, address: str | None) -> None:
        super().opened(wire, path, query, address)
        wires.add(wire)

    def received(self, message: bytes) -> None:
        frame = encode_text_frame(message)
        for wire in wires:
            if wire is not self._wire:
                wire.send_encoded(frame)

    def closed(self) -> None:
        wires.remove(self._wire)


def main() -> None:
    session = Echo if mode() == "echo" else Fanout
    # uvicorn's annotation asks for a class; it calls whatever it is given.
    accept: type = Wires(lambda path, query: session(), Limits()).accept  # type: ignore[assignment]
    config = uvicorn.Config(Starlette(), loop="uvloop", http="httptools", ws=accept, log_level="warning")
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    ready(listener)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
