"""
settle
├── order unknown → reverts ProsumerOrderUnknown; cancelled, settled → OrderNotIssued; other terms → TermsMismatch
├── group finalised → reverts SettlementClosed
├── day not over, to the second → reverts DayNotOver
├── day of another meter or period → reverts MeterDayMismatch
├── other quantities, taken curve, baseline → reverts CurveHashMismatch
├── no batch, challenge window open, batch rejected, wrong proof, forged signature → reverts as requireDay
├── a replacement before the order it replaces → reverts SettleReplacedFirst
└── else, by anyone, also while paused → verdict of the reference, paid to the last digit, emits ProsumerSettled
    ├── net above zero → from the group's lock; below → from the bond into it, never more than reward plus bond
    ├── over-delivery beyond the tolerance → unpaid
    ├── an ISP without reading → missing, a shortfall if agreed
    └── taken over by standby → its penalty is the pot, replacements get their share of it
"""

import pytest

from tests.utils import clock, flexworld
from tests.utils.flexibility import curve
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.verdicts import expected_verdict, reference

QUANTITIES = {72: 1_000, 73: 999, 74: 501}
BOND = 500_000


@pytest.fixture(scope="module")
def order(world):
    return world.issue(world.home, QUANTITIES)


# ---------------------------------------------------------------------- refusals


@pytest.fixture(scope="module")
def metered(world, order):
    return world.finish_day({"home": QUANTITIES})


def test_settle_reverts_when_order_is_unknown(world, order, metered):
    with reverts("ProsumerOrderUnknown", 9, unchanged=world.contracts):
        world.settle(order._replace(id=9), world.home, metered)


def test_settle_reverts_when_terms_differ(world, order, metered):
    terms = (*order.terms[:8], order.terms[8] + 1, *order.terms[9:])
    with reverts("TermsMismatch", order.id, unchanged=world.contracts):
        world.settle(order._replace(terms=terms), world.home, metered)


def test_settle_reverts_when_settled_before(world, order, metered):
    world.settle(order, world.home, metered)
    with reverts("OrderNotIssued", order.id, 3, unchanged=world.contracts):
        world.settle(order, world.home, metered)


def test_settle_reverts_when_group_is_finalised(world, order, metered):
    clock.move_to(world.end + flexworld.SETTLE_BY)
    world.finalise()
    with reverts("SettlementClosed", world.order_id, unchanged=world.contracts):
        world.settle(order, world.home, metered)


@pytest.mark.parametrize("field", ["meter_id", "first_isp", "isp_count"])
def test_settle_reverts_when_day_is_not_the_orders(world, order, metered, field):
    day = metered.days["home"]
    other = day._replace(
        **{field: metered.days["other_home"].meter_id if field == "meter_id" else getattr(day, field) - 4}
    )
    with reverts("MeterDayMismatch", other.meter_id, other.first_isp, unchanged=world.contracts):
        world.settle(order, world.home, metered, day=other)


@pytest.mark.parametrize(
    ("field", "named", "given"),
    [
        ("quantitiesWh", "quantities", curve({72: 1_000})),
        ("takenWh", "taken", curve({72: 1})),
        ("baselineWh", "baseline", curve({72: 1})),
    ],
)
def test_settle_reverts_when_a_curve_differs(world, order, metered, field, named, given):
    with reverts("CurveHashMismatch", named, unchanged=world.contracts):
        world.settle(order, world.home, metered, **{field: given})


def test_settle_reverts_when_proof_is_of_another_meter(world, order, metered):
    leaf = metered.days["home"].leaf
    with reverts("LeafNotAnchored", leaf, unchanged=world.contracts):
        world.settle(order, world.home, metered, proof=metered.proofs["other_home"])


def test_settle_reverts_when_readings_differ_from_the_anchored(world, order, metered):
    better = world.meter_day(world.home, {**QUANTITIES, 74: 502})
    with reverts("LeafNotAnchored", better.leaf, unchanged=world.contracts):
        world.settle(order, world.home, metered, day=better)


def test_settle_reverts_when_signature_is_forged(world, order, metered):
    day = metered.days["home"]._replace(signature=metered.days["other_home"].signature)
    device = world.home.device
    with reverts("InvalidDeviceSignature", device.meter_id, device.address, unchanged=world.contracts):
        world.settle(order, world.home, metered, day=day)


def test_settle_reverts_when_batch_was_corrected_since(world, order, metered):
    corrected = world.anchor({"home": {72: 1}})
    now = corrected.usable_from - 1
    clock.at(now)
    with reverts("LeafNotAnchored", metered.days["home"].leaf, unchanged=world.contracts):
        world.settle(order, world.home, metered)


# ---------------------------------------------------------------------- pays


def test_settle_pays_net_from_the_lock_when_all_is_delivered(world, order, metered, actors):
    free, lock, bond = world.free(world.home.account), world.group_lock(), world.bond(world.home)
    tx = world.settle(order, world.home, metered)
    verdict = expected_verdict(order, reference(world, order, world.home, QUANTITIES), BOND)
    assert verdict["net"] == verdict["reward"] == 375_002
    assert event(tx, "ProsumerSettled") == {
        "prosumerOrderId": order.id,
        "groupId": world.order_id,
        "prosumer": world.home.account,
        "version": 1,
        "verdict": verdict,
    }
    assert plain(tx.return_value) == verdict
    assert world.free(world.home.account) == free + verdict["net"]
    assert world.group_lock() == lock - verdict["net"]
    assert world.bond(world.home) == bond
    stored = plain(world.dispatch.prosumerOrder(order.id))
    assert stored["status"] == 3
    assert (stored["version"], stored["creditedWh"], stored["missingWh"]) == (1, 2_500, 0)
    assert stored["net"] == verdict["net"]
    group = plain(world.dispatch.group(world.order_id))
    assert (group["settled"], group["creditedWh"], group["missingWh"]) == (1, 2_500, 0)


def test_settle_works_when_everything_is_paused(world, order, metered, actors):
    for contract in (world.dispatch, world.market, world.metering, world.core.house, world.agreements):
        contract.pause({"from": actors.guardian})
    world.settle(order, world.home, metered)
    assert world.dispatch.prosumerOrder(order.id)["status"] == 3


def test_settle_works_when_parties_are_suspended(world, order, metered, actors):
    for account in (actors.aggregator, world.home.account, actors.meter_operator):
        world.core.participants.setStatus(account, 2, b"\x01" * 32, {"from": actors.registrar})
    world.settle(order, world.home, metered)
    assert world.dispatch.prosumerOrder(order.id)["status"] == 3
