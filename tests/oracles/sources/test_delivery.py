"""A message is acknowledged when, and only when, all its values were taken."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError, PermanentError
from oracles.sources.delivery import Delivery


async def started(delivery):
    """Values of a delivery that a consumer waits for."""
    stream = delivery.values()
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    return stream, first


async def drawn(stream, first, count):
    values = [await first] if count else []
    return values + [await anext(stream) for _ in range(count - 1)]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.data())
def test_taken_acknowledges_messages_in_order_when_their_values_are_stored(sizes, data):
    async def scenario():
        delivery, acknowledged = Delivery(), []
        stream, first = await started(delivery)
        for message, size in enumerate(sizes):
            delivery.put([(message, position) for position in range(size)], lambda m=message: acknowledged.append(m))
        values = await drawn(stream, first, sum(sizes))
        assert values == sorted(values)
        taken = 0
        while taken < sum(sizes):
            step = data.draw(st.integers(1, sum(sizes) - taken))
            delivery.taken(step)
            taken += step
            complete = [m for m in range(len(sizes)) if sum(sizes[: m + 1]) <= taken]
            assert acknowledged == complete
        assert acknowledged == list(range(len(sizes)))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await stream.aclose()

    asyncio.run(scenario())


def test_taken_raises_when_more_is_taken_than_was_delivered():
    async def scenario():
        delivery = Delivery()
        stream, first = await started(delivery)
        delivery.put(["a", "b"])
        assert await first == "a"
        with pytest.raises(DomainError, match="2 values taken, 1 were delivered"):
            delivery.taken(2)
        await stream.aclose()

    asyncio.run(scenario())


def test_full_until_half_is_taken_when_limit_is_reached():
    async def scenario():
        delivery = Delivery(limit=4)
        stream, first = await started(delivery)
        for value in "abcd":
            assert not delivery.full
            delivery.put([value])
        assert delivery.full
        await drawn(stream, first, 4)
        delivery.taken(1)
        assert delivery.full
        delivery.taken(1)
        assert not delivery.full
        await stream.aclose()

    asyncio.run(scenario())


def test_values_end_with_the_error_after_those_that_wait():
    async def scenario():
        delivery = Delivery()
        stream, first = await started(delivery)
        delivery.put(["a"])
        delivery.fail(PermanentError("over"))
        assert await first == "a"
        with pytest.raises(PermanentError, match="over"):
            await anext(stream)

    asyncio.run(scenario())


def test_values_begin_empty_when_an_earlier_consumer_went_away():
    async def scenario():
        delivery, acknowledged = Delivery(limit=2), []
        delivery.put(["lost"], lambda: acknowledged.append("lost"))
        delivery.put(["never given"])
        stream, waiting = await started(delivery)
        assert not delivery.full
        delivery.put(["new"], lambda: acknowledged.append("new"))
        assert await waiting == "new"
        delivery.taken(1)
        assert acknowledged == ["new"], "what was lost comes again from its sender"
        await stream.aclose()

    asyncio.run(scenario())


def test_values_go_on_after_an_error_when_they_are_asked_for_again():
    async def scenario():
        delivery = Delivery()
        for _ in range(2):
            stream = delivery.values()
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            delivery.fail(PermanentError("over"))
            with pytest.raises(PermanentError, match="over"):
                await waiting

    asyncio.run(scenario())
