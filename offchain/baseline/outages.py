"""Days on which a connection had no supply, found in its own readings."""

from datetime import date

import numpy as np

from offchain.baseline.history import Exclusion, History
from offchain.domain.isp import isp_start, zone_of
from offchain.domain.units import BPS

LEAST_ISPS = 4
RARE_BPS = 300


def outage_days(history: History, *, least_isps: int = LEAST_ISPS, rare_bps: int = RARE_BPS) -> dict[date, Exclusion]:
    """Local days that hold an hour or more of exactly zero, where that is rare.

    Without supply a meter counts neither import nor export. A connection that often stands at zero, such as an empty
    flat or a battery that holds its exchange at nothing, does the same for other reasons: where more than ``rare_bps``
    of the days have such a run, and more than one has, none is taken for an outage.

    Parameters
    ----------
    least_isps : int
        Length of a run of zeros [ISPs].
    rare_bps : int
        Share of the days in basis points.

    Returns
    -------
    dict of date to Exclusion
        To go into ``History.excluded``.
    """
    zero = history.net_wh == 0
    if history.known is not None:
        zero &= history.known
    edges = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]]).astype(np.int8)))
    tz, found, days = zone_of(history.zone), set(), history.net_wh.size / 96
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= least_isps:
            first, last = (isp_start(history.first_isp + int(n)).astimezone(tz).date() for n in (start, stop - 1))
            found |= {date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1)}
    if len(found) > max(days * rare_bps / BPS, 1):
        return {}
    return dict.fromkeys(sorted(found), Exclusion.OUTAGE)
