"""
declareCongestionPoint
├── paused → reverts EnforcedPause
├── caller is no active DSO → reverts MissingRole
├── id used before, also after withdrawal → reverts CongestionPointExists
└── else → active, of the caller, emits CongestionPointDeclared
withdrawCongestionPoint
├── caller is no active DSO → reverts MissingRole
├── unknown or withdrawn → reverts CongestionPointUnknown
├── of another DSO → reverts NotDsoOf
└── else → inactive, nobody is active there, emits CongestionPointWithdrawn; also when paused
activateAggregator
├── paused → reverts EnforcedPause
├── caller is no active aggregator → reverts MissingRole
├── unknown or withdrawn → reverts CongestionPointUnknown
├── active already → reverts AggregatorAlreadyActive
└── else → active, emits AggregatorActivated
deactivateAggregator
├── not active → reverts AggregatorNotActive
└── else → no longer active, emits AggregatorDeactivated; also when paused, withdrawn or suspended
"""

import pytest

from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status, id_of

POINT, UNKNOWN = id_of("transformer"), id_of("nowhere")
CAPACITY_W = 400_000
REASON = b"R" * 32


@pytest.fixture
def point(grid, actors):
    grid.declareCongestionPoint(POINT, CAPACITY_W, {"from": actors.dso})
    return POINT


@pytest.fixture
def withdrawn(grid, point, actors):
    grid.withdrawCongestionPoint(point, {"from": actors.dso})
    return point


def test_declareCongestionPoint_reverts_when_paused(grid, actors):
    grid.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=grid):
        grid.declareCongestionPoint(POINT, CAPACITY_W, {"from": actors.dso})


def test_declareCongestionPoint_reverts_when_caller_is_no_dso(grid, actors):
    for caller, status in ((actors.outsider, Status.UNKNOWN), (actors.aggregator, Status.ACTIVE)):
        with reverts("MissingRole", caller, Role.DSO, status, unchanged=grid):
            grid.declareCongestionPoint(POINT, CAPACITY_W, {"from": caller})


def test_declareCongestionPoint_reverts_when_dso_is_suspended(grid, participants, actors):
    participants.setStatus(actors.dso, Status.SUSPENDED, REASON, {"from": actors.registrar})
    with reverts("MissingRole", actors.dso, Role.DSO, Status.SUSPENDED, unchanged=grid):
        grid.declareCongestionPoint(POINT, CAPACITY_W, {"from": actors.dso})


def test_declareCongestionPoint_reverts_when_declared_by_another(grid, point, actors):
    with reverts("CongestionPointExists", point, unchanged=grid):
        grid.declareCongestionPoint(point, CAPACITY_W, {"from": actors.other_dso})


def test_declareCongestionPoint_reverts_when_withdrawn_before(grid, withdrawn, actors):
    with reverts("CongestionPointExists", withdrawn, unchanged=grid):
        grid.declareCongestionPoint(withdrawn, CAPACITY_W, {"from": actors.dso})


def test_declareCongestionPoint_makes_caller_its_dso_when_new(grid, actors):
    tx = grid.declareCongestionPoint(POINT, CAPACITY_W, {"from": actors.dso})
    expected = {"dso": actors.dso, "active": True, "capacityW": CAPACITY_W}
    assert plain(grid.congestionPoint(POINT)) == expected
    assert event(tx, "CongestionPointDeclared") == {
        "congestionPointId": POINT,
        "dso": actors.dso,
        "capacityW": CAPACITY_W,
    }


def test_withdrawCongestionPoint_reverts_when_caller_is_no_dso(grid, point, participants, actors):
    with reverts("MissingRole", actors.outsider, Role.DSO, Status.UNKNOWN, unchanged=grid):
        grid.withdrawCongestionPoint(point, {"from": actors.outsider})
    participants.setStatus(actors.dso, Status.REVOKED, REASON, {"from": actors.registrar})
    with reverts("MissingRole", actors.dso, Role.DSO, Status.REVOKED, unchanged=grid):
        grid.withdrawCongestionPoint(point, {"from": actors.dso})


