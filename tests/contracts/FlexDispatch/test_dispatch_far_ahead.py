"""
dispatch, when the bonds could leave before the last correction of the day
├── day end + correction time at or after now + hold time of bonds, to the second → reverts DayTooFarAhead
└── before → dispatches; a replacement needs no check, as its day has come
"""

import pytest

from tests.utils import clock, flexworld
from tests.utils.flexibility import BOND_HOLD, HOUR
from tests.utils.reverts import reverts

FROM_OPENING_TO_DAY_END = 36 * HOUR
POSSIBLE_AFTER = 5 * HOUR // 2
"""Since the world was opened: half an hour before `dispatchBy` [s]."""


@pytest.fixture(scope="module")
def world(core, actors):
    correction = BOND_HOLD - FROM_OPENING_TO_DAY_END + POSSIBLE_AFTER
    return flexworld.open_world(core, actors, correction=correction)


def test_dispatch_reverts_until_the_bonds_are_held_long_enough(world):
    last = world.end + world.dispatch.correctionSeconds()
    now = last - BOND_HOLD
    assert now == world.request.dispatch_by - HOUR // 2
    clock.at(now)
    part = world.part(world.home, {72: 1_000})
    with reverts("DayTooFarAhead", last, last, unchanged=world.contracts):
        world.dispatch_parts(part)
    clock.at(now + 1)
    world.dispatch_parts(part)


def test_correctionSeconds_is_that_of_the_settlement(world):
    assert world.settlement.correctionSeconds() == world.dispatch.correctionSeconds()
