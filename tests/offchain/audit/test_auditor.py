"""The audit of a correct day."""

import json

import pytest

from offchain.audit import Query
from offchain.chain.errors import ChainError
from offchain.domain.errors import AuditMismatchError
from tests.offchain.audit import world


def test_audit_is_ok_when_nothing_was_changed(case):
    report = case.audit()
    assert report.mismatches == []
    assert report.ok
    report.raise_first()


def test_audit_counts_what_it_checked(case):
    checked = case.audit().checked
    assert checked["verdicts"] == len(world.VERDICTS) + 1  # and one correction
    assert checked["readings"] == 4 * world.DAY.isp_count
    assert checked["events"] == len(case.events)
    assert {"payments", "roots", "balances", "locks", "states", "conservation"} <= checked.keys()


def test_replay_conserves_money_when_events_are_cut_after_any_transaction(day):
    events, _, store = day
    for last in {event.block_number for event in events}:
        model, checks = world.replay([e for e in events if e.block_number <= last], store)
        assert checks.mismatches == []
        held = sum(model.balances.values()) + sum(model.locks.values())
        assert held == model.total_held <= model.token.balances[world.ADDRESSES["ClearingHouse"]]


def test_audit_report_names_all_fields_when_written_as_json(case):
    case.answers[Query("ClearingHouse", "totalHeld")] += 1
    content = json.loads(case.audit().to_json())
    assert content["ok"] is False
    assert content["mismatches"][0].keys() == {"what", "where", "expected", "found"}


def test_raise_first_names_the_first_difference_when_there_is_one(case):
    case.answers[Query("ClearingHouse", "totalHeld")] += 1
    with pytest.raises(AuditMismatchError, match="total held at clearing house"):
        case.audit().raise_first()


def test_audit_refuses_a_deployment_without_the_metering_ledger(case, monkeypatch):
    monkeypatch.delitem(world.ADDRESSES, "MeteringLedger")
    with pytest.raises(ChainError, match="MeteringLedger"):
        case.audit()
