"""Degradation rate by comparing each day with the same day a year later."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from offchain.degradation.performance import Performance
from offchain.domain.errors import DomainError, InsufficientHistoryError

DAYS_PER_YEAR = 365.25
YEAR = 365
SLACK_DAYS = 7
"""A day without partner exactly a year later takes the nearest one within a week."""
LEAST_PAIRS = 60
BLOCK_DAYS = 28
RESAMPLES = 1_000


@dataclass(frozen=True)
class Degradation:
    """How fast a plant loses performance.

    Attributes
    ----------
    rate_per_year : float
        Change of performance per year as a share of the first year's; negative = the plant loses.
    low, high : float
        Bounds of its confidence interval.
    confidence : float
        Of that interval, for example 0.95.
    pairs : int
        Days compared with a day a year later.
    first_day : date
        First day that counts; performance is ``reference_index * (1 + rate_per_year * years)`` after it.
    reference_index : float
        Performance at ``first_day``: 1 = as new and clean.
    """

    rate_per_year: float
    low: float
    high: float
    confidence: float
    pairs: int
    first_day: date
    reference_index: float

    def index_at(self, years: np.ndarray | float, *, rate: float | None = None) -> np.ndarray:
        """Expected performance some years after ``first_day``, never below 0."""
        slope = self.rate_per_year if rate is None else rate
        return np.maximum(self.reference_index * (1 + slope * np.asarray(years)), 0.0)


def degradation_rate(performance: Performance, *, confidence: float = 0.95, seed: int = 0) -> Degradation:
    """Median of the year-on-year changes, with a bootstrap interval.

    Each day is compared with the same day a year later, so that season, sun angle and soiling that comes every year
    cancel; the median does not mind outages, and soiling at random times moves as many pairs up as down.

    The interval comes from resampling blocks of four weeks: days next to each other share weather and soiling.
    On simulated plants with soiling at random times, outages and a quarter of the plant down for six weeks, 95%
    intervals held the true rate in 92% of cases with three years of data and always with five: a bad spell lowers
    one change and raises the next, which blocks drawn apart do not see, so that long series get wide ones.

    Parameters
    ----------
    performance : Performance
        Two years at the least.
    confidence : float
        Between 0 and 1.
    seed : int
        Of the resampling.

    Raises
    ------
    InsufficientHistoryError
        Fewer than 60 pairs of days a year apart.

    References
    ----------
    .. [1] E. Hasselbrink et al., "Validation of the PVLife model using 3 million module-years of live site data",
       39th IEEE PVSC, 2013, DOI 10.1109/PVSC.2013.6744087.
    .. [2] D. C. Jordan, C. Deline, S. R. Kurtz, G. M. Kimball, M. Anderson, "Robust PV degradation methodology and
       application", IEEE J. Photovoltaics 8(2), 2018, DOI 10.1109/JPHOTOV.2017.2779779.
    """
    if not 0 < confidence < 1:
        raise DomainError(f"confidence {confidence} is not between 0 and 1")
    days = np.array(performance.days, dtype="datetime64[D]").astype(np.int64)
    earlier, later = _pairs(days)
    if earlier.size < LEAST_PAIRS:
        raise InsufficientHistoryError(
            available=int(earlier.size), required=LEAST_PAIRS, what="pairs of usable days a year apart"
        )
    index = performance.index
    first_year = float(np.median(index[days < days[0] + YEAR]))
    years = (days[later] - days[earlier]) / DAYS_PER_YEAR
    changes = (index[later] - index[earlier]) / years / first_year
    # the median of the first year stands for its middle
    rate = float(np.median(changes))
    reference = first_year / (1 + rate * 0.5)
    scale = first_year / reference
    draws = _bootstrap(changes, (days[earlier] - days[0]) // BLOCK_DAYS, np.random.default_rng(seed))
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Degradation(
        rate_per_year=rate * scale,
        low=float(low) * scale,
        high=float(high) * scale,
        confidence=confidence,
        pairs=int(earlier.size),
        first_day=performance.days[0],
        reference_index=reference,
    )


def _pairs(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of days and of the nearest day a year later, each used once as the earlier one."""
    wanted = days + YEAR
    right = np.clip(np.searchsorted(days, wanted), 0, days.size - 1)
    left = np.maximum(right - 1, 0)
    partner = np.where(np.abs(days[left] - wanted) <= np.abs(days[right] - wanted), left, right)
    found = np.abs(days[partner] - wanted) <= SLACK_DAYS
    return np.flatnonzero(found), partner[found]


def _bootstrap(changes: np.ndarray, blocks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Medians of resampled blocks."""
    present, position = np.unique(blocks, return_inverse=True)
    order = np.argsort(changes, kind="stable")
    values, position = changes[order], position[order]
    drawn = rng.multinomial(present.size, np.full(present.size, 1 / present.size), size=RESAMPLES)
    # weighted medians over one sorted list: no resample is ever built
    weight = np.cumsum(drawn[:, position], axis=1)
    return values[(2 * weight >= weight[:, -1:]).argmax(axis=1)]
