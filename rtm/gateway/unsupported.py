"""A client of a version that is not served: it is told so as the protocol tells it, on a socket, and hung up on."""

from collections.abc import Mapping
from typing import ClassVar

from websockets.frames import CloseCode

from rtm import versions
from rtm.gateway.wire import Wire
from rtm.model.pushes import Reason
from rtm.protocol.envelope import encode_disconnected

_REASON: Reason = "unsupported_version"


class UnsupportedSession:
    """`rtm.gateway.wire.WireSession` that ends as it begins. Source: the public reference, "agent_disconnected"."""

    handshake_headers: ClassVar[Mapping[str, str]] = {}

    def opened(self, wire: Wire, path: str, query: str, address: str | None) -> None:
        wire.send(encode_disconnected(versions.STABLE, _REASON))
        wire.close(CloseCode.NORMAL_CLOSURE, _REASON)

    def received(self, message: bytes) -> None: ...

    def pinged(self) -> None: ...

    def closed(self) -> None: ...

    def shutdown(self) -> None: ...
