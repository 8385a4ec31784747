import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from offchain.domain.errors import DomainError
from offchain.optimisation.transport import cover


@st.composite
def problems(draw):
    suppliers, isps = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    row = st.lists(st.integers(0, 50), min_size=isps, max_size=isps)
    capacity = draw(st.lists(row, min_size=suppliers, max_size=suppliers))
    numbers = {
        "price": st.integers(0, 9),
        "limit": st.integers(0, 120),
        "least": st.integers(0, 60),
        "fixed": st.integers(0, 3),
    }
    drawn = {k: draw(st.lists(v, min_size=suppliers, max_size=suppliers)) for k, v in numbers.items()}
    demand = np.array(draw(row))
    return demand, np.array(capacity), {k: np.array(v) for k, v in drawn.items()}


def best_by_linprog(demand, capacity, limit, price):
    """Most coverage, then least cost, by another solver."""
    suppliers, isps = capacity.shape
    of_isp = np.tile(np.eye(isps), suppliers)
    of_supplier = np.repeat(np.eye(suppliers), isps, axis=1)
    bounds = [(0, c) for c in capacity.ravel()]
    matrix, right = np.vstack([of_isp, of_supplier]), np.concatenate([demand, limit])
    most = -linprog(-np.ones(capacity.size), matrix, right, bounds=bounds).fun
    least = linprog(np.repeat(price, isps), matrix, right, np.ones((1, capacity.size)), [most - 1e-9], bounds=bounds)
    return round(most), least.fun


@given(problems())
@settings(deadline=None, max_examples=60)
def test_cover_covers_most_at_least_cost_when_divisible(problem):
    demand, capacity, of = problem
    plan = cover(demand, capacity, of["price"], energy_limit_wh=of["limit"])
    assert (plan.supplied_wh.sum(axis=0) + plan.uncovered_wh == demand).all()
    assert (plan.supplied_wh >= 0).all() and (plan.supplied_wh <= capacity).all()
    assert (plan.supplied_wh.sum(axis=1) <= of["limit"]).all()
    most, _ = best_by_linprog(demand, capacity, of["limit"], of["price"])
    assert plan.supplied_wh.sum() == most
    _, least_cost = best_by_linprog(demand - plan.uncovered_wh, capacity, of["limit"], of["price"])
    assert (plan.supplied_wh.sum(axis=1) * of["price"]).sum() == pytest.approx(least_cost, abs=1e-4)


@given(problems())
@settings(deadline=None, max_examples=60)
def test_cover_keeps_every_limit_when_suppliers_have_a_least_quantity(problem):
    demand, capacity, of = problem
    plan = cover(
        demand,
        capacity,
        of["price"],
        energy_limit_wh=of["limit"],
        least_wh=of["least"],
        fixed_cost=of["fixed"],
    )
    totals = plan.supplied_wh.sum(axis=1)
    assert (plan.supplied_wh.sum(axis=0) + plan.uncovered_wh == demand).all()
    assert (plan.uncovered_wh >= 0).all()
    assert (plan.supplied_wh <= capacity).all() and (totals <= of["limit"]).all()
    assert ((totals == 0) | (totals >= of["least"])).all()


def test_cover_uses_one_supplier_when_fixed_cost_outweighs_price():
    demand, capacity, price = [500, 500], np.full((2, 2), 500), np.array([100, 101])
    capacity[0, 1] = 100
    split = cover(demand, capacity, price)
    assert split.supplied_wh.tolist() == [[500, 100], [0, 400]]
    single = cover(demand, capacity, price, fixed_cost=[50, 50])
    assert single.supplied_wh.tolist() == [[0, 0], [500, 500]]


def test_cover_prefers_the_earlier_supplier_when_prices_are_equal():
    plan = cover([100], [[100], [100]], [7, 7])
    assert plan.supplied_wh.tolist() == [[100], [0]]


def test_cover_prefers_the_cheaper_supplier_when_one_utoken_cheaper():
    plan = cover([100], [[100]] * 3, [8, 8, 7])
    assert plan.supplied_wh.tolist() == [[0], [0], [100]]


def test_cover_is_empty_when_there_is_no_supplier():
    plan = cover([100, 0], np.zeros((0, 2)), np.zeros(0))
    assert plan.supplied_wh.shape == (0, 2) and plan.uncovered_wh.tolist() == [100, 0]


def test_cover_raises_when_shapes_do_not_fit():
    with pytest.raises(DomainError, match="do not fit together"):
        cover([1, 2], [[1, 2, 3]], [5])


@pytest.mark.parametrize(("demand", "capacity"), [([-1], [[5]]), ([1], [[-5]])])
def test_cover_raises_when_negative(demand, capacity):
    with pytest.raises(DomainError, match="must not be negative"):
        cover(demand, capacity, [5])
