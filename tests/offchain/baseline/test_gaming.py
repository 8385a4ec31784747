from datetime import date

import numpy as np
import pytest

from offchain.baseline.gaming import pre_event_movement
from offchain.baseline.history import History
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.domain.units import Direction

DAY = MarketDay.of(date(2016, 3, 16))
EVENT = range(DAY.first_isp + 68, DAY.first_isp + 76)
FIRST = MarketDay.of(date(2016, 1, 4)).first_isp


def history_with(before_event: int) -> History:
    net_wh = np.random.default_rng(4).integers(900, 1_101, EVENT.stop - FIRST)
    net_wh[EVENT.start - 8 - FIRST : EVENT.start - FIRST] = before_event
    return History(FIRST, net_wh)


@pytest.mark.parametrize(
    ("before", "direction", "suspicious"),
    [
        (1_500, Direction.UP, True),
        (1_500, Direction.DOWN, False),
        (500, Direction.UP, False),
        (500, Direction.DOWN, True),
        (1_000, Direction.UP, False),
        (1_090, Direction.UP, False),  # more than on any day, and less than a tenth
    ],
)
def test_movement_is_suspicious_when_large_and_in_the_paying_direction(before, direction, suspicious):
    movement = pre_event_movement(history_with(before), DAY, EVENT, direction)
    assert movement.suspicious is suspicious
    assert movement.isps == 8
    if suspicious:
        assert movement.rank_bps == 10_000 and movement.moved_wh == pytest.approx(4_000, abs=300)


def test_movement_is_compared_from_the_notice_on_when_given():
    movement = pre_event_movement(history_with(1_500), DAY, EVENT, Direction.UP, notice_isp=EVENT.start - 2)
    assert movement.isps == 2 and movement.moved_wh == pytest.approx(1_000, abs=150)
    day_before = pre_event_movement(history_with(1_500), DAY, EVENT, Direction.UP, notice_isp=DAY.first_isp - 30)
    assert day_before.isps == 68


def test_movement_flags_few_days_when_nobody_games(quiet):
    from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS

    net_wh = quiet.net_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS))
    flags = []
    for column in net_wh.T[::7]:
        for day in (date(2016, 5, 11), date(2016, 9, 22)):
            market_day = MarketDay.of(day)
            event = range(market_day.first_isp + 68, market_day.first_isp + 76)
            flags.append(
                pre_event_movement(History(YEAR_FIRST_ISP, column), market_day, event, Direction.UP).suspicious
            )
    assert sum(flags) <= 0.15 * len(flags)


def test_movement_raises_when_the_notice_comes_with_the_event():
    with pytest.raises(DomainError, match="no ISP lies between"):
        pre_event_movement(history_with(1), DAY, EVENT, Direction.UP, notice_isp=EVENT.start)


def test_movement_raises_when_there_are_too_few_days():
    short = History(DAY.first_isp - 96 * 10, np.ones(96 * 10 + 68, dtype=np.int64))
    with pytest.raises(InsufficientHistoryError) as caught:
        pre_event_movement(short, DAY, EVENT, Direction.UP)
    assert caught.value.required == 20
