"""
correct
├── order unknown → reverts ProsumerOrderUnknown; cancelled → NotSettled; other terms → TermsMismatch
├── group not finalised → reverts NotFinalised
├── after the correction window, to the second → reverts CorrectionClosed
├── version not newer than the settled one → reverts NotNewer
├── wrong curves, day, proof → reverts as settle
└── else, by anyone → the difference to the last verdict moves, emits ProsumerCorrected, FlexOrderCorrected
    ├── up → the payer pays the prosumer; what it cannot pay → owed
    ├── down → from the bond first, then the free balance; the rest → owed
    ├── either way, what is owed the other way is set off first
    ├── readings after a day settled as missing, or never settled → the same
    ├── a replacement's bonus stands
    └── direct order → between DSO and prosumer alone
collectOwed
├── nothing owed → reverts NothingOwed
└── else, by anyone → as far as the free balance goes, emits OwedCollected
"""

import pytest

from offchain.domain.units import cost_down
from tests.reference.settlement import share_delivered
from tests.utils import clock, flexworld
from tests.utils.flexibility import ISP_COUNT, POINT, UP, curve
from tests.utils.flexworld import ORDERED, PRICE, issued, leave_in_bond, verdict_of
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.verdicts import expected_verdict, reference

ORDERED_WH = sum(ORDERED.values())
BOND = 500_000
REWARD = 150_001


def settled_and_finalised(world, delivered, quantities=None):
    """An order of ``home`` settled by what was first read, its flex order finalised."""
    order = world.issue(world.home, quantities or {72: 1_000})
    metered = world.finish_day({"home": delivered})
    world.settle(order, world.home, metered)
    world.finalise()
    return order, metered


def empty(world, account):
    if balance := world.free(account):
        world.core.house.withdraw(world.actors.outsider, balance, {"from": account})


def dso_side(world, credited, missing=0) -> int:
    """Paid less penalty of the flex order."""
    bond = world.market.flexOrder(world.order_id)["bond"]
    terms = world.request
    paid, penalty = share_delivered(ORDERED_WH, credited, missing, PRICE, terms.tolerance_bps, terms.penalty_rate, bond)
    return paid - penalty


# ---------------------------------------------------------------------- refusals


def test_correct_reverts_when_group_is_not_finalised(world):
    order = world.issue(world.home, {72: 1_000})
    metered = world.finish_day({"home": {72: 500}})
    world.settle(order, world.home, metered)
    with reverts("NotFinalised", world.order_id, unchanged=world.contracts):
        world.correct(order, world.home, world.finish_day({"home": {72: 1_000}}))


def test_correct_reverts_when_version_is_not_newer(world):
    order, metered = settled_and_finalised(world, {72: 500})
    with reverts("NotNewer", 1, 1, unchanged=world.contracts):
        world.correct(order, world.home, metered)


def test_correct_reverts_when_brought_twice(world):
    order, _ = settled_and_finalised(world, {72: 500})
    metered = world.finish_day({"home": {72: 700}})
    world.correct(order, world.home, metered)
    with reverts("NotNewer", 2, 2, unchanged=world.contracts):
        world.correct(order, world.home, metered)


def test_correct_decides_by_the_second_when_window_closes(world):
    order, _ = settled_and_finalised(world, {72: 500})
    metered = world.finish_day({"home": {72: 700}})
    until = world.end + flexworld.CORRECTION
    clock.at(until)
    world.correct(order, world.home, metered)
    metered = world.anchor({"home": {72: 800}})
    clock.at(metered.usable_from)
    with reverts("CorrectionClosed", until, metered.usable_from, unchanged=world.contracts):
        world.correct(order, world.home, metered)


def test_correct_reverts_when_order_is_unknown_cancelled_or_changed(world):
    cancelled = world.issue(world.other_home, {72: 1})
    world.cancel(cancelled)
    order, _ = settled_and_finalised(world, {72: 500})
    metered = world.finish_day({"home": {72: 700}})
    with reverts("ProsumerOrderUnknown", 9, unchanged=world.contracts):
        world.correct(order._replace(id=9), world.home, metered)
    with reverts("NotSettled", cancelled.id, unchanged=world.contracts):
        world.correct(cancelled, world.other_home, metered)
    terms = (*order.terms[:8], order.terms[8] + 1, *order.terms[9:])
    with reverts("TermsMismatch", order.id, unchanged=world.contracts):
        world.correct(order._replace(terms=terms), world.home, metered)


