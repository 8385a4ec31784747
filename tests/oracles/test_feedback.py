"""Feedback: orders on chain, baselines out of call data, readings → what was delivered, and who does not follow.

baseline in the call of an aggregator, inside a wallet's call, of a list of standby → found by its hash
not there → alarm, asked once; node does not have the transaction → asked again; known after a restart → not asked
reading before order or baseline is known → judged when it is; a late reading of an earlier ISP → alarm stays as it is
order gone → alarms over
"""

import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from offchain.chain.events import Event
from offchain.domain.curves import pack_baseline, pack_quantities
from offchain.store.readings import ReadingRow, insert_readings
from oracles.alarms import Alarms
from oracles.feedback import NO_BASELINE, NOT_FOLLOWING, ExecutionFeedback
from oracles.orders import orders_of

UP, DOWN = 0, 1
BASELINE = pack_baseline([500] * 96)
OTHER = pack_baseline([501] * 96)
DISPATCH = "(uint64,bytes,bytes,bytes32[])[]"


def dispatched(*baselines):
    """Call data as of ``FlexDispatch.dispatch``."""
    quantities = pack_quantities([200] * 96)
    parts = [(1, quantities, baseline, [b"p" * 32] * 7) for baseline in baselines]
    return b"disp" + encode(["uint64", "bytes", DISPATCH], [1, quantities, parts])


def wrapped(call_data):
    """The same inside a call of a wallet contract."""
    return b"exec" + encode(["address", "uint256", "bytes"], ["0x" + "11" * 20, 0, call_data])


def event(name, tx_hash, **args):
    return Event("FlexDispatch", "0x", name, args, 1, "0x", tx_hash, 0, 0)


def ordered(order_id, meter_id, day, due, direction=UP, replaces=0, tx_hash="0xd1"):
    curve = [due.get(position, 0) for position in range(96)]
    terms = {
        "meterId": meter_id,
        "groupId": 7,
        "replaces": replaces,
        "direction": direction,
        "dayFirstIsp": day.first_isp,
        "ispCount": 96,
        "toleranceBps": 1_000,
        "baselineHash": keccak(BASELINE),
    }
    return event("ProsumerOrdered", tx_hash, prosumerOrderId=order_id, terms=terms, quantitiesWh=pack_quantities(curve))


@pytest.fixture
def alarms(clock):
    return Alarms(clock)


@pytest.fixture
def feedback(store, clock, alarms):
    return ExecutionFeedback(store, clock, alarms)


@pytest.fixture
def read(store, feedback):
    """Stores readings of a meter, import by ISP, and shows them."""

    def store_and_show(meter_id, by_isp):
        rows = [ReadingRow(meter_id, isp, wh, 0, 0, b"", 0, "modbus") for isp, wh in by_isp.items()]
        with store.write() as connection:
            insert_readings(connection, rows)
        feedback.see(rows)

    return store_and_show


def learn(feedback, meter_ids, *events):
    feedback.learn(orders_of(events, frozenset(meter_ids)))


def on(alarms):
    return [alarm.kind for alarm in alarms]


def delivered(feedback):
    return [(d.order_id, d.isp, d.due_wh, d.delivered_wh) for d in feedback.deliveries()]


@pytest.mark.parametrize("call_data", [dispatched(OTHER, BASELINE), wrapped(dispatched(BASELINE))])
def test_prove_finds_the_baseline_in_the_call_data_of_the_order(feedback, read, alarms, meter_ids, day, call_data):
    meter, first = meter_ids[0], day.first_isp
    learn(feedback, meter_ids, ordered(1, meter, day, {4: 200, 5: 200}))
    assert feedback.unproven() == ["0xd1"]
    assert (feedback.prove({"0xd1": call_data}), feedback.unproven()) == (1, [])
    read(meter, {first + 3: 500, first + 4: 480})
    assert delivered(feedback) == [(1, first + 4, 200, 20)]
    (alarm,) = alarms
    assert (alarm.kind, alarm.subject) == (NOT_FOLLOWING, meter.hex())
    assert alarm.text == f"20 of 200 Wh in ISP {first + 4}, order 1"
    read(meter, {first + 5: 320})  # 180 of 200 is within 10%
    assert on(alarms) == []


