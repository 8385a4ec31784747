"""Helpers of the day before."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.domain.units import Direction
from offchain.pilot import planning
from offchain.pilot.planning import _metered_range, _possible_wh, reaching, require_history

DAY = MarketDay.of(date(2016, 5, 20))


def scenario(day):
    return SimpleNamespace(day=MarketDay.of(day))


@pytest.mark.parametrize("day", [date(2016, 2, 6), date(2016, 3, 27), date(2016, 12, 31)])
def test_require_history_accepts_a_day_with_history(day):
    require_history(scenario(day))


@pytest.mark.parametrize("day", [date(2015, 6, 1), date(2016, 1, 1), date(2016, 2, 5), date(2017, 1, 1)])
def test_require_history_names_the_days_that_there_are_when_refusing(day):
    with pytest.raises(DomainError, match=f"no pilot day on {day}") as caught:
        require_history(scenario(day))
    assert caught.value.hint == "choose a day from 2016-02-06 to 2016-12-31"


def test_reaching_lays_the_difference_where_the_intervals_are_wide():
    expected, spread = np.array([[100.0, 200.0, 0.0]]), np.array([[30.0, 10.0, 0.0]])
    assert reaching(np.array([340.0]), expected, spread).tolist() == [[130.0, 210.0, 0.0]]
    assert reaching(np.array([260.0]), expected, spread).tolist() == [[70.0, 190.0, 0.0]]


def test_reaching_lays_the_difference_evenly_when_no_interval_has_a_width():
    assert reaching(np.array([40.0]), np.array([[10.0, 20.0]]), np.zeros((1, 2))).tolist() == [[15.0, 25.0]]


def flat_world(net_of):
    """A grid of two connections, the net consumption of one a function of the ISP, of the other 10 Wh."""

    def net_wh(isps):
        return np.array([[net_of(isp), 10] for isp in isps])

    return SimpleNamespace(day=DAY, scenario=SimpleNamespace(net_wh=net_wh))


def test_metered_range_is_of_the_fourteen_days_that_are_over():
    def net_of(isp):
        days_back = -((isp - DAY.first_isp) // 96)
        return {1: 900, 2: 500, 15: -700, 16: -900}.get(days_back, 0)

    least_wh, most_wh = _metered_range(flat_world(net_of))
    assert most_wh[1:-1].max() == 510  # the day before is not over yet
    assert least_wh[1:-1].min() == -690  # sixteen days ago is too long ago


def test_metered_range_counts_neighbouring_quarter_hours():
    _, most_wh = _metered_range(flat_world(lambda isp: 800 if isp == DAY.first_isp - 3 * 96 + 40 else 0))
    assert np.flatnonzero(most_wh > 10).tolist() == [39, 40, 41]


def downwards(net_p10_wh, flexible_wh=500):
    """What two connections with baselines of -100 and 0 Wh are counted on for DOWN."""

    def flexible(day, direction, asset_wh):
        return np.full((1, 2), flexible_wh)

    scenario = SimpleNamespace(flexible_wh=flexible, by_connection=lambda per_asset: per_asset)
    world = SimpleNamespace(scenario=scenario, day=None)
    forecast = SimpleNamespace(connections=SimpleNamespace(forecast=SimpleNamespace(p10=np.array([net_p10_wh]))))
    ahead = SimpleNamespace(
        need=SimpleNamespace(direction=Direction.DOWN), baseline_wh=np.array([[-100, 0]]), forecast=forecast
    )
    return _possible_wh(world, ahead).tolist()


def test_possible_wh_leaves_out_what_a_sunny_day_takes(monkeypatch):
    monkeypatch.setattr(planning, "_expected_use_wh", lambda world: None)
    assert downwards([-300.4, 0.0]) == [[300, 500]]
    assert downwards([-900.0, 50.0]) == [[0, 500]]
