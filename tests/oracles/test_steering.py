"""Steering: orders on chain → schedules of devices → held; cancelled, reassigned, reorganised → the new schedule.

sign: UP less net consumption, DOWN more; orders of other sites and of past days → nothing
device away → tried again, alarm after a minute, held later; never → expired; killed in between → sent again, once
an order for the next day while the device is away → both schedules wait, each once
"""

import asyncio
from datetime import timedelta

import pytest

from offchain.chain.events import Event
from offchain.domain.curves import pack_quantities
from offchain.domain.errors import TransientError
from offchain.domain.isp import MarketDay, isp_start
from offchain.store.commands import CommandStatus, commands_covering, get_command
from offchain.store.outbox import dead_letters, open_items
from oracles.alarms import Alarms
from oracles.clock import unix
from oracles.downlink import Acknowledgement
from oracles.steering import TOPIC, Steering

UP, DOWN = 0, 1


class Device:
    """Takes schedules, when it is there."""

    def __init__(self, clock):
        self.clock = clock
        self.held = []
        self.away = False
        self.busy = False

    async def send(self, setpoints):
        if self.away or self.busy:
            raise TransientError("no answer")
        self.busy = True
        await asyncio.sleep(0)
        self.busy = False
        self.held.append(tuple(setpoints.powers_w))
        return Acknowledgement(setpoints.meter_id, setpoints.first_isp, len(setpoints.powers_w), unix(self.clock))


@pytest.fixture
def device(clock):
    return Device(clock)


@pytest.fixture
def alarms(clock):
    return Alarms(clock)


@pytest.fixture
def steering(store, meter_ids, device, clock, alarms):
    return Steering(store, meter_ids[:2], {meter_ids[0]: device}, clock, alarms)


def event(name, **args):
    return Event("FlexDispatch", "0x", name, args, 1, "0x", "0x", 0, 0)


def ordered(order_id, meter_id, day, quantities, direction=UP, tolerance_bps=1_000, group_id=1):
    curve = [0] * 96
    for position, quantity_wh in quantities.items():
        curve[position] = quantity_wh
    terms = {
        "meterId": meter_id,
        "groupId": group_id,
        "direction": direction,
        "dayFirstIsp": day.first_isp,
        "ispCount": 96,
        "toleranceBps": tolerance_bps,
        "replaces": 0,
        "baselineHash": bytes(32),
    }
    return event("ProsumerOrdered", prosumerOrderId=order_id, terms=terms, quantitiesWh=pack_quantities(curve))


def nonzero(powers_w):
    return {i: power_w for i, power_w in enumerate(powers_w) if power_w}


def deliver(steering):
    return asyncio.run(steering.deliver())


def test_deliver_writes_the_schedule_to_the_device_when_orders_came(steering, device, store, meter_ids, day, clock):
    steering.learn([ordered(1, meter_ids[0], day, {4: 250, 5: 100}), ordered(2, meter_ids[0], day, {8: 50}, DOWN)])
    clock.advance_to(clock.now() + timedelta(seconds=3))
    report = deliver(steering)
    assert nonzero(device.held[0]) == {4: -1_000, 5: -400, 8: 200}
    assert (report.held, report.delays_s) == (1, [3])
    with store.read() as connection:
        command = commands_covering(connection, day.first_isp)[meter_ids[0]]
    assert (command.status, command.acknowledged_at) == (CommandStatus.HELD, unix(clock))


def test_learn_writes_nothing_when_nothing_changed_or_concerns_the_site(steering, device, meter_ids, day, clock):
    events = [ordered(1, meter_ids[0], day, {4: 250})]
    assert (steering.learn(events), steering.learn(events)) == (1, 0)
    assert steering.learn([*events, ordered(2, meter_ids[3], day, {4: 250})]) == 0
    deliver(steering)
    clock.advance_to(isp_start(day.end_isp))
    assert steering.learn([*events, ordered(3, meter_ids[0], day, {5: 1})]) == 0
    assert len(device.held) == 1


@pytest.mark.parametrize(
    ("follow_up", "expected"),
    [
        ([event("ProsumerOrderCancelled", prosumerOrderId=1)], {}),
        ([event("Reassigned", failedOrderId=1, totalTakenWh=pack_quantities([0] * 4 + [150] + [0] * 91))], {4: -400}),
        (None, {}),  # a reorg took the order itself back
    ],
    ids=["cancelled", "reassigned", "reorganised"],
)
def test_learn_replaces_the_schedule_when_the_order_changes(steering, device, meter_ids, day, follow_up, expected):
    order = ordered(1, meter_ids[0], day, {4: 250})
    steering.learn([order])
    deliver(steering)
    assert steering.learn([] if follow_up is None else [order, *follow_up]) == 1
    deliver(steering)
    assert [nonzero(powers_w) for powers_w in device.held] == [{4: -1_000}, expected]


