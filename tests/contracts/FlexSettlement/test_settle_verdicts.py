"""
settle: verdict and money over the whole system
├── any delivery, terms, bond, UP and (test_settle_down.py) DOWN → reference; every uToken accounted for
├── over-delivery beyond the tolerance → unpaid; the other way → nothing earned, all of it short
├── penalty above reward plus bond → that and no more
├── a missing ISP → missing; a shortfall too if agreed
└── taken over by standby → penalised in full; the pot is shared by what replacements delivered
"""

import brownie
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.utils import flexworld
from tests.utils.flexibility import curve
from tests.utils.flexworld import issued, leave_in_bond, verdict_of
from tests.utils.reverts import reverts
from tests.utils.verdicts import expected_verdict, reference

QUANTITIES = {72: 1_000, 73: 999, 74: 501}
BOND = 500_000
WH = st.integers(-1_500, 2_500) | st.sampled_from([0, 900, 899, 1_000, 1_100, 1_101]) | st.none()


def settle(world, home, quantities, delivered):
    """Verdict on one order, and where the money went: prosumer, group's lock, bond."""
    order = world.issue(home, quantities)
    metered = world.finish_day({home.name: delivered})
    before = world.free(home.account), world.group_lock(), world.bond(home)
    tx = world.settle(order, home, metered)
    after = world.free(home.account), world.group_lock(), world.bond(home)
    moved = tuple(new - old for new, old in zip(after, before, strict=True))
    return order, verdict_of(tx), moved


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    readings=st.tuples(WH, WH, WH, WH),
    tolerance_bps=st.sampled_from([0, 1, 1_000, 10_000]),
    multiplier_bps=st.sampled_from([1, 10_000, 33_333]),
    missing_is_shortfall=st.booleans(),
    bond=st.sampled_from([0, 1, 100_000, BOND]),
)
def test_settle_pays_what_the_reference_says(
    world, readings, tolerance_bps, multiplier_bps, missing_is_shortfall, bond
):
    delivered = dict(zip((72, 73, 74, 75), readings, strict=True))
    brownie.chain.snapshot()
    try:
        home = flexworld.amend(
            world,
            world.home,
            tolerance_bps=tolerance_bps,
            multiplier_bps=multiplier_bps,
            missing_is_shortfall=missing_is_shortfall,
        )
        leave_in_bond(world, home, bond)
        order, verdict, moved = settle(world, home, QUANTITIES, delivered)
        expected = expected_verdict(order, reference(world, order, home, delivered), bond)
        assert verdict == expected
        net = expected["net"]
        assert moved == (max(net, 0), -net, min(net, 0))
        assert world.bond(home) >= 0
    finally:
        brownie.chain.revert()


@pytest.mark.parametrize(("delivered", "rewarded"), [(1_100, 1_100), (1_101, 1_100), (5_000, 1_100)])
def test_settle_pays_no_over_delivery_beyond_the_tolerance(world, delivered, rewarded):
    _, verdict, _ = settle(world, world.home, {72: 1_000}, {72: delivered})
    assert (verdict["creditedWh"], verdict["rewardedWh"], verdict["penalisedWh"]) == (1_000, rewarded, 0)


@pytest.mark.parametrize(("delivered", "penalised"), [(900, 0), (899, 1), (0, 900), (-700, 900)])
def test_settle_penalises_the_shortfall_beyond_the_tolerance(world, delivered, penalised):
    _, verdict, _ = settle(world, world.home, {72: 1_000}, {72: delivered})
    assert verdict["penalisedWh"] == penalised
    assert verdict["rewardedWh"] == verdict["creditedWh"] == max(delivered, 0)


@pytest.mark.parametrize("bond", [0, 100_000])
def test_settle_takes_no_more_than_reward_plus_bond(world, bond):
    """300,007 a kWh for 1,350 Wh is 405,009: more than 4,500 of reward and the bond."""
    home = world.home
    leave_in_bond(world, home, bond)
    _, verdict, moved = settle(world, home, {72: 1_000, 73: 500}, {72: 30})
    assert verdict["reward"] == 4_500
    assert verdict["penalty"] == 4_500 + bond
    assert moved == (0, bond, -bond)
    assert world.bond(home) == 0


