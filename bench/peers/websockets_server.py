"""The `websockets` library's own server, and its `broadcast()`."""

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.peers.process import mode, ready

connections: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def fanout(connection: ServerConnection) -> None:
    connections.add(connection)
    try:
        async for message in connection:
            broadcast(connections - {connection}, message)
    finally:
        connections.remove(connection)


async def main() -> None:
    handler = echo if mode() == "echo" else fanout
    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        ready(next(iter(server.sockets)).getsockname()[1])
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main())
