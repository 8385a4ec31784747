"""The audit of corrections of settled trades, and of windows that wait for the clearing house: all in order when
nothing was changed; every change is found.

A seller is settled by meter, a buyer without readings. Three newer versions of their day follow: the first takes from
the seller, who has nothing left, more than the second gives back; the third says what the first said. In the end a part
of the seller's debt is collected.
"""

from dataclasses import replace

import pytest

from tests.market.audited import AuditedWorld
from tests.market.settling import position
from tests.market.test_audit import CHALLENGE, MINIMUM, batch_of, flip, in_struct, more, other
from tests.market.test_settlement import BUYS, DELIVERED, SELLS, TAKEN
from tests.market.world import SOLAR, Trader

LESS = [(0, 500), (0, 100), (0, 250), (0, 250), *[(0, 0)] * 4]
BETWEEN = [(0, 500), (0, 300), (0, 250), (0, 250), *[(0, 0)] * 4]
NOT_TAKEN = [(100, 0), *[(0, 0)] * 7]


@pytest.fixture(scope="module")
def story():
    world = AuditedWorld()
    seller, buyer = world.traders[:2]
    world.set_producer_class(seller, SOLAR)
    session = world.open()
    session.submit(seller, SELLS)
    session.submit(buyer, BUYS)
    session.run_auction()
    evidence = world.anchor(session, {seller: DELIVERED})
    world.settlement.settle(session.id, seller.connection, [position(session, SELLS)], [evidence[seller]])
    world.evm.now = session.times.settle_by
    world.settlement.settleMissing(session.id, buyer.connection, [position(session, BUYS)])
    world.market.closeSession(session.id)
    world.house.withdraw(seller.address, world.house.balanceOf(seller.address), sender=seller.address)

    def correct(trader, bundle, proven):
        world.corrections.correct(session.id, trader.connection, [position(session, bundle)], [proven[trader]])

    for readings, buyers in ((LESS, NOT_TAKEN), (BETWEEN, TAKEN), (LESS, TAKEN)):
        newer = world.anchor(session, {seller: readings, buyer: buyers})
        correct(seller, SELLS, newer)
        if buyers is NOT_TAKEN or readings is BETWEEN:
            correct(buyer, BUYS, newer)
    world.house.deposit(seller.address, 50_000, sender=world.admin.address)
    world.corrections.collectOwed(seller.address, world.operator.address)
    return world


def test_audit_finds_nothing_when_nothing_was_changed(story):
    checks = story.audit()
    assert checks.mismatches == []
    assert checks.checked["market corrections"] > 0
    differences = [event.args["difference"] for event in story.events("TraderCorrected")]
    assert len(differences) == 5
    assert differences[2] == -differences[4]
    assert [event.args["amount"] for event in story.events("OwedSetOff")] == [differences[2]]
    assert max(story.audited_model.owed.values()) == -differences[0] - 50_000


STRANGER = Trader("stranger").address


