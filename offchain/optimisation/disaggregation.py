"""An aggregator's order split into orders to its members."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import InfeasibleError
from offchain.domain.units import Direction
from offchain.optimisation.member import Member, capacities_wh, energy_limits_wh
from offchain.optimisation.transport import cover

ACTIVATION_COST_UTOKEN = 20_000
"""What activating one more member is worth avoiding: an order on chain, a message, a disturbed evening."""


@dataclass(frozen=True, slots=True)
class Disaggregation:
    """Orders to members.

    Attributes
    ----------
    curves_wh : dict of str to ndarray of int64, shape (n_isps,)
        Ordered per active member, members without an order left out [Wh].
    uncovered_wh : ndarray of int64, shape (n_isps,)
        Part of the order that the members cannot take; zero unless a shortfall was allowed [Wh].
    """

    curves_wh: dict[str, np.ndarray]
    uncovered_wh: np.ndarray


def disaggregate(
    order_wh: np.ndarray,
    members: Sequence[Member],
    direction: Direction,
    *,
    activation_cost_utoken: int = ACTIVATION_COST_UTOKEN,
    allow_shortfall: bool = False,
    isps: Sequence[int] | None = None,
) -> Disaggregation:
    """Split an order among members so that the parts sum to it exactly in every ISP.

    Few and cheap members are preferred: the sum of rewards and activation costs is within 1% of the least; at
    equal cost the lower id comes first. The order of ``members`` does not matter.

    Parameters
    ----------
    order_wh : ndarray of int, shape (n_isps,)
        Ordered per ISP [Wh].
    members : sequence of Member
        Capability in ``direction``.
    allow_shortfall : bool
        Take as much as can be done instead of raising.
    isps : sequence of int, optional
        ISP of each position, for the error.

    Raises
    ------
    InfeasibleError
        The members cannot take all of it; carries the first such ISP (the position, without ``isps``).
    """
    order_wh = np.asarray(order_wh, dtype=np.int64)
    ranked = sorted(members, key=lambda m: (m.reward_utoken_per_kwh, m.id))
    capacity_wh = capacities_wh(ranked, direction, order_wh.size)
    plan = cover(
        order_wh,
        capacity_wh,
        np.array([m.reward_utoken_per_kwh for m in ranked], dtype=np.int64),
        energy_limit_wh=energy_limits_wh(ranked, capacity_wh),
        fixed_cost=np.full(len(ranked), activation_cost_utoken),
    )
    short = np.flatnonzero(plan.uncovered_wh)
    if short.size and not allow_shortfall:
        position = int(short[0])
        possible_wh = order_wh[position] - plan.uncovered_wh[position]
        raise InfeasibleError(
            f"members can take {possible_wh} of {order_wh[position]} Wh ordered",
            isp=position if isps is None else int(isps[position]),
        )
    curves = zip(ranked, plan.supplied_wh, strict=True)
    return Disaggregation({member.id: curve for member, curve in curves if curve.any()}, plan.uncovered_wh)
