"""Series: what was put is read; later beliefs overwrite earlier ones, but only once they were known."""

import time

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.store import open_store
from offchain.store.assets import Asset, assets_at, put_asset
from offchain.store.series import (
    BaselineRow,
    ForecastRow,
    SeriesBlock,
    forecasts_of_run,
    latest_baseline,
    latest_forecast,
    pack,
    put_baselines,
    put_forecasts,
    put_measurements,
    put_weather,
    read_measurements,
    read_weather,
    series_ids,
    unpack,
    weather_runs,
)


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "series.db") as opened:
        yield opened


def put(store, block, belief_time, source="import"):
    with store.write() as connection:
        return put_measurements(connection, block, quantity="net_wh", belief_time=belief_time, source=source)


def read(store, ids, first, count, **known):
    with store.read() as connection:
        return read_measurements(connection, ids, "net_wh", first, count, **known).values


def test_put_measurements_come_back_when_longer_than_a_run(store):
    values = np.random.default_rng(1).normal(size=(2_000, 3))
    put(store, SeriesBlock(("a", "b", "c"), 100, values), 1)
    assert np.array_equal(read(store, ["c", "a"], 100, 2_000), values[:, [2, 0]])
    assert np.array_equal(read(store, ["b"], 900, 10)[:, 0], values[800:810, 1])


def test_read_measurements_is_nan_when_outside_of_the_data(store):
    put(store, SeriesBlock(("a",), 100, np.ones((10, 1))), 1)
    found = read(store, ["a", "stranger"], 95, 20)
    assert np.isnan(found[:5, 0]).all() and np.isnan(found[15:, 0]).all() and np.isnan(found[:, 1]).all()
    assert found[5:15, 0].tolist() == [1.0] * 10


def test_read_measurements_takes_the_correction_when_it_was_known(store):
    put(store, SeriesBlock(("a",), 0, np.array([[1.0], [2.0], [3.0]])), 1_000)
    put(store, SeriesBlock(("a",), 1, np.array([[20.0], [np.nan]])), 2_000, "correction")
    assert read(store, ["a"], 0, 3)[:, 0].tolist() == [1.0, 20.0, 3.0]
    assert read(store, ["a"], 0, 3, known_at=1_999)[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(read(store, ["a"], 0, 3, known_at=999)).all()


def test_put_measurements_leaves_the_first_when_put_twice(store):
    block = SeriesBlock(("a",), 0, np.ones((5, 1)))
    assert put(store, block, 1) == 1
    assert put(store, block, 1) == 0


def test_put_measurements_raises_when_infinite(store):
    with pytest.raises(DomainError, match="infinite"):
        put(store, SeriesBlock(("a",), 0, np.array([[np.inf]])), 1)


def test_weather_runs_keep_every_belief_when_they_overlap(store):
    with store.write() as connection:
        for belief, value in ((10, 5.0), (20, 6.0)):
            block = SeriesBlock(("munich",), 0, np.full((4, 1), value))
            put_weather(connection, block, quantity="temperature_c", belief_time=belief, source="service")
    with store.read() as connection:
        runs = weather_runs(connection, "munich", "temperature_c")
        latest = read_weather(connection, ["munich"], "temperature_c", 0, 4, known_at=15)
    assert [(belief, first, values.tolist()) for belief, first, values in runs] == [
        (10, 0, [5.0] * 4),
        (20, 0, [6.0] * 4),
    ]
    assert latest.values[:, 0].tolist() == [5.0] * 4


def test_latest_forecast_is_the_one_known_when_asked(store):
    rows = [
        ForecastRow(
            "a", "consumption", "day_ahead", 96, belief, "m", 4, 2, *[pack(np.array([q, q]))] * 3, "own", b"r" * 32
        )
        for belief, q in ((1, 10.0), (2, 20.0))
    ]
    with store.write() as connection:
        assert put_forecasts(connection, rows) == 2
    with store.read() as connection:
        assert unpack(latest_forecast(connection, "a", "consumption", "day_ahead", 96).p50).tolist() == [20.0, 20.0]
        assert latest_forecast(connection, "a", "consumption", "day_ahead", 96, known_at=1).belief_time == 1
        assert latest_forecast(connection, "a", "consumption", "day_ahead", 96, known_at=0) is None
        assert forecasts_of_run(connection, b"r" * 32) == rows


def test_latest_baseline_comes_back_when_stored(store):
    row = BaselineRow("a", "mid_4_of_6@1", 96, 5, "aggregator", 96, pack(np.arange(96)), b"i" * 32)
    with store.write() as connection:
        assert put_baselines(connection, [row]) == 1
    with store.read() as connection:
        assert latest_baseline(connection, "a", "mid_4_of_6@1", 96) == row
        assert latest_baseline(connection, "a", "mid_4_of_6@1", 96, known_at=4) is None


def test_assets_at_is_what_was_valid_and_known_when_changed(store):
    small = Asset("bat-1", 100, 100, "enrolment", "p1", "battery", {"capacity_wh": 5_000})
    large = Asset("bat-1", 200, 150, "enrolment", "p1", "battery", {"capacity_wh": 9_000})
    with store.write() as connection:
        assert put_asset(connection, small) and put_asset(connection, large)
        assert not put_asset(connection, large)
    with store.read() as connection:
        assert assets_at(connection, 199) == [small]
        assert assets_at(connection, 200) == [large]
        assert assets_at(connection, 200, known_at=149) == [small]
        assert assets_at(connection, 99) == []


def test_series_ids_are_those_with_measurements_when_asked(store):
    put(store, SeriesBlock(("b", "a", "never"), 0, np.array([[1.0, 2.0, np.nan]])), 1)
    with store.read() as connection:
        assert series_ids(connection, "net_wh") == ["a", "b"]
        assert series_ids(connection, "ghi_w_m2") == []


def test_bulk_in_and_out_runs_near_a_million_values_a_second(store):
    """A fifth of the target, because test machines are shared; the benchmark states the rate."""
    values = np.random.default_rng(2).normal(size=(96 * 56, 100))
    block = SeriesBlock(tuple(f"m{i}" for i in range(100)), 0, values)
    begin = time.process_time()
    put(store, block, 1)
    back = read(store, block.ids, 0, len(values))
    spent = time.process_time() - begin
    assert np.array_equal(back, values)
    assert 2 * values.size / spent > 200_000
