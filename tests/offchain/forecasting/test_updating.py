"""Forecasts brought up to date: how far the shift reaches, gaps, a day without readings."""

import numpy as np
import pytest

from offchain.forecasting.updating import KEPT_PER_HOUR, LOOK_BACK_ISPS, updated_by_readings

FORECAST_WH = np.full((96, 2), 100.0)


def test_updated_by_readings_shifts_what_follows_and_fades():
    updated = updated_by_readings(FORECAST_WH, np.full((20, 2), 150.0))
    assert updated[:20].tolist() == FORECAST_WH[:20].tolist()
    assert updated[20].tolist() == [150.0, 150.0]
    assert updated[24, 0] == pytest.approx(100 + 50 * KEPT_PER_HOUR)
    assert updated[-1, 0] == pytest.approx(100, abs=1e-3)


def test_updated_by_readings_looks_at_the_last_two_hours_only():
    metered = np.full((20, 2), 100.0)
    metered[: 20 - LOOK_BACK_ISPS] = 10_000
    assert updated_by_readings(FORECAST_WH, metered).tolist() == FORECAST_WH.tolist()


def test_updated_by_readings_leaves_out_what_is_missing():
    metered = np.full((20, 2), 130.0)
    metered[:, 0] = np.nan
    metered[13:19, 1] = np.nan
    updated = updated_by_readings(FORECAST_WH, metered)
    assert updated[20:, 0].tolist() == FORECAST_WH[20:, 0].tolist()
    assert updated[20, 1] == 130


def test_updated_by_readings_is_the_forecast_before_the_first_reading():
    assert updated_by_readings(FORECAST_WH, np.empty((0, 2))).tolist() == FORECAST_WH.tolist()


def test_updated_by_readings_changes_nothing_when_the_day_is_over():
    assert updated_by_readings(FORECAST_WH, FORECAST_WH + 1).tolist() == FORECAST_WH.tolist()


def test_updated_by_readings_expects_no_injection_where_none_was_forecast():
    forecast = np.repeat([[-500.0], [0.0], [80.0]], [24, 4, 68], axis=0)
    updated = updated_by_readings(forecast, np.full((20, 1), -900.0))
    assert updated[20, 0] == -900
    assert updated[23, 0] < -500
    assert updated[24:28, 0].tolist() == [0.0] * 4
    assert updated[28, 0] == 0
    assert updated[-1, 0] == pytest.approx(80, abs=0.1)
