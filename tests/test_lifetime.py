"""The interpreter of a server."""

import gc
from collections.abc import Iterator

import pytest

from rtm import lifetime


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
@pytest.mark.parametrize("is_long", [True, False])
async def test_what_outlives_a_long_collection_is_left_alone(monkeypatch: pytest.MonkeyPatch, is_long: bool) -> None:
    async with lifetime.lifespan()(None):
        monkeypatch.setattr(lifetime, "LONG_COLLECTION_S", 0.0 if is_long else 3600.0)
        before = gc.get_freeze_count()
        kept: list[list[object]] = [[object()] for _ in range(100_000)]
        gc.collect()
        assert (gc.get_freeze_count() - before >= len(kept)) is is_long
