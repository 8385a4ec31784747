"""Features: nothing is used that was not known at issue time, and the guard says so when something is."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.forecasting.features import Issues, build_features
from offchain.forecasting.forecaster import Frame
from offchain.forecasting.horizons import DAY_AHEAD, HORIZONS, HOUR_AHEAD, INTRADAY, horizon
from offchain.forecasting.known import KnownValues, LeakageError
from offchain.forecasting.panel import Panel, Site, in_steps, unusable
from offchain.forecasting.step_calendar import FREE, SATURDAY, WORKING, StepCalendar
from tests.offchain.forecasting.panels import homes, isp_of_day


def test_take_raises_when_a_step_was_not_known():
    known = KnownValues(np.arange(10.0)[:, None], np.array([4, 6]))
    assert known.take(np.array([[3], [5]]))[:, 0, 0].tolist() == [3.0, 5.0]
    with pytest.raises(LeakageError, match="step 4 was asked for, but only steps before 4"):
        known.take(np.array([[4], [5]]))


def test_take_is_nan_when_before_the_data():
    assert np.isnan(KnownValues(np.ones((3, 1)), np.array([3])).take(np.array([[-1]]))).all()


def test_build_features_raises_when_a_feature_leaks(monkeypatch):
    """The guard catches its fault: a window that ends one step too late."""
    panel = homes(2)
    frame = Frame(panel, HOUR_AHEAD)
    issues = Issues(np.array([2_000]), np.array([[2_000, 2_001, 2_002, 2_003]]))
    leaky = Issues.__new__(Issues)
    object.__setattr__(leaky, "known_until", np.array([2_000]))
    object.__setattr__(leaky, "steps", issues.steps)
    original = KnownValues.take
    monkeypatch.setattr(KnownValues, "take", lambda self, steps: original(self, steps + 1))
    with pytest.raises(LeakageError):
        build_features(frame.values_wh, frame.calendar, leaky, HOUR_AHEAD)


@pytest.mark.parametrize("of", HORIZONS.values(), ids=HORIZONS)
@pytest.mark.parametrize("delay_isps", [0, 40])
def test_build_features_stay_the_same_when_the_future_changes(of, delay_isps):
    panel = homes(3)
    sited = Panel(panel.ids, panel.first_isp, panel.values_wh, site=Site(51.0, 10.0))
    frame = Frame(sited, of)
    issues = frame.all_issues(delay_isps)
    issue = issues.pick(slice(len(issues.known_until) // 2, len(issues.known_until) // 2 + 1))
    changed = frame.values_wh.copy()
    changed[issue.known_until[0] :] = np.random.default_rng(1).normal(1e6, 1e6, changed[issue.known_until[0] :].shape)
    before, after = (
        build_features(v, frame.calendar, issue, of, clear_sky=frame.clear_sky) for v in (frame.values_wh, changed)
    )
    assert np.array_equal(before.values, after.values, equal_nan=True)
    for part in ("reference", "naive", "latest", "median"):
        assert np.array_equal(getattr(before, part), getattr(after, part), equal_nan=True)


def test_build_features_change_when_the_past_changes():
    """The other side of the test above: it would see a change."""
    frame = Frame(homes(3), DAY_AHEAD)
    issues = frame.all_issues(0)
    issue = issues.pick(slice(20, 21))
    changed = frame.values_wh.copy()
    changed[: issue.known_until[0]] += 1
    before, after = (build_features(v, frame.calendar, issue, DAY_AHEAD) for v in (frame.values_wh, changed))
    assert not np.array_equal(before.values, after.values, equal_nan=True)


def test_all_issues_of_the_day_ahead_are_at_eleven_when_clocks_change():
    frame = Frame(homes(1, first=date(2016, 3, 1), last=date(2016, 4, 3)), DAY_AHEAD)
    issues = frame.all_issues(0)
    at = {frame.calendar.slot[k] for k in issues.known_until}
    assert at == {11}
    assert {frame.calendar.slot[s] for s in issues.steps[:, 0]} == {0}


def test_step_calendar_has_days_of_92_and_100_when_clocks_change():
    first = isp_of_day(date(2016, 3, 26))
    calendar = StepCalendar(first, 3 * 96, 1, "Europe/Berlin", "DE")
    assert np.bincount(calendar.day)[:2].tolist() == [96, 92]
    # 02:00 to 03:00 does not exist on 27 March: the step before stands for it
    assert calendar.at[1, 8:12].tolist() == [96 + 7] * 4
    autumn = StepCalendar(isp_of_day(date(2016, 10, 30)), 100, 1, "Europe/Berlin", "DE")
    assert autumn.at[0, 8] == 8 and autumn.at[0, 12] == 16


def test_step_calendar_knows_holidays_and_leap_days_when_they_come():
    calendar = StepCalendar(isp_of_day(date(2016, 2, 28)) // 4, 24 * 40, 4, "Europe/Berlin", "DE")
    classes = {d.date(): k for d, k in zip(calendar.dates, calendar.day_class, strict=True)}
    assert classes[date(2016, 2, 29)] == WORKING
    assert classes[date(2016, 3, 25)] == FREE, "Good Friday"
    assert classes[date(2016, 3, 26)] == SATURDAY
    assert classes[date(2016, 3, 28)] == FREE, "Easter Monday"
    bavaria = StepCalendar(isp_of_day(date(2016, 1, 6)) // 4, 24, 4, "Europe/Berlin", "DE-BY")
    assert bavaria.day_class[0] == FREE, "Epiphany in Bavaria"


@given(st.integers(0, 7), st.sampled_from([1, 2, 4]))
def test_in_steps_keeps_the_energy_when_whole_steps(skip, step_isps):
    values = np.arange(100.0)[:, None]
    first, steps = in_steps(Panel(("a",), 1_000 + skip, values), step_isps)
    begin = first * step_isps - 1_000 - skip
    assert 0 <= begin < step_isps
    assert steps.sum() == values[begin : begin + len(steps) * step_isps].sum()


def test_groups_sum_and_miss_when_a_member_misses():
    values = np.array([[1.0, 2.0, 4.0], [1.0, np.nan, 4.0]])
    sums = Panel(("a", "b", "c"), 0, values).groups({"ab": ["a", "b"], "c": ["c"]})
    assert sums.values_wh[0].tolist() == [3.0, 4.0] and np.isnan(sums.values_wh[1, 0])


def test_unusable_names_the_isp_when_a_value_is_infinite():
    values = np.ones((5, 3))
    values[2, 0], values[1, 1] = np.inf, 1e12
    reasons = unusable(Panel(("a", "b", "c"), 10, values))
    assert reasons["a"] == "value at ISP 12 is infinite" and "ISP 11" in reasons["b"] and "c" not in reasons


@pytest.mark.parametrize(
    ("ids", "shape", "message"),
    [(("a", "a"), (4, 2), "comes twice"), (("a",), (4, 2), "values of shape"), ((), (4, 0), "without series")],
)
def test_panel_raises_when_malformed(ids, shape, message):
    with pytest.raises(DomainError, match=message):
        Panel(ids, 0, np.zeros(shape))


def test_horizon_raises_when_unknown():
    assert horizon("intraday") is INTRADAY
    with pytest.raises(DomainError, match="one of day_ahead, day_ahead_isp, intraday, hour_ahead"):
        horizon("month")
