"""
settle, on the day and until its batch can be used
├── day not over, to the second → reverts DayNotOver
├── no batch → reverts BatchUnknown; rejected by a challenge → reverts BatchNotUsable
└── challenge window open, to the second → reverts ChallengeWindowOpen
"""

import pytest

from tests.utils import clock, flexworld
from tests.utils.reverts import reverts

QUANTITIES = {72: 1_000}


@pytest.fixture(scope="module")
def order(world):
    return world.issue(world.home, QUANTITIES)


def signed_day(world):
    return flexworld.Metered({"home": world.meter_day(world.home, QUANTITIES)}, {"home": []}, 0)


def test_settle_reverts_when_day_is_not_over(world, order):
    clock.at(world.end - 1)
    with reverts("DayNotOver", world.end, world.end - 1, unchanged=world.contracts):
        world.settle(order, world.home, signed_day(world))


def test_settle_reverts_when_nothing_was_anchored(world, order, actors):
    clock.at(world.end)
    with reverts("BatchUnknown", actors.meter_operator, world.day, unchanged=world.contracts):
        world.settle(order, world.home, signed_day(world))


def test_settle_reverts_when_challenge_window_is_open(world, order):
    clock.move_to(world.end)
    metered = world.anchor({"home": QUANTITIES})
    clock.at(metered.usable_from - 1)
    with reverts("ChallengeWindowOpen", metered.usable_from, metered.usable_from - 1, unchanged=world.contracts):
        world.settle(order, world.home, metered)
    clock.at(metered.usable_from)
    world.settle(order, world.home, metered)


def test_settle_reverts_when_batch_was_rejected(world, order, actors):
    """The device signed 300 Wh for an ISP of which the operator anchored something else."""
    clock.move_to(world.end)
    metered = world.anchor({"home": QUANTITIES})
    reading = world.reading(world.home, 72, 300)
    world.metering.challengeContradiction(
        actors.meter_operator, metered.days["home"], metered.proofs["home"], reading, {"from": actors.outsider}
    )
    clock.move_to(metered.usable_from)
    with reverts("BatchNotUsable", actors.meter_operator, world.day, 1, 2, unchanged=world.contracts):
        world.settle(order, world.home, metered)


def test_settle_uses_the_version_after_a_rejected_one(world, order, actors):
    clock.move_to(world.end)
    metered = world.anchor({"home": QUANTITIES})
    world.metering.challengeContradiction(
        actors.meter_operator,
        metered.days["home"],
        metered.proofs["home"],
        world.reading(world.home, 72, 300),
        {"from": actors.outsider},
    )
    system_fund(world, actors)
    metered = world.finish_day({"home": {72: 300}})
    world.settle(order, world.home, metered)
    assert world.dispatch.prosumerOrder(order.id)["version"] == 2


def system_fund(world, actors):
    """The operator's bond is full again."""
    world.metering.postBond(flexworld.OPERATOR_BOND, {"from": actors.meter_operator})
