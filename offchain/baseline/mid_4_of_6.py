"""Mid 4 of 6: mean of the four middle days of the last six similar ones."""

import numpy as np

from offchain.baseline.history import History
from offchain.baseline.rounding import rounded_mean_wh
from offchain.domain.isp import MarketDay

DAYS = 6


class Mid4Of6:
    """Mean per ISP of the last six days of the same type without the one of highest and the one of lowest
    energy.

    Days are ranked by their net consumption over the whole day, so that no ISP is favoured; of equal days the
    earlier one counts as lower. Worked example, one ISP a day: 10, 80, 20, 30, 41, 50 Wh; 10 and 80 go, the
    mean of 20, 30, 41, 50 is 35.25, the baseline 35 Wh. No adjustment to the day itself: any adjustment by
    metered values before an event can be raised on purpose.
    """

    name = "mid_4_of_6"
    version = 1

    def baseline(self, history: History, day: MarketDay) -> np.ndarray:
        """See :class:`offchain.baseline.method.BaselineMethod`."""
        earliest_first = history.similar_days(day, DAYS)[::-1]
        ranked = earliest_first[np.argsort(earliest_first.sum(axis=1), kind="stable")]
        middle = ranked[1:-1]
        return rounded_mean_wh(middle.sum(axis=0), len(middle))
