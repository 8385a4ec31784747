"""Gas of the energy market in transactions of their own: the scenarios of ``benchmarks/bench_market_gas.py`` and
``benchmarks/bench_market_settlement_gas.py``, kept.

They run on a chain of their own that nothing else writes to, so that the same calls cost the same.
"""

import importlib.util
import sys

from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.compile import deployed_size, update_artifacts
from offchain.chain.toolchain import ROOT
from tests.gas.snapshot import check

SCRIPTS = ROOT / "benchmarks"


def script(name: str):
    """A benchmark, loaded by its path: a dependency ships a package named ``benchmarks``."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


def test_market_costs_what_is_kept(tmp_path):
    bench = script("bench_market_gas")
    with Anvil() as node:
        market = bench.Market(Chain(node.url), tmp_path / "deployment.json")
        gas = bench.measure(market)
        gas["reject one order of a bundle of 24"] = bench.rejection(market)
        cleared = {orders: market.clear_book(orders, bench.FIXED_TICKS) for orders in (100, 1_000)}
        many_ticks = market.clear_book(200, 100)
    for scenario, value in gas.items():
        check(f"market: {scenario}", value)
    for orders, value in cleared.items():
        check(f"market: clear a period of {orders:,} orders on {bench.FIXED_TICKS} ticks", value)
    check("market: clear a period of 200 orders on 100 ticks", many_ticks)
    assert many_ticks <= 100 * 3_200
    assert abs(cleared[100] - cleared[1_000]) < 2_000
    for scenario in ("place of an earlier session", "place never used"):
        assert gas[f"bundle of 24, warm book, {scenario}"] <= 24 * 6_000
    assert gas["lone order on an occupied tick, place of an earlier session"] <= 100_000
    assert gas["100 relayed bundles of 24, 5 limit prices"] <= 2_400 * 6_000
    assert gas["claims of 100 bundles of 24 in one transaction"] <= 2_400 * 4_000


def test_settlement_costs_what_is_kept():
    bench = script("bench_market_settlement_gas")
    with Anvil(chain_id=bench.CHAIN_ID) as node:
        gas = bench.measure(bench.settling_world(node))
    for scenario, value in gas.items():
        check(f"market: settle {scenario}", value)


def test_deployed_code_is_as_long_as_kept():
    """The larger contracts of the market, as ``make compile`` makes them."""
    artifacts = update_artifacts()
    for name in ("EnergyMarket", "MarketSettlement", "EnergyCertificates"):
        check(f"deployed code of {name}, bytes", deployed_size(artifacts[name]))
