"""What is still to be traded: net of positions, period by period, by share, and for which reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.market.bidding import TradingPreference
from offchain.market.netting import Fills, Position
from offchain.market.open_position import by_reason, open_position_wh
from offchain.market.terms import EnergyType, Span
from tests.offchain.market.session import TERMS

HOUR = Span(400, 4, 1)
SHORTAGE = TERMS.shortage_price + TERMS.shortage_penalty_rate - TERMS.fee_rate
SURPLUS = TERMS.surplus_price + TERMS.fee_rate


def hour(*, bought=0, sold=0) -> Position:
    """Green energy of the hour from ISP 400."""
    return Position(1, HOUR, Fills([0, bought], [0, sold], [0, 0]))


def opened(expected, *positions, share=10_000):
    return open_position_wh(400, np.array(expected), positions, share).tolist()


def test_open_position_is_the_forecast_when_nothing_is_traded():
    assert opened([100, -50, 0]) == [100, -50, 0]


def test_open_position_is_bought_back_when_less_is_expected_than_was_sold():
    assert opened([-300, -300, 0, 0], hour(sold=1_000)) == [100] * 4


def test_open_position_is_resold_when_less_is_expected_than_was_bought():
    assert sum(opened([100] * 4, hour(bought=1_000))) == -600


def test_open_position_leaves_alone_what_only_the_shape_of_an_hour_moves():
    assert opened([0, 0, -300, -700], hour(sold=1_000)) == [0] * 4


def test_open_position_lies_where_as_much_is_expected():
    assert opened([-100, -300, 0, 0], hour(sold=200)) == [-50, -150, 0, 0]
    assert opened([0, 0, 200, 600], hour(bought=400)) == [0, 0, 100, 300]


def test_open_position_counts_a_position_as_the_share_that_is_traded():
    assert opened([-250] * 4, hour(sold=900), share=9_000) == [0] * 4
    # Of 300 Wh too much, nine tenths are bought back: what is sold is nine tenths of 700 Wh then.
    assert sum(opened([-175] * 4, hour(sold=900), share=9_000)) == 300


@given(
    expected=st.lists(st.integers(-3_000, 3_000), min_size=8, max_size=8),
    bought=st.integers(0, 5_000),
    sold=st.integers(0, 5_000),
)
def test_open_position_adds_up_to_what_is_not_traded(expected, bought, sold):
    found = opened(expected, hour(bought=bought, sold=sold))
    assert sum(found[:4]) == sum(expected[:4]) + sold - bought
    assert sum(found[4:]) == sum(expected[4:])
    assert min(found[:4]) >= 0 or max(found[:4]) <= 0


@pytest.mark.parametrize("expected", [[0] * 6, [0] * 3])
def test_open_position_refuses_a_window_that_cuts_a_period(expected):
    with pytest.raises(DomainError, match="cut periods of 4 ISPs"):
        opened(expected, hour(sold=1))
    with pytest.raises(DomainError, match="cut periods of 4 ISPs"):
        open_position_wh(398, np.zeros(8), [hour(sold=1)])


@pytest.mark.parametrize("share", [0, 10_001])
def test_open_position_refuses_a_share_that_is_none(share):
    with pytest.raises(DomainError, match="basis points"):
        opened([0] * 4, share=share)


def parts(open_wh, bought, sold, usual):
    arrays = (np.array(values) for values in (open_wh, bought, sold))
    return [(wh.tolist(), how) for wh, how in by_reason(TERMS, *arrays, usual)]


def test_by_reason_buys_back_the_type_that_was_sold_at_what_a_shortage_costs():
    usual = TradingPreference(100_000, 50_000, 9_000, EnergyType.BROWN, EnergyType.GREEN)
    (back, how), (resold, _), (rest, _) = parts([80, 0, -30], [0, 0, 0], [100, 0, 0], usual)
    assert (back, resold, rest) == ([80, 0, 0], [0, 0, 0], [0, 0, -30])
    assert (how.buys, how.buy_limit, how.share_bps) == (EnergyType.GREEN, SHORTAGE, 9_000)


@pytest.mark.parametrize(
    ("buys", "sells", "as_type"),
    [
        (EnergyType.GREEN, EnergyType.GREEN, EnergyType.GREEN),
        (EnergyType.GREEN, EnergyType.BROWN, EnergyType.BROWN),
        # Green is covered by green alone: what was bought as brown cannot be sold as green.
        (EnergyType.BROWN, EnergyType.GREEN, EnergyType.BROWN),
    ],
)
def test_by_reason_resells_only_as_what_covers_it_at_what_a_surplus_earns(buys, sells, as_type):
    usual = TradingPreference(300_000, 120_000, 9_000, buys, sells)
    _, (resold, how), _ = parts([-80, 20, 5], [100, 0, 0], [0, 0, 0], usual)
    assert resold == [-80, 0, 0]
    assert (how.sells, how.sell_limit) == (as_type, SURPLUS)


def test_by_reason_keeps_limits_that_are_better_already():
    usual = TradingPreference(SHORTAGE + 10_000, SURPLUS - 10_000)
    (_, back), (_, resold), (_, rest) = parts([0], [0], [0], usual)
    assert back.buy_limit == rest.buy_limit == usual.buy_limit
    assert resold.sell_limit == rest.sell_limit == usual.sell_limit
