from dataclasses import replace

import numpy as np
import pytest

from offchain.domain.errors import DomainError, InfeasibleError
from offchain.domain.units import Direction
from offchain.grid.congestion import QUANTITY_STEP_WH, connections_below, flexibility_needs, loading_percent
from offchain.grid.power_flow import PowerFlow


def expected(scenario):
    day = scenario.day
    able = {d: scenario.by_connection(scenario.flexible_wh(day, d)) for d in Direction}
    return PowerFlow.of(scenario), scenario.net_wh(day), scenario.reactive_var(day), able


@pytest.mark.parametrize(("name", "direction"), [("noon", Direction.DOWN), ("evening", Direction.UP)])
def test_flexibility_needs_is_least_and_enough_when_congested(name, direction, request):
    scenario = request.getfixturevalue(name)
    flow, net_wh, reactive_var, able = expected(scenario)
    element = scenario.congestion_point
    (need,) = flexibility_needs(flow, net_wh, reactive_var, element=element, flexible_wh=able)
    assert need.direction is direction
    assert need.quantity_wh.dtype == np.int64
    assert (need.quantity_wh % QUANTITY_STEP_WH == 0).all()
    needed = need.quantity_wh > 0
    assert (needed == (need.loading_before_percent > 97)).all()
    assert need.loading_after_percent.max() <= 97
    sign = -1 if direction is Direction.UP else 1
    share = able[direction] / able[direction].sum(axis=1, keepdims=True)
    enough = flow.run(net_wh + sign * need.quantity_wh[:, None] * share, reactive_var)
    assert loading_percent(scenario.grid, enough, element).max() <= 97
    less = np.where(needed, need.quantity_wh - QUANTITY_STEP_WH, 0)
    too_little = flow.run(net_wh + sign * less[:, None] * share, reactive_var)
    assert (loading_percent(scenario.grid, too_little, element)[needed] > 97).all()


def test_flexibility_needs_fits_what_devices_can_move_when_default_days(noon, evening):
    for scenario in (noon, evening):
        flow, net_wh, reactive_var, able = expected(scenario)
        (need,) = flexibility_needs(flow, net_wh, reactive_var, element=scenario.congestion_point, flexible_wh=able)
        assert (able[need.direction].sum(axis=1) >= 1.5 * need.quantity_wh).all()


def test_flexibility_needs_is_larger_when_margin_is_lower(evening):
    flow, net_wh, reactive_var, _ = expected(evening)
    wide, narrow = (
        flexibility_needs(flow, net_wh, reactive_var, element=evening.congestion_point, margin=margin)[0]
        for margin in (0.9, 1.0)
    )
    assert wide.quantity_wh.sum() > narrow.quantity_wh.sum()
    assert (wide.quantity_wh >= narrow.quantity_wh).all()


def test_flexibility_needs_is_empty_when_quiet(quiet):
    flow, net_wh, reactive_var, able = expected(quiet)
    assert flexibility_needs(flow, net_wh, reactive_var, element=quiet.congestion_point, flexible_wh=able) == []


def test_flexibility_needs_has_both_directions_when_both_occur(noon):
    flow, net_wh, reactive_var, _ = expected(noon)
    net_wh = net_wh.copy()
    net_wh[80] = 5_000
    needs = flexibility_needs(flow, net_wh, reactive_var, element=noon.congestion_point)
    assert [n.direction for n in needs] == [Direction.UP, Direction.DOWN]
    assert np.flatnonzero(needs[0].quantity_wh).tolist() == [80]
    assert needs[1].quantity_wh[80] == 0


def test_flexibility_needs_raises_with_isp_when_reactive_power_alone_overloads(noon):
    flow, net_wh, reactive_var, _ = expected(noon)
    reactive_var = reactive_var.copy()
    reactive_var[3] = 20_000
    with pytest.raises(InfeasibleError) as caught:
        flexibility_needs(flow, net_wh, reactive_var, element=noon.congestion_point, isps=noon.day.isps)
    assert caught.value.isp == noon.day.first_isp + 3


def test_connections_below_is_everybody_when_transformer(evening):
    below = connections_below(evening.grid, evening.congestion_point, evening.connection_bus)
    assert below.tolist() == list(range(len(evening.connections)))


def test_connections_below_carry_the_flow_of_the_line_when_line(evening):
    """What a feeder's first line carries is what its connections consume."""
    grid = evening.grid
    busbar = grid.trafo_lv[0]
    feeders = grid.line_name[(grid.line_from == busbar) | (grid.line_to == busbar)]
    members = [connections_below(grid, str(name), evening.connection_bus) for name in feeders]
    everybody = np.concatenate(members)
    assert len(set(everybody.tolist())) == everybody.size
    at_busbar = np.flatnonzero(evening.connection_bus == busbar)
    assert set(everybody.tolist()) | set(at_busbar.tolist()) == set(range(len(evening.connections)))


def test_connections_below_raises_when_element_is_unknown_or_feeds_nobody(evening):
    with pytest.raises(DomainError, match="no element 'Line 0'"):
        connections_below(evening.grid, "Line 0", evening.connection_bus)
    opened = replace(evening.grid, line_to_closed=np.zeros_like(evening.grid.line_to_closed))
    with pytest.raises(DomainError, match="no element"):
        loading_percent(opened, PowerFlow.of(evening).run(np.zeros((1, 118))), "Line 0")
    busbar = int(evening.grid.trafo_lv[0])
    with pytest.raises(DomainError, match="feeds no connection"):
        connections_below(evening.grid, str(evening.grid.line_name[0]), [busbar])
