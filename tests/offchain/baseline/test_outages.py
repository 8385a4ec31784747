from datetime import date

import numpy as np
import pytest

from offchain.baseline.history import Exclusion, History
from offchain.baseline.outages import outage_days
from offchain.domain.isp import MarketDay

FIRST = MarketDay.of(date(2016, 2, 1)).first_isp


def history(*zeros: slice, days: int = 60, **more) -> History:
    net_wh = np.full(96 * days, 250)
    for run in zeros:
        net_wh[run] = 0
    return History(FIRST, net_wh, **more)


def test_outage_days_finds_an_hour_without_supply():
    assert outage_days(history(slice(96 * 3 + 40, 96 * 3 + 44))) == {date(2016, 2, 4): Exclusion.OUTAGE}


def test_outage_days_covers_every_day_when_it_lasts_over_midnight():
    found = outage_days(history(slice(96 * 3 - 2, 96 * 4 + 1), days=120))
    assert list(found) == [date(2016, 2, 3), date(2016, 2, 4), date(2016, 2, 5)]


@pytest.mark.parametrize("run", [slice(50, 53), slice(0, 0)])
def test_outage_days_finds_nothing_when_zeros_are_short(run):
    assert outage_days(history(run)) == {}


def test_outage_days_finds_nothing_when_zeros_are_usual():
    nights = [slice(96 * n, 96 * n + 20) for n in range(0, 60, 5)]
    assert outage_days(history(*nights)) == {}


def test_outage_days_does_not_count_readings_that_are_missing():
    known = np.ones(96 * 60, dtype=bool)
    known[40:60] = False
    assert outage_days(history(slice(40, 60), known=known)) == {}


def test_outage_days_are_left_out_of_a_baseline():
    cut = history(slice(96 * 3 + 40, 96 * 3 + 60))
    marked = History(cut.first_isp, cut.net_wh, excluded=outage_days(cut))
    eligible = marked.eligible_days(MarketDay.of(date(2016, 2, 9)), 10)
    assert date(2016, 2, 4) not in eligible.days and eligible.left_out[date(2016, 2, 4)] is Exclusion.OUTAGE


@pytest.mark.parametrize("size", [0, 3])
def test_outage_days_finds_nothing_when_there_is_hardly_any_history(size):
    assert outage_days(History(FIRST, np.zeros(size, dtype=np.int64))) == {}
