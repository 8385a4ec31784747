"""Gas of the metering ledger, whatever the number of readings: 96 readings a meter-day."""

import pytest

from offchain.chain.leaves import meter_day_leaf
from offchain.chain.merkle import MerkleTree
from offchain.domain.curves import pack_quantities, pack_readings
from tests.gas.snapshot import check
from tests.utils import clock, metering, system
from tests.utils.metering import ISPS

GAS_PER_READING = 10
"""Target at 10,000 readings."""


@pytest.fixture(scope="module")
def site(core, actors):
    return metering.open_site(core, actors)


def batch_of(site, readings: int) -> tuple[metering.MeterDay, MerkleTree]:
    """The device's day, first in a batch of at least as many readings."""
    day = site.day()
    others = [
        meter_day_leaf(system.id_of(f"meter {number}"), site.first_isp, ISPS, day.meter_id)
        for number in range(-(-readings // ISPS) - 1)
    ]
    return day, MerkleTree([day.leaf, *others])


@pytest.mark.parametrize("readings", [10, 1_000, 10_000])
def test_anchorDay_costs_what_is_kept(site, actors, readings):
    _, tree = batch_of(site, readings)
    operator, data_hash = actors.meter_operator, metering.DATA_HASH

    def anchor(first_isp):
        arguments = (first_isp, ISPS, tree.root, len(tree), data_hash)
        return site.ledger.anchorDay(*arguments, {"from": operator}).gas_used

    first, second, corrected = anchor(site.first_isp - 1), anchor(site.first_isp), anchor(site.first_isp)
    check(f"anchor a day batch of {readings:,} readings, an operator's first", first)
    check(f"anchor a day batch of {readings:,} readings", second)
    check(f"correct a day batch of {readings:,} readings", corrected)
    assert max(first, second, corrected) <= GAS_PER_READING * 10_000


def test_anchorIntraday_costs_what_is_kept(site, actors):
    arguments = (site.first_isp, system.id_of("root"), 1_000, metering.DATA_HASH)
    transaction = site.ledger.anchorIntraday(*arguments, {"from": actors.meter_operator})
    check("anchor an intraday batch of 1,000 readings", transaction.gas_used)


@pytest.mark.parametrize("readings", [10, 1_000, 10_000])
def test_requireDay_costs_what_is_kept(site, actors, readings):
    """As a transaction of its own: 21,000 gas and the calldata of 96 readings included."""
    day, tree = batch_of(site, readings)
    arguments = (site.first_isp, ISPS, tree.root, len(tree), metering.DATA_HASH)
    site.ledger.anchorDay(*arguments, {"from": actors.meter_operator})
    clock.move_to(site.window_end(actors.meter_operator))
    transaction = site.ledger.requireDay.transact(day, tree.proof(0), {"from": actors.outsider})
    check(f"verify one meter-day out of a batch of {readings:,} readings", transaction.gas_used)


def test_challengeContradiction_costs_what_is_kept(site, actors):
    day, tree = batch_of(site, 10_000)
    arguments = (site.first_isp, ISPS, tree.root, len(tree), metering.DATA_HASH)
    site.ledger.anchorDay(*arguments, {"from": actors.meter_operator})
    transaction = site.ledger.challengeContradiction(
        actors.meter_operator, day, tree.proof(0), site.reading(0, 1, 1), {"from": actors.outsider}
    )
    check("reject a day batch of 10,000 readings", transaction.gas_used)


def test_commit_costs_what_is_kept(core, actors):
    commitments = metering.deploy_commitments(actors.admin, core.authority, core.participants)
    word = system.id_of("word")
    arguments = (1, word, word, 1_995_000, ISPS, word, 153, 1, word)
    first = commitments.commit(*arguments, {"from": actors.aggregator})
    second = commitments.commit(*arguments, {"from": actors.aggregator})
    check("commit baselines of any number of meters, the first of all", first.gas_used)
    check("commit baselines of any number of meters", second.gas_used)


def test_curves_cost_what_is_kept(core, actors):
    curves = system.deploy(actors.admin, "CurvesHarness")
    check("loop over 96 packed quantities", curves.quantities(pack_quantities([9] * ISPS))[-1])
    check("loop over 96 packed readings", curves.readings(pack_readings([(9, 8)] * ISPS))[-1])
    check("total of 96 packed quantities", curves.total(pack_quantities([9] * ISPS), b"")[-1])


@pytest.mark.parametrize("name", ["MeteringLedger", "CommitmentRegistry"])
def test_deployed_code_is_as_long_as_kept(name):
    from brownie.project import get_loaded_projects

    (project,) = get_loaded_projects()
    check(f"deployed code of {name}, bytes", len(project[name]._build["deployedBytecode"]) // 2)
