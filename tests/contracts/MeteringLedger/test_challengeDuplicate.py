"""
challengeDuplicate
├── days of two meters, of two dates, or twice the same values → reverts NotContradicted
├── no batch → reverts BatchUnknown; rejected before → reverts BatchNotUsable
├── either day not under the root → reverts LeafNotAnchored
├── either day of another number of ISPs → reverts PeriodMismatch
├── window over → reverts ChallengeWindowOver, from its very end
└── else → batch rejected, reward to the challenger, emits BatchRejected
    └── one of the days without a valid signature → the same
"""

import pytest

from tests.utils import clock
from tests.utils.metering import CHALLENGE_PENALTY, CHALLENGE_REWARD, FORFEIT_TO, ISPS, MINIMUM_BOND
from tests.utils.plain import event
from tests.utils.reverts import reverts


@pytest.fixture
def twice(site, operator):
    """A batch that holds two days of one meter: first day, its proof, second day, its proof."""
    first, second = site.day(0), site.day(1)
    tree = site.anchor([first, site.day(0, site.other_device), second], operator)
    return first, tree.proof(0), second, tree.proof(2)


@pytest.fixture
def challenge(site, operator, actors):
    return lambda *days: site.ledger.challengeDuplicate(operator, *days, {"from": actors.outsider})


def test_challengeDuplicate_reverts_when_days_are_of_two_meters(site, house, operator, challenge):
    first, other = site.day(0), site.day(1, site.other_device)
    tree = site.anchor([first, other], operator)
    with reverts("NotContradicted", first.meter_id, unchanged=[site.ledger, house]):
        challenge(first, tree.proof(0), other, tree.proof(1))


def test_challengeDuplicate_reverts_when_days_are_of_two_dates(site, house, twice, challenge):
    first, first_proof, second, second_proof = twice
    with reverts("NotContradicted", first.meter_id, unchanged=[site.ledger, house]):
        challenge(first, first_proof, second._replace(first_isp=site.first_isp - ISPS), second_proof)


def test_challengeDuplicate_reverts_when_days_say_the_same(site, house, twice, challenge):
    first, proof, _, _ = twice
    with reverts("NotContradicted", first.meter_id, unchanged=[site.ledger, house]):
        challenge(first, proof, first, proof)


def test_challengeDuplicate_reverts_when_one_leaf_is_anchored_twice(site, house, operator, challenge):
    day = site.day()
    tree = site.anchor([day, day], operator)
    with reverts("NotContradicted", day.meter_id, unchanged=[site.ledger, house]):
        challenge(day, tree.proof(0), day, tree.proof(1))


def test_challengeDuplicate_reverts_when_there_is_no_batch(site, house, operator, challenge):
    with reverts("BatchUnknown", operator, site.first_isp, unchanged=[site.ledger, house]):
        challenge(site.day(0), [], site.day(1), [])


def test_challengeDuplicate_reverts_when_batch_is_rejected(site, house, operator, twice, challenge):
    challenge(*twice)
    with reverts("BatchNotUsable", operator, site.first_isp, 1, 2, unchanged=[site.ledger, house]):
        challenge(*twice)


def test_challengeDuplicate_reverts_when_either_day_is_not_under_the_root(site, house, twice, challenge):
    first, first_proof, second, second_proof = twice
    forged = site.day(2)
    for days in ((first, first_proof, forged, second_proof), (forged, first_proof, second, second_proof)):
        with reverts("LeafNotAnchored", forged.leaf, unchanged=[site.ledger, house]):
            challenge(*days)


def test_challengeDuplicate_reverts_when_either_day_has_another_number_of_isps(site, house, twice, challenge):
    first, first_proof, second, second_proof = twice
    for days in (
        (first._replace(isp_count=92), first_proof, second, second_proof),
        (first, first_proof, second._replace(isp_count=92), second_proof),
    ):
        with reverts("PeriodMismatch", 92, ISPS, unchanged=[site.ledger, house]):
            challenge(*days)


def test_challengeDuplicate_reverts_when_window_ends_this_second(site, house, operator, twice, challenge):
    until = site.window_end(operator)
    clock.at(until)
    with reverts("ChallengeWindowOver", until, until, unchanged=[site.ledger, house]):
        challenge(*twice)


def test_challengeDuplicate_rejects_when_one_second_of_the_window_is_left(site, operator, twice, challenge, batch):
    clock.at(site.window_end(operator) - 1)
    challenge(*twice)
    assert batch()["status"] == 2


def test_challengeDuplicate_rejects_pays_and_emits_event(site, house, operator, actors, twice, challenge, batch):
    before = batch()
    transaction = challenge(*twice)
    assert batch() == before | {"status": 2}
    assert site.ledger.bondOf(operator) == MINIMUM_BOND - CHALLENGE_PENALTY
    assert house.lockOf(site.ledger.bondLockId(operator)) == MINIMUM_BOND - CHALLENGE_PENALTY
    assert house.balanceOf(actors.outsider) == CHALLENGE_REWARD
    assert house.balanceOf(FORFEIT_TO) == CHALLENGE_PENALTY - CHALLENGE_REWARD
    assert event(transaction, "BatchRejected") == {
        "operator": operator,
        "firstIsp": site.first_isp,
        "version": 1,
        "challenger": actors.outsider,
        "meterId": site.device.meter_id,
        "reward": CHALLENGE_REWARD,
        "forfeited": CHALLENGE_PENALTY - CHALLENGE_REWARD,
    }


def test_challengeDuplicate_rejects_when_one_day_has_no_valid_signature(site, twice, challenge, batch):
    first, first_proof, second, second_proof = twice
    challenge(first, first_proof, second._replace(signature=b"\x01" * 65), second_proof)
    assert batch()["status"] == 2
