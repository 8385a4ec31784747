"""Congestion points and the flexibility that would relieve them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError, InfeasibleError
from offchain.domain.units import Direction
from offchain.grid.power_flow import PowerFlow, PowerFlowResult
from offchain.grid.simbench_data import GridData

QUANTITY_STEP_WH = 100
"""Needs are whole multiples of this."""


@dataclass(frozen=True, slots=True)
class FlexibilityNeed:
    """What a congestion point needs in one direction.

    Attributes
    ----------
    element : str
        Name of the congested transformer or line.
    direction : Direction
    quantity_wh : ndarray, shape (n_isps,)
        Energy per ISP, multiple of ``QUANTITY_STEP_WH``, zero where nothing is needed [Wh].
    loading_before_percent, loading_after_percent : ndarray, shape (n_isps,)
        Loading of the element as expected, and by a second power flow with all of the quantity delivered.
    """

    element: str
    direction: Direction
    quantity_wh: np.ndarray
    loading_before_percent: np.ndarray
    loading_after_percent: np.ndarray


def connections_below(grid: GridData, element: str, connection_bus: Sequence[int]) -> np.ndarray:
    """Positions of the connections that are cut from the source when the element opens: those it feeds.

    Raises
    ------
    DomainError
        The grid has no such element, or it is part of a mesh and feeds nobody alone.
    """
    trafo, line = grid.trafo_name == element, grid.line_name == element
    if not (trafo.any() or line.any()):
        raise DomainError(f"grid {grid.code} has no element {element!r}")
    closed = ~line & grid.line_from_closed & grid.line_to_closed
    starts = np.concatenate([grid.trafo_hv[~trafo], grid.line_from[closed]])
    ends = np.concatenate([grid.trafo_lv[~trafo], grid.line_to[closed]])
    fed = np.zeros(grid.buses, dtype=bool)
    fed[grid.source_bus] = True
    while True:
        reached = fed.copy()
        reached[ends[fed[starts]]] = True
        reached[starts[fed[ends]]] = True
        if (reached == fed).all():
            break
        fed = reached
    below = np.flatnonzero(~fed[np.asarray(connection_bus)])
    if not below.size:
        raise DomainError(f"grid {grid.code}: {element} feeds no connection alone", hint="choose a radial element")
    return below


def loading_percent(grid: GridData, result: PowerFlowResult, element: str) -> np.ndarray:
    """Loading of one transformer or line over the steps of a result, shape (n_steps,) [%]."""
    for names, loading in (
        (grid.trafo_name, result.trafo_loading_percent),
        (grid.line_name, result.line_loading_percent),
    ):
        found = np.flatnonzero(names == element)
        if found.size:
            return loading[:, found[0]]
    raise DomainError(f"grid {grid.code} has no element {element!r}")


def flexibility_needs(
    flow: PowerFlow,
    net_wh: np.ndarray,
    reactive_var: np.ndarray,
    *,
    element: str,
    flexible_wh: Mapping[Direction, np.ndarray] | None = None,
    limit_percent: float = 100.0,
    margin: float = 0.97,
    isps: Sequence[int] | None = None,
) -> list[FlexibilityNeed]:
    """Least energy per ISP that brings the loading of an element below ``margin * limit_percent``.

    For every ISP above that target the smallest multiple of ``QUANTITY_STEP_WH`` is found by bisection, each
    step a power flow in which the quantity is taken off the connections below the element: in proportion to
    what they can move, or evenly where nobody can. Reactive power stays as it is. The direction follows the
    sign of the net consumption below the element: UP where it imports too much, DOWN where it feeds back too
    much.

    Parameters
    ----------
    flow : PowerFlow
    net_wh, reactive_var : ndarray, shape (n_isps, n_connections)
        Expected net consumption [Wh] and reactive power [var].
    element : str
        Name of the transformer or line.
    flexible_wh : mapping of Direction to ndarray, shape (n_isps, n_connections), optional
        What each connection can move [Wh]. Only its proportions are used: a need does not shrink because
        little is on offer.
    margin : float
        Share of the limit to plan for; the rest covers forecast error and who delivers where.
    isps : sequence of int, optional
        ISP of each row, for error messages.

    Returns
    -------
    list of FlexibilityNeed
        One per direction that occurs; empty without congestion.

    Raises
    ------
    InfeasibleError
        The loading cannot be brought below the target by net consumption at all (for example reactive power
        alone exceeds it); carries the ISP.
    """
    target = limit_percent * margin
    net_wh = np.asarray(net_wh, dtype=float)
    before = loading_percent(flow.grid, flow.run(net_wh, reactive_var), element)
    below = connections_below(flow.grid, element, flow.connection_bus)
    imports = net_wh[:, below].sum(axis=1) >= 0
    congested = np.flatnonzero(before > target)
    share = np.zeros((congested.size, net_wh.shape[1]))
    share[:, below] = 1 / below.size
    sign = np.where(imports[congested], -1.0, 1.0)
    for row, step in enumerate(congested):
        if flexible_wh is not None:
            able = np.asarray(flexible_wh[Direction.UP if imports[step] else Direction.DOWN])[step, below]
            if able.sum() > 0:
                share[row, below] = able / able.sum()

    def loading_with(steps: np.ndarray) -> np.ndarray:
        moved = (sign * steps * QUANTITY_STEP_WH)[:, None] * share
        result = flow.run(net_wh[congested] + moved, reactive_var[congested])
        return loading_percent(flow.grid, result, element)

    after = before.copy()
    steps = np.zeros(net_wh.shape[0], dtype=np.int64)
    if congested.size:
        # all of the net consumption gone is the most that can help: beyond it the element loads the other way
        high = np.ceil(np.abs(net_wh[congested][:, below].sum(axis=1)) / QUANTITY_STEP_WH).astype(np.int64)
        hopeless = np.flatnonzero(loading_with(high) > target)
        if hopeless.size:
            step = int(congested[hopeless[0]])
            raise InfeasibleError(
                f"loading of {element} stays above {target:.1f}% whatever is consumed",
                isp=step if isps is None else int(isps[step]),
            )
        low = np.zeros_like(high)
        while (high - low > 1).any():
            middle = (low + high) // 2
            enough = loading_with(middle) <= target
            high, low = np.where(enough, middle, high), np.where(enough, low, middle)
        steps[congested] = high
        after[congested] = loading_with(high)
    needs = []
    for direction, rows in ((Direction.UP, imports), (Direction.DOWN, ~imports)):
        quantity_wh = np.where(rows, steps, 0) * QUANTITY_STEP_WH
        if quantity_wh.any():
            needs.append(FlexibilityNeed(element, direction, quantity_wh, before, after))
    return needs
