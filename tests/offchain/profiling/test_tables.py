"""read_readings: histories; bad rows spoil their own connection only; bad files in one line; write_frame round trips"""

import numpy as np
import pandas as pd
import pytest

from offchain.domain.errors import DomainError, PermanentError
from offchain.profiling.tables import read_frame, read_readings, read_series, write_frame

HEAD = "prosumer,start,net_wh\n"


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "r.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_read_readings_fills_gaps_and_sorts(written):
    path = written(
        HEAD + "a,2016-01-01T00:45:00+01:00,4\na,2016-01-01T00:00:00+01:00,1\na,2016-01-01T00:15:00+01:00,\n"
    )
    histories, unusable = read_readings(path)
    assert histories["a"].first_isp == 1451602800 // 900
    assert histories["a"].net_wh.tolist() == [1, 0, 0, 4]
    assert histories["a"].known.tolist() == [True, False, False, True] and not unusable


def test_read_readings_takes_import_and_export_and_no_name(written):
    path = written("start,import_wh,export_wh\n2016-01-01T00:00:00Z,5,2\n2016-01-01T00:15:00Z,0,7\n")
    assert read_readings(path)[0]["prosumer"].net_wh.tolist() == [3, -7]


def test_read_readings_takes_mixed_offsets_of_a_clock_change(written):
    path = written(HEAD + "a,2016-10-30T02:45:00+02:00,1\na,2016-10-30T02:00:00+01:00,2\n")
    assert read_readings(path)[0]["a"].net_wh.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("b,2016-01-01T00:00:00,1\n", "time without zone: 2016-01-01T00:00:00"),
        ("b,2016-01-01T00:07:00Z,1\n", "is no start of a quarter hour"),
        ("b,yesterdayZ,1\n", "times are ISO 8601"),
        ("b,2016-01-01T00:00:00Z,many\n", "'many' in column 'net_wh' is no number"),
        ("b,2016-01-01T00:00:00Z,1e15\n", "is impossible"),
        ("b,2016-01-01T00:00:00Z,1\nb,2016-01-01T00:00:00Z,2\n", "two different readings at 2016-01-01T00:00:00+00:00"),
        ("b,1900-01-01T00:00:00Z,1\nb,2016-01-01T00:00:00Z,2\n", "more than 50 years"),
    ],
)
def test_read_readings_goes_on_when_one_connection_is_bad(written, rows, reason):
    histories, unusable = read_readings(written(HEAD + rows + "a,2016-01-01T00:00:00Z,1\n"))
    assert list(histories) == ["a"]
    assert reason in unusable["b"] and "\n" not in unusable["b"]


def test_read_readings_takes_the_same_reading_twice(written):
    assert read_readings(written(HEAD + 2 * "a,2016-01-01T00:00:00Z,1\n"))[0]["a"].net_wh.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "no usable readings: it has no rows"),
        ("start,kwh\n2016-01-01T00:00:00Z,1\n", "neither net_wh nor import_wh"),
        ("start,import_wh\n2016-01-01T00:00:00Z,-1\n", "must be non-negative"),
        ("time,net_wh\n2016-01-01T00:00:00Z,1\n", "no column 'start'"),
        (HEAD + "a,2016-01-01T00:00:00,1\n", "time without zone"),
    ],
)
def test_read_readings_says_what_is_wrong(written, text, message):
    with pytest.raises(DomainError, match=message):
        read_readings(written(text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.txt", "x", "unknown kind of file"),
        ("r.parquet", "no parquet", "cannot be read"),
        ("r.csv", "", "cannot be read"),
    ],
)
def test_read_frame_says_what_is_wrong(written, name, content, message):
    with pytest.raises(PermanentError, match=message):
        read_frame(written(content, name))
    with pytest.raises(PermanentError, match="does not exist"):
        read_frame("absent.csv")


def test_read_series_lays_columns_on_isps(written):
    path = written("start,x,y\n2016-01-01T00:15:00Z,1,2\n2016-01-01T02:00:00Z,3,4\n")
    first = 1451606400 // 900
    made = read_series(path, first, 3)
    np.testing.assert_array_equal(made, [[np.nan, np.nan], [1, 2], [np.nan, np.nan]])
    with pytest.raises(DomainError, match="no column 'z'"):
        read_series(path, first, 3, ["z"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_write_frame_is_read_back(tmp_path, kind):
    frame = pd.DataFrame({"start": pd.date_range("2016-01-01", periods=2, freq="15min", tz="UTC"), "net_wh": [1.5, 2]})
    write_frame(frame, tmp_path / "deep" / f"t.{kind}")
    histories, _ = read_readings(tmp_path / "deep" / f"t.{kind}")
    assert histories["prosumer"].net_wh.tolist() == [2, 2]


def test_write_frame_says_what_is_wrong(tmp_path):
    with pytest.raises(PermanentError, match="unknown kind of file"):
        write_frame(pd.DataFrame(), tmp_path / "t.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="cannot be written"):
        write_frame(pd.DataFrame(), tmp_path / "file" / "t.csv")
