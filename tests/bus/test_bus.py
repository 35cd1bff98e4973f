"""What `rtm.bus.base.Bus` promises, of every implementation."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from rtm.bus.base import Bus, Envelope, Origin
from rtm.bus.memory import Exchange, MemoryBus
from rtm.bus.redis import RedisBus
from rtm.model.audience import Audience
from tests.bus.hearing import Hearing, envelope

Process = Callable[[], Bus]


@pytest.fixture(params=["memory", "redis", "redis_cluster"])
def process(request: pytest.FixtureRequest) -> Process:
    """Makes the bus of one more process."""
    if request.param == "memory":
        exchange = Exchange()
        return lambda: MemoryBus(exchange)
    url = request.getfixturevalue(f"{request.param}_url")
    return lambda: RedisBus(url)


@pytest.fixture
async def here(process: Process) -> AsyncIterator[Bus]:
    bus = process()
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
async def there(process: Process) -> AsyncIterator[Hearing]:
    hearing = Hearing(process())
    await hearing.bus.start()
    yield hearing
    await hearing.bus.stop()


async def test_what_one_publishes_another_hears(here: Bus, there: Hearing) -> None:
    await there.bus.subscribe(7)
    sent = Envelope(
        license_id=7,
        name="incoming_event",
        payload=b'{"text":"line\\nbreak \xc3\xa9"}',
        audience=Audience(
            ("smith@example.com",), (0, 2), ("c1",), everyone=True, readers=("jones@example.com",), read_by=(2,)
        ),
        sequence=41,
        origin=Origin("connection", "request"),
    )
    here.publish([sent])
    heard = await there.next()
    assert heard == sent
    assert isinstance(heard, Envelope)
    assert heard.origin == sent.origin
    assert heard is not sent


async def test_a_subscription_is_in_force_when_subscribe_returns(here: Bus, there: Hearing) -> None:
    for license_id in range(1, 50):
        await there.bus.subscribe(license_id)
        here.publish([envelope(license_id)])
        assert await there.next() == envelope(license_id)


async def test_order_is_kept_over_many_turns_of_the_loop(here: Bus, there: Hearing) -> None:
    await there.bus.subscribe(7)
    sent = [envelope(7, sequence) for sequence in range(1, 501)]
    for start in range(0, 500, 25):
        here.publish(sent[start : start + 25])
        await asyncio.sleep(0)
    assert [await there.next() for _ in sent] == sent


async def test_a_process_hears_nothing_of_its_own(here: Bus, there: Hearing) -> None:
    hearing_here = Hearing(here)
    await here.subscribe(7)
    await there.bus.subscribe(7)
    here.publish([envelope(7, 1)])
    assert await there.next() == envelope(7, 1)
    there.bus.publish([envelope(7, 2)])
    assert await hearing_here.next() == envelope(7, 2)


async def test_only_the_licenses_subscribed_to_are_heard(here: Bus, there: Hearing) -> None:
    await there.bus.subscribe(7)
    await there.bus.subscribe(8)
    await there.bus.unsubscribe(7)
    here.publish([envelope(7), envelope(9), envelope(8)])
    assert await there.next() == envelope(8)


async def test_subscriptions_taken_up_again_at_once_are_in_force(here: Bus, there: Hearing) -> None:
    await there.bus.subscribe(7)
    await asyncio.gather(there.bus.unsubscribe(7), there.bus.subscribe(7), there.bus.subscribe(7))
    here.publish([envelope(7)])
    assert await there.next() == envelope(7)
