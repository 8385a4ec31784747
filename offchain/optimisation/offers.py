"""What an aggregator offers on a request: as much of it as its members can do, at least cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.units import BPS, Direction
from offchain.optimisation.member import Member, capacities_wh, energy_limits_wh
from offchain.optimisation.transport import cover


@dataclass(frozen=True, slots=True)
class BuiltOffer:
    """An offer and the plan behind it.

    Attributes
    ----------
    direction : Direction
    quantity_wh : ndarray of int64, shape (n_isps,)
        Offered per ISP, at most what was requested [Wh].
    price_utoken_per_kwh : int
        Price of the whole offer.
    member_ids : tuple of str
        Members in the order of ``plan_wh``.
    plan_wh : ndarray of int64, shape (n_members, n_isps)
        Who would deliver what; sums to ``quantity_wh`` [Wh].
    """

    direction: Direction
    quantity_wh: np.ndarray
    price_utoken_per_kwh: int
    member_ids: tuple[str, ...]
    plan_wh: np.ndarray


def build_offer(
    members: Sequence[Member],
    request_wh: np.ndarray,
    direction: Direction,
    *,
    price_cap_utoken_per_kwh: int,
    margin_bps: int = 1_000,
    reserve_bps: int = 0,
    activation_cost_utoken: int = 0,
) -> BuiltOffer | None:
    """Offer on a request from a portfolio.

    The price is the mean reward of the planned members plus the margin, rounded up, so that the offer pays
    its rewards when delivered in full. Members whose reward plus margin exceeds the price cap stay out.

    Parameters
    ----------
    members : sequence of Member
        Capability in ``direction``.
    request_wh : ndarray of int, shape (n_isps,)
        Requested per ISP [Wh].
    price_cap_utoken_per_kwh : int
        Highest price the request allows.
    margin_bps : int
        Aggregator's margin on the rewards.
    reserve_bps : int
        Share of each member's capability that is kept back for those that fail.
    activation_cost_utoken : int
        Cost of activating a member at all; keeps the number of active members low.

    Returns
    -------
    BuiltOffer or None
        None when nothing can be offered.
    """
    request_wh = np.asarray(request_wh, dtype=np.int64)
    within_cap = [m for m in members if m.reward_utoken_per_kwh * (BPS + margin_bps) <= price_cap_utoken_per_kwh * BPS]
    ranked = sorted(within_cap, key=lambda m: (m.reward_utoken_per_kwh, m.id))
    capacity_wh = capacities_wh(ranked, direction, request_wh.size)
    rewards = [m.reward_utoken_per_kwh for m in ranked]
    plan_wh = cover(
        request_wh,
        capacity_wh * (BPS - reserve_bps) // BPS,
        np.array(rewards, dtype=np.int64),
        energy_limit_wh=energy_limits_wh(ranked, capacity_wh) * (BPS - reserve_bps) // BPS,
        fixed_cost=np.full(len(ranked), activation_cost_utoken),
    ).supplied_wh
    energy_wh = int(plan_wh.sum())
    if energy_wh == 0:
        return None
    weighted = sum(int(wh) * reward for wh, reward in zip(plan_wh.sum(axis=1), rewards, strict=True))
    price = -(-weighted * (BPS + margin_bps) // (energy_wh * BPS))
    return BuiltOffer(direction, plan_wh.sum(axis=0), price, tuple(m.id for m in ranked), plan_wh)
