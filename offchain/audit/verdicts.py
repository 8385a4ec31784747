"""Verdicts and payments recomputed from what was ordered, expected and metered.

Written from the rules in ``interfaces/IFlexSettlement.sol``; of the code that it checks it shares only the
rounding functions.
"""

from collections.abc import Sequence
from typing import NamedTuple

from offchain.domain.units import Direction, cost_down, delivered_wh, share_down


class Sums(NamedTuple):
    """Energy of one order over its market day [Wh], each non-negative."""

    credited_wh: int
    rewarded_wh: int
    penalised_wh: int
    missing_wh: int


class Verdict(NamedTuple):
    """What is found for one prosumer order: energy [Wh], money [uToken].

    ``net`` is reward minus penalty, negative when it is taken from the bond; the bonus comes on top.
    """

    credited_wh: int
    rewarded_wh: int
    penalised_wh: int
    missing_wh: int
    reward: int
    penalty: int
    bonus: int
    net: int


class FlexOrderMoney(NamedTuple):
    """Payment and penalty between DSO and aggregator [uToken]."""

    paid: int
    penalty: int


def sums_of(
    direction: Direction,
    tolerance_bps: int,
    missing_is_shortfall: bool,
    quantities_wh: Sequence[int],
    taken_wh: Sequence[int],
    baseline_wh: Sequence[int],
    readings: Sequence[tuple[int, int] | None],
) -> Sums:
    """Energy credited, rewarded, penalised and missing.

    Parameters
    ----------
    quantities_wh, taken_wh : sequence of int
        Ordered energy per ISP and the part of it that standby took over [Wh].
    baseline_wh : sequence of int
        Expected net consumption per ISP [Wh], import positive.
    readings : sequence of (int, int) or None
        Metered import and export per ISP [Wh].
    """
    credited = rewarded = penalised = missing = 0
    for quantity, taken, baseline, reading in zip(quantities_wh, taken_wh, baseline_wh, readings, strict=True):
        if quantity == 0:
            continue
        due = quantity - taken
        penalised += taken
        if reading is None:
            missing += due
            penalised += due if missing_is_shortfall else 0
            continue
        band = share_down(quantity, tolerance_bps)
        delivered = max(delivered_wh(direction, baseline, reading[0] - reading[1]), 0)
        credited += min(delivered, due)
        rewarded += min(delivered, due + band) if due else 0
        penalised += max(due - delivered - band, 0)
    return Sums(credited, rewarded, penalised, missing)


def sums_without_day(missing_is_shortfall: bool, quantities_wh: Sequence[int], taken_wh: Sequence[int]) -> Sums:
    """Sums of an order whose metered day never came [Wh]."""
    ordered, taken = sum(quantities_wh), sum(taken_wh)
    return Sums(0, 0, ordered if missing_is_shortfall else taken, ordered - taken)


def money(energy_wh: int, rate: int, multiplier_bps: int) -> int:
    """Reward or penalty for energy at a rate [uToken/kWh] and multiplier, each step rounded down [uToken]."""
    return share_down(cost_down(energy_wh, rate), multiplier_bps)


def largest_reward(
    quantities_wh: Sequence[int],
    taken_wh: Sequence[int],
    tolerance_bps: int,
    rate: int,
    multiplier_bps: int,
) -> int:
    """Most that an order can earn after what standby took over [uToken]."""
    rewardable = sum(
        q - t + share_down(q, tolerance_bps) for q, t in zip(quantities_wh, taken_wh, strict=True) if q != t
    )
    return money(rewardable, rate, multiplier_bps)


def verdict_of(
    sums: Sums,
    reward_rate: int,
    penalty_rate: int,
    multiplier_bps: int,
    bond_left: int,
) -> Verdict:
    """Money of a prosumer order, without bonus.

    Parameters
    ----------
    bond_left : int
        What is left of the prosumer's bond, and what an earlier verdict on the order took from it; limits the
        penalty together with the reward [uToken].
    """
    reward = money(sums.rewarded_wh, reward_rate, multiplier_bps)
    penalty = min(money(sums.penalised_wh, penalty_rate, multiplier_bps), reward + bond_left)
    return Verdict(*sums, reward, penalty, 0, reward - penalty)


def flex_order_money(
    ordered_wh: int,
    credited_wh: int,
    missing_wh: int,
    price: int,
    tolerance_bps: int,
    penalty_rate: int,
    bond: int,
) -> FlexOrderMoney:
    """Payment to the aggregator for the energy credited, penalty for the shortfall beyond the tolerance."""
    beyond = max(ordered_wh - credited_wh - missing_wh - share_down(ordered_wh, tolerance_bps), 0)
    return FlexOrderMoney(cost_down(credited_wh, price), min(cost_down(beyond, penalty_rate), bond))