def test_deliver_tries_again_and_raises_an_alarm_when_the_device_is_away_for_a_minute(
    steering, device, alarms, meter_ids, day, clock
):
    steering.learn([ordered(1, meter_ids[0], day, {40: 250})])
    device.away = True
    for _ in range(90):
        deliver(steering)
        if list(alarms):
            break
        clock.advance_to(clock.now() + timedelta(seconds=1))
    (alarm,) = alarms
    assert (alarm.kind, alarm.subject) == ("schedule not acknowledged", meter_ids[0].hex())
    assert 60 <= alarm.since - day.first_isp * 900 <= 76
    device.away = False
    clock.advance_to(clock.now() + timedelta(seconds=20))
    assert deliver(steering).held == 1
    assert list(alarms) == []


def test_deliver_gives_up_when_the_day_is_over(steering, device, store, meter_ids, day, clock):
    steering.learn([ordered(1, meter_ids[0], day, {40: 250})])
    device.away = True
    deliver(steering)
    clock.advance_to(isp_start(day.end_isp))
    assert deliver(steering).expired == 1
    with store.read() as connection:
        (letter,) = dead_letters(connection)
        assert get_command(connection, letter.subject_id).status is CommandStatus.EXPIRED


def test_deliver_sends_what_was_written_when_restarted(steering, store, device, alarms, meter_ids, day, clock):
    steering.learn([ordered(1, meter_ids[0], day, {4: 250})])
    restarted = Steering(store, meter_ids[:2], {meter_ids[0]: device}, clock, alarms)
    assert (deliver(restarted).held, deliver(restarted).held) == (1, 0)
    with store.read() as connection:
        assert open_items(connection, TOPIC) == []


def test_deliver_sends_only_the_newer_schedule_when_two_wait(steering, device, meter_ids, day):
    order = ordered(1, meter_ids[0], day, {4: 250})
    steering.learn([order])
    steering.learn([order, ordered(2, meter_ids[0], day, {6: 25})])
    deliver(steering)
    assert [nonzero(powers_w) for powers_w in device.held] == [{4: -1_000, 6: -100}]


def test_learn_keeps_the_schedules_of_both_days_when_the_device_is_away(
    steering, device, alarms, store, meter_ids, day, clock
):
    tomorrow = MarketDay.of(day.day + timedelta(days=1))
    events = [ordered(1, meter_ids[0], day, {90: 250}), ordered(2, meter_ids[0], tomorrow, {4: 50})]
    device.away = True
    changed = [steering.learn(events)]
    for _ in range(30):
        deliver(steering)
        clock.advance_to(clock.now() + timedelta(seconds=5))
        changed.append(steering.learn(events))
    assert sum(changed) == 2
    (alarm,) = alarms
    assert alarm.kind == "schedule not acknowledged"
    device.away = False
    clock.advance_to(clock.now() + timedelta(seconds=20))
    assert deliver(steering).held == 2
    assert [nonzero(powers_w) for powers_w in device.held] == [{90: -1_000}, {4: -200}]
    with store.read() as connection:
        assert open_items(connection, TOPIC) == []


def test_learn_names_direct_control_and_says_who_ordered_it_once(steering, store, meter_ids, day, caplog):
    group_id = 2**63 + 1
    events = [
        ordered(7, meter_ids[0], day, {4: 250}, group_id=group_id),
        event("DirectControlUsed", groupId=group_id, dso="0xd50", reason="overload"),
        event("DirectControlUsed", groupId=group_id + 1, dso="0xd50", reason="elsewhere"),
    ]
    assert (steering.learn(events), steering.learn(events)) == (1, 0)
    with store.read() as connection:
        assert commands_covering(connection, day.first_isp)[meter_ids[0]].cause == "direct control, orders 7"
    assert [r.message for r in caplog.records] == ["direct control by 0xd50: overload"]


def test_learn_knows_the_regime_of_a_point_until_it_ends(steering, day):
    point, isp = b"p" * 32, day.first_isp

    def changed(regime, until_isp):
        args = {"congestionPointId": point, "regime": regime, "fromIsp": isp, "untilIsp": until_isp, "requestId": 0}
        return event("RegimeChanged", reason="overload", **args)

    steering.learn([changed(1, isp + 96), changed(2, isp + 8)])
    assert [steering.regimes[point].at(isp + later) for later in (-1, 0, 7, 8)] == [0, 2, 2, 0]
    steering.learn([changed(2, isp + 8), changed(0, 0)])
    assert steering.regimes[point].at(isp) == 0
