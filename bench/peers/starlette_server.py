"""A Starlette websocket endpoint on uvicorn."""

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bench.peers.process import mode, ready

connections: set[WebSocket] = set()


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


async def fanout(websocket: WebSocket) -> None:
    await websocket.accept()
    connections.add(websocket)
    try:
        async for message in websocket.iter_text():
            for other in connections - {websocket}:
                await other.send_text(message)
    finally:
        connections.remove(websocket)


def main() -> None:
    app = Starlette(routes=[WebSocketRoute("/", echo if mode() == "echo" else fanout)])
    config = uvicorn.Config(
        app, loop="uvloop", ws_ping_interval=None, ws_per_message_deflate=False, log_level="warning"
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    ready(listener)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
