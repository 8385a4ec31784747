"""Orders from forecasts: types, limits on the grid, shares, what is too little."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.market.bidding import TradingPreference, orders_from_forecast
from offchain.market.terms import EnergyType
from tests.offchain.market.session import TERMS

FORECAST_WH = np.array([100, 100, 100, 100, -50, -50, -50, -50, 1, 1, 1, 1])


def test_orders_from_forecast_buys_what_is_short_and_sells_what_is_left():
    preference = TradingPreference(200_000, 100_000, 5_000, EnergyType.GREEN, EnergyType.BROWN)
    book = orders_from_forecast(TERMS, FORECAST_WH, preference)
    # 400 Wh to buy, 200 Wh to sell, half of each; 4 Wh are below the smallest quantity.
    assert book.tolist() == [(3, 0, 25, 200), (1, 1, 15, 100)]


def test_orders_from_forecast_keeps_limits_that_are_between_two_ticks():
    book = orders_from_forecast(TERMS, FORECAST_WH, TradingPreference(199_999, 100_001))
    assert [TERMS.grid.price(int(tick)) for tick in book["tick"]] == [190_000, 110_000]


def test_orders_from_forecast_trades_nothing_when_the_limits_are_off_the_grid():
    assert not len(orders_from_forecast(TERMS, FORECAST_WH, TradingPreference(-60_000, 400_000)))


def test_orders_from_forecast_uses_the_ends_of_the_grid_when_limits_are_beyond():
    book = orders_from_forecast(TERMS, FORECAST_WH, TradingPreference(10**9, -(10**9)))
    assert book["tick"].tolist() == [TERMS.tick_count - 1, 0]


def test_orders_from_forecast_names_the_shape_when_it_does_not_fit():
    with pytest.raises(DomainError, match=r"shape \(11,\) for 3 periods of 4 ISPs"):
        orders_from_forecast(TERMS, FORECAST_WH[1:], TradingPreference(1, 1))


def test_trading_preference_refuses_more_than_the_forecast():
    with pytest.raises(DomainError, match="share 10001"):
        TradingPreference(1, 1, 10_001)


@given(
    forecast=st.lists(st.integers(-2_000, 2_000), min_size=12, max_size=12),
    buy=st.integers(-100_000, 500_000),
    sell=st.integers(-100_000, 500_000),
    share=st.integers(0, 10_000),
    step=st.sampled_from([1, 777, 10_000]),
)
def test_orders_from_forecast_never_breaks_a_limit_or_the_share(forecast, buy, sell, share, step):
    terms = replace(TERMS, price_step=step)
    for period, side, tick, quantity in orders_from_forecast(
        terms, np.array(forecast), TradingPreference(buy, sell, share)
    ).tolist():
        net = sum(forecast[4 * (period % 3) : 4 * (period % 3) + 4])
        price = terms.grid.price(tick)
        assert price >= sell if side else price <= buy
        assert quantity * 10_000 <= abs(net) * share
        assert (net < 0) == bool(side)
