"""Quarter-hour power flow in volume, and what it says about limits.

The model is built once from the grid; a batch of any number of quarter hours is then one call of
power-grid-model. Loading follows pandapower's definition, current over rated current at the more loaded end,
so that both agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.isp import ISPS_PER_HOUR
from offchain.grid.scenario import Scenario
from offchain.grid.simbench_data import GridData

STIFF_SOURCE_VA = 1e15
"""Short-circuit power of the source [VA]: an ideal voltage source, as in pandapower."""
MAX_ITERATIONS = 100
DELTA, WYE_N = 2, 1
"""Winding types of power-grid-model; a symmetrical calculation only takes the clock number from them."""


@dataclass(frozen=True, slots=True)
class PowerFlowResult:
    """State of the grid per time step.

    Attributes
    ----------
    voltage_pu : ndarray, shape (n_steps, n_buses)
    line_loading_percent : ndarray, shape (n_steps, n_lines)
    trafo_loading_percent : ndarray, shape (n_steps, n_transformers)
    trafo_power_w : ndarray, shape (n_steps, n_transformers)
        Active power into the transformers from the medium-voltage side; negative when the grid feeds back.
    """

    voltage_pu: np.ndarray
    line_loading_percent: np.ndarray
    trafo_loading_percent: np.ndarray
    trafo_power_w: np.ndarray


class PowerFlow:
    """Power flow of one grid for any net consumption of its connections.

    Parameters
    ----------
    grid : GridData
    connection_bus : sequence of int
        Bus of each connection, in the order of the columns of :meth:`run`.
    """

    def __init__(self, grid: GridData, connection_bus: Sequence[int]):
        from power_grid_model import ComponentType, DatasetType, LoadGenType, PowerGridModel, initialize_array

        def table(component, n):
            return initialize_array(DatasetType.input, component, n)

        n_bus, n_line, n_trafo = grid.buses, grid.line_name.size, grid.trafo_name.size
        n_load, n_source = len(connection_bus), grid.source_bus.size
        ids = np.split(
            np.arange(n_bus + n_line + n_trafo + n_load + n_source),
            np.cumsum([n_bus, n_line, n_trafo, n_load]),
        )
        node = table(ComponentType.node, n_bus)
        node["id"], node["u_rated"] = ids[0], grid.bus_vn_kv * 1e3

        line = table(ComponentType.line, n_line)
        line["id"], line["from_node"], line["to_node"] = ids[1], grid.line_from, grid.line_to
        line["from_status"], line["to_status"] = grid.line_from_closed, grid.line_to_closed
        line["r1"], line["x1"] = grid.line_r_ohm, grid.line_x_ohm
        line["c1"], line["tan1"] = grid.line_c_farad, 0.0
        line["i_n"] = grid.line_limit_a

        trafo = table(ComponentType.transformer, n_trafo)
        trafo["id"], trafo["from_node"], trafo["to_node"] = ids[2], grid.trafo_hv, grid.trafo_lv
        trafo["from_status"], trafo["to_status"] = 1, 1
        trafo["u1"], trafo["u2"] = grid.trafo_vn_hv_kv * 1e3, grid.trafo_vn_lv_kv * 1e3
        trafo["sn"] = grid.trafo_sn_va
        trafo["uk"], trafo["pk"] = grid.trafo_uk_pu, grid.trafo_pk_w
        trafo["i0"], trafo["p0"] = grid.trafo_i0_pu, grid.trafo_p0_w
        trafo["winding_from"], trafo["winding_to"], trafo["clock"] = DELTA, WYE_N, grid.trafo_clock
        trafo["tap_side"], trafo["tap_pos"], trafo["tap_nom"] = 0, grid.trafo_tap_pos, grid.trafo_tap_neutral
        trafo["tap_min"], trafo["tap_max"] = -127, 127
        trafo["tap_size"] = grid.trafo_tap_step_percent / 100 * grid.trafo_vn_hv_kv * 1e3

        load = table(ComponentType.sym_load, n_load)
        load["id"], load["node"], load["status"] = ids[3], connection_bus, 1
        load["type"], load["p_specified"], load["q_specified"] = LoadGenType.const_power, 0.0, 0.0

        source = table(ComponentType.source, n_source)
        source["id"], source["node"], source["status"] = ids[4], grid.source_bus, 1
        source["u_ref"], source["sk"] = grid.source_vm_pu, STIFF_SOURCE_VA

        self.grid = grid
        self.connection_bus = np.asarray(connection_bus)
        self._load_ids = load["id"]
        self._model = PowerGridModel(
            {
                ComponentType.node: node,
                ComponentType.line: line,
                ComponentType.transformer: trafo,
                ComponentType.sym_load: load,
                ComponentType.source: source,
            }
        )

    @classmethod
    def of(cls, scenario: Scenario) -> "PowerFlow":
        """Power flow of a scenario's grid with its connections as columns."""
        return cls(scenario.grid, scenario.connection_bus)

    def run(self, net_wh: np.ndarray, reactive_var: np.ndarray | None = None, *, threads: int = 2) -> PowerFlowResult:
        """Power flow for quarter hours of constant power.

        Parameters
        ----------
        net_wh : ndarray, shape (n_steps, n_connections)
            Net consumption per ISP, import minus export [Wh].
        reactive_var : ndarray, same shape, optional
            Reactive power, positive for consumption [var]; zero when absent.

        Raises
        ------
        DomainError
            Wrong shape, or a step without a solution (voltage collapse).
        """
        from power_grid_model import CalculationMethod, ComponentType
        from power_grid_model.errors import PowerGridError

        net_wh = np.asarray(net_wh)
        reactive_var = np.zeros(net_wh.shape) if reactive_var is None else np.asarray(reactive_var)
        if net_wh.ndim != 2 or net_wh.shape[1] != self._load_ids.size or reactive_var.shape != net_wh.shape:
            raise DomainError(
                f"power flow of {self.grid.code}: need arrays of shape (n_steps, {self._load_ids.size}), "
                f"got {net_wh.shape} and {reactive_var.shape}"
            )
        update = {
            "id": np.broadcast_to(self._load_ids, net_wh.shape).copy(),
            "p_specified": net_wh * float(ISPS_PER_HOUR),
            "q_specified": reactive_var.astype(float),
        }
        try:
            output = self._model.calculate_power_flow(
                update_data={ComponentType.sym_load: update},
                output_component_types={
                    ComponentType.node: ["u_pu"],
                    ComponentType.line: ["i_from", "i_to"],
                    ComponentType.transformer: ["i_from", "i_to", "p_from"],
                },
                # half the time of Newton-Raphson on radial low-voltage grids, voltages equal to 1e-9 p.u.
                calculation_method=CalculationMethod.iterative_current,
                max_iterations=MAX_ITERATIONS,
                threading=threads,
            )
        except PowerGridError as exc:
            raise DomainError(
                f"power flow of {self.grid.code} has no solution: {str(exc).splitlines()[0]}",
                hint="look for implausible net consumption",
            ) from exc
        line, trafo = output[ComponentType.line], output[ComponentType.transformer]
        rated_va = self.grid.trafo_sn_va / np.sqrt(3)
        hv_loading = trafo["i_from"] * self.grid.trafo_vn_hv_kv * 1e3 / rated_va
        lv_loading = trafo["i_to"] * self.grid.trafo_vn_lv_kv * 1e3 / rated_va
        return PowerFlowResult(
            voltage_pu=output[ComponentType.node]["u_pu"],
            line_loading_percent=np.maximum(line["i_from"], line["i_to"]) / self.grid.line_limit_a * 100,
            trafo_loading_percent=np.maximum(hv_loading, lv_loading) * 100,
            trafo_power_w=trafo["p_from"],
        )


