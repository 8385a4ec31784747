"""Timeline of a pilot day: what is folded, what stays apart."""

from types import SimpleNamespace

from offchain.chain.events import Event
from offchain.pilot.results import SAME_STEP_S, _timeline

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
