"""Verdicts against amounts worked out by hand from the rules of ``IFlexSettlement``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.audit.verdicts import (
    Sums,
    flex_order_money,
    largest_reward,
    sums_of,
    sums_without_day,
    verdict_of,
)
from offchain.domain.units import Direction

UP, DOWN = Direction.UP, Direction.DOWN


def one(quantity, baseline, reading, *, taken=0, direction=UP, tolerance=1_000, missing_is_shortfall=False):
    return sums_of(direction, tolerance, missing_is_shortfall, [quantity], [taken], [baseline], [reading])


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        pytest.param(one(1_000, 5_000, (4_400, 0)), (600, 600, 300, 0), id="example of the interface"),
        pytest.param(one(1_000, 5_000, (4_000, 0)), (1_000, 1_000, 0, 0), id="delivered"),
        pytest.param(one(1_000, 5_000, (4_100, 0)), (900, 900, 0, 0), id="at the tolerance"),
        pytest.param(one(1_000, 5_000, (4_101, 0)), (899, 899, 1, 0), id="1 Wh beyond the tolerance"),
        pytest.param(one(1_000, 5_000, (3_900, 0)), (1_000, 1_100, 0, 0), id="over-delivery, tolerance"),
        pytest.param(one(1_000, 5_000, (0, 0)), (1_000, 1_100, 0, 0), id="over-delivery beyond"),
        pytest.param(one(1_000, 5_000, (9_000, 0)), (0, 0, 900, 0), id="other way"),
        pytest.param(one(1_000, -500, (0, 1_400)), (900, 900, 0, 0), id="export"),
        pytest.param(one(1_000, 200, (1_200, 0), direction=DOWN), (1_000, 1_000, 0, 0), id="down"),
        pytest.param(one(1_000, 200, (0, 800), direction=DOWN), (0, 0, 900, 0), id="down, other way"),
        pytest.param(one(1_000, 0, None), (0, 0, 0, 1_000), id="missing"),
        pytest.param(one(1_000, 0, None, missing_is_shortfall=True), (0, 0, 1_000, 1_000), id="missing counts"),
        pytest.param(one(1_000, 5_000, (4_600, 0), taken=500), (400, 400, 500, 0), id="part taken over"),
        pytest.param(one(1_000, 5_000, (4_000, 0), taken=500), (500, 600, 500, 0), id="taken, delivered anyway"),
        pytest.param(one(1_000, 5_000, (4_000, 0), taken=1_000), (0, 0, 1_000, 0), id="all taken over"),
        pytest.param(one(1_000, 0, None, taken=400), (0, 0, 400, 600), id="missing, part taken over"),
        pytest.param(one(0, 5_000, (0, 0)), (0, 0, 0, 0), id="nothing ordered"),
        pytest.param(one(7, 100, (94, 0), tolerance=1_500), (6, 6, 0, 0), id="band rounds down"),
    ],
)
def test_sums_of_follows_the_rules_when(sums, expected):
    assert sums == expected


@pytest.mark.parametrize(("counts", "penalised"), [(False, 300), (True, 2_000)])
def test_sums_without_day_penalises_what_was_taken_over_when_the_day_never_came(counts, penalised):
    assert sums_without_day(counts, [1_000, 1_000], [0, 300]) == (0, 0, penalised, 1_700)


def test_verdict_of_equals_the_example_of_the_interface():
    verdict = verdict_of(Sums(600, 600, 300, 0), 200_000, 300_000, 10_000, bond_left=0)
    assert (verdict.reward, verdict.penalty, verdict.net) == (120_000, 90_000, 30_000)


@pytest.mark.parametrize(("bond", "penalty"), [(0, 120_000), (5, 120_005), (10**9, 900_000)])
def test_verdict_of_limits_the_penalty_when_reward_and_bond_end(bond, penalty):
    verdict = verdict_of(Sums(600, 600, 3_000, 0), 200_000, 300_000, 10_000, bond)
    assert (verdict.penalty, verdict.net) == (penalty, 120_000 - penalty)


def test_verdict_of_rounds_each_step_down_when_amounts_are_odd():
    # 7 Wh at 333 uToken/kWh are 2.331, twice and a half that of 2 is 5; 11 Wh at 777 are 8.547, of 8 is 20.
    verdict = verdict_of(Sums(7, 7, 11, 0), 333, 777, 25_000, bond_left=100)
    assert (verdict.reward, verdict.penalty) == (5, 20)


@pytest.mark.parametrize(
    ("credited", "missing", "paid", "penalty"),
    [
        (8_000, 0, 2_000_000, 0),
        (7_600, 0, 1_900_000, 0),
        (7_599, 0, 1_899_750, 100),
        (5_100, 1_000, 1_275_000, 150_000),
        (0, 0, 0, 400_000),
        (0, 8_000, 0, 0),
    ],
)
def test_flex_order_money_pays_the_share_delivered(credited, missing, paid, penalty):
    assert flex_order_money(8_000, credited, missing, 250_000, 500, 100_000, 400_000) == (paid, penalty)


energies = st.integers(0, 2**20)


@given(
    curve=st.lists(st.tuples(energies, st.integers(-(2**20), 2**20), st.tuples(energies, energies)), max_size=5),
    tolerance=st.integers(0, 10_000),
    rate=st.integers(0, 2**20),
    bond=st.integers(0, 2**30),
)
def test_verdict_of_never_earns_more_than_was_locked(curve, tolerance, rate, bond):
    columns = zip(*curve, strict=True) if curve else ((), (), ())
    quantities, baseline, readings = map(list, columns)
    taken = [q // 3 for q in quantities]
    sums = sums_of(UP, tolerance, False, quantities, taken, baseline, readings)
    verdict = verdict_of(sums, rate, rate, 10_000, bond)
    assert verdict.reward <= largest_reward(quantities, taken, tolerance, rate, 10_000)
    assert -bond <= verdict.net <= verdict.reward
    assert sums.credited_wh + sum(taken) <= sum(quantities)
