"""What is particular to the memory bus."""

from rtm.bus.base import Lost
from rtm.bus.memory import QUEUE_LENGTH, Exchange, MemoryBus
from tests.bus.hearing import Hearing, envelope


async def test_a_reader_that_falls_behind_is_told_of_the_loss_and_hears_the_newest() -> None:
    exchange = Exchange()
    here, there = MemoryBus(exchange), MemoryBus(exchange)
    await here.start()
    await there.start()
    await there.subscribe(7)
    here.publish([envelope(7, sequence) for sequence in range(1, QUEUE_LENGTH + 2)])
    hearing = Hearing(there)
    assert await hearing.next() == Lost()
    assert await hearing.next() == envelope(7, QUEUE_LENGTH + 1)