@dataclass(frozen=True, slots=True)
class Violation:
    """One ISP in which the grid leaves its limits.

    ``overloaded`` holds (element, loading percent), worst first; it is empty when only the voltage is
    outside.
    """

    isp: int
    overloaded: tuple[tuple[str, float], ...]
    min_voltage_pu: float
    max_voltage_pu: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the grid must keep: loading [%] and voltage [p.u.] (EN 50160: 10% around nominal)."""

    max_loading_percent: float = 100.0
    min_voltage_pu: float = 0.9
    max_voltage_pu: float = 1.1


def violations(
    grid: GridData, result: PowerFlowResult, isps: Sequence[int], limits: Limits = Limits()
) -> list[Violation]:
    """ISPs in which an element is overloaded or a low-voltage bus leaves the voltage band, in order of time.

    Parameters
    ----------
    isps : sequence of int
        ISP of each time step of ``result``.
    """
    names = np.concatenate([grid.trafo_name, grid.line_name])
    loading = np.hstack([result.trafo_loading_percent, result.line_loading_percent])
    low_voltage = result.voltage_pu[:, grid.bus_vn_kv < 1]
    lowest, highest = low_voltage.min(axis=1), low_voltage.max(axis=1)
    over = loading > limits.max_loading_percent
    outside = (lowest < limits.min_voltage_pu) | (highest > limits.max_voltage_pu)
    found = []
    for step in np.flatnonzero(over.any(axis=1) | outside):
        worst_first = sorted(np.flatnonzero(over[step]), key=lambda k: -loading[step, k])
        overloaded = tuple((str(names[k]), float(loading[step, k])) for k in worst_first)
        found.append(Violation(int(isps[step]), overloaded, float(lowest[step]), float(highest[step])))
    return found
