"""Gas of the tick book in transactions of their own: order bundles, clearing as books grow, claims.

Lean harness: no sender, no escrow, no record of the bundle; what a market adds to these comes on top.
"""

import pytest

from tests.gas.snapshot import check
from tests.utils import system

GRID = (-100_000, 1_000, 4096, 24, 1)
"""Tick 0 at -0.10 token/kWh, steps of 0.001 token/kWh, 24 periods, orders from 1 Wh."""
HOURS = range(24)
PLACE_TARGET, LONE_TARGET, CLEAR_TARGET, CLAIM_TARGET = 6_000, 100_000, 3_200, 4_000
FIXED = 80_000
"""Transaction, result stored for the first time, bitmap words [gas]: what a clearing costs without its ticks."""


def bundle_of(rows) -> bytes:
    """Bundle of (period, sell, tick, quantity), written here byte by byte as a wallet would."""
    return b"".join(
        bytes([period, sell]) + tick.to_bytes(2, "big") + wh.to_bytes(4, "big") for period, sell, tick, wh in rows
    )


def day(ticks, *, sell=0, wh=500) -> bytes:
    """One order in each of 24 hours, on ticks that repeat."""
    return bundle_of((hour, sell, ticks[hour % len(ticks)], wh) for hour in HOURS)


@pytest.fixture
def books(core, actors):
    harness = system.deploy(actors.admin, "TickBookHarness")
    harness.open(1, GRID)
    return harness


def test_place_costs_what_is_kept(books):
    lone = bundle_of([(3, 0, 300, 500)])
    first = books.place(1, lone).gas_used
    check("place a lone order, the first of its session", first)
    second = books.place(1, bundle_of([(4, 0, 300, 500)])).gas_used
    check("place a lone order, the first of its period", second)
    check("place a lone order on a new tick", books.place(1, bundle_of([(3, 0, 301, 500)])).gas_used)
    check("place a lone order on an occupied tick", books.place(1, lone).gas_used)
    assert max(first, second) <= LONE_TARGET


def test_place_costs_what_is_kept_in_bundles_of_24(books):
    mine = day([300])
    check("place a bundle of 24 on an empty book, one limit price", books.place(1, mine).gas_used)
    warm = books.place(1, mine).gas_used
    check("place a bundle of 24 on a warm book, one limit price", warm)
    check("remove a bundle of 24 that others share the ticks of, one limit price", books.remove(1, mine).gas_used)
    assert warm <= 24 * PLACE_TARGET


def test_place_costs_what_is_kept_when_every_hour_has_its_own_price(books):
    ticks = list(range(300, 324))
    books.place(1, day(ticks))
    check("place a bundle of 24 on a warm book, 24 limit prices", books.place(1, day(ticks)).gas_used)


def test_place_costs_what_is_kept_when_a_relayer_brings_100_traders(books):
    bundles = [day([300 + trader % 5]) for trader in range(100)]
    books.placeAll(1, bundles)
    gas = books.placeAll(1, bundles).gas_used
    check("place 100 bundles of 24 in one transaction on a warm book, 5 limit prices", gas)


def crossing(ticks: int, orders: int, spread: int) -> list[bytes]:
    """Buyers and sellers by turns on ``ticks`` ticks, as bundles of at most 500 orders."""
    rows = [(0, n % 2, 100 + (n % ticks) * spread, 10 + n % 7) for n in range(orders)]
    return [bundle_of(rows[start : start + 500]) for start in range(0, orders, 500)]


@pytest.mark.parametrize(("spread", "where"), [(1, "side by side"), (39, "39 apart")])
@pytest.mark.parametrize(("ticks", "growth"), [(10, (10, 100, 1_000)), (100, (100, 1_000))])
def test_clear_costs_what_is_kept_and_the_same_for_any_number_of_orders(books, ticks, growth, spread, where):
    costs = []
    for session, orders in enumerate(growth, start=2):
        books.open(session, GRID)
        for bundle in crossing(ticks, orders, spread):
            books.place(session, bundle)
        costs.append(books.clear(session, 0, 4096).gas_used)
        check(f"clear {orders:,} orders on {ticks} ticks {where}", costs[-1])
        assert costs[-1] <= FIXED + CLEAR_TARGET * ticks
    # The class may differ with the quantities, the work per tick does not.
    assert max(costs) - min(costs) < 2_000


def test_clear_costs_what_is_kept_when_it_takes_four_transactions(books):
    for bundle in crossing(100, 100, 1):
        books.place(1, bundle)
    costs = [books.clear(1, 0, 13).gas_used for _ in range(4)]  # half of the ticks have the side that is read
    assert books.unfinished(1) == 0
    check("clear 100 ticks in four transactions, all together", sum(costs))
    check("clear 100 ticks again in one transaction", books.clear(1, 0, 4096).gas_used)


def test_claim_costs_what_is_kept(books, actors):
    mine = day([300])
    for bundle in (mine, day([300]), day([290], sell=1, wh=700)):
        books.place(1, bundle)
    for hour in HOURS:
        books.clear(1, hour, 4096)
    assert books.claim(1, mine) == 24 * 350
    tx = books.claim.transact(1, mine, {"from": actors.outsider})
    check("claim a bundle of 24, every order rationed", tx.gas_used)
    assert tx.gas_used <= 24 * CLAIM_TARGET


def test_deployed_code_is_as_long_as_kept():
    from brownie.project import get_loaded_projects

    (project,) = get_loaded_projects()
    check("deployed code of TickBookHarness, bytes", len(project["TickBookHarness"]._build["deployedBytecode"]) // 2)