@pytest.mark.parametrize(("rule", "penalised"), [(False, 0), (True, 400)])
def test_settle_counts_a_missing_reading_by_the_agreed_rule(world, rule, penalised):
    home = flexworld.amend(world, world.home, missing_is_shortfall=rule)
    _, verdict, _ = settle(world, home, {72: 1_000, 73: 400}, {72: 1_000, 73: None})
    assert (verdict["missingWh"], verdict["penalisedWh"], verdict["creditedWh"]) == (400, penalised, 1_000)
    assert world.dispatch.group(world.order_id)["missingWh"] == 400


# ---------------------------------------------------------------------- standby


def replaced(world, delivered=300):
    """An order of 1,000 and 501 Wh at 72 and 74; standby takes its missing share at 74."""
    world.list_standby(world.standby, world.second_standby)
    order = world.issue(world.home, {72: 1_000, 74: 501})
    (replacement,) = issued(world.reassign(order, world.home, 72, delivered, world.standby, world.second_standby))
    return order, replacement


def test_settle_reverts_when_replacement_comes_before_the_failing_order(world):
    order, replacement = replaced(world)
    metered = world.finish_day({"home": {72: 300, 74: 151}, "standby": {74: 350}})
    with reverts("SettleReplacedFirst", order.id, unchanged=world.contracts):
        world.settle(replacement, world.standby, metered)


@pytest.mark.parametrize("stood_in", [350, 175, 1, 0])
def test_settle_shares_the_pot_by_what_replacements_delivered(world, stood_in):
    order, replacement = replaced(world)
    taken = {74: 350}
    assert replacement.quantities == curve(taken)
    delivered = {72: 300, 74: 151}
    metered = world.finish_day({"home": delivered, "standby": {74: stood_in}})
    sums = reference(world, order, world.home, delivered, taken)
    assert sums.penalised_wh == 600 + 350
    expected = expected_verdict(order, sums, BOND)
    lock = world.group_lock()
    first = world.settle(order, world.home, metered, takenWh=curve(taken))
    assert verdict_of(first) == expected
    assert world.dispatch.reassignment(order.id)["pot"] == expected["penalty"] == 285_006
    assert world.group_lock() == lock - expected["net"]

    bonus = 285_006 * stood_in // 350
    free, lock, bond = world.free(world.standby.account), world.group_lock(), world.bond(world.standby)
    second = world.settle(replacement, world.standby, metered)
    sums = reference(world, replacement, world.standby, {74: stood_in})
    expected = expected_verdict(replacement, sums, BOND, bonus)
    assert verdict_of(second) == expected
    net = expected["net"]
    assert world.free(world.standby.account) == free + max(net, 0) + bonus
    assert world.bond(world.standby) == bond + min(net, 0)
    assert world.group_lock() == lock - net - bonus


def test_settle_penalises_what_was_taken_over_even_if_it_was_delivered(world):
    order, _ = replaced(world)
    delivered = {72: 1_000, 74: 501}
    metered = world.finish_day({"home": delivered})
    verdict = verdict_of(world.settle(order, world.home, metered, takenWh=curve({74: 350})))
    # 151 Wh still due at 74, rewarded up to the band of the ordered 501.
    assert (verdict["creditedWh"], verdict["rewardedWh"], verdict["penalisedWh"]) == (1_151, 1_201, 350)


@pytest.mark.parametrize("given", [b"", curve({74: 349})], ids=["none", "less"])
def test_settle_reverts_when_taken_curve_is_hidden(world, given):
    order, _ = replaced(world)
    metered = world.finish_day({"home": {72: 300}})
    with reverts("CurveHashMismatch", "taken", unchanged=world.contracts):
        world.settle(order, world.home, metered, takenWh=given)


def test_settle_pays_no_bonus_when_failing_order_has_nothing_to_lose(world):
    home = flexworld.amend(world, world.home, penalty_rate=0)
    world.list_standby(world.standby)
    order = world.issue(home, {72: 1_000, 74: 501})
    (replacement,) = issued(world.reassign(order, home, 72, 0, world.standby))
    metered = world.finish_day({"standby": {74: 501}})
    world.settle(order, home, metered, takenWh=curve({74: 501}))
    assert verdict_of(world.settle(replacement, world.standby, metered))["bonus"] == 0