def test_withdrawCongestionPoint_reverts_when_unknown(grid, actors):
    with reverts("CongestionPointUnknown", UNKNOWN, unchanged=grid):
        grid.withdrawCongestionPoint(UNKNOWN, {"from": actors.dso})


def test_withdrawCongestionPoint_reverts_when_withdrawn_before(grid, withdrawn, actors):
    with reverts("CongestionPointUnknown", withdrawn, unchanged=grid):
        grid.withdrawCongestionPoint(withdrawn, {"from": actors.dso})


def test_withdrawCongestionPoint_reverts_when_of_another_dso(grid, point, actors):
    with reverts("NotDsoOf", point, actors.other_dso, unchanged=grid):
        grid.withdrawCongestionPoint(point, {"from": actors.other_dso})


def test_withdrawCongestionPoint_closes_it_for_aggregators_when_paused(grid, point, actors):
    grid.activateAggregator(point, {"from": actors.aggregator})
    grid.pause({"from": actors.guardian})
    tx = grid.withdrawCongestionPoint(point, {"from": actors.dso})
    assert plain(grid.congestionPoint(point)) == {
        "dso": actors.dso,
        "active": False,
        "capacityW": CAPACITY_W,
    }
    assert not grid.isAggregatorActive(point, actors.aggregator)
    assert event(tx, "CongestionPointWithdrawn") == {"congestionPointId": point}


def test_activateAggregator_reverts_when_paused(grid, point, actors):
    grid.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=grid):
        grid.activateAggregator(point, {"from": actors.aggregator})


def test_activateAggregator_reverts_when_caller_is_no_aggregator(grid, point, actors):
    with reverts("MissingRole", actors.dso, Role.AGGREGATOR, Status.ACTIVE, unchanged=grid):
        grid.activateAggregator(point, {"from": actors.dso})


def test_activateAggregator_reverts_when_unknown(grid, actors):
    with reverts("CongestionPointUnknown", UNKNOWN, unchanged=grid):
        grid.activateAggregator(UNKNOWN, {"from": actors.aggregator})


def test_activateAggregator_reverts_when_withdrawn(grid, withdrawn, actors):
    with reverts("CongestionPointUnknown", withdrawn, unchanged=grid):
        grid.activateAggregator(withdrawn, {"from": actors.aggregator})


def test_activateAggregator_reverts_when_active_already(grid, point, actors):
    grid.activateAggregator(point, {"from": actors.aggregator})
    with reverts("AggregatorAlreadyActive", point, actors.aggregator, unchanged=grid):
        grid.activateAggregator(point, {"from": actors.aggregator})


def test_activateAggregator_activates_when_point_is_active(grid, point, actors):
    assert not grid.isAggregatorActive(point, actors.aggregator)
    tx = grid.activateAggregator(point, {"from": actors.aggregator})
    assert grid.isAggregatorActive(point, actors.aggregator)
    assert not grid.isAggregatorActive(UNKNOWN, actors.aggregator)
    assert event(tx, "AggregatorActivated") == {"congestionPointId": point, "aggregator": actors.aggregator}


def test_deactivateAggregator_reverts_when_not_active(grid, point, actors):
    with reverts("AggregatorNotActive", point, actors.aggregator, unchanged=grid):
        grid.deactivateAggregator(point, {"from": actors.aggregator})


def test_deactivateAggregator_works_when_paused_withdrawn_and_suspended(grid, point, participants, actors):
    grid.activateAggregator(point, {"from": actors.aggregator})
    grid.withdrawCongestionPoint(point, {"from": actors.dso})
    grid.pause({"from": actors.guardian})
    participants.setStatus(actors.aggregator, Status.SUSPENDED, REASON, {"from": actors.registrar})
    tx = grid.deactivateAggregator(point, {"from": actors.aggregator})
    assert not grid.isAggregatorActive(point, actors.aggregator)
    assert event(tx, "AggregatorDeactivated") == {"congestionPointId": point, "aggregator": actors.aggregator}
    with reverts("AggregatorNotActive", point, actors.aggregator, unchanged=grid):
        grid.deactivateAggregator(point, {"from": actors.aggregator})
