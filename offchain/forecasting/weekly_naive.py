"""Weekly naive: the same day of the week before."""

from datetime import timedelta

import numpy as np

from offchain.baseline.history import History
from offchain.domain.errors import InsufficientHistoryError
from offchain.domain.isp import MarketDay

WEEKS = 4


class WeeklyNaive:
    """Expects what was metered one week before; two to four weeks before where that day is incomplete."""

    name = "weekly_naive"
    version = 1

    def forecast(self, history: History, day: MarketDay) -> np.ndarray:
        """See :class:`offchain.forecasting.method.ForecastMethod`."""
        for weeks in range(1, WEEKS + 1):
            values = history.aligned_values_of(day.day - timedelta(weeks=weeks), day)
            if values is not None:
                return values.astype(float)
        raise InsufficientHistoryError(available=0, required=1, what=f"{day.day:%A}s before {day.day}")
