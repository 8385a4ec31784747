from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from offchain.baseline.history import History
from offchain.domain.isp import MarketDay
from offchain.grid.scenario import load_scenario

CACHE = Path(__file__).parents[3] / "build" / "simbench"


@pytest.fixture(scope="session")
def quiet():
    return load_scenario("quiet", cache_dir=CACHE)


@pytest.fixture(scope="session")
def evening():
    return load_scenario("evening", cache_dir=CACHE)


@pytest.fixture
def working_days():
    """Makes a history of whole days of one value each, laid on working days, the earliest on Monday 4 January 2016."""

    def make(values_wh, **more) -> History:
        first, laid, day = MarketDay.of(date(2016, 1, 4)).first_isp, [], date(2016, 1, 4)
        for value in values_wh:
            while day.weekday() >= 5 or day == date(2016, 3, 25) or day == date(2016, 3, 28):
                laid.append(np.zeros(MarketDay.of(day).isp_count, dtype=np.int64))
                day += timedelta(1)
            laid.append(np.broadcast_to(np.asarray(value, dtype=np.int64), (96,)))
            day += timedelta(1)
        return History(first, np.concatenate(laid), **more)

    return make
