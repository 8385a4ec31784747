from copy import deepcopy
from datetime import date

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.grid.power_flow import Limits, PowerFlow, violations
from offchain.grid.simbench_data import YEAR_FIRST_ISP, simbench_net

NOON_PEAK_ROW = 13_488


@pytest.mark.parametrize("name", ["noon", "evening", "quiet"])
def test_run_agrees_with_pandapower_when_same_injections(name, request):
    import pandapower

    scenario = request.getfixturevalue(name)
    net_wh, reactive_var = scenario.net_wh(scenario.day), scenario.reactive_var(scenario.day)
    result = PowerFlow.of(scenario).run(net_wh, reactive_var)
    net = deepcopy(simbench_net(scenario.code))
    for table in (net.load, net.sgen, net.storage):
        table.drop(table.index, inplace=True)
    for connection in scenario.connections:
        pandapower.create_load(net, net.bus.index[connection.bus], 0.0)
    for step in (0, 52, 79):
        net.load["p_mw"], net.load["q_mvar"] = net_wh[step] * 4e-6, reactive_var[step] * 1e-6
        pandapower.runpp(net, tolerance_mva=1e-9)
        assert np.abs(net.res_bus.vm_pu - result.voltage_pu[step]).max() < 1e-5
        assert np.abs(net.res_trafo.loading_percent - result.trafo_loading_percent[step]).max() < 0.1
        assert np.abs(net.res_line.loading_percent - result.line_loading_percent[step]).max() < 0.1


def test_run_reaches_209_percent_when_noon_in_may(noon):
    """SimBench rural1, far future: reverse flow at quarter hour 13,488 of the year."""
    isp = YEAR_FIRST_ISP + NOON_PEAK_ROW
    assert isp in noon.day.isps
    result = PowerFlow.of(noon).run(noon.net_wh([isp]), noon.reactive_var([isp]))
    assert result.trafo_loading_percent[0, 0] == pytest.approx(209, abs=0.5)
    assert result.trafo_power_w[0, 0] < -300_000


def test_run_overloads_moderately_when_evening(evening):
    result = PowerFlow.of(evening).run(evening.net_wh(evening.day), evening.reactive_var(evening.day))
    over = np.flatnonzero(result.trafo_loading_percent[:, 0] > 100)
    assert 105 < result.trafo_loading_percent.max() < 125
    assert 4 <= over.size <= 12 and over.min() >= 4 * 19
    assert (result.trafo_power_w[over] > 0).all()
    assert result.line_loading_percent.max() < 100


@pytest.mark.parametrize("seed", [2, 3])
def test_run_overloads_moderately_when_another_seed(seed, cache_dir):
    from offchain.grid.scenario import load_scenario

    scenario = load_scenario("evening", seed=seed, cache_dir=cache_dir)
    result = PowerFlow.of(scenario).run(scenario.net_wh(scenario.day), scenario.reactive_var(scenario.day))
    assert 102 < result.trafo_loading_percent.max() < 125


def test_violations_is_empty_when_quiet(quiet):
    result = PowerFlow.of(quiet).run(quiet.net_wh(quiet.day), quiet.reactive_var(quiet.day))
    assert violations(quiet.grid, result, quiet.day.isps) == []


def test_violations_is_empty_when_evening_grid_in_summer(evening):
    day = MarketDay.of(date(2016, 7, 5))
    result = PowerFlow.of(evening).run(evening.net_wh(day), evening.reactive_var(day))
    assert violations(evening.grid, result, day.isps) == []


def test_violations_names_isp_and_transformer_when_overloaded(evening):
    result = PowerFlow.of(evening).run(evening.net_wh(evening.day), evening.reactive_var(evening.day))
    found = violations(evening.grid, result, evening.day.isps)
    loading = result.trafo_loading_percent[:, 0]
    assert [v.isp - evening.day.first_isp for v in found] == np.flatnonzero(loading > 100).tolist()
    assert all(v.overloaded[0][0] == evening.congestion_point for v in found)
    assert max(v.overloaded[0][1] for v in found) == pytest.approx(loading.max())


def test_violations_reports_voltage_when_band_is_narrow(quiet):
    result = PowerFlow.of(quiet).run(quiet.net_wh(quiet.day), quiet.reactive_var(quiet.day))
    found = violations(quiet.grid, result, quiet.day.isps, Limits(max_voltage_pu=1.04))
    assert found and all(v.overloaded == () and v.max_voltage_pu > 1.04 for v in found)


def test_run_raises_when_shape_is_wrong(noon):
    with pytest.raises(DomainError, match=r"shape \(n_steps, 13\), got \(96, 5\)"):
        PowerFlow.of(noon).run(np.zeros((96, 5)))


def test_run_raises_when_there_is_no_solution(noon):
    with pytest.raises(DomainError, match="no solution"):
        PowerFlow.of(noon).run(np.full((1, 13), 1e8))
