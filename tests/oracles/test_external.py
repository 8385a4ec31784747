"""External values in the store: hours on quarter hours, moments, shares of rain, short events, what was known when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.store import open_store
from offchain.store.series import read_measurements, read_weather
from oracles.external import _pieces, _spread, store_external
from oracles.sources.port import ExternalValue, Quantity

HOUR = 3_600
START = 1_560_470_400
ISP = START // 900


def value(quantity, offset_s, amount, *, seconds=HOUR, belief=10):
    return ExternalValue("Terni", quantity, START + offset_s, START + offset_s + seconds, amount, belief, "test")


def weather(store, quantity, count, known_at=None, first=ISP):
    with store.read() as connection:
        return read_weather(connection, ["Terni"], quantity, first, count, known_at=known_at).values[:, 0].tolist()


def test_store_external_gives_an_hour_to_its_quarter_hours(store):
    assert store_external(store, [value(Quantity.IRRADIANCE, 0, 100.0), value(Quantity.IRRADIANCE, HOUR, 200.0)]) == 1
    assert weather(store, "irradiance_w_m2", 8) == [100.0] * 4 + [200.0] * 4


def test_store_external_shares_rain_and_means_short_events(store):
    store_external(store, [value(Quantity.PRECIPITATION, 0, 4.0)])
    assert weather(store, "precipitation_mm", 4) == pytest.approx([1.0] * 4)
    short = [value(Quantity.WIND_SPEED, 600 * i, speed, seconds=600) for i, speed in enumerate((3.0, 6.0, 9.0))]
    store_external(store, short)
    assert weather(store, "wind_speed_m_s", 2) == pytest.approx([4.0, 8.0])


def test_store_external_puts_a_moment_into_its_quarter_hour(store):
    store_external(store, [value(Quantity.TEMPERATURE, t, 20.0 + t / HOUR, seconds=0) for t in (0, HOUR)])
    assert weather(store, "temperature_c", 5) == pytest.approx([20.0, np.nan, np.nan, np.nan, 21.0], nan_ok=True)


def test_store_external_keeps_what_was_known_when(store):
    store_external(store, [value(Quantity.TEMPERATURE, 0, 20.0), value(Quantity.TEMPERATURE, HOUR, 21.0)])
    store_external(store, [value(Quantity.TEMPERATURE, HOUR, 25.0, belief=20)])
    assert weather(store, "temperature_c", 8) == [20.0] * 4 + [25.0] * 4
    assert weather(store, "temperature_c", 8, known_at=19) == [20.0] * 4 + [21.0] * 4


def test_store_external_adds_nothing_when_said_again(store):
    values = [value(Quantity.TEMPERATURE, 0, 20.0)]
    assert [store_external(store, values), store_external(store, values)] == [1, 0]


def test_store_external_keeps_prices_exact(store):
    store_external(store, [value(Quantity.PRICE, 0, -5_121)])
    with store.read() as connection:
        found = read_measurements(connection, ["Terni"], "price_utoken_per_kwh", ISP, 4).values
    assert found.ravel().tolist() == [-5_121.0] * 4


def test_store_external_stores_far_apart_values_apart(store):
    assert store_external(store, [value(Quantity.HUMIDITY, day * 86_400 * 30, 50.0) for day in range(3)]) == 3


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 9_000), st.floats(0, 50)), min_size=1, max_size=8))
def test_spread_keeps_the_sum_of_what_adds_up(events):
    run = {}
    for offset_s, seconds, amount in events:
        for isp, rate, weight in _spread(value(Quantity.PRECIPITATION, offset_s, amount, seconds=seconds)):
            total, weights = run.get(isp, (0.0, 0.0))
            run[isp] = total + rate * weight, weights + weight
    stored = sum(np.nansum(column) for _, column in _pieces(run, additive=True))
    assert stored == pytest.approx(sum(amount for *_, amount in events))


def test_store_is_durable(tmp_path):
    with open_store(tmp_path / "a.db") as store:
        store_external(store, [value(Quantity.TEMPERATURE, 0, 20.0)])
    with open_store(tmp_path / "a.db") as store:
        assert weather(store, "temperature_c", 1) == [20.0]
