"""commit_packed: curves on disk first, then the root; proofs; no curves; chain gone in between."""

import pytest
from eth_hash.auto import keccak
from sqlalchemy import select

from offchain.chain.leaves import baseline_leaf, values_hash
from offchain.chain.merkle import verify
from offchain.domain.curves import pack_baseline
from offchain.domain.errors import ChainError, DomainError
from offchain.flexibility.commitments import CommitmentKind, commit_forecast_run, commit_packed
from offchain.forecasting.verification import Run
from offchain.store.documents import get_document
from offchain.store.tables import commitments, curves
from tests.offchain.flexibility.conftest import DAY, RecordingSuite, event, meter

SCOPE = keccak(b"congestion point")
COMMITTER = type("Committer", (), {"address": "0x" + "22" * 20})()
CURVES = {meter(i): pack_baseline([i * 100 - 150] * DAY.isp_count) for i in range(3)}


def commit(suite, store, packed=CURVES):
    return commit_packed(
        suite,
        store,
        COMMITTER,
        kind=CommitmentKind.BASELINE,
        method="mid_4_of_6@1",
        scope=SCOPE,
        day=DAY,
        curves=packed,
        made_at=1_463_000_000,
    )


def rows(store, table):
    with store.read() as connection:
        return connection.execute(select(table)).mappings().all()


def test_commit_packed_posts_the_root_of_all_curves(store):
    suite = RecordingSuite(lambda *call: [event("Committed", commitmentId=7)])
    committed = commit(suite, store)
    ((contract, function, args),) = suite.sent
    assert (contract, function) == ("CommitmentRegistry", "commit")
    kind, scope, method, first_isp, isp_count, root, leaf_count, made_at, data_hash = args
    assert (kind, scope, method) == (1, SCOPE, keccak(b"mid_4_of_6@1"))
    assert (first_isp, isp_count, leaf_count, made_at) == (DAY.first_isp, DAY.isp_count, 3, 1_463_000_000)
    assert data_hash == keccak(b"".join(m + CURVES[m] for m in sorted(CURVES)))
    assert committed.commitment_id == 7
    assert committed.packed == CURVES
    for subject, packed in CURVES.items():
        leaf = baseline_leaf(subject, DAY.first_isp, DAY.isp_count, values_hash(packed))
        assert verify(root, leaf, committed.proofs[subject])


def test_commit_packed_keeps_curves_and_commitment_in_the_store(store):
    commit(RecordingSuite(lambda *call: [event("Committed", commitmentId=7)]), store)
    assert {row["subject_id"]: row["values"] for row in rows(store, curves)} == CURVES
    assert {row["commitment_id"] for row in rows(store, curves)} == {7}
    (row,) = rows(store, commitments)
    assert (row["commitment_id"], row["kind"], row["leaf_count"]) == (7, "baseline", 3)


def test_commit_packed_has_the_curves_on_disk_when_the_chain_is_gone(store):
    with pytest.raises(ChainError, match="gone"):
        commit(RecordingSuite(lambda *call: ChainError("gone")), store)
    assert {row["subject_id"]: row["values"] for row in rows(store, curves)} == CURVES
    assert {row["commitment_id"] for row in rows(store, curves)} == {None}
    assert rows(store, commitments) == []


def test_commit_packed_sends_nothing_when_there_are_no_curves(store):
    suite = RecordingSuite()
    with pytest.raises(DomainError, match="no curves to commit as mid_4_of_6@1 for 2016-05-20"):
        commit(suite, store, {})
    assert suite.sent == []


def test_commit_forecast_run_binds_the_record_when_committed(store):
    suite = RecordingSuite(lambda *call: [event("Committed", commitmentId=9)])
    run = Run("ensemble@2", "day_ahead", "net_consumption", 1_463_000_000, {"seed": 1}, 500, "aa", "bb")
    given = {"scope": SCOPE, "day": DAY, "curves": CURVES, "made_at": 1_463_000_000}
    commit_forecast_run(suite, store, COMMITTER, record=run.to_json(), **given)
    ((_, _, args),) = suite.sent
    assert args[0] == 0 and args[2] == keccak(run.method_id.encode())
    with store.read() as connection:
        assert Run.from_json(get_document(connection, "forecast_run", run.digest()).content.decode()) == run
    with pytest.raises(DomainError, match="not the record of a forecast run"):
        commit_forecast_run(suite, store, COMMITTER, record="{}", **given)
