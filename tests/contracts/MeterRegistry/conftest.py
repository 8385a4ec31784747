"""A congestion point with two connections, and what the meter tests call things."""

from types import SimpleNamespace

import pytest

from tests.utils.system import id_of


@pytest.fixture
def site(grid, actors):
    """Ids of a congestion point with two connections, and of meters that are not registered yet."""
    ids = SimpleNamespace(
        point=id_of("feeder"),
        connection=id_of("connection"),
        other_connection=id_of("other connection"),
        meter=id_of("meter"),
        new_meter=id_of("new meter"),
        unknown=id_of("nowhere"),
    )
    grid.declareCongestionPoint(ids.point, 400_000, {"from": actors.dso})
    for connection in (ids.connection, ids.other_connection):
        grid.registerConnection(connection, ids.point, actors.prosumer, 1, 1, {"from": actors.dso})
    return ids
