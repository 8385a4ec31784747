"""load_profile: groups, means and quantiles by hand; load_figures: by hand, finite on whatever data"""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.profiling.batch import for_each
from offchain.profiling.days import DayCurves, day_curves, history_of
from offchain.profiling.profiles import Period, load_figures, load_profile
from tests.offchain.profiling.series import history


def test_load_profile_averages_days_of_a_group_when_daily():
    # Monday 4 January to Sunday 10 January 2016: every quarter hour of day d is d
    profile = load_profile(history(date(2016, 1, 4), date(2016, 1, 10), lambda at: at // 96), "daily")
    assert profile.groups == (("winter", "saturday"), ("winter", "sunday"), ("winter", "working"))
    # Epiphany is no nationwide holiday: five working days, 0 to 4
    assert profile.days.tolist() == [1, 1, 5]
    assert profile.mean_wh[:, 0].tolist() == [5, 6, 2]
    assert profile.p10_wh[2, 0] == pytest.approx(0.4) and profile.p90_wh[2, 0] == pytest.approx(3.6)


def test_load_profile_puts_a_holiday_to_sundays_when_weekly():
    profile = load_profile(history(date(2016, 3, 21), date(2016, 3, 27), lambda at: at * 0 + 4), Period.WEEKLY)
    assert profile.groups[0] == ("transition", 0) and ("transition", 4) not in profile.groups
    assert dict(zip(profile.groups, profile.days.tolist(), strict=True))["transition", 6] == 2


def test_load_profile_has_twelve_groups_when_monthly_over_a_year():
    profile = load_profile(history(date(2016, 1, 1), date(2016, 12, 31)), "monthly")
    assert [g[0] for g in profile.groups] == list(range(1, 13))
    assert profile.days.tolist() == [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def test_frame_has_one_row_per_group_and_quarter_hour():
    frame = load_profile(history(date(2016, 1, 4), date(2016, 1, 10))).frame()
    assert len(frame) == 3 * 96
    assert frame.columns.tolist()[:4] == ["season", "day_type", "local_time", "days"]
    assert frame.local_time.iloc[[0, 95]].tolist() == ["00:00", "23:45"]


def test_load_profile_works_from_one_day():
    profile = load_profile(history(date(2016, 2, 29), date(2016, 2, 29), lambda at: at - 50))
    assert profile.days.tolist() == [1] and profile.mean_wh[0, 0] == -50


def test_load_figures_by_hand():
    # a Friday and a Saturday in winter: 100 Wh from 17 to 21 h, on Saturday twice of it, 10 Wh export at noon
    def value(at):
        hour = at % 96 // 4
        return np.where((hour >= 17) & (hour < 21), 100 * (1 + at // 96), np.where(hour == 12, -10, 0))

    figures = load_figures(day_curves(history(date(2016, 1, 8), date(2016, 1, 9), value)))
    assert figures.import_wh_per_day == 2400 and figures.export_wh_per_day == 40
    assert figures.evening_share == 1 and figures.night_share == 0
    assert figures.weekend_ratio == 2 and figures.winter_ratio == 1
    assert figures.variability == pytest.approx(800 / 2400)
    assert figures.peak_w == 800


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=96, max_size=96), min_size=1, max_size=3))
def test_load_figures_are_finite_whatever_the_data(rows):
    days = tuple(date(2016, 1, 8 + i) for i in range(len(rows)))
    figures = load_figures(DayCurves(days, np.array(rows), {}))
    assert np.isfinite(list(figures.as_dict().values())).all()


def test_load_figures_are_finite_when_constant_zero_or_negative():
    for level in (0, 500, -500):
        figures = load_figures(day_curves(history(date(2016, 1, 4), date(2016, 1, 10), lambda at, v=level: at * 0 + v)))
        assert np.isfinite(list(figures.as_dict().values())).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_for_each_goes_on_when_one_prosumer_is_unusable(workers):
    good = history(date(2016, 1, 4), date(2016, 1, 5), lambda at: at)
    batch = for_each({"a": good, "b": history_of(0, np.full(96, np.nan)), "c": good}, load_profile, workers=workers)
    assert list(batch.results) == ["a", "c"]
    assert batch.unusable["b"].startswith("complete days: 0 days available")


def test_for_each_raises_what_is_no_fault_of_the_data():
    with pytest.raises(ZeroDivisionError):
        for_each({"a": 0}, lambda x: 1 / x)
