"""A background loop ends, which should not happen: then so does the process, for whoever watches it to replace."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.running import PATIENCE_S, serving_demo

SITECUSTOMIZE = """
from rtm.store.writer import Writer


commit = Writer._commit


async def fail(writer, batch):
    if any(command.origin for command in batch):  # not before somebody asks
        raise RuntimeError("unforeseen")
    await commit(writer, batch)


Writer._commit = fail
"""


async def test_a_process_whose_writer_is_dead_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    with serving_demo(tmp_path, PYTHONPATH=path) as server:
        async with server.agent("smith@example.com") as smith:
            await smith.send("start_chat")
            assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 1
    assert '"event":"loop_failed"' in capfd.readouterr().err
