"""Same-day adjustment: a baseline moved to what was metered shortly before the event."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np

from offchain.baseline.rounding import rounded_mean_wh
from offchain.baseline.similar_days import SimilarDayMethod
from offchain.domain.errors import DomainError
from offchain.domain.units import BPS


class Adjustment(StrEnum):
    """How the readings before the event move the baseline."""

    ADDITIVE = "additive"
    """By the mean difference, at most the share ``cap_bps`` of the mean size of the baseline before the event."""
    RATIO = "ratio"
    """By the quotient of the energies, between ``1 - cap`` and ``1 + cap``."""


def window_before(event: slice, from_isps: int, until_isps: int) -> slice:
    """Positions from ``from_isps`` until ``until_isps`` before an event, as far as they are on the same day."""
    window = slice(max(event.start - from_isps, 0), max(event.start - until_isps, 0))
    if window.start == window.stop:
        raise DomainError(
            f"an event at position {event.start} of the day leaves no ISPs {from_isps} to {until_isps} before it",
            hint="choose a method without same-day adjustment",
        )
    return window


@dataclass(frozen=True)
class Adjusted(SimilarDayMethod):
    """Another method's baseline, adjusted within the event.

    Example, ratio with a cap of 2,000 bps: 100 Wh expected and 130 Wh metered before the event give 1.3, limited
    to 1.2; 200 Wh in the event become 240 Wh. Additive with a cap of 10,000 bps: 200 + 30 = 230 Wh.

    Net consumption may be negative. A ratio of energies of opposite sign is negative and becomes ``1 - cap``;
    where nothing is expected before the event the ratio is one.

    Attributes
    ----------
    unadjusted : SimilarDayMethod
    adjustment : Adjustment
    cap_bps : int
        Limit of the adjustment, a share in basis points.
    from_isps, until_isps : int
        Where the window begins and ends, ISPs before the event: 16 and 4 are the three hours that end one
        hour before it, so that most of the window lies before a notice of an hour.
    """

    unadjusted: SimilarDayMethod
    adjustment: Adjustment
    cap_bps: int
    from_isps: int = 16
    until_isps: int = 4

    same_day: ClassVar[bool] = True

    @property
    def least_days(self) -> int:
        return self.unadjusted.least_days

    @property
    def most_days(self) -> int:
        return self.unadjusted.most_days

    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        curve = self.unadjusted.expected(past, None, event)
        window = window_before(event, self.from_isps, self.until_isps)
        size, expected_wh, metered_wh = window.stop - window.start, curve[window], today[window]
        if self.adjustment is Adjustment.ADDITIVE:
            cap_wh = np.abs(expected_wh).sum(axis=0) * self.cap_bps // (BPS * size)
            shift_wh = rounded_mean_wh((metered_wh - expected_wh).sum(axis=0), size)
            curve[event] += np.clip(shift_wh, -cap_wh, cap_wh)
        else:
            # Python integers: products of three quantities do not fit into 64 bits
            base, metered = (wh.sum(axis=0).astype(object) for wh in (expected_wh, metered_wh))
            metered, base = np.where(base < 0, -metered, metered) * BPS, np.abs(base)
            limited = np.clip(metered, base * (BPS - self.cap_bps), base * (BPS + self.cap_bps))
            numerator, denominator = np.where(base == 0, 1, limited), np.where(base == 0, 1, base * BPS)
            curve[event] = rounded_mean_wh(curve[event] * numerator, denominator).astype(np.int64)
        return curve
