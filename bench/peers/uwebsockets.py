"""uWebSockets, the fastest websocket server we know, through its binding `socketify`."""

from typing import Any

from socketify import App, OpCode

from bench.peers.process import mode, ready

ROOM = "room"


def main() -> None:
    app = App()
    behavior: dict[str, Any] = {"max_payload_length": 1 << 20, "max_backpressure": 1 << 20, "idle_timeout": 0}
    if mode() == "echo":
        behavior["message"] = lambda ws, message, opcode: ws.send(message, opcode)
    else:
        # Its publish reaches the sender too, so the sender is whoever has not subscribed.
        behavior["open"] = lambda ws: ws.subscribe(ROOM)
        behavior["message"] = _publish_to_others
    app.ws("/*", behavior)
    app.listen({"host": "127.0.0.1", "port": 0}, lambda listening: ready(listening.port))
    # `app.run()` polls libuv from an asyncio loop without ever sleeping; libuv's own loop sleeps, and is what C++ runs.
    app.loop.uv_loop.run()


def _publish_to_others(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    ws.unsubscribe(ROOM)
    ws.app.publish(ROOM, message, opcode)


if __name__ == "__main__":
    main()
