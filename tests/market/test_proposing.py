"""Outcomes of a session off chain: what the contract finds, in one batch; lies are seen by whoever computes again."""

from dataclasses import replace

import pytest

from offchain.domain.errors import DomainError
from offchain.flexibility.metered_days import ProvenDay
from offchain.market.batches import OutcomeBatch
from offchain.market.proposing import compute_outcomes, differences, published, require_published
from offchain.market.replay import replay_sessions
from offchain.store.batches import MeterDayRow
from tests.market.audited import AuditedWorld
from tests.market.test_audit import batch_of
from tests.market.world import BUY, SELL, SOLAR, bundle_of, price_tick

AT, GREEN = price_tick(120_000), 4


@pytest.fixture(scope="module")
def metered():
    """A session at the time when readings are due, with its evidence."""
    world = AuditedWorld()
    seller, buyer, idle, other = world.traders[:4]
    world.set_producer_class(seller, SOLAR)
    for staker in (idle, other):
        world.proposer.stake(1_000_000, sender=staker.address)
    world.evm.now += 5 * 86_400
    session = world.open()
    bundles = {
        seller: bundle_of((0, SELL, AT, 1_000), (GREEN, SELL, AT, 2_000)),
        buyer: bundle_of((0, BUY, AT, 900), (GREEN, BUY, AT, 1_500), (1, SELL, AT, 70)),
        idle: bundle_of((3, BUY, AT, 50)),
    }
    for trader, bundle in bundles.items():
        session.submit(trader, bundle)
    session.submit(other, bundle_of((1, BUY, AT, 40)))
    session.run_auction()
    nothing = [(0, 0)] * 5
    readings = {
        seller: [(0, 1_250), (0, 700), (1, 1), *nothing],
        buyer: [(1_100, 0), (1_200, 0), None, *nothing],
        idle: [(9, 9)] * 8,
    }
    evidence = world.anchor(session, readings)
    world.evm.now = max(world.evm.now, session.times.readings_due + 20_000)
    return world, session, bundles, evidence


@pytest.fixture(scope="module")
def computed(metered):
    world, session, _, evidence = metered
    days = {}
    for trader, proven in evidence.items():
        day = proven["day"]
        row = MeterDayRow(day["meterId"], day["firstIsp"], day["ispCount"], 1, day["values"], day["signature"])
        days[trader.connection] = [ProvenDay(row, proven["proof"])]
    sessions = replay_sessions(world.evm.history)
    areas = {trader.connection: world.area for trader in world.traders}
    return compute_outcomes(sessions, session.id, areas, days), sessions[session.id]


def test_compute_outcomes_finds_what_the_contract_finds(metered, computed):
    found, _ = computed
    batch = batch_of(*metered)
    assert found.outcomes == batch.outcomes
    assert sum(proposed.outcome.injected_green_wh for proposed in found.outcomes.values()) > 0


def test_compute_outcomes_leaves_bundles_without_readings(metered, computed):
    world = metered[0]
    found, _ = computed
    assert [record.connection_id for record in found.left] == [world.traders[3].connection]


def test_leaf_is_that_of_the_contract(metered, computed):
    world, session = metered[:2]
    for proposed in computed[0].outcomes.values():
        assert proposed.leaf(session.id) == world.proposer.leafOf(session.id, proposed.as_argument())


def test_batch_survives_its_own_form(metered, computed):
    batch = OutcomeBatch(metered[1].id, list(computed[0].outcomes.values()))
    again = OutcomeBatch.of(batch.content)
    assert (again.outcomes, again.root, again.data_hash) == (batch.outcomes, batch.root, batch.data_hash)


def test_batch_refuses_the_same_connection_twice_and_none_at_all(computed):
    (first, *_) = computed[0].outcomes.values()
    with pytest.raises(DomainError, match="stands twice"):
        OutcomeBatch(1, [first, first])
    with pytest.raises(DomainError, match="without outcomes"):
        OutcomeBatch(1, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content + b" ",
        lambda content: content.replace(b'"schema":1', b'"schema":2'),
        lambda content: content.replace(b'"session":', b'"session":-'),
        lambda content: content.replace(b'"injected_wh":[', b'"injected_wh":[-1,', 1),
        lambda content: content.replace(b'"outcome":[', b'"outcome":[1,', 1),
        lambda content: b"[]",
        lambda content: b"\xff",
    ],
)
def test_batch_refuses_data_in_another_form(metered, computed, change):
    batch = OutcomeBatch(metered[1].id, list(computed[0].outcomes.values()))
    with pytest.raises(DomainError):
        OutcomeBatch.of(change(batch.content))


def test_differences_finds_every_outcome_that_is_false(metered, computed):
    session, (found, record) = metered[1], computed
    outcomes = list(found.outcomes.values())
    assert differences(OutcomeBatch(session.id, outcomes), record, found) == []
    first = outcomes[0]
    lies = (
        replace(first, outcome=replace(first.outcome, payout=first.outcome.payout + 1)),
        replace(first, injected_wh=(first.injected_wh[0] + 1, *first.injected_wh[1:])),
        replace(first, bundle=first.bundle + first.bundle),
        replace(first, connection_id=bytes(31) + b"\x07"),
    )
    for lie in lies:
        batch = OutcomeBatch(session.id, [lie, *outcomes[1:]])
        assert differences(batch, record, found) == [lie.connection_id]


def test_published_is_the_latest_proposal_and_its_data_are_known_by_their_hash(metered, computed):
    world, session = metered[:2]
    with pytest.raises(DomainError, match="no batch was proposed for session 1"):
        published(world.evm.history, session.id)
    batch = OutcomeBatch(session.id, list(computed[0].outcomes.values()))
    staker = world.traders[2]
    world.proposer.propose(session.id, batch.root, len(batch), batch.data_hash, sender=staker.address)
    found = published(world.evm.history, session.id)
    assert (found.number, found.proposer) == (1, staker.address)
    require_published(batch, found)
    others = OutcomeBatch(session.id, list(computed[0].outcomes.values())[1:])
    with pytest.raises(DomainError, match="not the data of proposal 1"):
        require_published(others, found)
