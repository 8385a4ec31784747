"""Gas of one prosumer-day, from dispatch to payout: 96 ordered ISPs, a proof of 1,024 meters."""

import pytest

from offchain.chain.agreements import isp_bits
from tests.gas.snapshot import check
from tests.utils import clock, flexworld, system
from tests.utils.flexibility import curve
from tests.utils.flexworld import issued

SETTLEMENT_TARGET = 150_000
NEW_SLOT = 17_000
"""What the EVM charges more for a slot that was zero than for another [gas], beside some bytes of calldata."""
METERS = 1_024
ALL_DAY = dict.fromkeys(range(96), 200)


@pytest.fixture(scope="module")
def world(core, actors):
    """Every home may be ordered all day, the flex order takes five of them."""
    every_isp = isp_bits(range(96))
    return flexworld.open_world(
        core,
        actors,
        ordered=dict.fromkeys(range(96), 1000),
        agreed={"working_day_isps": every_isp, "weekly_activations": 9},
    )


def metered(world, delivered):
    """The day of all homes among 1,024 meters."""
    others = [system.id_of(f"leaf {n}") for n in range(METERS - len(flexworld.HOMES))]
    return world.finish_day(delivered, more=others)


def test_dispatch_costs_what_is_kept(world):
    homes = [world.home, world.other_home, world.standby, world.second_standby, world.dear_standby]
    first = world.dispatch_parts(world.part(homes[0], ALL_DAY)).gas_used
    four = world.dispatch_parts(*(world.part(home, ALL_DAY) for home in homes[1:])).gas_used
    check("dispatch one prosumer for 96 ISPs, first of a flex order", first)
    check("dispatch four prosumers for 96 ISPs each", four)


def test_dispatch_costs_what_is_kept_for_an_evening(world):
    evening = dict.fromkeys(range(72, 80), 200)
    homes = [world.home, world.other_home, world.standby, world.second_standby, world.dear_standby]
    tx = world.dispatch_parts(*(world.part(home, evening) for home in homes))
    check("dispatch five prosumers for 8 ISPs each", tx.gas_used)


def test_settle_costs_what_is_kept(world):
    orders = issued(world.dispatch_parts(world.part(world.home, ALL_DAY), world.part(world.other_home, ALL_DAY)))
    delivered = {"home": ALL_DAY, "other_home": {p: q - 30 for p, q in ALL_DAY.items()}}
    day = metered(world, delivered)
    for account in (world.home.account, world.other_home.account):
        world.core.house.withdraw(account, world.free(account), {"from": account})
    first = world.settle(orders[0], world.home, day)
    assert len(day.proofs["home"]) == 10
    check("settle 96 ISPs of one of 1,024 meters, all delivered, first payment to the prosumer", first.gas_used)
    short = world.settle(orders[1], world.other_home, day)
    check("settle 96 ISPs of one of 1,024 meters, every ISP short, first payment", short.gas_used)
    assert max(first.gas_used, short.gas_used) <= SETTLEMENT_TARGET


def test_settle_costs_what_is_kept_when_prosumer_was_paid_before(world):
    (order,) = issued(world.dispatch_parts(world.part(world.home, ALL_DAY)))
    tx = world.settle(order, world.home, metered(world, {"home": ALL_DAY}))
    check("settle 96 ISPs of one of 1,024 meters, all delivered, later payment", tx.gas_used)
    assert tx.gas_used <= SETTLEMENT_TARGET


def test_settle_costs_what_is_kept_for_an_evening(world):
    evening = dict.fromkeys(range(72, 80), 200)
    (order,) = issued(world.dispatch_parts(world.part(world.home, evening)))
    tx = world.settle(order, world.home, metered(world, {"home": evening}))
    check("settle 8 ISPs of one of 1,024 meters, later payment", tx.gas_used)


def test_reassign_and_what_follows_cost_what_is_kept(world):
    world.list_standby(world.standby, world.second_standby)
    (order,) = issued(world.dispatch_parts(world.part(world.home, ALL_DAY)))
    tx = world.reassign(order, world.home, 48, 20, world.standby, world.second_standby)
    (replacement,) = issued(tx)
    check("reassign 46 ISPs to the first of two standbys", tx.gas_used)
    taken = dict.fromkeys(range(50, 96), 180)
    assert replacement.quantities == curve(taken)
    day = metered(world, {"home": dict.fromkeys(range(96), 20), "standby": taken})
    failed = world.settle(order, world.home, day, takenWh=curve(taken))
    check("settle an order of 96 ISPs of which 46 were taken over, penalty from the bond", failed.gas_used)
    stood_in = world.settle(replacement, world.standby, day)
    check("settle a replacement of 46 ISPs with its bonus", stood_in.gas_used)
    check("finalise a flex order", world.finalise().gas_used)


def test_settleMissing_costs_what_is_kept(world):
    (order,) = issued(world.dispatch_parts(world.part(world.home, ALL_DAY)))
    clock.move_to(world.end + flexworld.READINGS_DUE)
    check("settle 96 ISPs without readings", world.settle_missing(order).gas_used)


def test_first_use_of_an_account_costs_what_is_kept(core, actors):
    """An agreement locks its bond, if only of zero: the account is open before its first reward."""
    house, module, lock_id = core.house, {"from": actors.module}, system.id_of("lock")
    system.fund(core, actors, actors.dso, 10)
    house.lock(lock_id, actors.dso, 10, module)
    check("lock nothing from an account that was never used", house.lock(lock_id, actors.prosumer, 0, module).gas_used)
    check("lock nothing from an open account", house.lock(lock_id, actors.prosumer, 0, module).gas_used)
    opened = house.release(lock_id, actors.prosumer, 1, module).gas_used
    check("release to an open account without balance", opened)
    new = house.release(lock_id, actors.other_prosumer, 1, module).gas_used
    check("release to an account that was never used", new)
    assert new - opened >= NEW_SLOT


@pytest.mark.parametrize("name", ["FlexDispatch", "FlexReassignment", "FlexSettlement", "ClearingHouse"])
def test_deployed_code_is_as_long_as_kept(name):
    from brownie.project import get_loaded_projects

    (project,) = get_loaded_projects()
    check(f"deployed code of {name}, bytes", len(project[name]._build["deployedBytecode"]) // 2)
