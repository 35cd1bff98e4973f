"""The kernel's price without a C compiler: the loop of `send_loop.c` in Python, so Python's own calls are in it."""

import select
import socket

from bench.peers.process import mode, ready


def main() -> None:
    echo = mode() == "echo"
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    ready(listener)
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
                continue
            connection = connections[fd]
            data = connection.recv(65536)
            if not data:
                epoll.unregister(connection)
                connections.pop(fd).close()
            elif echo:
                connection.sendall(data)
            else:
                for other in connections.values():
                    if other is not connection:
                        other.sendall(data)


if __name__ == "__main__":
    main()
