"""What comes in after settlement, and what never comes.

meter back with what it kept → version 2 of the day, anchored, difference settled, audit clean
meter back, reading changed to less → the prosumer gives back what it was paid too much
nothing new → no version, no correction
meter that is in no batch → settled as missing once overdue, named by the auditor, corrected when it comes after all
"""

from contextlib import contextmanager

import pytest

from offchain.chain.errors import ContractRevertedError
from offchain.chain.indexer import read_events
from offchain.chain.signatures import metering_domain
from offchain.domain.curves import unpack_baseline
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import Direction
from offchain.flexibility.metered_days import proven_days
from offchain.flexibility.settling import missing_from, settle_missing, settle_orders
from offchain.pilot import PilotConfig, PilotDay
from offchain.pilot.config import Faults
from offchain.pilot.delivery import baselines_of, clock_of
from offchain.store.batches import BatchKind, BatchStatus, get_batch, latest_batch
from offchain.store.readings import ReadingRow, insert_readings
from offchain.store.tables import readings
from oracles.anchoring import ChainAnchor
from oracles.batching import Batcher
from oracles.publisher import Publisher
from oracles.signer import GatewayKeys
from tests.e2e.days import NOON_SEED

CONFIG = {"scenario": "noon", "seed": NOON_SEED}


@contextmanager
def delivered_day(out, **faults):
    """Noon up to the evening, with some faults."""
    with PilotDay(PilotConfig(**CONFIG, faults=Faults(**faults), out=out)) as day:
        day.enrol()
        day.plan()
        day.deliver()
        yield day


def keys_of(day):
    world = day.world
    domain = metering_domain(world.chain.chain_id, world.suite.address("MeteringLedger"))
    return GatewayKeys(domain, {p.meter_id: p.device.secret for p in world.cast.prosumers})


def signed(day, meter_id, isp, import_wh, export_wh):
    signature = keys_of(day).sign_reading(meter_id, isp, import_wh, export_wh)
    return ReadingRow(meter_id, isp, import_wh, export_wh, 0, signature, day.world.clock.now(), "load profile")


def as_ordered(day, order):
    """Readings of a meter that delivered just what was ordered, for the ISPs without one."""
    world = day.world
    with world.store.read() as connection:
        have = {
            isp
            for (isp,) in connection.execute(
                readings.select().with_only_columns(readings.c.isp).where(readings.c.meter_id == order.meter_id)
            )
        }
    baseline = unpack_baseline(baselines_of(world, day.ahead, order).packed[order.meter_id])
    sign = -1 if order.terms["direction"] == Direction.UP else 1
    rows = []
    for isp, base_wh, quantity_wh in zip(world.day.isps, baseline, order.quantities_wh(), strict=True):
        if isp not in have:
            net_wh = base_wh + sign * quantity_wh
            rows.append(signed(day, order.meter_id, isp, max(net_wh, 0), max(-net_wh, 0)))
    return rows


def nets(day):
    """Balance and bond of everybody."""
    result = day.audit()
    assert result.audit.ok, result.audit.mismatches[:3]
    assert result.report["money_utoken"]["residual"] == 0
    return {row["name"]: row["net_utoken"] for row in result.details["parties"]}


def named(day, name):
    return [e.args for e in read_events(day.world.chain, day.world.suite) if e.name == name]


def order_of(day, fault):
    """The order of the one with this fault."""
    (meter_id,) = [m for m, f in day.delivery.faults.items() if f == fault]
    return next(o for o in day.book.orders.values() if o.meter_id == meter_id and not o.terms["replaces"])


# ------------------------------------------------------------------ corrections


@pytest.fixture(scope="module")
def meter_back(days_root):
    """A meter was silent from the middle of its delivery on; the next day it brings what it had kept."""
    with delivered_day(days_root / "back", silent=0.15, short=0, failing=0, dead=0) as day:
        day.settle()
        order = order_of(day, "meter silent from the middle of the delivery")
        before = nets(day)
        with day.world.store.write() as connection:
            assert insert_readings(connection, as_ordered(day, order)) > 0
        receipts = day.correct()
        yield day, order, before, nets(day), receipts


def test_correct_anchors_the_second_version_when_readings_came_back(meter_back):
    day, *_ = meter_back
    with day.world.store.read() as connection:
        batch = latest_batch(connection, BatchKind.DAY, day.world.cast.operator.address, day.world.day.first_isp)
    assert (batch.version, batch.status) == (2, BatchStatus.CONFIRMED)
    assert [e["version"] for e in named(day, "DayAnchored")] == [1, 2]
    assert named(day, "DayAnchored")[-1]["root"] == batch.root


