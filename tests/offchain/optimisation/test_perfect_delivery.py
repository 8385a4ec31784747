"""From congestion to relief: what is needed, offered, selected, split and delivered removes the violation."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from offchain.baseline.history import History
from offchain.domain.isp import MarketDay
from offchain.domain.units import Direction
from offchain.forecasting.method import forecasts
from offchain.forecasting.uncertainty import error_quantile_wh
from offchain.forecasting.weekly_naive import WeeklyNaive
from offchain.grid.congestion import flexibility_needs
from offchain.grid.power_flow import PowerFlow, violations
from offchain.grid.scenario import load_scenario
from offchain.optimisation.direct_control import ControllableConnection, plan_direct_control
from offchain.optimisation.disaggregation import disaggregate
from offchain.optimisation.member import Member
from offchain.optimisation.offers import build_offer
from offchain.optimisation.selection import Offer, select_offers

CAP = 400_000
CACHE = Path(__file__).parents[3] / "build" / "simbench"


def need_of(scenario):
    day = scenario.day
    able = {d: scenario.by_connection(scenario.flexible_wh(day, d)) for d in Direction}
    flow = PowerFlow.of(scenario)
    net_wh, reactive_var = scenario.net_wh(day), scenario.reactive_var(day)
    (need,) = flexibility_needs(flow, net_wh, reactive_var, element=scenario.congestion_point, flexible_wh=able)
    return flow, net_wh, reactive_var, able[need.direction], need


def portfolio(scenario, positions, able, direction, rng):
    members = []
    for i in positions:
        behind = [scenario.assets[k] for k in scenario.connections[i].assets if scenario.assets[k].flexible]
        energy = sum(a.up_energy_wh if direction is Direction.UP else a.down_energy_wh for a in behind)
        members.append(
            Member(
                id=scenario.connections[i].id,
                max_up_w=200_000,
                max_down_w=200_000,
                reward_utoken_per_kwh=int(rng.integers(80_000, 150_000)),
                available=np.ones(able.shape[0], dtype=bool),
                possible_wh=able[:, i],
                energy_limit_wh=energy,
            )
        )
    return members


@pytest.mark.parametrize("name", ["noon", "evening"])
def test_market_removes_the_violation_when_everybody_delivers(name, request):
    scenario = request.getfixturevalue(name)
    flow, net_wh, reactive_var, able, need = need_of(scenario)
    rng = np.random.default_rng(3)
    halves = [scenario.prosumers[0::2], scenario.prosumers[1::2]]
    portfolios = [portfolio(scenario, half, able, need.direction, rng) for half in halves]
    built = [
        build_offer(members, need.quantity_wh, need.direction, price_cap_utoken_per_kwh=CAP) for members in portfolios
    ]
    offers = [Offer(f"{i}", b.quantity_wh, b.price_utoken_per_kwh) for i, b in enumerate(built)]
    selection = select_offers(need.quantity_wh, offers, price_cap_utoken_per_kwh=CAP)
    assert not selection.uncovered_wh.any()
    position = {c.id: i for i, c in enumerate(scenario.connections)}
    sign = -1 if need.direction is Direction.UP else 1
    after_wh = net_wh.copy()
    for i, members in enumerate(portfolios):
        if f"{i}" not in selection.ordered_wh:
            continue
        ordered = selection.ordered_wh[f"{i}"]
        for member_id, curve in disaggregate(ordered, members, need.direction).curves_wh.items():
            after_wh[:, position[member_id]] += sign * curve
    assert np.abs(after_wh - net_wh).sum() == need.quantity_wh.sum()
    before = violations(scenario.grid, flow.run(net_wh, reactive_var), scenario.day.isps)
    result = flow.run(after_wh, reactive_var)
    assert before
    assert violations(scenario.grid, result, scenario.day.isps) == []
    assert result.trafo_loading_percent.max() < 98


def test_direct_control_removes_the_violation_when_the_market_is_empty(evening):
    flow, net_wh, reactive_var, able, need = need_of(evening)
    connections = [ControllableConnection(evening.connections[i].id, able[:, i]) for i in evening.prosumers]
    control = plan_direct_control(need.quantity_wh, connections)
    assert not control.uncovered_wh.any()
    position = {c.id: i for i, c in enumerate(evening.connections)}
    after_wh = net_wh.copy()
    for name, curve in control.curves_wh.items():
        after_wh[:, position[name]] -= curve
    assert violations(evening.grid, flow.run(after_wh, reactive_var), evening.day.isps) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_need_from_forecast_removes_the_violation_when_evening(seed):
    """The whole point of a day-ahead market: what last week's profile asks for is enough for this day."""
    scenario = load_scenario("evening", seed=seed, cache_dir=CACHE)
    day, flow = scenario.day, PowerFlow.of(scenario)
    last_week = MarketDay.of(day.day - timedelta(weeks=1))
    history_wh = scenario.net_wh(range(last_week.first_isp, last_week.end_isp))
    expected = forecasts(WeeklyNaive(), last_week.first_isp, history_wh, day)
    (need,) = flexibility_needs(flow, expected, scenario.reactive_var(last_week), element=scenario.congestion_point)
    net_wh, reactive_var = scenario.net_wh(day), scenario.reactive_var(day)
    assert violations(scenario.grid, flow.run(net_wh, reactive_var), day.isps)
    able = scenario.by_connection(scenario.flexible_wh(day, need.direction))
    share = able / able.sum(axis=1, keepdims=True)
    result = flow.run(net_wh - need.quantity_wh[:, None] * share, reactive_var)
    assert violations(scenario.grid, result, day.isps) == []


def test_need_from_forecast_and_its_errors_removes_the_violation_when_noon(noon):
    """Last week was cloudier: only with the forecast's own past errors does the DSO buy enough."""
    day, flow = noon.day, PowerFlow.of(noon)
    first = MarketDay.of(day.day - timedelta(days=60)).first_isp
    history_wh = noon.net_wh(range(first, day.first_isp))
    total = History(first, history_wh.sum(axis=1))
    more_feed_in = np.minimum(error_quantile_wh(WeeklyNaive(), total, day, 0.2), 0)
    expected = forecasts(WeeklyNaive(), first, history_wh, day) + more_feed_in[:, None] / history_wh.shape[1]
    last_week = MarketDay.of(day.day - timedelta(weeks=1))
    (need,) = flexibility_needs(flow, expected, noon.reactive_var(last_week), element=noon.congestion_point)
    able = noon.by_connection(noon.flexible_wh(day, need.direction))
    members = portfolio(noon, noon.prosumers, able, need.direction, np.random.default_rng(3))
    position = {c.id: i for i, c in enumerate(noon.connections)}
    after_wh = noon.net_wh(day)
    for member_id, curve in disaggregate(need.quantity_wh, members, need.direction).curves_wh.items():
        after_wh[:, position[member_id]] += curve
    assert violations(noon.grid, flow.run(after_wh, noon.reactive_var(day)), day.isps) == []
