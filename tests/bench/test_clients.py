"""The load side cuts a server's bytes into messages."""

import socket
from collections.abc import Iterator

import pytest
from websockets.frames import Close, Frame, Opcode

from bench.clients import Audience, Client, LoadError, unmasked_text_frame


@pytest.fixture
def pair() -> Iterator[tuple[Client, socket.socket]]:
    """A client, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(listener.getsockname())
        with client.socket, listener.accept()[0] as peer:
            yield client, peer


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_messages_are_whole_wherever_the_stream_is_parted(pair: tuple[Client, socket.socket], size: int) -> None:
    client, _ = pair
    message = b"m" * size
    stream = unmasked_text_frame(message) * 2
    for parting in (1, 3, 9, len(stream) // 2, len(stream) - 1):
        assert client.cut(stream[:parting]) + client.cut(stream[parting:]) == [message, message]


def test_pongs_are_no_messages_and_a_close_is_an_error(pair: tuple[Client, socket.socket]) -> None:
    client, _ = pair
    pong = Frame(Opcode.PONG, b"").serialize(mask=False)
    assert client.cut(pong + unmasked_text_frame(b"a") + pong) == [b"a"]
    with pytest.raises(LoadError, match="1008"):
        client.cut(Frame(Opcode.CLOSE, Close(1008, "no").serialize()).serialize(mask=False))


def test_an_audience_notices_a_subscriber_that_is_sent_too_little() -> None:
    frame = unmasked_text_frame(b"hello")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients = [Client(listener.getsockname()) for _ in range(2)]
        peers = [listener.accept()[0] for _ in clients]
        audience = Audience(clients)
        try:
            for peer in peers:
                peer.sendall(frame * 2)
            audience.receive(2)
            audience.check()

            peers[0].sendall(frame)
            peers[1].sendall(frame[:-1])
            peers[1].close()
            with pytest.raises(LoadError, match="closed by the server"):
                audience.receive(1)
            with pytest.raises(LoadError, match="more than others"):
                audience.check()
        finally:
            audience.close()
            for end in [*peers, *(client.socket for client in clients)]:
                end.close()
