"""The audit of the market: all in order when nothing was changed; every change found and named.

The story is told by the contracts themselves: orders by hand, by relayer and by rule, a rejected match, certificates,
a draw in which one staker stays silent, a batch with a challenge that fails, settlement by meter beside it, and a
second session whose proposer lies.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from offchain.market.batches import OutcomeBatch, ProposedOutcome
from offchain.market.settlement import Outcome
from tests.market.audited import AuditedWorld
from tests.market.settling import PROPOSER_SETTINGS, position
from tests.market.test_netting import BASE, Desk, open_at
from tests.market.world import BUY, SELL, SOLAR, Trader, bundle_of, price_tick

AGE_CAP, TURN, CHALLENGE, ANSWER, MINIMUM, PENALTY, BOND, FEE = PROPOSER_SETTINGS
DAY = 86_400
AT, GREEN = price_tick(120_000), 4
SELLS = bundle_of((0, SELL, AT, 1_000), (GREEN, SELL, AT, 2_000))
BUYS = bundle_of((0, BUY, AT, 900), (GREEN, BUY, AT, 1_500), (1, BUY, AT, 100))
BY_RULE = bundle_of((GREEN, BUY, AT, 200))
REJECTED = bundle_of((0, BUY, AT, 300), (GREEN, BUY, AT, 300))
READINGS = {
    "seller": [(0, 1_250), (0, 1_200), *[(0, 0)] * 6],
    "buyer": [(1_100, 0), (1_200, 0), *[(0, 0)] * 6],
    "ruled": [(150, 0), None, *[(0, 0)] * 6],
    "picky": [(300, 0), (0, 0), *[(0, 0)] * 6],
}


def secret_of(session, staker: Trader) -> bytes:
    return keccak(f"secret of {staker.name} for {session.id}".encode())


def commit(world, session, staker: Trader) -> None:
    words = [session.id, staker.address, secret_of(session, staker)]
    world.proposer.commit(session.id, keccak(encode(["uint64", "address", "bytes32"], words)), sender=staker.address)


def batch_of(world, session, bundles, evidence, **lies) -> OutcomeBatch:
    """Outcomes as the contract finds them, the first with lies."""
    outcomes = []
    for trader, bundle in bundles.items():
        found, injected = world.settlement.outcomeOf(
            session.id, trader.connection, [position(session, bundle)], [evidence[trader]]
        )
        outcome = Outcome(*(found | lies).values())
        lies = {}
        outcomes.append(ProposedOutcome(trader.connection, bundle, outcome, tuple(injected)))
    return OutcomeBatch(session.id, outcomes)


def propose(world, session, batch: OutcomeBatch) -> Trader:
    """Whoever was drawn publishes the batch."""
    drawn = world.proposer.proposerOf(session.id)
    proposer = next(trader for trader in world.traders if trader.address == drawn)
    world.proposer.propose(session.id, batch.root, len(batch), batch.data_hash, sender=proposer.address)
    world.documents.append(batch.content)
    return proposer


def challenge(world, session, batch: OutcomeBatch, trader: Trader) -> int:
    outcome = batch.outcomes[trader.connection]
    proof = batch.proof(trader.connection)
    return world.proposer.challenge(session.id, outcome.as_argument(), proof, sender=world.operator.address)


def settled_session(world) -> SimpleNamespace:
    """A whole session, from stakes to closing."""
    seller, buyer, staker, silent, ruled = world.traders
    world.set_producer_class(seller, SOLAR)
    for trader in (staker, silent):
        world.proposer.stake(MINIMUM, sender=trader.address)
    world.evm.now += 5 * DAY
    world.proposer.stake(MINIMUM, sender=staker.address)
    world.evm.now += 5 * DAY
    session = world.open()
    for trader in (staker, silent):
        commit(world, session, trader)
    session.submit(seller, SELLS)
    session.submit_signed(session.signed(buyer, BUYS))
    session.submit(silent, REJECTED)
    rule = {
        "connectionId": ruled.connection,
        "agent": world.outsider.address,
        "forecaster": world.forecaster.address,
        "number": 1,
        "validFrom": 0,
        "validUntil": 2**40 - 1,
        "shareBps": 5_000,
        "greenOnly": True,
        "buyLimits": [120_000] * 24,
        "sellLimits": [100_000] * 24,
    }
    world.rules.register(rule, b"", sender=ruled.address)
    forecast = world.commit_forecast(session, {ruled: [200, 200, *[0] * 6]})[ruled]
    world.rules.place(rule, session.id, BY_RULE, forecast, sender=world.outsider.address)
    session.close_gate()
    session.clear()
    session.reject(silent, REJECTED, 1)
    left = REJECTED[8:]
    session.end_acceptance()
    session.clear()
    world.proposer.reveal(session.id, staker.address, secret_of(session, staker))
    session.finalise()
    session.claim(buyer, BUYS)
    world.certificates.issue(session.id, buyer.connection, BUYS)
    world.certificates.safeTransferFrom(
        *(buyer.address, ruled.address, session.id | GREEN << 64, 500, b""), sender=buyer.address
    )
    world.evm.now = session.times.delivery_start
    world.proposer.punishSilence(session.id, silent.address)
    names = dict(zip((seller, buyer, ruled, silent), READINGS.values(), strict=True))
    evidence = world.anchor(session, names)
    world.evm.now = max(world.evm.now, session.times.readings_due)
    bundles = {seller: SELLS, buyer: BUYS, ruled: BY_RULE}
    batch = batch_of(world, session, bundles, evidence)
    propose(world, session, batch)
    number = challenge(world, session, batch, buyer)
    answered = batch.outcomes[buyer.connection].as_argument()
    world.proposer.answer(number, answered, [position(session, BUYS)], [evidence[buyer]])
    world.settlement.settle(session.id, silent.connection, [position(session, left)], [evidence[silent]])
    world.evm.now += CHALLENGE
    for trader in bundles:
        proposed = batch.outcomes[trader.connection].as_argument()
        world.proposer.claim(session.id, proposed, batch.proof(trader.connection))
    world.market.closeSession(session.id)
    world.certificates.redeem(session.id | GREEN << 64, 400, sender=ruled.address)
    guarantee = world.certificates.guaranteeId(session.id, GREEN, SOLAR)
    world.certificates.retire(guarantee, 100, keccak(b"claim"), sender=ruled.address)
    world.rules.revoke(ruled.connection, sender=ruled.address)
    return SimpleNamespace(session=session, batch=batch, evidence=evidence)


@pytest.fixture(scope="module")
def story():
    world = AuditedWorld()
    settled_session(world)
    return world


def test_audit_finds_nothing_when_nothing_was_changed(story):
    checks = story.audit()
    assert checks.mismatches == []
    for subject in ("trading rules", "settlement proposers", "settlement proposals", "clearings", "certificates"):
        assert checks.checked[subject] > 0


# -------------------------------------------------------------------------------- one thing changed


def flip(data: bytes, position: int = -1) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def more(name: str, argument: str, by: int = 1, which: int = 0):
    """An argument of an event that is a number, more by some."""
    return lambda world: world.changed(name, which, **{argument: world.events(name)[which].args[argument] + by})


def other(name: str, which: int = 0, **arguments):
    return lambda world: world.changed(name, which, **arguments)


def in_struct(name: str, struct: str, field: str, by: int = 1, which: int = 0):
    """A number in a struct of an event, more by some."""

    def change(world):
        before = world.events(name)[which].args[struct]
        return world.changed(name, which, **{struct: before | {field: before[field] + by}})

    return change


def flipped(name: str, argument: str, which: int = 0):
    return lambda world: world.changed(name, which, **{argument: flip(world.events(name)[which].args[argument])})


def doubled(name: str):
    return lambda world: [e for event in world.evm.history for e in [event] * (1 + (event.name == name))]


def dropped(name: str, which: int = 0):
    return lambda world: world.without(name, which)


STRANGER = Trader("stranger").address
RULED = Trader("trader 4")

CHANGES = {
    # sessions and orders
    "session: budget": (in_struct("SessionOpened", "terms", "surplusBudget"), "money of"),
    "session: fee rate": (in_struct("SessionOpened", "terms", "feeRate"), "escrow of a bundle"),
    "session: operator": (other("SessionOpened", operator=STRANGER), "role of"),
    "session: number": (other("SessionOpened", sessionId=2), "number of a session"),
    "bundle: quantity": (flipped("BundleSubmitted", "bundle"), "escrow of a bundle"),
    "bundle: tick": (lambda w: w.changed("BundleSubmitted", bundle=flip(SELLS, 3)), "result of product"),
    "bundle: malformed": (other("BundleSubmitted", bundle=SELLS[:-1]), "bundle"),
    "bundle: escrow": (more("BundleSubmitted", "escrow"), "escrow of a bundle"),
    "bundle: trader": (other("BundleSubmitted", trader=STRANGER), "trader of a bundle"),
    "bundle: sequence": (more("BundleSubmitted", "sequence"), "sequence of a bundle"),
    "bundle: left out": (dropped("BundleSubmitted"), "money of"),
    "bundle: green by nobody": (dropped("ProducerClassSet"), "seller of green energy"),
    "clearing: volume": (more("ProductCleared", "result", 1 << 180), "result of product"),
    "clearing: price": (more("ProductCleared", "result", 1 << 4), "result of product"),
    "clearing: ration": (more("ProductCleared", "result", 1 << 52), "result of product"),
    "clearing: kind": (other("ProductCleared", isFinal=True), "kind of a clearing"),
    "clearing: final one left out": (dropped("ProductCleared", -1), "products to clear again"),
    "rejection: fee": (more("MatchRejected", "fee"), "fee after a rejection"),
    "rejection: position": (other("MatchRejected", positions=2), "bundle after a rejection"),
    "rejection: escrow": (more("MatchRejected", "escrow"), "escrow after a rejection"),
    "end: brown volume": (more("SessionFinalised", "brownVolumeWh"), "brownVolumeWh of a session"),
    "end: surplus price": (more("SessionFinalised", "surplusPrice", -1), "surplusPrice of a session"),
    "end: reward rate": (more("SessionFinalised", "greenRewardRate", -1), "greenRewardRate of a session"),
    "claim: released": (more("BundleClaimed", "released"), "released escrow"),
    "claim: kept": (more("BundleClaimed", "escrow"), "escrow after a claim"),
    "residual": (more("SessionClosed", "residual"), "residual of a session"),
    # money
    "payment: escrow": (more("Locked", "amount", -1, which=-2), "money of"),
    "payment: release": (more("Released", "amount"), "money of"),
    "payment: receiver": (other("Released", account=STRANGER), "money of"),
    "payment: left out": (dropped("Released", -1), "money of"),
    # certificates
    "certificates: amount": (
        lambda w: w.changed("TransferBatch", values=[v + 1 for v in w.events("TransferBatch")[0].args["values"]]),
        "token",
    ),
    "certificates: holder": (other("CertificatesIssued", holder=STRANGER), "holder of certificates"),
    "certificates: issue left out": (dropped("CertificatesIssued"), "token"),
    "certificates: injection": (
        other("InjectionRecorded", injectedWh=[1_001, 0, 0, 0, 1_449, 0, 0, 0]),
        "injection of connection",
    ),
    "certificates: injection left out": (dropped("InjectionRecorded"), "injection of connection"),
    "certificates: class": (other("InjectionRecorded", producerClass=3), "producer class of an injection"),
    "certificates: redeemed": (more("Redeemed", "amount"), "token"),
    "certificates: retired": (more("Retired", "amount"), "token"),
    "certificates: transfer": (more("TransferSingle", "value"), "state of a contract"),
    # settlement by meter
    "settlement: payout": (in_struct("TraderSettled", "outcome", "payout"), "outcome"),
    "settlement: shortage": (in_struct("TraderSettled", "outcome", "shortageWh"), "outcome"),
    "settlement: said unmetered": (other("TraderSettled", metered=False), "time of settlement"),
    "settlement: trader": (other("TraderSettled", trader=STRANGER), "trader of a settlement"),
    "settlement: left out": (dropped("TraderSettled"), "bundles left open"),
    # trading rules
    "rule: owner": (other("RuleRegistered", owner=STRANGER), "owner of a rule"),
    "rule: share": (in_struct("RuleRegistered", "rule", "shareBps", -1), "share of the forecast bought in period 0"),
    "rule: agent": (
        lambda w: w.changed("RuleRegistered", rule=w.events("RuleRegistered")[0].args["rule"] | {"agent": STRANGER}),
        "agent of a rule",
    ),
    "rule: forecaster": (
        lambda w: w.changed(
            "RuleRegistered", rule=w.events("RuleRegistered")[0].args["rule"] | {"forecaster": STRANGER}
        ),
        "forecast of a rule",
    ),
    "rule: limits": (
        lambda w: w.changed(
            "RuleRegistered", rule=w.events("RuleRegistered")[0].args["rule"] | {"buyLimits": [119_999] * 24}
        ),
        "limit price of order 0",
    ),
    "rule: validity": (in_struct("RuleRegistered", "rule", "validUntil", 1 - 2**40), "time of a rule"),
    "rule: number": (in_struct("RuleRegistered", "rule", "number"), "number of a rule"),
    "rule: brown order": (
        lambda w: w.changed("BundleSubmitted", 3, bundle=bundle_of((0, BUY, AT, 200))),
        "energy type of order 0",
    ),
    "rule: too much": (
        lambda w: w.changed("BundleSubmitted", 3, bundle=bundle_of((GREEN, BUY, AT, 201))),
        "share of the forecast bought in period 0",
    ),
    "rule: other period": (
        lambda w: w.changed("BundleSubmitted", 3, bundle=bundle_of((GREEN + 1, BUY, AT, 200))),
        "share of the forecast bought in period 1",
    ),
    "rule: registration left out": (dropped("RuleRegistered"), "event about something never recorded"),
    "rule: orders left out": (dropped("BundleSubmitted", 3), "placed by a rule"),
    "rule: agent of an order": (other("PlacedByRule", agent=STRANGER), "agent of a rule"),
    "rule: forecast of an order": (other("PlacedByRule", commitmentId=9), "event about something never recorded"),
    "rule: the same forecast in another session": (doubled("PlacedByRule"), "forecast traded twice"),
    "rule: revoked": (dropped("RuleRevoked"), "state of a contract"),
    # stakes and draw
    "stake: amount": (more("Staked", "amount"), "stake after adding to it"),
    "stake: total": (more("Staked", "total"), "stake after adding to it"),
    "stake: staker": (other("Staked", staker=STRANGER), "money of"),
    "stake: left out": (dropped("Staked"), "money of"),
    "draw: weight": (more("SecretCommitted", "weight"), "weight in a draw"),
    "draw: commitment": (flipped("SecretCommitted", "commitment"), "secret of"),
    "draw: secret": (flipped("SecretRevealed", "secret"), "secret of"),
    "draw: penalty": (more("SilencePunished", "penalty"), "penalty of silence"),
    "draw: punished the honest": (
        lambda w: w.changed("SilencePunished", staker=w.events("SecretRevealed")[0].args["staker"]),
        "commitment answered twice",
    ),
    # batches
    "batch: root": (flipped("BatchProposed", "root"), "root of a proposal"),
    "batch: leaves": (more("BatchProposed", "leafCount"), "root of a proposal"),
    "batch: proposer": (other("BatchProposed", proposer=RULED.address), "whose turn it was"),
    "batch: number": (more("BatchProposed", "number"), "number of a proposal"),
    "challenge: bond": (more("ChallengeRejected", "bond"), "bond of a challenge"),
    "challenge: left out": (dropped("OutcomeChallenged"), "event about something never recorded"),
    "challenge: never closed": (dropped("ChallengeRejected"), "open challenges at a conclusion"),
    "conclusion: left out": (dropped("ProposalConcluded"), "claim of a batch"),
    "conclusion: number": (more("ProposalConcluded", "number"), "number of a proposal"),
    "conclusion: twice": (doubled("ProposalConcluded"), "proposal concluded twice"),
    "batch claim: payout": (in_struct("OutcomeClaimed", "outcome", "payout"), "outcome"),
    "batch claim: fee": (more("OutcomeClaimed", "fee"), "fee of a claim"),
    "batch claim: trader": (other("OutcomeClaimed", trader=STRANGER), "trader of a claim"),
    "batch claim: left out": (dropped("OutcomeClaimed"), "bundles left open"),
    "unknown event": (lambda w: [*w.evm.history, _renamed(w.evm.history[-1])], "event without a rule"),
}


def _renamed(event):
    return replace(event, name="Upgraded")


@pytest.mark.parametrize("name", CHANGES)
def test_audit_names_what_was_changed(story, name):
    change, what = CHANGES[name]
    found = story.audit(events=change(story)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]


# -------------------------------------------------------------------------------- a contract that answers otherwise

ANSWERS = {
    "EnergyMarket.bundleOf": lambda answer: answer | {"hash": flip(answer["hash"])},
    "EnergyMarket.resultOf": lambda answer: answer + (1 << 180),
    "EnergyMarket.session": lambda answer: answer | {"openBundles": answer["openBundles"] + 1},
    "ClearingHouse.balanceOf": lambda answer: answer + 1,
    "ClearingHouse.lockOf": lambda answer: answer + 1,
    "EnergyCertificates.balanceOf": lambda answer: answer + 1,
    "ProducerRegistry.producerClassOf": lambda answer: answer + 1,
    "SettlementProposer.stakeOf": lambda answer: answer | {"amount": answer["amount"] + 1},
    "SettlementProposer.proposalOf": lambda answer: answer | {"root": flip(answer["root"])},
    "TradingRules.ruleOf": lambda answer: (answer[0], not answer[1]),
}


@pytest.mark.parametrize("getter", ANSWERS)
def test_audit_names_the_getter_that_differs(story, getter):
    def get(queries):
        answers = story.get(queries)
        changed = [f"{q.contract}.{q.function}" == getter for q in queries]
        return [ANSWERS[getter](a) if other else a for a, other in zip(answers, changed, strict=True)]

    found = story.audit(get=get).mismatches
    assert any(mismatch.where.startswith(getter) for mismatch in found), found[:5]


def test_audit_names_a_stake_that_is_not_in_its_lock(story):
    """Event and getter agree on a stake that nobody paid for."""
    staked = story.events("Staked")[-1]
    more_total = staked.args["total"] + 5
    events = story.changed("Staked", -1, amount=staked.args["amount"] + 5, total=more_total)

    def get(queries):
        answers = story.get(queries)
        return [
            a | {"amount": a["amount"] + 5} if q.function == "stakeOf" and q.args[0] == staked.args["staker"] else a
            for q, a in zip(queries, answers, strict=True)
        ]

    found = story.audit(events=events, get=get).mismatches
    assert any(mismatch.what == "stake in its lock" for mismatch in found), found[:5]


# -------------------------------------------------------------------------------- evidence


def test_audit_names_the_settlement_behind_a_changed_metered_day(story):
    records = story.records()
    ((batch, days),) = records.batches
    days[1] = days[1]._replace(values=flip(days[1].values, 7))
    found = story.audit(records=replace(records, batches=[(batch, days)])).mismatches
    assert any("behind a settlement" in m.what and "another root" in m.found for m in found), found[:5]


def test_audit_names_the_order_behind_a_changed_forecast(story):
    records = story.records()
    row, (curve,) = records.commitments[1]
    changed = {1: (row, [curve._replace(values=flip(curve.values, 3))])}
    found = story.audit(records=replace(records, commitments=changed)).mismatches
    assert any(m.what == "forecast behind an order" for m in found), found[:5]


def test_audit_rebuilds_a_root_from_the_claims_when_the_data_are_gone(story):
    records = replace(story.records(), documents=[])
    assert story.audit(records=records).mismatches == []
    found = story.audit(records=records, events=flipped("BatchProposed", "root")(story)).mismatches
    assert any(m.what == "root over all claims" for m in found), found[:5]


def test_audit_names_a_batch_that_holds_another_outcome(story):
    """The data were exchanged for others, hash and root with them: what was claimed is not in them."""
    records, proposed = story.records(), story.events("BatchProposed")[0]
    batch = OutcomeBatch.of(records.documents[0].content)
    first, *rest = batch.outcomes.values()
    other_batch = OutcomeBatch(batch.session_id, [replace(first, injected_wh=(1, *first.injected_wh[1:])), *rest])
    document = records.documents[0]._replace(key=other_batch.data_hash, content=other_batch.content)
    events = [
        replace(e, args=dict(e.args) | {"root": other_batch.root, "dataHash": other_batch.data_hash})
        if e is proposed
        else e
        for e in story.evm.history
    ]
    found = story.audit(events=events, records=replace(records, documents=[document])).mismatches
    assert any(m.what == "claimed outcome in the batch" for m in found), found[:5]


# -------------------------------------------------------------------------------- a proposer that lies


@pytest.fixture(scope="module")
def lie():
    """Two stakers reveal; whoever is drawn pays the seller one micro-token too much and is found out."""
    world = AuditedWorld()
    seller, buyer, *stakers = world.traders[:4]
    for trader in stakers:
        world.proposer.stake(MINIMUM, sender=trader.address)
    world.evm.now += 5 * DAY
    session = world.open()
    sells, buys = bundle_of((0, SELL, AT, 1_000)), bundle_of((0, BUY, AT, 900))
    session.submit(seller, sells)
    session.submit(buyer, buys)
    for trader in stakers:
        commit(world, session, trader)
    session.close_gate()
    for trader in stakers:
        world.proposer.reveal(session.id, trader.address, secret_of(session, trader))
    session.run_auction()
    evidence = world.anchor(session, {seller: READINGS["seller"], buyer: READINGS["buyer"]})
    world.evm.now = max(world.evm.now, session.times.readings_due)
    bundles = {seller: sells, buyer: buys}
    truth = batch_of(world, session, bundles, evidence)
    payout = truth.outcomes[seller.connection].outcome.payout
    false = batch_of(world, session, bundles, evidence, payout=payout + 1)
    propose(world, session, false)
    first, second = challenge(world, session, false, seller), challenge(world, session, false, buyer)
    answered = false.outcomes[seller.connection].as_argument()
    world.proposer.answer(first, answered, [position(session, sells)], [evidence[seller]])
    world.proposer.expireChallenge(second)
    propose(world, session, truth)
    return world


def test_audit_follows_a_fraud_to_the_next_proposer(lie):
    checks = lie.audit()
    assert checks.mismatches == []
    assert [p.fallen_at > 0 for p in lie.audited_model.proposals[1]] == [True, False]


LIES = {
    "fraud: stake": (more("FraudProven", "stake"), "stake that was lost"),
    "fraud: proposer": (other("FraudProven", proposer=STRANGER), "proposer of a fraud"),
    "fraud: challenger": (other("FraudProven", challenger=STRANGER), "challenger of a fraud"),
    "fraud: left out": (dropped("FraudProven"), "challenge of a batch"),
    "challenge: challenger": (other("OutcomeChallenged", challenger=STRANGER), "challenger of a fraud"),
    "challenge: connection": (
        other("OutcomeChallenged", connectionId=Trader("trader 1").connection),
        "fraud of a proposer",
    ),
    "challenge: voided left out": (dropped("ChallengeVoided"), "money of"),
    "batch: left out": (dropped("BatchProposed"), "event about something never recorded"),
    "batch: second in another turn": (
        lambda w: w.changed("BatchProposed", 1, proposer=w.events("BatchProposed")[0].args["proposer"]),
        "whose turn it was",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_audit_names_what_was_changed_about_a_fraud(lie, name):
    change, what = LIES[name]
    found = lie.audit(events=change(lie)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]


@pytest.fixture(scope="module")
def outdated():
    """A true batch is challenged, its day anchored again, the challenge answered; the same proposer has another go."""
    world = AuditedWorld()
    seller, buyer, staker = world.traders[:3]
    world.proposer.stake(MINIMUM, sender=staker.address)
    world.evm.now += 5 * DAY
    session = world.open()
    sells, buys = bundle_of((0, SELL, AT, 1_000)), bundle_of((0, BUY, AT, 900))
    session.submit(seller, sells)
    session.submit(buyer, buys)
    commit(world, session, staker)
    session.close_gate()
    world.proposer.reveal(session.id, staker.address, secret_of(session, staker))
    session.run_auction()
    readings = {seller: READINGS["seller"], buyer: READINGS["buyer"]}
    evidence = world.anchor(session, readings)
    world.evm.now = max(world.evm.now, session.times.readings_due)
    truth = batch_of(world, session, {seller: sells, buyer: buys}, evidence)
    propose(world, session, truth)
    number = challenge(world, session, truth, seller)
    world.evm.now += 60
    again = world.anchor(session, readings)
    world.proposer.answer(
        number, truth.outcomes[seller.connection].as_argument(), [position(session, sells)], [again[seller]]
    )
    propose(world, session, truth)
    world.evm.now += CHALLENGE
    world.proposer.conclude(session.id)
    return world


def test_audit_follows_a_proposal_whose_readings_were_anchored_again(outdated):
    checks = outdated.audit()
    assert checks.mismatches == []
    assert [(p.voided, p.concluded) for p in outdated.audited_model.proposals[1]] == [(True, False), (False, True)]


OUTDATED = {
    "void: left out": (dropped("ProposalVoided"), "challenge of a batch"),
    "void: proposer": (other("ProposalVoided", proposer=STRANGER), "proposer of a void proposal"),
    "void: number": (more("ProposalVoided", "number"), "number of a proposal"),
    "void: nothing anchored again": (dropped("DayAnchored", 1), "void proposal"),
    "conclusion: left out": (dropped("ProposalConcluded"), "state of a contract"),
}


@pytest.mark.parametrize("name", OUTDATED)
def test_audit_names_what_was_changed_about_a_void_proposal(outdated, name):
    change, what = OUTDATED[name]
    found = outdated.audit(events=change(outdated)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]


def test_audit_draws_another_when_a_secret_is_left_out(lie):
    """Without one of the secrets nobody but the other can have been drawn first."""
    proposer = lie.events("BatchProposed")[0].args["proposer"]
    revealed = [event.args["staker"] for event in lie.events("SecretRevealed")]
    found = lie.audit(events=lie.without("SecretRevealed", revealed.index(proposer))).mismatches
    assert any(mismatch.what == "whose turn it was" for mismatch in found), found[:5]


@pytest.fixture(scope="module")
def netted():
    """A sale for an hour that is bought back in part for its first half; both sessions settled by meter."""
    world = AuditedWorld()
    seller, other = world.traders[:2]
    hourly, half_hourly = open_at(world, BASE, 4, 1), open_at(world, BASE, 2, 1)
    desk = Desk(world, hourly, half_hourly)
    desk.swap(hourly, 0, seller, other, 1_000)
    desk.swap(half_hourly, 0, other, seller, 300)
    desk.run_auctions()
    evidence = world.anchor(hourly, {seller: [(0, 200), (0, 500), None, (0, 10)], other: [(900, 0)] * 4})
    for trader in (seller, other):
        desk.outcomes(trader, evidence)
    for session in desk.sessions:
        world.market.closeSession(session.id)
    return world


def test_audit_nets_overlapping_sessions(netted):
    checks = netted.audit()
    assert checks.mismatches == []
    sold = netted.events("TraderSettled")[0].args["outcome"]
    assert (sold["injectedBrownWh"], sold["coveredWh"], sold["shortageWh"]) == (710, 290, 0)


@pytest.mark.parametrize("name", ["coveredWh", "injectedBrownWh"])
def test_audit_finds_an_outcome_that_is_not_netted(netted, name):
    told = netted.events("TraderSettled")[0].args["outcome"]
    checks = netted.audit(events=netted.changed("TraderSettled", outcome=told | {name: told[name] + 1}))
    assert [mismatch.what for mismatch in checks.mismatches] == ["outcome"]
