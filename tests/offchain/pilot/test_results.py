"""Timeline of a pilot day: what is folded, what stays apart."""

from types import SimpleNamespace

import numpy as np

from offchain.chain.events import Event
from offchain.pilot.results import SAME_STEP_S, _timeline, _window, baseline_quality

WORLD = SimpleNamespace(cast=SimpleNamespace(names={"0xA": "aggregator A", "0xB": "aggregator B"}))


def event(name: str, at: int, **args) -> Event:
    return Event("Contract", "0x0", name, args, at, "0x", "0x", 0, at)


def test_timeline_adds_up_events_of_a_kind_when_they_follow_closely():
    settled = {"creditedWh": 700, "net": -50}
    events = [
        event("ProsumerSettled", 0, verdict=settled),
        event("Released", 1),
        event("ProsumerSettled", SAME_STEP_S, verdict=settled),
    ]
    first, other = _timeline(WORLD, events)
    assert (first["count"], first["energy_wh"], first["money_utoken"]) == (2, 1_400, -100)
    assert (first["time"], first["until"]) == (first["block"], first["until_block"]) == (0, SAME_STEP_S)
    assert (other["event"], other["energy_wh"], other["money_utoken"]) == ("Released", None, None)


def test_timeline_keeps_events_apart_when_time_has_passed():
    assert len(_timeline(WORLD, [event("Reassigned", t, takenWh=1) for t in (0, SAME_STEP_S + 1)])) == 2


def test_timeline_keeps_parties_and_prices_apart():
    offer = {"offeredWh": 1_000, "bond": 5}
    events = [
        event("OfferPlaced", 0, aggregator="0xA", price=330_000, **offer),
        event("OfferPlaced", 1, aggregator="0xB", price=330_000, **offer),
        event("OfferPlaced", 2, aggregator="0xB", price=357_600, **offer),
    ]
    rows = _timeline(WORLD, events)
    assert [(r["who"], r["note"], r["count"]) for r in rows] == [
        ("aggregator A", "at 0.330 token/kWh", 1),
        ("aggregator B", "at 0.330 token/kWh", 1),
        ("aggregator B", "at 0.358 token/kWh", 1),
    ]


def test_timeline_tells_what_the_name_leaves_open():
    events = [
        event("Committed", 0, committer="0xA", kind=2),
        event("RegimeChanged", 0, regime=2, reason="market left 5 Wh open"),
        event("DirectControlUsed", 0, reason="last resort"),
    ]
    assert [r["note"] for r in _timeline(WORLD, events)] == [
        "D-prognosis",
        "orange: market left 5 Wh open",
        "last resort",
    ]


def quality(ordered=(), missing=(), requested=(1, 2)):
    """Four quarter hours of three connections; baselines 100 Wh, metered 90, 120 and -100 Wh."""
    prosumers = [SimpleNamespace(meter_id=n, position=n) for n in range(3)]
    world = SimpleNamespace(cast=SimpleNamespace(prosumers=prosumers), day=SimpleNamespace(isp_count=4))
    need = SimpleNamespace(quantity_wh=np.isin(np.arange(4), requested) * 5) if requested is not None else None
    ahead = SimpleNamespace(need=need, baseline_wh=np.full((4, 3), 100))
    book = SimpleNamespace(orders={n: SimpleNamespace(meter_id=n) for n in ordered})
    gone = np.zeros((4, 3), dtype=bool)
    for isp, connection in missing:
        gone[isp, connection] = True
    return baseline_quality(world, ahead, book, np.tile([90, 120, -100], (4, 1)), gone)


def test_baseline_quality_is_of_connections_without_an_order():
    found = quality(ordered=[2])
    assert (found["connections"], found["isps"]) == (2, 2)
    assert found["bias_percent"] == round(-1_000 / 210, 1)  # 10 and -20 Wh of 90 and 120
    assert found["cv_rmse_percent"] == round(1_000 / 210, 1)
    assert found["single_cv_rmse_percent"] == round(100 * 250**0.5 / 105, 1)


def test_baseline_quality_leaves_connections_out_when_readings_are_missing_in_the_request():
    assert quality(missing=[(1, 0)])["connections"] == 2
    assert quality(missing=[(0, 0)])["connections"] == 3


def test_baseline_quality_is_of_the_whole_day_when_nothing_was_requested():
    assert quality(requested=None)["isps"] == quality(requested=())["isps"] == 4


def test_baseline_quality_is_unknown_when_everybody_was_ordered():
    found = quality(ordered=[0, 1, 2])
    assert found["connections"] == 0 and found["bias_percent"] is found["cv_rmse_percent"] is None


def test_window_is_the_longest_run_of_requested_quarter_hours():
    requested = np.zeros(96, dtype=int)
    requested[[30, 31, 76, 77, 78, 90]] = 100
    assert _window(requested, 96) == range(76, 79)


def test_window_is_the_whole_day_when_nothing_was_requested():
    assert _window(np.zeros(0), 96) == _window(np.zeros(100), 100) == range(96)
    assert _window(np.zeros(92), 92) == range(92)


def test_window_ends_with_a_day_of_96_when_the_day_has_more():
    requested = np.zeros(100, dtype=int)
    requested[94:] = 1
    assert _window(requested, 100) == range(94, 96)
