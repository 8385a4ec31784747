"""
requireBaseline
├── unknown commitment → reverts CommitmentUnknown
├── commitment of another kind → reverts WrongKind
├── other meter, other values, other period, other proof, a metered day → reverts LeafNotCommitted
└── else → returns, also while paused and with the committer revoked
baselineLeaf
└── equals its Python twin
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.leaves import baseline_leaf, meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.domain.curves import pack_baseline
from tests.utils import system
from tests.utils.metering import DATA_HASH, ISPS
from tests.utils.plain import plain
from tests.utils.reverts import reverts
from tests.utils.system import Status

FIRST_ISP = 1_995_000
KINDS = {"forecast": 0, "baseline": 1, "d_prognosis": 2, "optimisation": 3}
METERS = [system.id_of(f"meter {number}") for number in range(11)]
HASHES = [values_hash(pack_baseline([100 * number - 500] * ISPS)) for number in range(11)]
TREE = MerkleTree([baseline_leaf(meter, FIRST_ISP, ISPS, values) for meter, values in zip(METERS, HASHES, strict=True)])
word = st.binary(min_size=32, max_size=32)


def post(commitments, sender, *, kind="baseline", tree=TREE, first_isp=FIRST_ISP, isp_count=ISPS):
    scope, method = system.id_of("scope"), system.id_of("method")
    commitments.commit(
        KINDS[kind], scope, method, first_isp, isp_count, tree.root, len(tree), 1, DATA_HASH, {"from": sender}
    )
    return 1


def not_committed(commitments, leaf):
    return reverts("LeafNotCommitted", 1, leaf, unchanged=commitments)


def test_requireBaseline_returns_for_every_meter(commitments, actors):
    post(commitments, actors.aggregator)
    for meter, values, proof in zip(METERS, HASHES, TREE.proofs(), strict=True):
        commitments.requireBaseline(1, meter, values, proof)


def test_requireBaseline_reverts_when_commitment_is_unknown(commitments):
    with reverts("CommitmentUnknown", 1, unchanged=commitments):
        commitments.requireBaseline(1, METERS[0], HASHES[0], TREE.proof(0))


@pytest.mark.parametrize("kind", ["forecast", "d_prognosis", "optimisation"])
def test_requireBaseline_reverts_when_kind_is_another(commitments, actors, kind):
    post(commitments, actors.aggregator, kind=kind)
    with reverts("WrongKind", 1, KINDS[kind], KINDS["baseline"], unchanged=commitments):
        commitments.requireBaseline(1, METERS[0], HASHES[0], TREE.proof(0))


def test_requireBaseline_reverts_when_meter_or_values_are_others(commitments, actors):
    post(commitments, actors.aggregator)
    for meter, values in ((METERS[1], HASHES[0]), (METERS[0], HASHES[1]), (system.id_of("?"), HASHES[0])):
        with not_committed(commitments, baseline_leaf(meter, FIRST_ISP, ISPS, values)):
            commitments.requireBaseline(1, meter, values, TREE.proof(0))


@pytest.mark.parametrize("period", [{"first_isp": FIRST_ISP + ISPS}, {"isp_count": 92}])
def test_requireBaseline_reverts_when_period_is_another(commitments, actors, period):
    post(commitments, actors.aggregator, **period)
    actual = {"first_isp": FIRST_ISP, "isp_count": ISPS} | period
    with not_committed(commitments, baseline_leaf(METERS[0], *actual.values(), HASHES[0])):
        commitments.requireBaseline(1, METERS[0], HASHES[0], TREE.proof(0))


def test_requireBaseline_reverts_when_proof_is_not_of_the_leaf(commitments, actors):
    post(commitments, actors.aggregator)
    proof = TREE.proof(0)
    for other in ([], proof[:-1], proof[::-1], [*proof, bytes(32)], TREE.proof(5)):
        with not_committed(commitments, baseline_leaf(METERS[0], FIRST_ISP, ISPS, HASHES[0])):
            commitments.requireBaseline(1, METERS[0], HASHES[0], other)


def test_requireBaseline_reverts_when_leaf_is_a_metered_day(commitments, actors):
    day = MerkleTree([meter_day_leaf(METERS[0], FIRST_ISP, ISPS, HASHES[0])])
    post(commitments, actors.aggregator, tree=day)
    with not_committed(commitments, baseline_leaf(METERS[0], FIRST_ISP, ISPS, HASHES[0])):
        commitments.requireBaseline(1, METERS[0], HASHES[0], [])


def test_requireBaseline_returns_when_paused_and_committer_revoked(commitments, participants, actors):
    post(commitments, actors.aggregator)
    participants.setStatus(actors.aggregator, Status.REVOKED, bytes(32), {"from": actors.registrar})
    commitments.pause({"from": actors.guardian})
    commitments.requireBaseline(1, METERS[3], HASHES[3], TREE.proof(3))


@given(word, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), word)
def test_baselineLeaf_equals_its_python_twin(commitments, meter_id, first_isp, isp_count, curve):
    expected = baseline_leaf(meter_id, first_isp, isp_count, curve)
    assert plain(commitments.baselineLeaf(meter_id, first_isp, isp_count, curve)) == expected
