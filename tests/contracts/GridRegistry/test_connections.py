"""
registerConnection
├── paused → reverts EnforcedPause
├── caller is no active DSO → reverts MissingRole
├── congestion point unknown or withdrawn → reverts CongestionPointUnknown
├── congestion point of another DSO → reverts NotDsoOf
├── id used before, also after decommissioning → reverts ConnectionExists
├── owner is no active prosumer → reverts MissingRole
└── else → active, green, emits ConnectionRegistered
moveConnection
├── caller is no active DSO → reverts MissingRole
├── connection unknown or decommissioned → reverts ConnectionUnknown
├── connection of another DSO → reverts NotDsoOf (of its present point)
├── new point unknown or withdrawn → reverts CongestionPointUnknown
├── new point of another DSO → reverts NotDsoOf (of the new point)
└── else → moved, emits ConnectionMoved; also from a withdrawn point, and when paused
decommissionConnection, setStaticLight
├── caller is no active DSO → reverts MissingRole
├── connection unknown or decommissioned → reverts ConnectionUnknown
├── connection of another DSO → reverts NotDsoOf
└── else → inactive, or another light; emits ConnectionDecommissioned, StaticLightSet; also when paused
"""

import pytest

from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status, id_of

POINT, SECOND_POINT, FOREIGN_POINT = id_of("feeder 1"), id_of("feeder 2"), id_of("feeder of another DSO")
CONNECTION, UNKNOWN = id_of("connection"), id_of("nowhere")
UP_W, DOWN_W = 11_000, 22_000
GREEN, YELLOW, RED = 0, 1, 2
REASON = b"R" * 32


@pytest.fixture(autouse=True)
def points(grid, actors, _rolled_back):
    for point, dso in (
        (POINT, actors.dso),
        (SECOND_POINT, actors.dso),
        (FOREIGN_POINT, actors.other_dso),
    ):
        grid.declareCongestionPoint(point, 400_000, {"from": dso})


@pytest.fixture
def register(grid, actors):
    """Registers the prosumer's connection, but for what is passed."""

    def call(*, connection=CONNECTION, point=POINT, owner=None, sender=None):
        owner, sender = owner or actors.prosumer, sender or actors.dso
        return grid.registerConnection(connection, point, owner, UP_W, DOWN_W, {"from": sender})

    return call


@pytest.fixture
def connection(register):
    register()
    return CONNECTION


@pytest.fixture
def changes(grid):
    """Everything a DSO can do to a connection, as calls that take the connection and the sender."""
    return [
        lambda which, sender: grid.moveConnection(which, SECOND_POINT, {"from": sender}),
        lambda which, sender: grid.decommissionConnection(which, {"from": sender}),
        lambda which, sender: grid.setStaticLight(which, RED, REASON, {"from": sender}),
    ]


def test_registerConnection_reverts_when_paused(grid, actors, register):
    grid.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=grid):
        register()


def test_registerConnection_reverts_when_caller_is_no_dso(grid, actors, register):
    with reverts("MissingRole", actors.prosumer, Role.DSO, Status.ACTIVE, unchanged=grid):
        register(sender=actors.prosumer)


def test_registerConnection_reverts_when_point_is_unknown(grid, register):
    with reverts("CongestionPointUnknown", UNKNOWN, unchanged=grid):
        register(point=UNKNOWN)


def test_registerConnection_reverts_when_point_is_withdrawn(grid, actors, register):
    grid.withdrawCongestionPoint(POINT, {"from": actors.dso})
    with reverts("CongestionPointUnknown", POINT, unchanged=grid):
        register()


def test_registerConnection_reverts_when_point_is_of_another_dso(grid, actors, register):
    with reverts("NotDsoOf", FOREIGN_POINT, actors.dso, unchanged=grid):
        register(point=FOREIGN_POINT)


def test_registerConnection_reverts_when_registered_before(grid, actors, register, connection):
    with reverts("ConnectionExists", connection, unchanged=grid):
        register(owner=actors.other_prosumer)
    grid.decommissionConnection(connection, {"from": actors.dso})
    with reverts("ConnectionExists", connection, unchanged=grid):
        register()


