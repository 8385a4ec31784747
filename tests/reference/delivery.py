"""Reference of the verdict rules of ``IFlexSettlement``, written from the formulas, not from the code."""

from dataclasses import dataclass

from offchain.domain.units import Direction


@dataclass(frozen=True)
class Sums:
    credited_wh: int = 0
    rewarded_wh: int = 0
    penalised_wh: int = 0
    missing_wh: int = 0

    def as_tuple(self) -> tuple[int, int, int, int]:
        return self.credited_wh, self.rewarded_wh, self.penalised_wh, self.missing_wh


def evaluate(direction, tolerance_bps, missing_is_shortfall, quantities, taken, baseline, readings) -> Sums:
    """Sums over one market day; ``taken`` empty when nothing was taken over, a reading ``None`` when missing."""
    credited = rewarded = penalised = missing = 0
    for p, q in enumerate(quantities):
        if q == 0:
            continue
        t = taken[p] if taken else 0
        due, band = q - t, q * tolerance_bps // 10_000
        penalised += t
        if due == 0:
            continue
        if readings[p] is None:
            missing += due
            penalised += due if missing_is_shortfall else 0
            continue
        imported, exported = readings[p]
        moved = baseline[p] - (imported - exported)
        delivered = max(moved if direction is Direction.UP else -moved, 0)
        credited += min(delivered, due)
        rewarded += min(delivered, due + band)
        penalised += max(due - delivered - band, 0)
    return Sums(credited, rewarded, penalised, missing)


def evaluate_missing(missing_is_shortfall, quantities, taken) -> Sums:
    """Sums when no reading came: nothing earned, what was taken over and, if agreed, what was due is penalised."""
    over = sum(taken)
    due = sum(quantities) - over
    return Sums(0, 0, over + (due if missing_is_shortfall else 0), due)


def money(sums: Sums, reward_rate, penalty_rate, multiplier_bps, bond) -> tuple[int, int, int]:
    """Reward, penalty (limited to reward plus bond) and net [uToken]."""
    reward = (sums.rewarded_wh * reward_rate // 1000) * multiplier_bps // 10_000
    penalty = (sums.penalised_wh * penalty_rate // 1000) * multiplier_bps // 10_000
    penalty = min(penalty, reward + bond)
    return reward, penalty, reward - penalty
