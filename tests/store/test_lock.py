"""Who serves a database, when PostgreSQL is away for a while."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from rtm.settings import Settings
from rtm.store import lock
from rtm.store.database import DatabaseError
from tests.faults.proxy import Proxy


async def test_who_loses_postgresql_has_its_lock_again_when_it_is_back(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_INTERVAL_S", 0.2)
    address, _, name = postgres_url.rpartition("/")
    host, _, port = address.rpartition(":")
    others = Settings(data_dir=tmp_path, database_url=postgres_url)
    async with Proxy(int(port)) as proxy:
        ours = Settings(data_dir=tmp_path, database_url=f"{host}:{proxy.port}/{name}")
        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, lock.serving(ours))
            assert not await may_serve(others)
            proxy.cut()
            while not await may_serve(others):
                await asyncio.sleep(0.1)
            proxy.mend()
            while await may_serve(others):
                await asyncio.sleep(0.3)
        while not await may_serve(others):
            await asyncio.sleep(0.1)


async def may_serve(settings: Settings) -> bool:
    """Whether another process may."""

    def serve() -> bool:
        try:
            with lock.serving(settings):
                return True
        except DatabaseError as error:
            assert "another process serves" in str(error)  # noqa: PT017 - and that is an answer
            return False

    return await asyncio.to_thread(serve)