def test_registerConnection_reverts_when_owner_is_no_active_prosumer(grid, participants, actors, register):
    with reverts("MissingRole", actors.outsider, Role.PROSUMER, Status.UNKNOWN, unchanged=grid):
        register(owner=actors.outsider)
    participants.setStatus(actors.prosumer, Status.SUSPENDED, REASON, {"from": actors.registrar})
    with reverts("MissingRole", actors.prosumer, Role.PROSUMER, Status.SUSPENDED, unchanged=grid):
        register()


def test_registerConnection_is_active_and_green_when_new(grid, actors, register):
    tx = register()
    assert plain(grid.connection(CONNECTION)) == {
        "owner": actors.prosumer,
        "technicalUpW": UP_W,
        "technicalDownW": DOWN_W,
        "light": GREEN,
        "active": True,
        "congestionPointId": POINT,
    }
    assert event(tx, "ConnectionRegistered") == {
        "connectionId": CONNECTION,
        "congestionPointId": POINT,
        "owner": actors.prosumer,
        "technicalUpW": UP_W,
        "technicalDownW": DOWN_W,
    }


def test_changes_revert_when_caller_is_no_dso(grid, actors, connection, changes):
    for change in changes:
        with reverts("MissingRole", actors.prosumer, Role.DSO, Status.ACTIVE, unchanged=grid):
            change(connection, actors.prosumer)


def test_changes_revert_when_connection_is_unknown(grid, actors, changes):
    for change in changes:
        with reverts("ConnectionUnknown", UNKNOWN, unchanged=grid):
            change(UNKNOWN, actors.dso)


def test_changes_revert_when_connection_is_decommissioned(grid, actors, connection, changes):
    grid.decommissionConnection(connection, {"from": actors.dso})
    for change in changes:
        with reverts("ConnectionUnknown", connection, unchanged=grid):
            change(connection, actors.dso)


def test_changes_revert_when_connection_is_of_another_dso(grid, actors, connection, changes):
    for change in changes:
        with reverts("NotDsoOf", POINT, actors.other_dso, unchanged=grid):
            change(connection, actors.other_dso)


def test_moveConnection_reverts_when_new_point_is_unknown(grid, actors, connection):
    with reverts("CongestionPointUnknown", UNKNOWN, unchanged=grid):
        grid.moveConnection(connection, UNKNOWN, {"from": actors.dso})


def test_moveConnection_reverts_when_new_point_is_withdrawn(grid, actors, connection):
    grid.withdrawCongestionPoint(SECOND_POINT, {"from": actors.dso})
    with reverts("CongestionPointUnknown", SECOND_POINT, unchanged=grid):
        grid.moveConnection(connection, SECOND_POINT, {"from": actors.dso})


def test_moveConnection_reverts_when_new_point_is_of_another_dso(grid, actors, connection):
    with reverts("NotDsoOf", FOREIGN_POINT, actors.dso, unchanged=grid):
        grid.moveConnection(connection, FOREIGN_POINT, {"from": actors.dso})


def test_moveConnection_moves_when_old_point_is_withdrawn_and_paused(grid, actors, connection):
    grid.withdrawCongestionPoint(POINT, {"from": actors.dso})
    grid.pause({"from": actors.guardian})
    tx = grid.moveConnection(connection, SECOND_POINT, {"from": actors.dso})
    moved = plain(grid.connection(connection))
    assert (moved["congestionPointId"], moved["owner"], moved["active"]) == (
        SECOND_POINT,
        actors.prosumer,
        True,
    )
    assert event(tx, "ConnectionMoved") == {"connectionId": connection, "congestionPointId": SECOND_POINT}


def test_decommissionConnection_ends_it_when_paused(grid, actors, connection):
    grid.pause({"from": actors.guardian})
    tx = grid.decommissionConnection(connection, {"from": actors.dso})
    assert not plain(grid.connection(connection))["active"]
    assert event(tx, "ConnectionDecommissioned") == {"connectionId": connection}


def test_setStaticLight_changes_light_when_paused(grid, actors, connection):
    grid.pause({"from": actors.guardian})
    for light in (YELLOW, RED, GREEN):
        tx = grid.setStaticLight(connection, light, REASON, {"from": actors.dso})
        assert plain(grid.connection(connection))["light"] == light
        assert event(tx, "StaticLightSet") == {"connectionId": connection, "light": light, "reason": REASON}
