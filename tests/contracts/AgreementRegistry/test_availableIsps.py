"""
availableIsps
├── unknown → none
├── working day, Saturday, Sunday → the agreed window of the kind of day, whatever the zone of local midnight
├── days of 92 and 100 ISPs → positions count from local midnight
└── validity begins or ends within the day → only ISPs wholly inside, to the second; notice counts as end
"""

from datetime import date, timedelta

import pytest

from offchain.chain.agreements import Action, isp_bits
from offchain.domain.isp import MarketDay
from tests.utils import clock
from tests.utils import flexibility as fx

WORKING, WEEKEND = isp_bits(range(68, 84)), isp_bits(range(40, 48))
ALL_DAY = isp_bits(range(96))


def test_availableIsps_is_empty_when_agreement_is_unknown(flex, agreements):
    assert agreements.availableIsps(1, flex.day) == 0


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Los_Angeles", "Pacific/Auckland"])
def test_availableIsps_knows_weekdays_in_every_zone(flex, agreements, zone):
    # Auckland is at UTC+13 in summer, beyond what the rule promises: its winter is within.
    first = date(2028, 6, 28)
    terms = fx.make_terms(flex, valid_until=2**40 - 1)
    fx.register(flex, terms)
    for offset in range(7):
        day = first + timedelta(days=offset)
        expected = WEEKEND if day.weekday() >= 5 else WORKING
        assert agreements.availableIsps(1, MarketDay.of(day, zone).first_isp) == expected, day


@pytest.mark.parametrize("day", [date(2028, 3, 26), date(2028, 10, 29)])
def test_availableIsps_counts_from_local_midnight_when_clocks_change(flex, agreements, day):
    fx.register(flex, fx.make_terms(flex, valid_until=2**40 - 1, weekend_isps=isp_bits(range(100))))
    assert agreements.availableIsps(1, MarketDay.of(day).first_isp) == isp_bits(range(100))


@pytest.mark.parametrize(("late", "first"), [(-1, 8), (0, 8), (1, 9), (899, 9), (900, 9), (901, 10)])
def test_availableIsps_begins_with_the_validity(flex, agreements, late, first):
    terms = fx.make_terms(flex, working_day_isps=ALL_DAY, valid_from=flex.start(8) + late)
    fx.register(flex, terms)
    assert agreements.availableIsps(1, flex.day) == isp_bits(range(first, 96))


@pytest.mark.parametrize(("late", "until"), [(-1, 7), (0, 8), (1, 8), (899, 8), (900, 9)])
def test_availableIsps_ends_with_the_validity(flex, agreements, late, until):
    terms = fx.make_terms(flex, working_day_isps=ALL_DAY, valid_until=flex.start(8) + late)
    fx.register(flex, terms)
    assert agreements.availableIsps(1, flex.day) == isp_bits(range(until))


def test_availableIsps_is_empty_when_day_lies_outside_the_validity(flex, agreements):
    fx.register(flex, fx.make_terms(flex, valid_from=flex.start(96), valid_until=flex.start(192)))
    assert agreements.availableIsps(1, flex.day) == 0
    assert agreements.availableIsps(1, flex.day + 96) == WORKING
    assert agreements.availableIsps(1, flex.day + 192) == 0
    assert agreements.availableIsps(1, 0) == agreements.availableIsps(1, 2**32 - 1) == 0


def test_availableIsps_ends_with_the_notice(flex, agreements, actors):
    fx.register(flex, fx.make_terms(flex, working_day_isps=ALL_DAY))
    clock.at(flex.now + 5 * fx.HOUR)  # ends 24 h later, at 17:00
    agreements.give(1, Action.TERMINATE, {"from": actors.prosumer})
    assert agreements.availableIsps(1, flex.day) == isp_bits(range(17 * 4))
