"""A year of quarter-hour power flow on a low-voltage grid. Run by ``make bench``."""

import statistics
from pathlib import Path

from _harness import measure, record

from offchain.grid.power_flow import PowerFlow
from offchain.grid.scenario import load_scenario
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS

CACHE = Path(__file__).parents[1] / "build" / "simbench"
SEED = 1


def main() -> None:
    scenario = load_scenario("evening", seed=SEED, cache_dir=CACHE)
    year = range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS)
    net_wh, reactive_var = scenario.net_wh(year), scenario.reactive_var(year)
    flow = PowerFlow.of(scenario)
    wall, cpu = measure(lambda: flow.run(net_wh, reactive_var), n=10)
    result = record(
        "grid",
        question="year of quarter-hour power flow with voltages and loadings of all elements, two threads",
        data=f"{scenario.code}, scenario evening: {YEAR_ISPS} steps, {scenario.grid.buses} buses, "
        f"{len(scenario.connections)} connections",
        seed=SEED,
        values=wall,
        unit="s",
        target=5.0,
        packages=("power-grid-model", "numpy", "simbench"),
        more={
            "cpu_median": statistics.median(cpu),
            "steps": YEAR_ISPS,
            "buses": scenario.grid.buses,
        },
    )
    print(f"year of power flow: {result['median']:.2f} s wall, {result['cpu_median']:.2f} s CPU")


if __name__ == "__main__":
    main()
