from datetime import date

import numpy as np
import pytest

from offchain.baseline.history import History
from offchain.domain.errors import InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.forecasting.uncertainty import error_quantile_wh
from offchain.forecasting.weekly_naive import WeeklyNaive

DAY = MarketDay.of(date(2016, 2, 29))


def history_of(days: int, rng=None) -> History:
    size = days * 96
    values = np.zeros(size, dtype=np.int64) if rng is None else rng.integers(0, 1_000, size)
    return History(DAY.first_isp - size, values)


def test_error_quantile_is_zero_when_weeks_repeat():
    assert not error_quantile_wh(WeeklyNaive(), history_of(40), DAY, 0.9).any()


def test_error_quantile_covers_its_share_when_errors_are_random():
    history = history_of(47, np.random.default_rng(5))
    margin = error_quantile_wh(WeeklyNaive(), history, DAY, 0.8)
    last = [MarketDay.of(date(2016, 2, d)) for d in range(1, 29)]
    covered = [(history.values_of(d) - WeeklyNaive().forecast(history, d) <= margin + 1e-9).mean() for d in last]
    assert np.mean(covered) == pytest.approx(0.8, abs=0.03)


def test_error_quantile_is_positive_when_consumption_grows():
    size = 40 * 96
    history = History(DAY.first_isp - size, np.arange(size))
    assert error_quantile_wh(WeeklyNaive(), history, DAY, 0.5).tolist() == [672.0] * 96


def test_error_quantile_raises_when_less_than_half_of_the_days_are_known():
    with pytest.raises(InsufficientHistoryError) as caught:
        error_quantile_wh(WeeklyNaive(), history_of(20), DAY, 0.8)
    assert (caught.value.available, caught.value.required) == (13, 14)