def test_correct_pays_the_difference_visibly_when_readings_came_back(meter_back):
    day, order, before, after, receipts = meter_back
    corrected = {e["prosumerOrderId"]: e for e in named(day, "ProsumerCorrected")}
    assert len(receipts) == len(corrected)
    event = corrected[order.id]
    assert event["version"] == 2
    assert event["verdict"]["missingWh"] == 0
    assert event["difference"] > 0
    name = day.world.cast.names[order.terms["prosumer"]]
    assert after[name] - before[name] == event["difference"]


def test_correct_changes_nothing_for_others_when_one_meter_came_back(meter_back):
    day, order, before, after, _ = meter_back
    name = day.world.cast.names[order.terms["prosumer"]]
    organisations = {n for n in after if n == "DSO" or n.startswith("aggregator")}
    assert {n: v for n, v in after.items() if n not in organisations | {name}} == {
        n: v for n, v in before.items() if n not in organisations | {name}
    }
    differences = {e["prosumerOrderId"]: e["difference"] for e in named(day, "ProsumerCorrected")}
    assert all(difference == 0 for i, difference in differences.items() if i != order.id)


def test_correct_lets_the_dso_pay_the_aggregator_for_what_came_back(meter_back):
    day, order, before, after, _ = meter_back
    position, _ = day.ahead.flex_orders[order.group_id]
    aggregator = day.world.cast.names[day.world.cast.aggregators[position].address]
    difference = sum(e["difference"] for e in named(day, "FlexOrderCorrected"))
    assert difference > 0
    assert after["DSO"] - before["DSO"] == -difference
    own = sum(e["difference"] for e in named(day, "ProsumerCorrected"))
    assert after[aggregator] - before[aggregator] == difference - own


def test_report_counts_the_corrected_verdict(meter_back):
    day, *_ = meter_back
    first = sum(e["verdict"]["reward"] + e["verdict"]["bonus"] for e in named(day, "ProsumerSettled"))
    corrected = {e["prosumerOrderId"]: e["verdict"] for e in named(day, "ProsumerCorrected")}
    first_of = {e["prosumerOrderId"]: e["verdict"] for e in named(day, "ProsumerSettled")}
    expected = sum((corrected.get(i) or v)["reward"] + v["bonus"] for i, v in first_of.items())
    report = day.audit().report
    assert report["money_utoken"]["rewards"] == expected > first
    assert report["energy_wh"]["delivered"] == sum((corrected.get(i) or v)["creditedWh"] for i, v in first_of.items())


def test_correct_sends_nothing_when_nothing_came_since(meter_back):
    day, *_, receipts = meter_back
    assert receipts
    versions = len(named(day, "DayAnchored"))
    assert day.correct() == []
    assert len(named(day, "DayAnchored")) == versions


def test_correct_takes_back_what_was_paid_too_much_when_a_reading_was_wrong(days_root):
    with delivered_day(days_root / "wrong", short=0, failing=0, silent=0, dead=0) as day:
        day.settle()
        before = nets(day)
        order = max(day.book.orders.values(), key=lambda o: (sum(o.quantities_wh()) - sum(o.taken_wh()), -o.id))
        due = [q - t for q, t in zip(order.quantities_wh(), order.taken_wh(), strict=True)]
        isp = day.world.day.first_isp + due.index(max(due))
        baseline = unpack_baseline(baselines_of(day.world, day.ahead, order).packed[order.meter_id])
        net_wh = baseline[isp - day.world.day.first_isp]  # in truth nothing was delivered
        row = signed(day, order.meter_id, isp, max(net_wh, 0), max(-net_wh, 0))
        with day.world.store.write() as connection:
            here = (readings.c.meter_id == order.meter_id) & (readings.c.isp == isp)
            connection.execute(readings.update().where(here).values(row._asdict()))
        day.correct()
        after = nets(day)
        event = next(e for e in named(day, "ProsumerCorrected") if e["prosumerOrderId"] == order.id)
        first = next(e for e in named(day, "ProsumerSettled") if e["prosumerOrderId"] == order.id)["verdict"]
    name = day.world.cast.names[order.terms["prosumer"]]
    assert event["difference"] < 0
    assert event["verdict"]["creditedWh"] < first["creditedWh"]
    assert after[name] - before[name] == event["difference"]
    assert after["DSO"] > before["DSO"]


# ------------------------------------------------------------------ missing