def test_correct_reverts_when_evidence_is_wrong(world):
    order, _ = settled_and_finalised(world, {72: 500})
    metered = world.finish_day({"home": {72: 700}})
    with reverts("CurveHashMismatch", "quantities", unchanged=world.contracts):
        world.correct(order, world.home, metered, quantitiesWh=curve({72: 2_000}))
    with reverts("CurveHashMismatch", "taken", unchanged=world.contracts):
        world.correct(order, world.home, metered, takenWh=curve({72: 1}))
    with reverts("LeafNotAnchored", metered.days["home"].leaf, unchanged=world.contracts):
        world.correct(order, world.home, metered, proof=metered.proofs["other_home"])


# ---------------------------------------------------------------------- pays


@pytest.mark.parametrize(
    ("first", "second"), [(500, 1_000), (0, 1_000), (0, 200), (1_000, 500), (1_000, 0), (500, 0), (950, 950)]
)
def test_correct_moves_the_difference(world, actors, first, second):
    """Whatever came first, after the correction everybody has what the new readings alone would have given."""
    order, _ = settled_and_finalised(world, {72: first})
    old = plain(world.dispatch.prosumerOrder(order.id))["net"]
    metered = world.finish_day({"home": {72: second}})
    accounts = world.home.account, actors.aggregator, actors.dso
    before = [world.free(account) for account in accounts]
    bond = world.bond(world.home)
    tx = world.correct(order, world.home, metered)
    verdict = expected_verdict(order, reference(world, order, world.home, {72: second}), BOND)
    difference = verdict["net"] - old
    assert event(tx, "ProsumerCorrected") == {
        "prosumerOrderId": order.id,
        "groupId": world.order_id,
        "prosumer": world.home.account,
        "version": 2,
        "verdict": verdict,
        "difference": difference,
    }
    assert tx.return_value == difference
    from_bond = min(max(-difference, 0), bond)
    side = dso_side(world, second) - dso_side(world, first)
    assert event(tx, "FlexOrderCorrected") == {
        "flexOrderId": world.order_id,
        "creditedWh": second,
        "missingWh": 0,
        "paid": cost_down(second, PRICE),
        "penalty": cost_down(second, PRICE) - dso_side(world, second),
        "difference": side,
    }
    assert [world.free(account) - old_free for account, old_free in zip(accounts, before, strict=True)] == [
        difference + from_bond,
        side - difference,
        -side,
    ]
    assert world.bond(world.home) == bond - from_bond
    stored = plain(world.dispatch.prosumerOrder(order.id))
    assert (stored["version"], stored["creditedWh"], stored["net"]) == (2, second, verdict["net"])
    assert plain(world.dispatch.group(world.order_id))["creditedWh"] == second


def test_correct_follows_every_later_version(world):
    order, _ = settled_and_finalised(world, {72: 500})
    start = world.free(world.home.account) + world.bond(world.home)
    old = plain(world.dispatch.prosumerOrder(order.id))["net"]
    for delivered in (1_000, 0, 300):
        world.correct(order, world.home, world.finish_day({"home": {72: delivered}}))
        verdict = expected_verdict(order, reference(world, order, world.home, {72: delivered}), BOND)
        assert world.free(world.home.account) + world.bond(world.home) == start + verdict["net"] - old
        assert world.dispatch.group(world.order_id)["creditedWh"] == delivered


@pytest.mark.parametrize("settle_first", [True, False])
def test_correct_settles_readings_that_come_late(world, settle_first):
    """The day was settled as missing, or not at all; then the readings come."""
    order = world.issue(world.home, {72: 1_000})
    clock.move_to(world.end + flexworld.READINGS_DUE)
    if settle_first:
        world.settle_missing(order)
    clock.move_to(world.end + flexworld.SETTLE_BY)
    world.finalise()
    free = world.free(world.home.account)
    metered = world.finish_day({"home": {72: 1_000}})
    tx = world.correct(order, world.home, metered)
    assert event(tx, "ProsumerCorrected")["difference"] == REWARD
    assert world.free(world.home.account) == free + REWARD
    group = plain(world.dispatch.group(world.order_id))
    assert (group["settled"], group["creditedWh"], group["missingWh"]) == (1, 1_000, 0)
    assert event(tx, "FlexOrderCorrected")["missingWh"] == 0


