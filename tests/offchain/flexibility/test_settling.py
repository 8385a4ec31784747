"""Order of settlement.

all metered → failing before replacing; without a day → left, with those that replace it; overdue → as missing
correction → newer versions of issued and settled orders only
"""

import pytest

from offchain.flexibility.metered_days import ProvenDay
from offchain.flexibility.settling import correct_orders, settle_missing, settle_orders
from offchain.store.batches import MeterDayRow
from tests.offchain.flexibility.conftest import DAY, RecordingSuite, meter, order

ISSUED, CANCELLED, SETTLED = 1, 2, 3


def metered(*numbers, version=1):
    return {
        meter(n): ProvenDay(MeterDayRow(meter(n), DAY.first_isp, DAY.isp_count, version, b"values", b"sig"), [b"proof"])
        for n in numbers
    }


def baseline(given):
    return b"baseline %d" % given.id


@pytest.fixture
def suite():
    return RecordingSuite()


def sent(suite):
    return [(function, args[0]) for _, function, args in suite.sent]


def test_settle_orders_brings_everything_that_the_contract_checks(suite):
    given = order(1, taken=b"taken")
    receipts, left = settle_orders(suite, None, [given], metered(1), baseline)
    assert (len(receipts), left) == (1, [])
    contract, function, (order_id, terms, evidence) = suite.sent[0]
    assert (contract, function, order_id, terms) == ("FlexSettlement", "settle", 1, given.terms)
    assert evidence == {
        "quantitiesWh": given.quantities,
        "takenWh": b"taken",
        "baselineWh": b"baseline 1",
        "day": {
            "meterId": meter(1),
            "firstIsp": DAY.first_isp,
            "ispCount": DAY.isp_count,
            "values": b"values",
            "signature": b"sig",
        },
        "proof": [b"proof"],
    }


def test_settle_orders_settles_failing_orders_before_those_that_replace_them(suite):
    chain_of_three = [order(3, replaces=2), order(2, replaces=1), order(1), order(4)]
    _, left = settle_orders(suite, None, chain_of_three, metered(1, 2, 3, 4), baseline)
    assert left == []
    assert [len(calls) for calls in suite.rounds] == [2, 1, 1]
    assert [order_id for _, order_id in sent(suite)] == [1, 4, 2, 3]


def test_settle_orders_leaves_orders_without_a_day_and_their_replacements(suite):
    orders = [order(1), order(2, replaces=1), order(3)]
    _, left = settle_orders(suite, None, orders, metered(2, 3), baseline)
    assert sent(suite) == [("settle", 3)]
    assert [o.id for o in left] == [1, 2]


def test_settle_orders_sends_nothing_when_there_is_nothing(suite):
    assert settle_orders(suite, None, [], {}, baseline) == ([], [])
    assert suite.rounds == []


def test_settle_missing_pays_stand_ins_by_their_own_readings(suite):
    failing, stand_in = order(1, taken=b"taken"), order(2, replaces=1)
    assert len(settle_missing(suite, None, [stand_in, failing], metered(2), baseline)) == 2
    assert sent(suite) == [("settleMissing", 1), ("settle", 2)]
    assert suite.sent[0][2] == (1, failing.terms, failing.quantities, b"taken")


def test_settle_missing_settles_the_failing_first_when_both_are_missing(suite):
    settle_missing(suite, None, [order(2, replaces=1), order(1)], {}, baseline)
    assert sent(suite) == [("settleMissing", 1), ("settleMissing", 2)]
    assert [len(calls) for calls in suite.rounds] == [1, 1]


@pytest.mark.parametrize(
    ("status", "version", "corrected"),
    [
        (SETTLED, 1, True),
        (SETTLED, 2, False),
        (SETTLED, 3, False),
        (SETTLED, 0, True),
        (ISSUED, 0, True),
        (CANCELLED, 0, False),
    ],
)
def test_correct_orders_takes_only_what_a_newer_version_can_change(suite, status, version, corrected):
    suite.states = {1: {"status": status, "version": version}}
    receipts = correct_orders(suite, None, [order(1)], metered(1, version=2), baseline)
    assert sent(suite) == ([("correct", 1)] if corrected else [])
    assert len(receipts) == corrected


def test_correct_orders_leaves_out_meters_that_are_not_in_the_batch(suite):
    suite.states = {1: {"status": SETTLED, "version": 1}}
    correct_orders(suite, None, [order(2), order(1)], metered(1, version=2), baseline)
    assert sent(suite) == [("correct", 1)]


def test_correct_orders_sends_one_after_the_other(suite):
    suite.states = {n: {"status": SETTLED, "version": 1} for n in (1, 2)}
    correct_orders(suite, None, [order(2), order(1)], metered(1, 2, version=2), baseline)
    assert suite.rounds == [["correct"], ["correct"]]
    assert sent(suite) == [("correct", 1), ("correct", 2)]
