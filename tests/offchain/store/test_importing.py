"""read_series: long or wide, CSV or Parquet, any interval that fits quarter hours; every change is reported."""

import numpy as np
import pandas as pd
import pytest

from offchain.domain.errors import DomainError, PermanentError
from offchain.store.cleaning import clean
from offchain.store.importing import read_series

TIMES = pd.date_range("2016-03-01", periods=8, freq="15min", tz="Europe/Berlin")
FIRST = int(TIMES[0].timestamp()) // 900


def csv(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text)
    return path


def test_read_series_gives_wh_when_wide_in_kilowatts(tmp_path):
    path = tmp_path / "wide.csv"
    pd.DataFrame({"event_start": TIMES, "home_kw": range(8), "pv_wh": 5}).to_csv(path, index=False)
    block, report = read_series(path)
    assert (block.ids, block.first_isp) == (("home", "pv"), FIRST)
    assert block.values[:, 0].tolist() == [250.0 * k for k in range(8)]
    assert block.values[:, 1].tolist() == [5.0] * 8
    assert report.changes == {}


def test_read_series_gives_the_same_when_long_parquet(tmp_path):
    path = tmp_path / "long.parquet"
    parts = [
        pd.DataFrame({"event_start": TIMES, "series": n, "net_wh": np.arange(8.0) * f}) for n, f in (("b", 2), ("a", 1))
    ]
    pd.concat(parts).to_parquet(path)
    block, _ = read_series(path)
    assert block.ids == ("a", "b")
    assert block.values[:, 1].tolist() == [2.0 * k for k in range(8)]


def test_read_series_keeps_days_apart_when_clocks_change(tmp_path):
    """30 October 2016 has 100 quarter hours."""
    times = pd.date_range("2016-10-30", "2016-10-31", freq="15min", tz="Europe/Berlin", inclusive="left")
    path = tmp_path / "autumn.csv"
    pd.DataFrame({"event_start": [t.isoformat() for t in times], "a_wh": range(100)}).to_csv(path, index=False)
    block, report = read_series(path)
    assert block.values[:, 0].tolist() == list(range(100))
    assert report.missing == {"a": 0}


def test_read_series_reports_when_duplicates_gaps_and_stray_times(tmp_path):
    rows = [
        "event_start,a_wh",
        "2016-03-01T00:00:00Z,1",
        "2016-03-01T00:15:00Z,2",
        "2016-03-01T00:15:00Z,3",
        "2016-03-01T00:37:10Z,9",
        "2016-03-01T00:45:00Z,4",
        "2016-03-01T01:00:00Z,5",
    ]
    block, report = read_series(csv(tmp_path, "\n".join(rows)))
    values = block.values[:, 0]
    assert values[[0, 1, 3, 4]].tolist() == [1.0, 3.0, 4.0, 5.0] and np.isnan(values[2])
    assert report.changes["a"] == {"twice, the later row taken": 1, "not at the start of an interval, left out": 1}
    assert report.missing == {"a": 1}
    assert "a: 1 ISPs missing" in report.lines()


def test_read_series_sums_up_when_five_minutes(tmp_path):
    times = pd.date_range("2016-03-01", periods=8, freq="5min", tz="UTC")
    path = tmp_path / "five.csv"
    pd.DataFrame({"event_start": [t.isoformat() for t in times], "a_wh": 1}).to_csv(path, index=False)
    block, report = read_series(path)
    assert block.values[:2, 0].tolist() == [3.0, 3.0] and np.isnan(block.values[2, 0])
    assert report.changes["a"]["in a quarter hour that is not complete, now missing"] == 2


def test_read_series_spreads_when_hours(tmp_path):
    times = pd.date_range("2016-03-01", periods=3, freq="h", tz="UTC")
    path = tmp_path / "hours.csv"
    pd.DataFrame({"event_start": [t.isoformat() for t in times], "a_kwh": [4, 8, 12]}).to_csv(path, index=False)
    block, report = read_series(path)
    assert block.values[:, 0].tolist() == [1_000.0] * 4 + [2_000.0] * 4 + [3_000.0] * 4
    assert report.changes["a"] == {"of 60 minutes, spread evenly over quarter hours": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event_start,a_wh\n2016-03-01T00:00:00,1\n", "row 1 has no time zone"),
        ("time,a_wh\n2016-03-01T00:00:00Z,1\n", "no column event_start"),
        ("event_start,a\n2016-03-01T00:00:00Z,1\n", "has no unit"),
        ("event_start,a_wh\n2016-03-01T00:00:00Z,many\n", "not a number"),
        ("event_start,a_wh\nyesterday+01:00,1\n", "event_start"),
        (
            "event_start,a_wh\n2016-03-01T00:00:00Z,1\n2016-03-01T00:07:00Z,1\n2016-03-01T00:14:00Z,1\n",
            "fit no quarter",
        ),
    ],
)
def test_read_series_raises_when_the_file_is_wrong(tmp_path, text, message):
    with pytest.raises(DomainError, match=message):
        read_series(csv(tmp_path, text))


def test_read_series_raises_when_there_is_no_file(tmp_path):
    with pytest.raises(PermanentError, match="no such file"):
        read_series(tmp_path / "none.csv")


def test_clean_reports_and_keeps_the_rest_when_values_cannot_be():
    values = np.tile(np.arange(96.0), 30)[:, None] * [1.0, 1.0]
    values[5, 0], values[7, 0], values[9, 1] = np.inf, 1e9, -3.0
    cleaned, report = clean(("a", "b"), values, negative=False)
    assert np.isnan(cleaned[[5, 7], 0]).all() and np.isnan(cleaned[9, 1])
    assert report.changes == {
        "a": {"infinite, now missing": 1, "far beyond all others, now missing": 1},
        "b": {"negative, now missing": 1},
    }
    assert report.missing == {"a": 2, "b": 1}
    assert values[7, 0] == 1e9, "the input stays as it is"


def test_clean_names_but_keeps_when_a_meter_is_stuck():
    values = np.random.default_rng(1).normal(100, 1, (96 * 10, 1))
    values[100:500] = 42.0
    cleaned, report = clean(("a",), values)
    assert np.array_equal(cleaned, values)
    assert report.remarks == {"a": ["400 ISPs in a row have the same value other than zero"]}


def test_clean_leaves_alone_when_zero_for_days():
    _, report = clean(("pv",), np.zeros((96 * 10, 1)))
    assert report.remarks == {} and report.changes == {}
