"""The problem behind all the others: cover a demand per ISP from suppliers with limits, at least cost.

Variables are Wh of a supplier in an ISP, bounded by its capacity there; a supplier may be limited over all
ISPs, and using it at all may cost something. Without that fixed cost this is a transportation problem: its
matrix is totally unimodular, so with integer demand, capacities and limits every vertex is integer, and the
simplex method ends in a vertex. With fixed costs a MILP chooses the suppliers, and the vertex of the
remaining transportation problem is the answer. Sums are therefore exact to the last Wh without any rounding
rule.
"""

from dataclasses import dataclass

import highspy
import numpy as np

from offchain.domain.errors import DomainError

MIP_GAP = 0.01
"""A set of suppliers within this share of the optimum is good enough."""
MIP_NODES = 200
"""Branch-and-bound nodes; in nodes, not seconds, so that the answer does not depend on the machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Solution of :func:`cover`.

    Attributes
    ----------
    supplied_wh : ndarray of int64, shape (n_suppliers, n_isps)
    uncovered_wh : ndarray of int64, shape (n_isps,)
        Demand that no choice of the suppliers can cover.
    """

    supplied_wh: np.ndarray
    uncovered_wh: np.ndarray


def cover(
    demand_wh: np.ndarray,
    capacity_wh: np.ndarray,
    price: np.ndarray,
    *,
    energy_limit_wh: np.ndarray | None = None,
    least_wh: np.ndarray | None = None,
    fixed_cost: np.ndarray | None = None,
) -> Plan:
    """Cover as much of the demand as possible, and that at least cost.

    Coverage comes first: what stays uncovered is the least there is, whatever it costs to cover the rest. Of
    equally cheap suppliers the earlier in order is preferred, by less than any difference of prices.

    Parameters
    ----------
    demand_wh : ndarray of int, shape (n_isps,)
        Non-negative.
    capacity_wh : ndarray of int, shape (n_suppliers, n_isps)
        Most of each supplier per ISP, non-negative.
    price : ndarray of int, shape (n_suppliers,)
        Micro-token per kWh.
    energy_limit_wh : ndarray of int, shape (n_suppliers,), optional
        Most of each supplier over all ISPs, non-negative.
    least_wh : ndarray of int, shape (n_suppliers,), optional
        Least of each supplier over all ISPs if it is used at all.
    fixed_cost : ndarray of int, shape (n_suppliers,), optional
        Cost of using a supplier at all, non-negative [uToken].
    """
    demand_wh, capacity_wh = np.asarray(demand_wh, np.int64), np.asarray(capacity_wh, np.int64)
    price = np.asarray(price, np.int64)
    suppliers, isps = capacity_wh.shape if capacity_wh.ndim == 2 else (-1, -1)
    if (suppliers,) != price.shape or (isps,) != demand_wh.shape:
        raise DomainError(
            f"demand {demand_wh.shape}, capacity {capacity_wh.shape}, price {price.shape} do not fit together"
        )
    if (demand_wh < 0).any() or (capacity_wh < 0).any():
        raise DomainError("demand and capacity must not be negative [Wh]")
    none = np.zeros(suppliers, dtype=np.int64)
    least_wh = none if least_wh is None else np.asarray(least_wh, np.int64)
    fixed_cost = none if fixed_cost is None else np.asarray(fixed_cost, np.int64)
    # more than the demand of an ISP is never useful; tight bounds make fixed costs count in the relaxation
    capacity_wh = np.minimum(capacity_wh, demand_wh)
    limit_wh = capacity_wh.sum(axis=1)
    if energy_limit_wh is not None:
        limit_wh = np.minimum(limit_wh, np.asarray(energy_limit_wh, np.int64))
    capacity_wh = np.where((limit_wh >= least_wh)[:, None], capacity_wh, 0)
    preference = price + 0.5 * np.arange(suppliers) / max(suppliers, 1)

    used = np.ones(suppliers, dtype=bool)
    if least_wh.any():
        used = _chosen(demand_wh, capacity_wh, limit_wh, least_wh, least_wh == 0)
    supplied = _vertex(demand_wh, _of(used, capacity_wh), limit_wh, np.where(used, least_wh, 0))
    covered_wh = supplied.sum(axis=0)
    if (least_wh.any() or fixed_cost.any()) and covered_wh.any():
        used = _chosen(covered_wh, capacity_wh, limit_wh, least_wh, used, (preference, fixed_cost))
    supplied = _vertex(covered_wh, _of(used, capacity_wh), limit_wh, np.where(used, least_wh, 0), preference)
    return Plan(supplied, demand_wh - covered_wh)


def _of(used: np.ndarray, capacity_wh: np.ndarray) -> np.ndarray:
    return np.where(used[:, None], capacity_wh, 0)


