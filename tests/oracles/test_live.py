"""LiveChannel: latest and window; replayed, impossible, future, flood → refused; stored, bounded, store away."""

from collections import Counter

import pytest

from offchain.domain.errors import TransientError
from oracles import live as module
from oracles.clock import unix
from oracles.limits import RateLimit
from oracles.live import LiveChannel
from oracles.normalise import Rejection
from oracles.sources.port import Observation, Quantity


@pytest.fixture
def live(store, clock):
    return LiveChannel(store, clock, retention_s=600)


def seen(clock, value=230.0, *, age_s=0, device="feeder", quantity=Quantity.VOLTAGE, phase=1):
    now = unix(clock)
    return Observation(device, quantity, phase, value, now - age_s, now)


def test_latest_tells_each_quantity_when_values_came(live, clock):
    live.take(
        [seen(clock, 230, age_s=8), seen(clock, 231, age_s=4), seen(clock, 5, phase=0, quantity=Quantity.CURRENT)]
    )
    assert {(o.quantity, o.value) for o in live.latest("feeder")} == {(Quantity.VOLTAGE, 231), (Quantity.CURRENT, 5)}
    assert live.latest("other") == []
    assert [o.value for o in live.window("feeder", Quantity.VOLTAGE, 1)] == [230, 231]


@pytest.mark.parametrize(
    ("value", "age_s", "reason"),
    [
        (float("nan"), 0, Rejection.IMPLAUSIBLE),
        (-1.0, 0, Rejection.IMPLAUSIBLE),
        (230.0, -3_600, Rejection.FUTURE),
        (230.0, 5, Rejection.DUPLICATE),
        (230.0, 60, Rejection.OUT_OF_ORDER),
    ],
)
def test_take_refuses_and_counts_when_value_cannot_be_used(live, clock, value, age_s, reason):
    live.take([seen(clock, 229.0, age_s=5)])
    assert live.take([seen(clock, value, age_s=age_s)]) == 0
    assert live.rejected == Counter({reason: 1})
    assert [o.value for o in live.latest()] == [229.0]


def test_take_leaves_others_alone_when_one_device_floods(store, clock):
    live = LiveChannel(store, clock, limit=RateLimit(per_minute=60, burst=5))
    live.take([seen(clock, age_s=100 - i) for i in range(50)] + [seen(clock, device="other")])
    assert live.rejected == Counter({Rejection.FLOOD: 45})
    assert len(live.latest("other")) == 1


def test_save_keeps_values_for_the_retention_only_when_time_passes(live, store, clock):
    first = seen(clock)
    live.take([first])
    assert live.save() == 1
    clock.advance_to(clock.now().replace(minute=5))
    live.take([seen(clock, 231)])
    live.save()
    assert [row.value for row in live.history("feeder", "voltage_v", 1, 0, 2**40)] == [230, 231]
    clock.advance_to(clock.now().replace(minute=12))
    live.save()
    assert [row.value for row in live.history("feeder", "voltage_v", 1, 0, 2**40)] == [231]


def test_save_loses_nothing_when_the_store_was_away(live, clock, monkeypatch):
    live.take([seen(clock, 230, age_s=9)])
    with monkeypatch.context() as patch:

        def fail(*_):
            live.take([seen(clock, 231)])  # comes in while the store is being written
            raise TransientError("disk is full")

        patch.setattr(module, "insert_observations", fail)
        with pytest.raises(TransientError):
            live.save()
    assert live.save() == 2
    assert [row.value for row in live.history("feeder", "voltage_v", 1, 0, 2**40)] == [230, 231]
