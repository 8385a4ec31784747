"""SimulatedClock: stands still, moves forward only, wakes who is due. SystemClock: real time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from offchain.domain.errors import DomainError
from oracles.clock import SimulatedClock, SystemClock, unix

START = datetime(2016, 5, 20, tzinfo=UTC)


def test_sleep_until_wakes_only_those_who_are_due():
    async def scenario():
        clock = SimulatedClock(START)
        woken = []

        async def sleeper(minutes):
            await clock.sleep_until(START + timedelta(minutes=minutes))
            woken.append(minutes)

        tasks = [asyncio.create_task(sleeper(m)) for m in (30, 15, 0, 45)]
        await asyncio.sleep(0)
        clock.advance_to(START + timedelta(minutes=30))
        await asyncio.sleep(0)
        early = sorted(woken)
        clock.advance_to(START + timedelta(hours=1))
        await asyncio.gather(*tasks)
        return early, sorted(woken), unix(clock)

    assert asyncio.run(scenario()) == ([0, 15, 30], [0, 15, 30, 45], int(START.timestamp()) + 3600)


def test_advance_to_raises_when_going_back():
    clock = SimulatedClock(START)
    with pytest.raises(DomainError, match="cannot go back"):
        clock.advance_to(START - timedelta(seconds=1))
    assert clock.now() == START


def test_simulated_clock_raises_when_time_is_naive():
    with pytest.raises(DomainError, match="without zone"):
        SimulatedClock(datetime(2016, 5, 20))


def test_system_clock_sleeps_until_moment():
    clock = SystemClock()
    moment = clock.now() + timedelta(milliseconds=30)
    asyncio.run(clock.sleep_until(moment))
    assert clock.now() >= moment
