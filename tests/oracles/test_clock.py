"""SimulatedClock: stands still, moves forward only, wakes who is due. SystemClock: real time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from offchain.domain.errors import DomainError
from oracles.clock import SimulatedClock, SteadyClock, SystemClock, unix

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


class Machine:
    """A machine whose clock somebody sets."""

    def __init__(self):
        self.uptime_s, self.offset_s = 100.0, 1_000_000.0

    def wall(self):
        return self.uptime_s + self.offset_s

    def steady(self):
        return self.uptime_s


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def steady(machine):
    return SteadyClock(wall=machine.wall, steady=machine.steady)


@pytest.mark.parametrize("jump_s", [3_600, -3_600, 31_536_000])
def test_steady_clock_goes_on_evenly_when_the_machine_jumps(steady, machine, jump_s):
    before = unix(steady)
    machine.offset_s += jump_s
    machine.uptime_s += 60
    assert unix(steady) == before + 60
    assert steady.jumped
    machine.offset_s -= jump_s
    assert (unix(steady), steady.jumped) == (before + 60, False)


def test_steady_clock_follows_when_the_machine_is_corrected_a_little(steady, machine):
    before = unix(steady)
    for _ in range(10):
        machine.offset_s += 20
        unix(steady)
    assert (unix(steady), steady.jumped) == (before + 200, False)


def test_steady_clock_believes_a_jump_when_another_clock_confirms_it(steady, machine):
    before = unix(steady)
    machine.offset_s += 7_200
    steady.confirm(before)  # the other clock agrees with ours
    assert (unix(steady), steady.jumped) == (before, True)
    steady.confirm(before + 7_200 - 15)
    assert (unix(steady), steady.jumped) == (before + 7_200, False)
