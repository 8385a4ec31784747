"""A message is acknowledged when, and only when, all its values were taken."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError, PermanentError
from oracles.sources.delivery import Delivery


async def drawn(delivery, count):
    stream = delivery.values()
    values = [await anext(stream) for _ in range(count)]
    await stream.aclose()
    return values


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.data())
def test_taken_acknowledges_messages_in_order_when_their_values_are_stored(sizes, data):
    async def scenario():
        delivery, acknowledged = Delivery(), []
        for message, size in enumerate(sizes):
            delivery.put([(message, position) for position in range(size)], lambda m=message: acknowledged.append(m))
        values = await drawn(delivery, sum(sizes))
        assert values == sorted(values)
        taken = 0
        while taken < sum(sizes):
            step = data.draw(st.integers(1, sum(sizes) - taken))
            delivery.taken(step)
            taken += step
            complete = [m for m in range(len(sizes)) if sum(sizes[: m + 1]) <= taken]
            assert acknowledged == complete
        assert acknowledged == list(range(len(sizes)))

    asyncio.run(scenario())


def test_taken_raises_when_more_is_taken_than_was_delivered():
    delivery = Delivery()
    delivery.put(["a", "b"])
    asyncio.run(drawn(delivery, 1))
    with pytest.raises(DomainError, match="2 values taken, 1 were delivered"):
        delivery.taken(2)


def test_full_until_half_is_taken_when_limit_is_reached():
    async def scenario():
        delivery = Delivery(limit=4)
        for value in "abcd":
            assert not delivery.full
            delivery.put([value])
        assert delivery.full
        await drawn(delivery, 4)
        delivery.taken(1)
        assert delivery.full
        delivery.taken(1)
        assert not delivery.full

    asyncio.run(scenario())


def test_values_end_with_the_error_after_those_that_wait():
    async def scenario():
        delivery = Delivery()
        delivery.put(["a"])
        delivery.fail(PermanentError("over"))
        stream = delivery.values()
        assert await anext(stream) == "a"
        with pytest.raises(PermanentError, match="over"):
            await anext(stream)

    asyncio.run(scenario())
