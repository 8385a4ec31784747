"""Did load before an event move in the way that would raise the payment?

An adjusted baseline follows the hours before an event. Whoever expects to be asked for less consumption gains by
consuming more just before, and the other way round. One day proves nothing; a flag says that the movement is
larger than on nearly all days without an event, and a customer that is flagged again and again should be settled
by a method without same-day adjustment.
"""

from dataclasses import dataclass

import numpy as np

from offchain.baseline.history import History, check_event
from offchain.baseline.rounding import rounded_mean_wh
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.domain.units import BPS, Direction

MEAN_DAYS = 10
COMPARED_DAYS = 40
LEAST_COMPARED = 10
UNUSUAL_BPS = 9_500
MATERIAL_BPS = 1_000


@dataclass(frozen=True)
class PreEventMovement:
    """Movement of net consumption between notice and event.

    Attributes
    ----------
    isps : int
        Length of the window.
    moved_wh : int
        Metered less the mean of the last ten similar days, over the window, in the direction that would raise the
        payment: more consumption before UP, less before DOWN [Wh].
    usual_wh : int
        Size of the mean over the window [Wh].
    rank_bps : int
        Share of similar days without an event that moved less.
    suspicious : bool
        Larger than on 95% of the days, and than a tenth of what is usual.
    """

    isps: int
    moved_wh: int
    usual_wh: int
    rank_bps: int
    suspicious: bool


def pre_event_movement(
    history: History, day: MarketDay, event: range, direction: Direction, *, notice_isp: int | None = None
) -> PreEventMovement:
    """Compare the window before an event with the same hours of similar days.

    Parameters
    ----------
    history : History
        Up to the event; the days of other events excluded.
    notice_isp : int, optional
        ISP in which the customer learnt of the event; two hours before it when absent, or local midnight where
        the notice was given the day before.

    Raises
    ------
    InsufficientHistoryError
        Fewer than twenty similar days.
    DomainError
        Nothing lies between notice and event, or readings are missing.
    """
    check_event(day, event)
    first = max(event.start - 8 if notice_isp is None else notice_isp, day.first_isp)
    if first >= event.start:
        raise DomainError(f"no ISP lies between the notice at {notice_isp} and the event at {event.start}")
    window = slice(first - day.first_isp, event.start - day.first_isp)
    past = history.similar_days(day, MEAN_DAYS + LEAST_COMPARED, MEAN_DAYS + COMPARED_DAYS)[:, window].sum(axis=1)
    today = history.before(day, event)[window].sum()
    totals = np.concatenate([[today], past])
    sign = 1 if direction is Direction.UP else -1
    last = len(past) - MEAN_DAYS
    sums = np.array([totals[n + 1 : n + 1 + MEAN_DAYS].sum() for n in range(last + 1)])
    means = rounded_mean_wh(sums, MEAN_DAYS)
    moved = sign * (totals[: len(means)] - means)
    rank_bps = int((moved[1:] < moved[0]).sum()) * BPS // (len(moved) - 1)
    usual = abs(int(means[0]))
    return PreEventMovement(
        isps=window.stop - window.start,
        moved_wh=int(moved[0]),
        usual_wh=usual,
        rank_bps=rank_bps,
        suspicious=rank_bps >= UNUSUAL_BPS and int(moved[0]) * BPS > usual * MATERIAL_BPS,
    )
