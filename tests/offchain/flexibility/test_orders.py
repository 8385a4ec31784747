"""OrderBook: issued, reassigned, kept in the store. dispatch_calls: portions, hashes, proofs."""

import pytest

from offchain.flexibility.commitments import CommittedCurves
from offchain.flexibility.orders import (
    ORDER_DOCUMENT,
    ORDERS_PER_TRANSACTION,
    OrderBook,
    dispatch_calls,
    send_in_order,
)
from offchain.store.documents import get_document
from tests.offchain.flexibility.conftest import DAY, RecordingSuite, curve, event, meter, order


def issued(given):
    return event("ProsumerOrdered", prosumerOrderId=given.id, terms=given.terms, quantitiesWh=given.quantities)


def receipt(suite, *events):
    suite.events_of = lambda *call: list(events)
    return suite.send(None, "FlexDispatch", "dispatch", ())


@pytest.fixture
def suite():
    return RecordingSuite()


@pytest.fixture
def book(store):
    return OrderBook(store)


def test_add_keeps_what_was_issued_and_its_curve(book, suite, store):
    one, two = order(1), order(2, quantities={41: 500}, groupId=9)
    assert book.add(suite, [receipt(suite, issued(one), issued(two))], at=5) == [one, two]
    assert book.orders == {1: one, 2: two}
    assert book.of_group(9) == [two]
    with store.read() as connection:
        assert get_document(connection, ORDER_DOCUMENT, one.terms["quantitiesHash"]).content == one.quantities


def test_add_marks_what_was_taken_over_when_reassigned(book, suite):
    failed, stand_in = order(1), order(2, replaces=1, quantities={40: 300})
    book.add(suite, [receipt(suite, issued(failed))], at=5)
    reassigned = event("Reassigned", failedOrderId=1, totalTakenWh=curve({40: 300}))
    added = book.add(suite, [receipt(suite, issued(stand_in), reassigned)], at=6)
    assert added == [stand_in]
    assert book.orders[1].taken_wh()[40] == 300
    assert book.orders[1].quantities == failed.quantities


def test_add_ignores_other_events(book, suite):
    assert book.add(suite, [receipt(suite, event("FlexOrdered", flexOrderId=1))], at=5) == []
    assert book.orders == {}


def test_taken_wh_is_zero_everywhere_when_nothing_was_taken_over():
    assert order(1).taken_wh() == [0] * DAY.isp_count


@pytest.mark.parametrize("count", [0, 1, ORDERS_PER_TRANSACTION, ORDERS_PER_TRANSACTION + 1])
def test_dispatch_calls_come_in_portions(suite, count):
    baselines = CommittedCurves(
        3, {meter(i): b"b%d" % i for i in range(count)}, {meter(i): [b"p%d" % i] for i in range(count)}
    )
    parts = [(100 + i, meter(i), curve({40: i})) for i in range(count)]
    calls = dispatch_calls(suite, 8, curve({40: 1}), parts, baselines)
    send_in_order(suite, None, calls)
    sizes = [len(args[2]) for _, _, args in suite.sent]
    assert sum(sizes) == count
    assert all(0 < size <= ORDERS_PER_TRANSACTION for size in sizes)
    assert [s["agreementId"] for _, _, args in suite.sent for s in args[2]] == [100 + i for i in range(count)]
    for _, function, (flex_order_id, ordered, structs) in suite.sent:
        assert (function, flex_order_id, ordered) == ("dispatch", 8, curve({40: 1}))
        for struct in structs:
            number = struct["agreementId"] - 100
            assert struct["baselineWh"] == b"b%d" % number
            assert struct["baselineProof"] == [b"p%d" % number]