CHANGES = {
    "difference": (more("TraderCorrected", "difference", -1), "difference of a correction"),
    "difference of the second": (more("TraderCorrected", "difference", 1, 2), "difference of a correction"),
    "payout": (in_struct("TraderCorrected", "outcome", "payout"), "outcome of a correction"),
    "shortage": (in_struct("TraderCorrected", "outcome", "shortageWh"), "outcome of a correction"),
    "trader": (other("TraderCorrected", trader=STRANGER), "trader of a correction"),
    "left out": (lambda w: w.without("TraderCorrected", 0), "debts recorded"),
    "payment left out": (lambda w: w.without("Moved", 0), "money of"),
    "before closing": (lambda w: w.without("SessionClosed"), "correction before closing"),
    "before settlement": (lambda w: w.without("TraderSettled", 1), "correction before settlement"),
    "debt": (more("Owed", "amount"), "debts recorded"),
    "sum of debts": (more("Owed", "total"), "debt"),
    "debt left out": (lambda w: w.without("Owed", 0), "debts recorded"),
    "set off": (more("OwedSetOff", "amount", -1), "debts recorded"),
    "left after setting off": (more("OwedSetOff", "left"), "debt left"),
    "set off left out": (lambda w: w.without("OwedSetOff"), "debts recorded"),
    "collected": (more("OwedCollected", "amount", -1), "debt collected"),
    "left after collecting": (more("OwedCollected", "left"), "debt left"),
    "late": (
        lambda w: [
            replace(e, timestamp=w.evm.now + 31 * 86_400) if e is w.events("TraderCorrected")[-1] else e
            for e in w.evm.history
        ],
        "time of a correction",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_audit_names_what_was_changed(story, name):
    change, what = CHANGES[name]
    found = story.audit(events=change(story)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]


def test_audit_recomputes_a_correction_that_event_and_ledger_agree_on(story):
    """Outcome, difference and payment all say a micro-token more."""
    told = story.events("TraderCorrected")[1]
    (moved,) = [e for e in story.events("Moved") if e.tx_hash == told.tx_hash]
    outcome = told.args["outcome"] | {"payout": told.args["outcome"]["payout"] + 1}
    lies = {
        told.log_index: {"outcome": outcome, "difference": told.args["difference"] + 1},
        moved.log_index: {"amount": moved.args["amount"] + 1},
    }
    events = [replace(e, args=dict(e.args) | lies.get(e.log_index, {})) for e in story.evm.history]
    whats = {mismatch.what for mismatch in story.audit(events=events).mismatches}
    assert {"outcome of a correction", "difference of a correction"} <= whats


@pytest.mark.parametrize("version", [1, 2, 3])
def test_audit_names_the_correction_behind_a_changed_metered_day(story, version):
    records = story.records()
    batches = [
        (batch, [days[0]._replace(values=flip(days[0].values, 7)), *days[1:]] if batch.version == version + 1 else days)
        for batch, days in records.batches
    ]
    found = story.audit(records=replace(records, batches=batches)).mismatches
    assert any("behind a settlement" in m.what and "another root" in m.found for m in found), found[:5]


def test_audit_names_a_payout_that_the_contract_remembers_otherwise(story):
    def get(queries):
        answers = story.get(queries)
        return [a + 1 if q.function == "paidOf" else a for q, a in zip(queries, answers, strict=True)]

    found = story.audit(get=get).mismatches
    assert any(mismatch.where.startswith("MarketCorrections.paidOf") for mismatch in found), found[:5]


# -------------------------------------------------------------------------------- pauses


@pytest.fixture(scope="module")
def paused():
    """A batch is proposed; the clearing house stands still for a day, then it is challenged in vain and claimed."""
    world = AuditedWorld()
    seller, buyer, proposer = world.traders[:3]
    world.set_producer_class(seller, SOLAR)
    world.proposer.stake(MINIMUM, sender=proposer.address)
    session = world.open()
    session.submit(seller, SELLS)
    session.submit(buyer, BUYS)
    session.run_auction()
    evidence = world.anchor(session, {seller: DELIVERED, buyer: TAKEN})
    world.evm.now = max(world.evm.now, session.times.readings_due + 3 * 3_600)
    batch = batch_of(world, session, {seller: SELLS, buyer: BUYS}, evidence)
    world.proposer.propose(session.id, batch.root, len(batch), batch.data_hash, sender=proposer.address)
    world.documents.append(batch.content)
    world.evm.now += 600
    world.house.pause(sender=world.admin.address)
    world.evm.now += 86_400
    world.house.unpause(sender=world.admin.address)
    outcome = batch.outcomes[seller.connection]
    arguments = session.id, outcome.as_argument(), batch.proof(seller.connection)
    number = world.proposer.challenge(*arguments, sender=world.operator.address)
    world.proposer.answer(number, outcome.as_argument(), [position(session, SELLS)], [evidence[seller]])
    world.evm.now += CHALLENGE - 600
    for trader in (seller, buyer):
        proposed = batch.outcomes[trader.connection]
        world.proposer.claim(session.id, proposed.as_argument(), batch.proof(trader.connection))
    world.house.pause(sender=world.admin.address)
    world.evm.now += 100
    return world


def test_audit_follows_the_clock_over_pauses(paused):
    assert paused.audit().mismatches == []
    assert paused.audited_model.paused_seconds("ClearingHouse", paused.evm.now) == 86_500


@pytest.mark.parametrize(
    ("name", "what"), [("Paused", "event about something never recorded"), ("Unpaused", "event of a paused contract")]
)
def test_audit_names_a_pause_that_was_left_out(paused, name, what):
    found = paused.audit(events=paused.without(name)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]


def test_audit_names_a_claim_before_the_window_that_waited_was_over(paused):
    """A second earlier than the pause allows, though a day after the proposal."""
    events = [replace(e, timestamp=e.timestamp - 1) if e.name == "ProposalConcluded" else e for e in paused.evm.history]
    found = paused.audit(events=events).mismatches
    assert any(mismatch.what == "time of a conclusion" for mismatch in found), found[:5]


def test_audit_names_a_challenge_of_a_window_that_no_pause_held_open(paused):
    """The pause was over at once: the window has passed long before the challenge."""
    events = [replace(e, timestamp=e.timestamp - 86_400) if e.name == "Unpaused" else e for e in paused.evm.history]
    found = {mismatch.what for mismatch in paused.audit(events=events).mismatches}
    assert "time of a challenge" in found