def _vertex(
    demand_wh: np.ndarray,
    capacity_wh: np.ndarray,
    limit_wh: np.ndarray,
    least_wh: np.ndarray,
    price: np.ndarray | None = None,
) -> np.ndarray:
    """Vertex of the problem: all demand met at least cost; without ``price``, as much of it as possible."""
    supplier, isp = np.nonzero(capacity_wh)
    supplied = np.zeros_like(capacity_wh)
    if not supplier.size:
        return supplied
    solver = _solver()
    solver.setOptionValue("solver", "simplex")
    _load(
        solver,
        cost=-np.ones(supplier.size) if price is None else price[supplier],
        upper=capacity_wh[supplier, isp],
        rows=np.column_stack([isp, demand_wh.size + supplier]),
        row_lower=np.concatenate([np.zeros_like(demand_wh) if price is None else demand_wh, least_wh]),
        row_upper=np.concatenate([demand_wh, limit_wh]),
    )
    values = _run(solver)
    assert values is not None, "the transportation problem has a solution by construction"
    whole = np.rint(values).astype(np.int64)
    assert np.abs(values - whole).max() < 1e-6, "a vertex of a transportation problem is integer"
    supplied[supplier, isp] = whole
    return supplied


def _chosen(
    demand_wh: np.ndarray,
    capacity_wh: np.ndarray,
    limit_wh: np.ndarray,
    least_wh: np.ndarray,
    otherwise: np.ndarray,
    costs: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Suppliers to use, shape (n_suppliers,) bool; ``otherwise`` when the search ends without an answer.

    With ``costs`` (price, fixed cost) all demand is met and the suppliers are worth their fixed cost;
    without, as much demand as possible is met.
    """
    supplier, isp = np.nonzero(capacity_wh)
    suppliers, isps, flows = capacity_wh.shape[0], demand_wh.size, supplier.size
    unbounded = np.full(suppliers, highspy.kHighsInf)
    # rows: demand of an ISP; supply <= limit * use; supply >= least * use; flow <= capacity * use
    at_most, at_least, flow_row = isps, isps + suppliers, isps + 2 * suppliers
    flow_of = [np.flatnonzero(supplier == k) for k in range(suppliers)]
    use_rows = [np.concatenate([[at_most + k, at_least + k], flow_row + flow_of[k]]) for k in range(suppliers)]
    use_values = [
        -np.concatenate([[limit_wh[k], least_wh[k]], capacity_wh[k, isp[flow_of[k]]]]) for k in range(suppliers)
    ]
    solver = _solver()
    solver.setOptionValue("mip_rel_gap", MIP_GAP if costs else 0.0)
    solver.setOptionValue("mip_max_nodes", MIP_NODES)
    price, fixed_cost = costs or (-np.ones(suppliers), np.zeros(suppliers))
    _load(
        solver,
        # prices are per kWh and flows in Wh, so that a fixed cost of 1 uToken weighs 1000
        cost=np.concatenate([price[supplier], fixed_cost * 1000]),
        upper=np.concatenate([capacity_wh[supplier, isp], np.ones(suppliers)]),
        rows=np.column_stack([isp, at_most + supplier, at_least + supplier, flow_row + np.arange(flows)]),
        row_lower=np.concatenate(
            [demand_wh if costs else np.zeros(isps), -unbounded, np.zeros(suppliers), np.full(flows, -np.inf)]
        ),
        row_upper=np.concatenate([demand_wh, np.zeros(suppliers), unbounded, np.zeros(flows)]),
        more=(use_rows, use_values),
        integer=np.arange(flows, flows + suppliers),
    )
    values = _run(solver)
    return otherwise if values is None else values[flows:] > 0.5


def _solver() -> highspy.Highs:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("random_seed", 0)
    return solver


def _load(
    solver: highspy.Highs,
    *,
    cost: np.ndarray,
    upper: np.ndarray,
    rows: np.ndarray,
    row_lower: np.ndarray,
    row_upper: np.ndarray,
    more: tuple[list[np.ndarray], list[np.ndarray]] = ((), ()),
    integer: np.ndarray | None = None,
) -> None:
    """Pass a model: the first columns have a one in each of ``rows``, the others the entries of ``more``."""
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = cost.size, row_lower.size
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost.astype(float), np.zeros(cost.size), upper.astype(float)
    lp.row_lower_, lp.row_upper_ = row_lower.astype(float), row_upper.astype(float)
    counts = np.concatenate([np.full(len(rows), rows.shape[1]), [len(entries) for entries in more[0]]])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lp.a_matrix_.index_ = np.concatenate([rows.ravel(), *more[0]]).astype(np.int32)
    lp.a_matrix_.value_ = np.concatenate([np.ones(rows.size), *more[1]]).astype(float)
    if integer is not None:
        kinds = np.full(cost.size, highspy.HighsVarType.kContinuous)
        kinds[integer] = highspy.HighsVarType.kInteger
        lp.integrality_ = kinds.tolist()
    solver.passModel(lp)


def _run(solver: highspy.Highs) -> np.ndarray | None:
    solver.run()
    solution = solver.getSolution()
    return np.array(solution.col_value) if solution.value_valid else None
