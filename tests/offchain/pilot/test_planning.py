"""Helpers of the day before."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.domain.units import Direction
from offchain.grid.congestion import FlexibilityNeed
from offchain.pilot.planning import _higher, require_history


def scenario(day):
    return SimpleNamespace(day=MarketDay.of(day))


@pytest.mark.parametrize("day", [date(2016, 1, 23), date(2016, 3, 27), date(2016, 12, 31)])
def test_require_history_accepts_a_day_with_history(day):
    require_history(scenario(day))


@pytest.mark.parametrize("day", [date(2015, 6, 1), date(2016, 1, 1), date(2016, 1, 22), date(2017, 1, 1)])
def test_require_history_names_the_days_that_there_are_when_refusing(day):
    with pytest.raises(DomainError, match=f"no pilot day on {day}") as caught:
        require_history(scenario(day))
    assert caught.value.hint == "choose a day from 2016-01-23 to 2016-12-31"


def need(quantity_wh, before, after):
    return FlexibilityNeed("trafo", Direction.UP, np.array(quantity_wh), np.array(before), np.array(after))


def test_higher_takes_the_higher_need_with_its_loading_per_isp():
    both = _higher(
        need([0, 500, 300], [90.0, 120.0, 110.0], [90.0, 95.0, 95.0]),
        need([100, 400, 300], [101.0, 115.0, 110.0], [94.0, 93.0, 92.0]),
    )
    assert both.quantity_wh.tolist() == [100, 500, 300]
    assert both.loading_before_percent.tolist() == [101.0, 120.0, 110.0]
    assert both.loading_after_percent.tolist() == [94.0, 95.0, 95.0]
