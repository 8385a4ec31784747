"""Forecast scores and methods against published or hand-computed values.

Sources: R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46, 1978 (check loss); T. Gneiting and A.
Raftery, "Strictly proper scoring rules, prediction, and estimation", Journal of the American Statistical Association
102, 2007, equation 21 (CRPS of a normal forecast); B. Haurwitz, "Insolation in relation to cloudiness and cloud
density", Journal of Meteorology 2, 1945 (clear sky: 1098 cos(z) exp(-0.057 / cos(z)) W/m2).
The nine public holidays of all German states in 2016 are a matter of law.
"""

import math
from datetime import UTC, date, datetime

import numpy as np
import pytest

from offchain.domain.isp import MarketDay, isp_of
from offchain.forecasting.scores import pinball, relative_crps
from offchain.forecasting.step_calendar import StepCalendar
from offchain.forecasting.weather import PvSystem, clear_sky_w_m2, pv_energy_wh


@pytest.mark.parametrize(("level", "loss"), [(0.1, 0.1 * 3), (0.5, 0.5 * 3), (0.9, 0.9 * 3)])
def test_pinball_equals_the_check_loss_when_too_low(level, loss):
    assert pinball(np.array([[5.0]]), np.array([[2.0]]), level) == pytest.approx(loss)


@pytest.mark.parametrize(("level", "loss"), [(0.1, 0.9 * 3), (0.5, 0.5 * 3), (0.9, 0.1 * 3)])
def test_pinball_equals_the_check_loss_when_too_high(level, loss):
    assert pinball(np.array([[2.0]]), np.array([[5.0]]), level) == pytest.approx(loss)


def test_relative_crps_is_near_the_closed_form_when_normal():
    """CRPS of N(0, 1) at 0 is 2 phi(0) - 1 / sqrt(pi) = 0.2337; three quantiles approximate the integral."""
    z, zero, one = 1.2816, np.zeros((1, 1)), np.ones((1, 1))
    found = float(relative_crps(zero, -z * one, zero, z * one, one[0])[0])
    exact = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    # twice the mean check loss of -1.2816, 0, 1.2816 at 0 is 2 * (0.12816 + 0 + 0.12816) / 3
    assert found == pytest.approx(2 * 2 * 0.1 * z / 3)
    assert exact == pytest.approx(0.2337, abs=1e-4) and abs(found - exact) < 0.07


def test_clear_sky_equals_haurwitz_when_the_sun_is_in_the_zenith():
    """Equator, equinox, about noon: cos(z) is nearly one, 1098 exp(-0.057) = 1037 W/m2."""
    noon = isp_of(datetime(2016, 3, 20, 12, 0, tzinfo=UTC))
    assert clear_sky_w_m2(np.array([noon]), 0.0, 0.0)[0] == pytest.approx(1098 * math.exp(-0.057), rel=0.005)


def test_pv_energy_equals_pvwatts_when_worked_by_hand():
    """Flat module, equator, equinox noon, clear sky: the plane gets about what the ground gets.

    Cell temperature after SAPM (open rack, glass and polymer: a = -3.56, b = -0.075, dT = 3) at 25 degrees and no
    wind: E exp(a) + 25 + 3 E / 1000. Power: peak * E / 1000 * (1 - 0.004 (T - 25)) * 0.86, inverter 96%.
    """
    noon = isp_of(datetime(2016, 3, 20, 12, 0, tzinfo=UTC))
    irradiance = 1098 * math.exp(-0.057)
    cell = irradiance * math.exp(-3.56) + 25 + 3 * irradiance / 1_000
    dc_w = 1_000 * irradiance / 1_000 * (1 - 0.004 * (cell - 25)) * 0.86
    system = PvSystem(1_000.0, 0.0, 180.0, 0.0, 0.0)
    found = pv_energy_wh(system, np.array([noon]), np.array([irradiance]), np.array([25.0]), np.array([0.0]))
    assert found[0] == pytest.approx(dc_w * 0.96 / 4, rel=0.02)


def test_step_calendar_has_the_public_holidays_of_2016_when_germany():
    """The nine nationwide days: New Year, Good Friday to Unity Day, Christmas."""
    nationwide = {(1, 1), (3, 25), (3, 28), (5, 1), (5, 5), (5, 16), (10, 3), (12, 25), (12, 26)}
    first = MarketDay.of(date(2016, 1, 1)).first_isp
    calendar = StepCalendar(first // 4, 24 * 366, 4, "Europe/Berlin", "DE")
    found = {(d.month, d.day) for d, free in zip(calendar.dates, calendar.holiday, strict=True) if free}
    assert found == nationwide
