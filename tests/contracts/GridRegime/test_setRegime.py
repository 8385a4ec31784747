"""
setRegime
├── paused → reverts EnforcedPause
├── caller no DSO, suspended at once → reverts MissingRole
├── congestion point unknown → reverts CongestionPointUnknown; of another DSO → NotDsoOf
├── without reason → reverts ReasonMissing
├── Green while Green → reverts AlreadyGreen
├── above Green with an end that is not later → reverts RegimePeriod
├── Orange
│   ├── request unknown, open, cancelled, fully ordered, of another point or DSO → reverts NoShortfallOfMarket
│   ├── begins before or ends after the market day of the request → reverts RegimePeriod
│   └── else → names the request
├── else, upwards and downwards → in force until it ends, emits RegimeChanged
└── end of the regime, to the second → Green without a transaction
"""

import pytest

from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

GREEN, YELLOW, ORANGE, RED = range(4)
NOTHING = {"regime": GREEN, "fromIsp": 0, "untilIsp": 0, "requestId": 0}


def call(flex, level, *, until=None, request_id=0, reason="because", point=fx.POINT, sender=None):
    until = flex.day + 96 if until is None else until
    return flex.regime.setRegime(point, level, until, request_id, reason, {"from": sender or flex.actors.dso})


@pytest.fixture
def short(flex):
    """A request that was ordered in part; the chain stands in its market day."""
    request_id, _, _ = fx.order(flex, {72: 999})
    clock.move_to(flex.start(10) + 5)
    return request_id


def test_setRegime_reverts_when_paused(flex, regime, actors):
    regime.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=regime):
        call(flex, RED)


def test_setRegime_reverts_when_caller_is_no_dso(flex, regime, actors):
    with reverts("MissingRole", actors.outsider, system.Role.DSO, 0, unchanged=regime):
        call(flex, RED, sender=actors.outsider)


def test_setRegime_reverts_at_once_when_dso_is_suspended(flex, regime, actors):
    fx.suspend(flex, actors.dso)
    with reverts("MissingRole", actors.dso, system.Role.DSO, system.Status.SUSPENDED, unchanged=regime):
        call(flex, RED)


def test_setRegime_reverts_when_point_is_not_the_callers(flex, regime, actors):
    with reverts("NotDsoOf", fx.POINT, actors.other_dso, unchanged=regime):
        call(flex, RED, sender=actors.other_dso)
    with reverts("CongestionPointUnknown", b"\x05" * 32, unchanged=regime):
        call(flex, RED, point=b"\x05" * 32)


def test_setRegime_reverts_when_no_reason_is_given(flex, regime):
    with reverts("ReasonMissing", unchanged=regime):
        call(flex, YELLOW, reason="")


def test_setRegime_reverts_when_green_already(flex, regime):
    with reverts("AlreadyGreen", fx.POINT, unchanged=regime):
        call(flex, GREEN)


@pytest.mark.parametrize("level", [YELLOW, ORANGE, RED])
def test_setRegime_reverts_when_it_would_end_at_once(flex, regime, level):
    now_isp = flex.now // 900
    clock.at(now_isp * 900 + 899)
    with reverts("RegimePeriod", now_isp, now_isp, now_isp, unchanged=regime):
        call(flex, level, until=now_isp)


@pytest.mark.parametrize("level", [YELLOW, RED])
def test_setRegime_holds_until_its_end_to_the_second(flex, regime, actors, level):
    now_isp = flex.now // 900
    clock.at(flex.now + 10)
    tx = call(flex, level, until=now_isp + 1, request_id=77, reason="forecast 112%")
    assert event(tx, "RegimeChanged") == {
        "congestionPointId": fx.POINT,
        "regime": level,
        "fromIsp": now_isp,
        "untilIsp": now_isp + 1,
        "requestId": 0,
        "reason": "forecast 112%",
    }
    clock.move_to((now_isp + 1) * 900 - 1)
    assert regime.regimeOf(fx.POINT) == level
    assert plain(regime.stateOf(fx.POINT)) == {
        "regime": level,
        "fromIsp": now_isp,
        "untilIsp": now_isp + 1,
        "requestId": 0,
    }
    assert regime.regimeOf(fx.OTHER_POINT) == GREEN
    clock.move_to((now_isp + 1) * 900)
    assert regime.regimeOf(fx.POINT) == GREEN
    assert plain(regime.stateOf(fx.POINT)) == NOTHING
    with reverts("AlreadyGreen", fx.POINT, unchanged=regime):
        call(flex, GREEN)