def test_correct_never_takes_more_than_the_bond_over_all_versions(world):
    """First verdict took the whole bond; a worse one takes nothing more."""
    home = world.home
    leave_in_bond(world, home, 100_000)
    order = world.issue(home, {72: 1_000})
    metered = world.finish_day({"home": {72: 100}})
    world.settle(order, home, metered)
    assert world.bond(home) == 0
    world.finalise()
    tx = world.correct(order, home, world.finish_day({"home": {72: 0}}))
    assert verdict_of(tx, "ProsumerCorrected")["penalty"] == 100_000
    assert event(tx, "ProsumerCorrected")["difference"] == 0


def test_correct_records_what_the_aggregator_cannot_pay_as_owed(world, actors):
    order, _ = settled_and_finalised(world, {72: 900})
    empty(world, actors.dso)
    empty(world, actors.aggregator)
    tx = world.correct(order, world.home, world.finish_day({"home": {72: 1_000}}))
    owed = cost_down(1_000, 150_001) - cost_down(900, 150_001)
    side = dso_side(world, 1_000) - dso_side(world, 900)
    assert [dict(item) for item in tx.events["Owed"]] == [
        {"debtor": actors.aggregator, "creditor": world.home.account, "amount": owed, "total": owed},
        {"debtor": actors.dso, "creditor": actors.aggregator, "amount": side, "total": side},
    ]
    settlement = world.settlement
    assert settlement.owed(actors.aggregator, world.home.account) == owed
    assert settlement.owed(actors.dso, actors.aggregator) == side


def test_correct_takes_from_the_bond_then_the_balance_and_leaves_the_rest_owed(world, actors):
    home = world.home
    leave_in_bond(world, home, 100_000)
    order = world.issue(home, {72: 1_000})
    world.settle(order, home, world.finish_day({"home": {72: 1_000}}))
    world.finalise()
    empty(world, home.account)
    flexworld.system.fund(world.core, actors, home.account, 7)
    tx = world.correct(order, home, world.finish_day({"home": {72: 0}}))
    # Paid 150,001; now 270,006 of penalty, of which the bond allows 100,000.
    assert event(tx, "ProsumerCorrected")["difference"] == -(REWARD + 100_000)
    assert (world.bond(home), world.free(home.account)) == (0, 0)
    assert world.settlement.owed(home.account, actors.aggregator) == REWARD - 7


def test_correct_sets_off_what_the_payer_owes_before_it_asks_for_the_bond(world, actors):
    """Two corrections that cancel out leave nobody worse off, whoever had no money in between."""
    home, (order, _) = world.home, settled_and_finalised(world, {72: 900})
    empty(world, actors.dso)
    empty(world, actors.aggregator)
    before = world.bond(home), world.free(home.account)
    world.correct(order, home, world.finish_day({"home": {72: 1_000}}))
    owed = world.settlement.owed(actors.aggregator, home.account)
    side = world.settlement.owed(actors.dso, actors.aggregator)
    tx = world.correct(order, home, world.finish_day({"home": {72: 900}}))
    assert [dict(item) for item in tx.events["OwedSetOff"]] == [
        {"debtor": actors.aggregator, "creditor": home.account, "amount": owed, "left": 0},
        {"debtor": actors.dso, "creditor": actors.aggregator, "amount": side, "left": 0},
    ]
    assert "Owed" not in tx.events
    assert (world.bond(home), world.free(home.account)) == before
    assert world.settlement.owed(actors.aggregator, home.account) == 0


