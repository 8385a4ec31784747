"""Reference of the money of ``IFlexDispatch`` and ``IFlexSettlement``, written from the formulas, not from the code."""

from offchain.domain.units import BPS, cost_down, share_down


def reward_of(energy_wh: int, rate: int, multiplier_bps: int) -> int:
    """Money of an energy at a rate and multiplier, each step down [uToken]."""
    return share_down(cost_down(energy_wh, rate), multiplier_bps)


def rewardable_wh(quantity_wh: int, taken_wh: int, tolerance_bps: int) -> int:
    """Most energy of one ISP that can earn a reward [Wh]."""
    return 0 if quantity_wh == taken_wh else quantity_wh - taken_wh + quantity_wh * tolerance_bps // BPS


def largest_reward(quantities, taken, terms) -> int:
    """What is locked for an order, ``terms`` as its event shows them [uToken]."""
    taken = taken or [0] * len(quantities)
    wh = sum(rewardable_wh(q, t, terms["toleranceBps"]) for q, t in zip(quantities, taken, strict=True))
    return reward_of(wh, terms["rewardRate"], terms["multiplierBps"])


def missing_curve(quantities, taken, position, delivered_wh) -> list[int]:
    """What standby is asked for after a reading: the missing share of every later ISP, less what was taken over."""
    ordered, done = quantities[position], max(delivered_wh, 0)
    return [
        max(q * (ordered - done) // ordered - t, 0) if p > position else 0
        for p, (q, t) in enumerate(zip(quantities, taken, strict=True))
    ]


def share_delivered(ordered_wh, credited_wh, missing_wh, price, tolerance_bps, penalty_rate, bond) -> tuple[int, int]:
    """What the DSO pays and what the aggregator's bond pays for a flex order [uToken]."""
    uncovered = ordered_wh - credited_wh - missing_wh - share_down(ordered_wh, tolerance_bps)
    return cost_down(credited_wh, price), min(cost_down(max(uncovered, 0), penalty_rate), bond)