def test_prove_finds_the_baseline_of_a_replacement_where_the_standby_was_listed(feedback, meter_ids, day):
    lists = [event("StandbyListed", tx, flexOrderId=group, standby=[]) for tx, group in (("0xa", 7), ("0xb", 8))]
    learn(feedback, meter_ids, *lists, ordered(2, meter_ids[0], day, {4: 1}, replaces=1))
    assert feedback.unproven() == ["0xa"]
    assert feedback.prove({"0xa": dispatched(BASELINE)}) == 1


def test_prove_raises_an_alarm_once_when_the_transaction_does_not_show_the_baseline(feedback, alarms, meter_ids, day):
    order = ordered(1, meter_ids[0], day, {4: 200})
    learn(feedback, meter_ids, order)
    assert feedback.prove({}) == 0  # the node did not have it
    assert (feedback.unproven(), on(alarms)) == (["0xd1"], [])
    assert feedback.prove({"0xd1": dispatched(OTHER)}) == 0
    assert (feedback.unproven(), on(alarms)) == ([], [NO_BASELINE])
    learn(feedback, meter_ids)
    assert on(alarms) == []


def test_learn_knows_baselines_and_judges_again_when_restarted(feedback, read, store, clock, meter_ids, day):
    order = ordered(1, meter_ids[0], day, {4: 200}, DOWN)
    learn(feedback, meter_ids, order)
    feedback.prove({"0xd1": dispatched(BASELINE)})
    read(meter_ids[0], {day.first_isp + 4: 300})
    alarms = Alarms(clock)
    restarted = ExecutionFeedback(store, clock, alarms)
    learn(restarted, meter_ids, order)
    assert restarted.unproven() == []
    assert delivered(restarted) == [(1, day.first_isp + 4, 200, -200)]
    assert on(alarms) == [NOT_FOLLOWING]


def test_readings_are_judged_when_order_and_baseline_become_known_after_them(feedback, read, alarms, meter_ids, day):
    read(meter_ids[0], {day.first_isp + 4: 480})
    learn(feedback, meter_ids, ordered(1, meter_ids[0], day, {4: 200}))
    assert on(alarms) == [] and delivered(feedback) == []
    feedback.prove({"0xd1": dispatched(BASELINE)})
    assert on(alarms) == [NOT_FOLLOWING]
    learn(feedback, meter_ids)
    assert on(alarms) == []


def test_a_late_reading_of_an_earlier_isp_leaves_the_alarm_as_it_is(feedback, read, alarms, meter_ids, day):
    learn(feedback, meter_ids, ordered(1, meter_ids[0], day, {4: 200, 5: 200}))
    feedback.prove({"0xd1": dispatched(BASELINE)})
    read(meter_ids[0], {day.first_isp + 5: 300})
    read(meter_ids[0], {day.first_isp + 4: 500})
    assert on(alarms) == []
    assert [wh for *_, wh in delivered(feedback)] == [0, 200]


def test_what_standby_took_over_is_not_due_any_more(feedback, read, alarms, meter_ids, day):
    taken = event("Reassigned", "0xe", failedOrderId=1, totalTakenWh=pack_quantities([0] * 5 + [200] + [0] * 90))
    learn(feedback, meter_ids, ordered(1, meter_ids[0], day, {4: 200, 5: 200}), taken)
    feedback.prove({"0xd1": dispatched(BASELINE)})
    read(meter_ids[0], {day.first_isp + 4: 300, day.first_isp + 5: 500})
    assert delivered(feedback) == [(1, day.first_isp + 4, 200, 200)]
    assert on(alarms) == []
