"""Gas of the energy market in transactions of their own: the scenarios of ``benchmarks/bench_market_gas.py``, kept.

They run on a chain of their own that nothing else writes to, so that the same calls cost the same.
"""

import importlib.util
import sys

import pytest

from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.toolchain import ROOT
from tests.gas.snapshot import check

SCRIPTS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    """The script, loaded by its path: a dependency ships a package named ``benchmarks``."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("bench_market_gas", SCRIPTS / "bench_market_gas.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


def test_market_costs_what_is_kept(bench, tmp_path):
    with Anvil() as node:
        market = bench.Market(Chain(node.url), tmp_path / "deployment.json")
        gas = bench.measure(market)
        gas["reject one order of a bundle of 24"] = bench.rejection(market)
        cleared = {orders: market.clear_book(orders, bench.FIXED_TICKS) for orders in (100, 1_000)}
    for scenario, value in gas.items():
        check(f"market: {scenario}", value)
    for orders, value in cleared.items():
        check(f"market: clear a period of {orders:,} orders on {bench.FIXED_TICKS} ticks", value)
    assert abs(cleared[100] - cleared[1_000]) < 2_000
    for scenario in ("place of an earlier session", "place never used"):
        assert gas[f"bundle of 24, warm book, {scenario}"] <= 24 * 6_000
    assert gas["lone order on an occupied tick, place of an earlier session"] <= 100_000
    assert gas["100 relayed bundles of 24, 5 limit prices"] <= 2_400 * 6_000
    assert gas["claims of 100 bundles of 24 in one transaction"] <= 2_400 * 4_000
