"""
commit
├── paused → reverts EnforcedPause
├── caller unknown, registrar or auditor only, or suspended → reverts NotAllowedToCommit
├── no root, no leaf or no ISP → reverts EmptyCommitment
├── made later than now → reverts MadeInFuture
└── else → next id from 1, stored with the time of the block, emits Committed
    └── the same again → another commitment; the first stays as it was
commitment
└── unknown id → reverts CommitmentUnknown
"""

import pytest

from tests.utils import clock, system
from tests.utils.metering import ISPS, timestamp_of
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status

BASELINE = 1
ARGUMENTS = {
    "kind": BASELINE,
    "scope": system.id_of("congestion point"),
    "method": system.id_of("mid-4-of-6@1"),
    "firstIsp": 1_995_000,
    "ispCount": ISPS,
    "root": system.id_of("root"),
    "leafCount": 153,
    "madeAt": 1_700_000_000,
    "dataHash": system.id_of("data set"),
}


def commit(registry, sender, **changed):
    return registry.commit(*(ARGUMENTS | changed).values(), {"from": sender})


def test_commit_reverts_when_paused(commitments, actors):
    commitments.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=commitments):
        commit(commitments, actors.aggregator)


@pytest.mark.parametrize("name", ["outsider", "registrar"])
def test_commit_reverts_when_caller_has_nothing_to_commit(commitments, actors, name):
    caller = getattr(actors, name)
    with reverts("NotAllowedToCommit", caller, unchanged=commitments):
        commit(commitments, caller)


def test_commit_reverts_when_caller_is_auditor_only(commitments, participants, actors):
    auditor = actors.outsider
    participants.registerOrganisation(auditor, Role.AUDITOR, system.identity("a"), {"from": actors.registrar})
    with reverts("NotAllowedToCommit", auditor, unchanged=commitments):
        commit(commitments, auditor)


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
def test_commit_reverts_when_caller_is_not_in_good_standing(commitments, participants, actors, status):
    participants.setStatus(actors.aggregator, status, bytes(32), {"from": actors.registrar})
    with reverts("NotAllowedToCommit", actors.aggregator, unchanged=commitments):
        commit(commitments, actors.aggregator)


@pytest.mark.parametrize("empty", [{"root": bytes(32)}, {"leafCount": 0}, {"ispCount": 0}])
def test_commit_reverts_when_there_is_nothing_in_it(commitments, actors, empty):
    with reverts("EmptyCommitment", unchanged=commitments):
        commit(commitments, actors.aggregator, **empty)


def test_commit_reverts_when_made_a_second_after_now(commitments, actors):
    now = system.current_isp() * 900 + 1_800
    clock.at(now)
    with reverts("MadeInFuture", now + 1, now, unchanged=commitments):
        commit(commitments, actors.aggregator, madeAt=now + 1)


def test_commit_stores_when_made_this_second(commitments, actors):
    now = system.current_isp() * 900 + 1_800
    clock.at(now)
    transaction = commit(commitments, actors.aggregator, madeAt=now)
    assert event(transaction, "Committed")["madeAt"] == now


@pytest.mark.parametrize("role", [Role.DSO, Role.TSO, Role.AGGREGATOR, Role.METER_OPERATOR, Role.MARKET_OPERATOR])
def test_commit_stores_for_every_organisation_that_knows_something(commitments, participants, actors, role):
    sender = actors.outsider
    participants.registerOrganisation(sender, role, system.identity("o"), {"from": actors.registrar})
    assert commit(commitments, sender).return_value == 1


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_commit_stores_and_emits_event(commitments, actors, kind):
    transaction = commit(commitments, actors.prosumer, kind=kind)
    assert transaction.return_value == 1
    assert plain(commitments.commitment(1)) == {
        "committer": actors.prosumer,
        "kind": kind,
        "postedAt": timestamp_of(transaction),
        "firstIsp": ARGUMENTS["firstIsp"],
        "ispCount": ISPS,
        "root": ARGUMENTS["root"],
        "method": ARGUMENTS["method"],
        "scope": ARGUMENTS["scope"],
    }
    assert event(transaction, "Committed") == ARGUMENTS | {
        "commitmentId": 1,
        "kind": kind,
        "committer": actors.prosumer,
    }


def test_commit_keeps_the_first_when_a_better_one_follows(commitments, actors):
    commit(commitments, actors.aggregator)
    first = commitments.commitment(1)
    better = commit(commitments, actors.aggregator, root=system.id_of("better"))
    assert better.return_value == 2
    assert commitments.commitment(1) == first
    assert plain(commitments.commitment(2))["root"] == system.id_of("better")


@pytest.mark.parametrize("commitment_id", [0, 1, 2**64 - 1])
def test_commitment_reverts_when_unknown(commitments, commitment_id):
    with reverts("CommitmentUnknown", commitment_id, unchanged=commitments):
        commitments.commitment(commitment_id)