def test_correct_lets_a_bonus_stand(world):
    """The failing order turns out to have delivered: it gets its penalty back, the standby keeps its bonus."""
    world.list_standby(world.standby)
    order = world.issue(world.home, {72: 1_000, 74: 501})
    (replacement,) = issued(world.reassign(order, world.home, 72, 300, world.standby))
    taken = curve({74: 350})
    delivered = {"home": {72: 300, 74: 151}, "standby": {74: 350}}
    metered = world.finish_day(delivered)
    world.settle(order, world.home, metered, takenWh=taken)
    bonus = verdict_of(world.settle(replacement, world.standby, metered))["bonus"]
    world.finalise()
    free = world.free(world.standby.account)
    metered = world.finish_day({**delivered, "home": {72: 1_000, 74: 151}})
    tx = world.correct(order, world.home, metered, takenWh=taken)
    assert event(tx, "ProsumerCorrected")["difference"] > 0
    assert bonus > 0
    assert world.free(world.standby.account) == free


def test_correct_settles_a_direct_order_between_dso_and_prosumer(world, actors):
    home = world.home
    tx = world.dispatch.issueDirect(
        actors.dso,
        POINT,
        UP,
        world.day,
        ISP_COUNT,
        150_000,
        world.commitment_ids[actors.aggregator.address],
        [(home.connection_id, curve({72: 1_000}), home.packed_baseline, world.proof(home))],
        {"from": actors.module},
    )
    (order,) = issued(tx)
    world.settle(order, home, world.finish_day({"home": {72: 400}}))
    world.settlement.finaliseDirect(order.fields["groupId"], {"from": actors.outsider})
    for delivered, difference in ((1_000, 90_000), (0, -150_000)):
        before = world.free(actors.dso), world.free(home.account), world.bond(home)
        tx = world.correct(order, home, world.finish_day({"home": {72: delivered}}))
        assert event(tx, "ProsumerCorrected")["difference"] == difference
        assert "FlexOrderCorrected" not in tx.events
        after = world.free(actors.dso), world.free(home.account), world.bond(home)
        assert after == (before[0] - difference, before[1] + difference, before[2])


# ---------------------------------------------------------------------- owed


@pytest.fixture
def owing(world, actors):
    """The aggregator owes the prosumer for a correction, the amount."""
    order, _ = settled_and_finalised(world, {72: 900})
    empty(world, actors.dso)
    empty(world, actors.aggregator)
    world.correct(order, world.home, world.finish_day({"home": {72: 1_000}}))
    return world.settlement.owed(actors.aggregator, world.home.account)


def collect(world, debtor, creditor):
    return world.settlement.collectOwed(debtor, creditor, {"from": world.actors.outsider})


def test_collectOwed_reverts_when_nothing_is_owed(world, actors):
    with reverts("NothingOwed", actors.aggregator, world.home.account, unchanged=world.contracts):
        collect(world, actors.aggregator, world.home.account)


def test_collectOwed_collects_in_parts_as_money_comes(world, actors, owing):
    prosumer = world.home.account
    free = world.free(prosumer)
    for arrives, collected in ((0, 0), (owing - 10, owing - 10), (100, 10)):
        if arrives:
            flexworld.system.fund(world.core, actors, actors.aggregator, arrives)
        left = world.settlement.owed(actors.aggregator, prosumer) - collected
        tx = collect(world, actors.aggregator, prosumer)
        assert tx.return_value == collected
        assert event(tx, "OwedCollected") == {
            "debtor": actors.aggregator,
            "creditor": prosumer,
            "amount": collected,
            "left": left,
        }
    assert world.free(prosumer) == free + owing
    assert world.free(actors.aggregator) == 90
    with reverts("NothingOwed", actors.aggregator, prosumer, unchanged=world.contracts):
        collect(world, actors.aggregator, prosumer)


# ---------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("deadlines", [(2, 2), (3, 2), (1, flexworld.CORRECTION)])
def test_constructor_reverts_when_deadlines_do_not_ascend(world, actors, deadlines):
    """The last of the three is that of dispatch."""
    contracts = world.metering, world.agreements, world.market, world.dispatch, world.core.house
    with reverts("DeadlinesNotAscending", *deadlines, flexworld.CORRECTION, unchanged=world.contracts):
        flexworld.system.deploy(actors.admin, "FlexSettlement", *contracts, *deadlines)


def test_deadlines_are_those_of_the_deployment(world):
    settlement = world.settlement
    assert (settlement.readingsDueSeconds(), settlement.settleBySeconds(), settlement.correctionSeconds()) == (
        flexworld.READINGS_DUE,
        flexworld.SETTLE_BY,
        flexworld.CORRECTION,
    )
