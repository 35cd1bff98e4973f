"""The disk is full, or the database cannot be written to: changes are refused with a reason, all else goes on."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rtm.store.sqlite import SqliteStore
from tests.running import serving_demo
from tests.world import Client, Refused, World

SMITH, JONES = "smith@example.com", "jones@example.com"
FULL = Refused("service_unavailable", "Service unavailable: there is no space left to store changes")
READ_ONLY = Refused("service_unavailable", "Service unavailable: the database cannot be written to")
HELLO = {"type": "message", "text": "hello"}
ON_A_SMALL_DISK = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
"""A mount that this process alone sees; ordinary users may make one, too, where the system lets them."""


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run([*ON_A_SMALL_DISK, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not _has_namespaces(), reason="needs the right to mount a file system of one's own")
async def test_a_full_disk(tmp_path: Path) -> None:
    disk, log_path = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=16m none "{disk}" && exec "$0" "$@"'
    options = ("--database-url", f"sqlite:///{disk}/rtm.sqlite3")
    with (
        log_path.open("w") as log,
        serving_demo(tmp_path, *options, log=log, within=(*ON_A_SMALL_DISK, mount)) as server,
    ):
        filler = Path(f"/proc/{server.process.pid}/root{disk}/filler")
        async with server.agent(SMITH) as smith, server.agent(JONES, pushes={"3.6": ["incoming_event"]}) as jones:
            chat_id = (await smith.call("start_chat", chat={"users": [{"id": JONES, "type": "agent"}]}))["chat_id"]
            acknowledged = [await say(smith, chat_id)]
            web = server.web(SMITH)
            for _ in range(2):
                fill(filler)
                for _ in range(10):
                    assert await smith.refused("send_event", chat_id=chat_id, event=HELLO) == FULL
                refused = await web.post("start_chat")
                assert (refused.status_code, Refused.read(refused.json())) == (503, FULL)
                assert await stored(smith, chat_id) == acknowledged
                async with server.agent(JONES) as newcomer:
                    await newcomer.call("list_chats")

                filler.unlink()  # noqa: ASYNC240 - nobody waits for it
                acknowledged.append(await say(smith, chat_id))
                assert await stored(smith, chat_id) == acknowledged
            assert [(await jones.next_push("incoming_event"))["event"]["id"] for _ in acknowledged] == acknowledged
            await jones.hears_nothing_more()
            await web.close()
    events = Counter(json.loads(line)["event"] for line in log_path.read_text().splitlines())
    assert (events["store_unavailable"], events["store_unavailable_over"]) == (2, 2)


def fill(path: Path) -> None:
    """Take all the space there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


async def say(agent: Client, chat_id: str) -> str:
    """The id of a new event."""
    event_id: str = (await agent.call("send_event", chat_id=chat_id, event=HELLO))["event_id"]
    return event_id


async def stored(agent: Client, chat_id: str) -> list[str]:
    """The ids of the chat's events."""
    return [event["id"] for event in (await agent.call("get_chat", chat_id=chat_id))["thread"]["events"]]


@pytest.mark.parametrize(
    ("break_", "mend", "answer"),
    [
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0", READ_ONLY),
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 4294967294", FULL),
    ],
    ids=["read-only", "full"],
)
async def test_what_sqlite_refuses(
    world_with: Callable[..., Awaitable[World]],
    monkeypatch: pytest.MonkeyPatch,
    break_: str,
    mend: str,
    answer: Refused,
) -> None:
    """By the switches that SQLite has for it: files that are read-only stop neither root nor who has them open."""
    stores: list[SqliteStore] = []
    start = SqliteStore.start

    async def noted(store: SqliteStore) -> None:
        stores.append(store)
        await start(store)

    monkeypatch.setattr(SqliteStore, "start", noted)
    world = await world_with()
    alice, bob = await world.agents("alice", "bob")
    chat = await world.chat(alice, users=["bob"])

    def run(statement: str) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: connection.execute(statement).close()

    with capture_logs() as logs:
        web = await world.web("bob")
        await stores[0].between_batches(run(break_))
        for _ in range(3):
            assert await alice.refused("send_event", chat_id=chat.id, event={**HELLO, "text": "x" * 10_000}) == answer
        upload = await web.upload("a.dat", bytes(100_000))
        assert (upload.status_code, Refused.read(upload.json())) == (503, answer)
        await alice.call("send_typing_indicator", chat_id=chat.id, is_typing=True)
        await bob.next_push("incoming_typing_indicator")
        assert await stored(bob, chat.id) == []
        await stores[0].between_batches(run(mend))
        event_id = await say(alice, chat.id)
    assert (await bob.next_push("incoming_event"))["event"]["id"] == event_id
    events = [line["event"] for line in logs if line["event"].startswith("store")]
    assert events == ["store_unavailable", "store_unavailable_over"]
