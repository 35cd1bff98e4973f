"""What stands between a process and a server that it depends on, and can fail as networks do."""

import asyncio
import socket
import ssl
from typing import Self

CHUNK_BYTES = 65536


class Proxy:
    """Forwards connections to `port` of this machine from its own `port`, until it is told to fail."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._to = port
        self._tls = tls
        self._server: asyncio.Server
        self._connections: set[asyncio.Task[None]] = set()
        self._refuses = False
        self._flows = asyncio.Event()
        self._flows.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """End every connection, and accept no other until `mend`."""
        self._refuses = True
        for connection in self._connections:
            connection.cancel()

    def silence(self) -> None:
        """Keep every connection, accept others, and let nothing through until `mend`."""
        self._flows.clear()

    def mend(self) -> None:
        """Forward again, what was held back first."""
        self._refuses = False
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            if not self._refuses:
                await self._flows.wait()
                far_reader, far_writer = await asyncio.open_connection(sock=await self._narrow_socket())
                writers.append(far_writer)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._forward(reader, far_writer))
                    group.create_task(self._forward(far_reader, writer))
        except (asyncio.CancelledError, ExceptionGroup, OSError):
            pass  # this end of a connection takes the other with it, whatever it was
        finally:
            for each in writers:
                each.transport.abort()
            self._connections.discard(task)

    async def _narrow_socket(self) -> socket.socket:
        """The kernels of both sides keep little, so that the server soon knows that nobody reads."""
        narrow = socket.socket()
        narrow.setblocking(False)
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        try:
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", self._to))
        except BaseException:
            narrow.close()
            raise
        return narrow

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
