"""Direct control of connections by the DSO, when the market fell short (orange regime)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.optimisation.transport import Plan, cover

SHARE_STEPS = 1_000
"""The largest share of its capability that a connection gives is found to a thousandth."""


@dataclass(frozen=True, slots=True)
class ControllableConnection:
    """What the DSO may do to a connection.

    Attributes
    ----------
    id : str
    possible_wh : ndarray of int, shape (n_isps,)
        Most its net consumption can be moved in the direction of the need within its technical limits [Wh].
    energy_limit_wh : int, optional
        Most over the day [Wh].
    """

    id: str
    possible_wh: np.ndarray
    energy_limit_wh: int | None = None


@dataclass(frozen=True, slots=True)
class DirectControl:
    """Direct orders.

    Attributes
    ----------
    curves_wh : dict of str to ndarray of int64, shape (n_isps,)
        Curtailment per connection, untouched connections left out [Wh].
    uncovered_wh : ndarray of int64, shape (n_isps,)
        Part of the need beyond all technical limits [Wh].
    share : float
        Largest share of its capability that any connection gives in any ISP.
    """

    curves_wh: dict[str, np.ndarray]
    uncovered_wh: np.ndarray
    share: float


def plan_direct_control(need_wh: np.ndarray, connections: Sequence[ControllableConnection]) -> DirectControl:
    """Curtail just what is needed, and nobody by a larger share of its capability than necessary.

    Never more than the need is taken in any ISP. Among all ways to take it, the one that keeps the largest
    share of any connection smallest, found by bisection over that share.

    Parameters
    ----------
    need_wh : ndarray of int, shape (n_isps,)
        What the market left uncovered [Wh].
    connections : sequence of ControllableConnection
        Those below the congested element.
    """
    need_wh = np.asarray(need_wh, dtype=np.int64)
    ranked = sorted(connections, key=lambda c: c.id)
    for connection in ranked:
        if connection.possible_wh.shape != need_wh.shape:
            raise DomainError(
                f"connection {connection.id}: {connection.possible_wh.size} values for {need_wh.size} ISPs"
            )
    possible_wh = np.array([c.possible_wh for c in ranked], dtype=np.int64).reshape(len(ranked), need_wh.size)
    everything = possible_wh.sum(axis=1)
    limits_wh = np.array(
        [e if c.energy_limit_wh is None else c.energy_limit_wh for c, e in zip(ranked, everything, strict=True)],
        dtype=np.int64,
    )

    def at_share(steps: int) -> Plan:
        capacity_wh = -(-possible_wh * steps // SHARE_STEPS)
        return cover(need_wh, capacity_wh, np.zeros(len(ranked), dtype=np.int64), energy_limit_wh=limits_wh)

    best = at_share(SHARE_STEPS)
    low, high = 0, SHARE_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        plan = at_share(middle)
        if plan.uncovered_wh.sum() <= best.uncovered_wh.sum():
            best, high = plan, middle
        else:
            low = middle
    curves = zip(ranked, best.supplied_wh, strict=True)
    share = float((best.supplied_wh / np.maximum(possible_wh, 1)).max(initial=0))
    return DirectControl({c.id: curve for c, curve in curves if curve.any()}, best.uncovered_wh, share)
