"""Response: delivered, credited, kept, delay, adaptability, rebound by hand, both directions; KPIs; portfolio; bad
input"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction, delivered_wh
from offchain.profiling.response import (
    Response,
    kpi_frame,
    portfolio_kpis,
    prosumer_kpis,
    responsiveness_history,
    wilson_interval,
)

UP = Response(
    "a",
    Direction.UP,
    1_000,
    ordered_wh=np.array([0, 100, 100, 200]),
    baseline_net_wh=np.array([500, 500, 500, 500, 500, 500]),
    metered_net_wh=np.array([500, 480, 405, 250, 530, 510]),
    tolerance_bps=500,
)


def test_response_by_hand():
    assert UP.delivered_wh.tolist() == [0, 20, 95, 250]
    assert UP.credited_wh.tolist() == [0, 20, 95, 200]
    assert UP.kept.tolist() == [False, True, True]  # 80 missing of 100; 5 of 100 is the tolerance; 50 too much
    assert UP.delay_isps == 1
    assert UP.delivered_share == 315 / 400
    assert UP.adaptability == 1 - (80 + 5 + 50) / 400
    assert UP.rebound_wh == 40


def test_response_is_mirrored_when_the_direction_is_down():
    down = replace(UP, direction=Direction.DOWN, metered_net_wh=1_000 - UP.metered_net_wh)
    assert down.delivered_wh.tolist() == UP.delivered_wh.tolist()
    assert (down.adaptability, down.rebound_wh) == (UP.adaptability, UP.rebound_wh)


def test_response_never_comes_when_nothing_moved():
    still = replace(UP, metered_net_wh=UP.baseline_net_wh)
    assert still.delay_isps is None and still.adaptability == 0 and still.shape_correlation is None


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(Direction),
    st.integers(0, 10_000),
)
def test_response_agrees_with_settlement_arithmetic(rows, direction, tolerance):
    ordered, baseline, metered = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
    if not ordered.any():
        ordered[0] = 1
    response = Response("a", direction, 0, ordered, baseline, metered, tolerance)
    assert response.delivered_wh.tolist() == [
        delivered_wh(direction, int(b), int(m)) for b, m in zip(baseline, metered, strict=True)
    ]
    assert 0 <= response.delivered_share <= 1 and 0 <= response.adaptability <= 1
    assert (response.credited_wh <= response.ordered_wh).all() and (response.credited_wh >= 0).all()


def test_prosumer_kpis_by_hand():
    full = replace(UP, first_isp=2_000, metered_net_wh=UP.baseline_net_wh - np.array([0, 100, 100, 200, 0, 0]))
    kpis = prosumer_kpis([full, UP])  # order of arguments does not matter
    assert (kpis.orders, kpis.isps, kpis.ordered_wh, kpis.credited_wh) == (2, 6, 800, 715)
    assert kpis.delivered_share == pytest.approx(715 / 800)
    assert kpis.reliability == pytest.approx(5 / 6)
    assert kpis.trend_per_order == pytest.approx(1 - 315 / 400)
    assert (kpis.peak_up_w, kpis.peak_down_w, kpis.longest_isps) == (1_000, 0, 3)
    assert kpis.mean_delay_isps == 0.5 and kpis.responded_share == 1
    assert kpis.reliability_low < kpis.reliability < kpis.reliability_high
    assert kpis.attributes().shape == (5,) and np.isfinite(kpis.attributes()).all()


def test_wilson_interval_matches_published_values():
    # L. D. Brown, T. T. Cai, A. DasGupta, "Interval estimation for a binomial proportion", Stat. Sci. 16(2), 2001,
    # give the formula; 10 of 10 at 95% is 0.7225 to 1
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0, 1)


def test_portfolio_kpis_pool_deliveries_of_an_isp():
    # a delivers 50 too little and b 50 too much in the same quarter hour
    a = Response("a", Direction.UP, 5, np.array([100]), np.array([0]), np.array([-50]))
    b = Response("b", Direction.UP, 5, np.array([100]), np.array([0]), np.array([-150]))
    portfolio, each = portfolio_kpis([a, b])
    assert portfolio.delivered_share == 0.75 and portfolio.pooled_share == 1.0
    assert portfolio.reliable_prosumers == 1 and set(each) == {"a", "b"}
    assert portfolio.concentration == pytest.approx((50 / 150) ** 2 + (100 / 150) ** 2)


def test_portfolio_kpis_do_not_pool_opposite_directions():
    a = Response("a", Direction.UP, 5, np.array([100]), np.array([0]), np.array([0]))
    b = Response("b", Direction.DOWN, 5, np.array([100]), np.array([0]), np.array([200]))
    assert portfolio_kpis([a, b])[0].pooled_share == 0.5


def test_frames_have_a_row_per_order_and_per_prosumer():
    history = responsiveness_history([replace(UP, first_isp=2_000), UP])
    assert history.start.is_monotonic_increasing and len(history) == 2
    assert history.delivered_wh.tolist() == [365, 365] and history.delay_isps.tolist() == [1, 1]
    assert kpi_frame(portfolio_kpis([UP])[1].values()).prosumer.tolist() == ["a"]
    assert responsiveness_history([]).empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ordered_wh": np.array([0, 0])}, "not all zero"),
        ({"ordered_wh": np.array([-1, 5])}, "non-negative"),
        ({"ordered_wh": np.array([1.5])}, "rows of integers"),
        ({"metered_net_wh": np.array([1, 2])}, "4 ordered, 6 baseline and 2 metered"),
        ({"tolerance_bps": 10_001}, "outside 0..10000"),
    ],
)
def test_response_says_what_is_wrong(change, message):
    with pytest.raises(DomainError, match=message):
        replace(UP, **change)


def test_kpis_raise_when_there_are_no_orders_or_several_prosumers():
    with pytest.raises(DomainError, match="no orders"):
        portfolio_kpis([])
    with pytest.raises(DomainError, match="orders to 2 prosumers"):
        prosumer_kpis([UP, replace(UP, prosumer="b")])
