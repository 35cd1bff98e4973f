"""A client that sends one request over and over, as fast as the server takes it: a process of its own.

    python -m tests.faults.flooder PORT SECONDS < {"token": ..., "action": ..., "payload": {...}}

It says "ready" when it is logged in and begins; at its end, as JSON, what it has reached a second.
"""

import json
import select
import sys
import time
from typing import Any

import orjson

from bench.agents import PATH, call, encode_request
from bench.clients import connected, text_frame

_FRAMES = 200  # in one write


def flood(port: int, seconds: float, wanted: dict[str, Any]) -> dict[str, float]:
    """How many requests a second were sent, answered, and done."""
    with connected(("127.0.0.1", port), 1, PATH) as (client,):
        call(client, "login", {"token": f"Bearer {wanted['token']}", "pushes": {"3.6": []}})
        print("ready", flush=True)  # noqa: T201
        frame = text_frame(encode_request(wanted["action"], wanted["payload"]))
        frames = memoryview(frame * _FRAMES)
        rest, sent_bytes, answered, done = frames, 0, 0, 0
        client.socket.setblocking(False)
        poll = select.poll()
        poll.register(client.socket, select.POLLIN | select.POLLOUT)
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            for _, events in poll.poll(100):
                if events & select.POLLIN:
                    answers = client.read()
                    answered += len(answers)
                    done += sum(orjson.loads(answer)["success"] for answer in answers)
                if events & select.POLLOUT:
                    size = client.socket.send(rest)
                    sent_bytes += size
                    rest = rest[size:] or frames
        took_s = time.monotonic() - began
    return {"sent": sent_bytes / len(frame) / took_s, "answered": answered / took_s, "done": done / took_s}


if __name__ == "__main__":
    print(json.dumps(flood(int(sys.argv[1]), float(sys.argv[2]), json.load(sys.stdin))))  # noqa: T201