def test_setRegime_goes_up_and_down_and_back_to_green(flex, regime, short):
    for level in (YELLOW, ORANGE, RED, ORANGE, YELLOW, YELLOW):
        call(flex, level, request_id=short)
        assert regime.regimeOf(fx.POINT) == level
        assert regime.stateOf(fx.POINT)["requestId"] == (short if level == ORANGE else 0)
    tx = call(flex, GREEN, until=2**32 - 1)
    assert event(tx, "RegimeChanged") == {
        "congestionPointId": fx.POINT,
        "regime": GREEN,
        "fromIsp": flex.day + 10,
        "untilIsp": 0,
        "requestId": 0,
        "reason": "because",
    }
    assert plain(regime.stateOf(fx.POINT)) == NOTHING


def test_setRegime_reverts_when_request_is_unknown_open_or_cancelled(flex, regime, actors):
    request_id = fx.publish(flex, dispatch_by=flex.start(70), select_by=flex.start(70), gate_closure=flex.start(69))
    clock.move_to(flex.start(1))
    for unfit in (0, 2, request_id):
        with reverts("NoShortfallOfMarket", unfit, unchanged=regime):
            call(flex, ORANGE, request_id=unfit)
    flex.market.cancelRequest(request_id, {"from": actors.dso})
    with reverts("NoShortfallOfMarket", request_id, unchanged=regime):
        call(flex, ORANGE, request_id=request_id)


def test_setRegime_reverts_when_market_delivered_all(flex, regime):
    request_id, _, _ = fx.order(flex)
    clock.move_to(flex.start(10))
    with reverts("NoShortfallOfMarket", request_id, unchanged=regime):
        call(flex, ORANGE, request_id=request_id)


def test_setRegime_reverts_when_request_is_of_another_point(flex, regime, short):
    with reverts("NoShortfallOfMarket", short, unchanged=regime):
        call(flex, ORANGE, request_id=short, point=fx.OTHER_POINT)


def test_setRegime_takes_an_expired_request(flex, regime, actors):
    request_id = fx.publish(flex)
    clock.move_to(flex.start(0))
    with reverts("NoShortfallOfMarket", request_id, unchanged=regime):
        call(flex, ORANGE, request_id=request_id)
    flex.market.expireRequest(request_id, {"from": actors.outsider})
    tx = call(flex, ORANGE, request_id=request_id)
    assert event(tx, "RegimeChanged")["requestId"] == request_id


@pytest.mark.parametrize(("second", "until"), [(-1, 96), (0, 97), (96 * 900, 97)])
def test_setRegime_reverts_when_orange_leaves_the_market_day(flex, regime, second, until):
    request_id, _, _ = fx.order(flex, {72: 1})
    now = flex.start(0) + second
    clock.at(now)
    with reverts("RegimePeriod", now // 900, flex.day + until, now // 900, unchanged=regime):
        call(flex, ORANGE, request_id=request_id, until=flex.day + until)


def test_setRegime_takes_the_whole_market_day_for_orange(flex, regime):
    request_id, _, _ = fx.order(flex, {72: 1})
    clock.at(flex.start(0))
    call(flex, ORANGE, request_id=request_id)
    clock.move_to(flex.start(96) - 1)
    assert regime.regimeOf(fx.POINT) == ORANGE
    clock.move_to(flex.start(96))
    assert regime.regimeOf(fx.POINT) == GREEN