@pytest.fixture(scope="module")
def left_out(days_root):
    """The operator leaves two meters out of the batch, of a home that others stepped in for and of one that delivered:
    their orders are settled as missing, and corrected later."""
    with delivered_day(days_root / "left-out", short=0.3, failing=0, silent=0, dead=0) as day:
        world, relayer = day.world, day.world.cast.relayer
        failed = {o.terms["replaces"] for o in day.book.orders.values()} - {0}
        order = max((day.book.orders[i] for i in failed), key=lambda o: (sum(o.quantities_wh()), -o.id))
        delivering = next(
            o
            for o in day.book.orders.values()
            if o.meter_id not in day.delivery.faults and not o.terms["replaces"] and o.id not in failed
        )
        left_out = {order.meter_id, delivering.meter_id}
        world.clock.advance_to((world.day.end_isp + 1) * SECONDS_PER_ISP)
        others = [p.meter_id for p in world.cast.prosumers if p.meter_id not in left_out]
        batch = Batcher(world.store, world.cast.operator.address, others, keys_of(day), clock_of(world)).close_day(
            world.day
        )
        publisher = Publisher(world.store, ChainAnchor(world.suite, world.cast.operator), clock_of(world))
        while publisher.publish().confirmed == 0:
            continue
        with world.store.read() as connection:
            assert get_batch(connection, batch.id).status is BatchStatus.CONFIRMED
        world.clock.advance_to(world.clock.now() + day.config.challenge_window_s + 1)
        evidence = proven_days(world.store, batch.id), lambda o: baselines_of(world, day.ahead, o).packed[o.meter_id]
        _, left = settle_orders(world.suite, relayer, day.book.orders.values(), *evidence)
        yield day, order, delivering, left, evidence


def test_settle_orders_leaves_those_in_no_batch_and_those_that_replace_them(left_out):
    day, order, delivering, left, _ = left_out
    replacing = {o.id for o in day.book.orders.values() if o.terms["replaces"] == order.id}
    assert replacing
    assert {o.id for o in left} == {order.id, delivering.id} | replacing
    settled = {e["prosumerOrderId"] for e in named(day, "ProsumerSettled")}
    assert settled == set(day.book.orders) - {o.id for o in left}


def test_settle_missing_is_refused_before_the_readings_are_due(left_out):
    day, _, _, left, evidence = left_out
    with pytest.raises(ContractRevertedError) as caught:
        settle_missing(day.world.suite, day.world.cast.relayer, left, *evidence)
    assert caught.value.name == "ReadingsNotYetDue"


def test_settle_missing_pays_nothing_and_correct_makes_up_for_it(left_out):
    """One story, so one test: overdue, settled as missing, finalised, then the days of the meters come after all."""
    day, order, delivering, left, evidence = left_out
    world, relayer = day.world, day.world.cast.relayer
    world.clock.advance_to(missing_from(world.suite, left, evidence[0]))
    settle_missing(world.suite, relayer, left, *evidence)
    settled = {e["prosumerOrderId"]: e for e in named(day, "ProsumerSettled")}
    for missing in (order, delivering):
        event = settled[missing.id]
        assert event["version"] == 0
        assert event["verdict"]["creditedWh"] == event["verdict"]["reward"] == 0
        assert event["verdict"]["missingWh"] == sum(missing.quantities_wh()) - sum(missing.taken_wh()) > 0
    for replacement in left:
        if replacement.terms["replaces"]:
            assert settled[replacement.id]["version"] == 1
            assert settled[replacement.id]["verdict"]["creditedWh"] > 0
    world.send_all([(relayer, "FlexSettlement", "finalise", (i,)) for i in day.ahead.flex_orders])
    if day.delivery.direct_group_id is not None:
        world.send(relayer, "FlexSettlement", "finaliseDirect", day.delivery.direct_group_id)

    result = day.audit()
    assert {m.what for m in result.audit.mismatches} == {"readings that the batch leaves out"}
    assert len(result.audit.mismatches) == 2
    for missing in (order, delivering):
        assert any(missing.meter_id.hex() in m.where for m in result.audit.mismatches)
    before = {row["name"]: row["net_utoken"] for row in result.details["parties"]}
    day.correct()
    after = nets(day)
    corrected = {e["prosumerOrderId"]: e for e in named(day, "ProsumerCorrected")}
    for missing in (order, delivering):
        event = corrected[missing.id]
        assert event["version"] == 2
        assert event["verdict"]["missingWh"] == 0
        assert event["verdict"]["creditedWh"] > 0
        name = world.cast.names[missing.terms["prosumer"]]
        assert after[name] - before.get(name, 0) == event["difference"]
    # What the other home delivered is eaten by the penalty on what it did not.
    assert corrected[delivering.id]["difference"] > 0
