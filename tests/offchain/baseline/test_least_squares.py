"""Exact: equal to rational arithmetic; the recursion: equal to the textbook's; nothing to learn from → 10-day mean"""

from datetime import date, timedelta
from fractions import Fraction
from math import floor, isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.baseline.history import History, day_type
from offchain.baseline.least_squares import (
    RIDGE,
    WEIGHT_ONE,
    LeastSquares,
    LeastSquaresSameDay,
    forgetting_weights,
    solve_exactly,
)
from offchain.baseline.method import baseline_method, baselines_of
from offchain.domain.isp import MarketDay

DAY_AHEAD, SAME_DAY = baseline_method("least_squares@1"), baseline_method("least_squares_same_day@1")


def past_of(days: int, connections: int = 1, seed: int = 1, size: int = 1_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-size // 4, size, (days, 96, connections))


def rational_prediction(past: np.ndarray, today: np.ndarray, event: slice) -> list[int]:
    """The same sum minimised with fractions, term by term; one connection."""
    days = [today.tolist() + [0] * (96 - len(today)), *past[:, :, 0].tolist()]
    rows = len(days) - 10

    def mean(n, isp):
        return floor(Fraction(sum(day[isp] for day in days[n + 1 : n + 11]), 10) + Fraction(1, 2))

    def deviation(n):
        window = range(event.start - 8, event.start)
        return floor(Fraction(sum(days[n][p] - mean(n, p) for p in window), 8) + Fraction(1, 2))

    isps = range(event.start, event.stop)
    unit = max(isqrt(sum(mean(rows - 1, p) ** 2 for p in isps) // len(isps)), 1)
    x = [[[mean(n, p), days[n + 1][p], days[n + 5][p], unit, deviation(n)] for p in isps] for n in range(rows)]
    weights = forgetting_weights(rows)
    prior = weights[rows - 1] * RIDGE * unit**2
    matrix = [[Fraction(prior if i == j else 0) for j in range(5)] for i in range(5)]
    target = [Fraction(prior), *[Fraction(0)] * 4]
    for n in range(1, rows):
        for k, isp in enumerate(isps):
            for i in range(5):
                target[i] += weights[n - 1] * x[n][k][i] * days[n][isp]
                for j in range(5):
                    matrix[i][j] += weights[n - 1] * x[n][k][i] * x[n][k][j]
    for i in range(5):
        for row in range(5):
            if row != i:
                factor = matrix[row][i] / matrix[i][i]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[i], strict=True)]
                target[row] -= factor * target[i]
    theta = [target[i] / matrix[i][i] for i in range(5)]
    return [floor(sum(t * v for t, v in zip(theta, row, strict=True)) + Fraction(1, 2)) for row in x[0]]


@pytest.mark.parametrize(("days", "size"), [(10, 1_000), (11, 1_000), (14, 1_000), (30, 1_000), (24, 2**31 - 1)])
def test_in_event_equals_rational_arithmetic_when_any_history(days, size):
    past, event = past_of(days, size=size, seed=days), slice(70, 74)
    today = past_of(1, seed=99, size=size)[0, :70]
    assert SAME_DAY.in_event(past, today, event)[:, 0].tolist() == rational_prediction(past, today[:, 0], event)


def test_in_event_equals_the_textbook_recursion_when_computed_in_floats():
    """Haykin's recursion: gain, prediction error, inverse correlation matrix; it forgets once a day."""
    past, hour = past_of(60), slice(40, 44)
    past[:, 41:44] = past[:, 40:41]
    days = np.concatenate([np.zeros((1, 96, 1)), past])[:, 40, 0]
    rows = len(days) - 10
    mean = np.floor(np.array([days[n + 1 : n + 11].mean() for n in range(rows)]) + 0.5)
    unit = isqrt(int(mean[-1]) ** 2)
    x = np.stack([mean, days[1 : rows + 1], days[5 : rows + 5], np.full(rows, unit)], axis=1)
    theta, inverse = np.array([1.0, 0, 0, 0]), np.eye(4) / (RIDGE * unit**2)
    for n in range(rows - 1, 0, -1):
        for forget in (0.995, 1, 1, 1):
            gain = inverse @ x[n] / (forget + x[n] @ inverse @ x[n])
            theta = theta + gain * (days[n] - x[n] @ theta)
            inverse = (inverse - np.outer(gain, x[n] @ inverse)) / forget
    assert DAY_AHEAD.in_event(past, None, hour)[0, 0] == pytest.approx(x[0] @ theta, abs=1)


def test_forgetting_weights_stay_near_the_power_when_a_year():
    weights = forgetting_weights(250)
    assert weights[:2] == [WEIGHT_ONE, 1_043_333]
    assert all(abs(w / WEIGHT_ONE - 0.995**age) < 1e-4 for age, w in enumerate(weights))


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_solve_exactly_solves_when_positive_definite(n, seed):
    rng = np.random.default_rng(seed)
    root = rng.integers(-(10**6), 10**6, (n + 3, n)).astype(object)
    matrix = root.T.dot(root) + np.diag([1] * n).astype(object)
    target = [int(v) for v in rng.integers(-(10**9), 10**9, n)]
    numerators, denominator = solve_exactly([[*map(int, row), b] for row, b in zip(matrix, target, strict=True)])
    assert denominator > 0
    for row, b in zip(matrix, target, strict=True):
        assert sum(int(a) * v for a, v in zip(row, numerators, strict=True)) == b * denominator


def test_baseline_is_the_ten_day_mean_when_there_are_ten_days():
    past = past_of(10)
    mean = (2 * past.sum(axis=0) + 10) // 20
    assert (DAY_AHEAD.expected(past, None, None) == mean).all()
    assert (SAME_DAY.expected(past, past[0, :68], slice(68, 76)) == mean).all()


@pytest.mark.parametrize("value", [0, 700, -3])
def test_baseline_is_the_constant_when_the_series_is(value):
    past = np.full((40, 96, 1), value)
    assert (DAY_AHEAD.expected(past, None, None) == value).all()
    assert (SAME_DAY.expected(past, past[0, :68], slice(68, 76)) == value).all()


def test_in_event_equals_the_whole_day_when_the_event_cuts_hours():
    past = past_of(20, connections=2)
    whole = DAY_AHEAD.expected(past, None, None)
    assert (DAY_AHEAD.in_event(past, None, slice(30, 37)) == whole[30:37]).all()


def test_expected_follows_the_deviation_when_it_lasted_before():
    rng = np.random.default_rng(5)
    level = rng.integers(500, 1_500, 60)
    past = np.broadcast_to(level[:, None, None], (60, 96, 1)).astype(np.int64)
    today = np.full((68, 1), 2_000)
    assert SAME_DAY.expected(past, today, slice(68, 76))[70, 0] == pytest.approx(2_000, abs=100)
    assert SAME_DAY.expected(past, today, slice(68, 76))[60, 0] < 1_500


def test_connections_do_not_touch_one_another_when_computed_together():
    past, today = past_of(25, connections=5), past_of(1, connections=5, seed=3)[0, :68]
    together = SAME_DAY.expected(past, today, slice(68, 76))
    for n in range(5):
        one = slice(n, n + 1)
        assert (SAME_DAY.expected(past[..., one], today[:, one], slice(68, 76)) == together[:, one]).all()


def test_baseline_forgets_what_lies_beyond_its_window_when_history_is_long():
    first = MarketDay.of(date(2014, 1, 1)).first_isp
    day = MarketDay.of(date(2016, 2, 10))
    rng = np.random.default_rng(2)
    long = History(first, rng.integers(0, 1_000, day.first_isp - first))
    start, found = day.day, 0
    while found < 250:
        start -= timedelta(1)
        found += day_type(start) is day_type(day.day)
    cut = MarketDay.of(start).first_isp
    short = History(cut, long.net_wh[cut - first :])
    result = baselines_of(DAY_AHEAD, {"long": long, "short": short}, day)
    assert (result.net_wh["long"] == result.net_wh["short"]).all()


def test_methods_look_back_a_year_of_working_days():
    assert LeastSquares("x", 1).most_days == LeastSquaresSameDay("x", 1).most_days == 250
