"""Errors of baseline methods on a year of SimBench, and time for many meters. Run by ``make bench``."""

import csv
import statistics
from datetime import date
from pathlib import Path

import numpy as np
from _harness import measure, record
from simbench import sb_dir

from offchain.baseline.evaluation import Quality, evaluate
from offchain.baseline.history import History
from offchain.baseline.method import BASELINE_METHODS, baseline_method, baselines_of, method_hash
from offchain.domain.isp import MarketDay
from offchain.grid.scenario import load_scenario
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS

ROOT = Path(__file__).parents[1]
PROFILES = Path(sb_dir) / "networks" / "1-complete_data-mixed-all-0-sw" / "LoadProfile.csv"
EVENT = range(68, 76)
DAY = MarketDay.of(date(2016, 12, 14))
PEAK_WH = 10_000
"""Energy of a quarter hour in which a profile has its highest value."""
CONSUMERS = ("BL-", "G", "H0-", "L", "WB-")
MEASURED_BEFORE = {
    # of STACK.md, section 4: CV(RMSE) all, bias all, CV(RMSE) business, bias business, bias household [%]
    "high_5_of_10@1": (25.2, 10.2, 20.4, 6.8, 35.2),
    "high_5_of_10_additive@1": (21.6, 5.7, 18.0, 3.0, 21.4),
    "mid_4_of_6_additive@1": (20.3, -0.1, 17.0, 0.0, -2.5),
    "average_10_of_10@1": (21.8, 0.0, 18.8, 0.0, -0.3),
    "comparable_day_3@1": (22.9, 0.1, 16.5, 0.0, -0.8),
    "least_squares_same_day@1": (19.1, 0.1, 14.6, 0.0, 0.6),
}


def profiles() -> dict[str, History]:
    """The 27 consumer types of the data set: bakeries and workshops, commerce, households, agriculture."""
    with PROFILES.open(encoding="utf-8") as stream:
        rows = csv.reader(stream, delimiter=";")
        header = next(rows)
        columns = [
            n
            for n, name in enumerate(header)
            if name.endswith("_pload") and name.startswith(CONSUMERS) and not name.startswith("lv_")
        ]
        values = np.array([[row[n] for n in columns] for row in rows], dtype=float)
    assert len(values) == YEAR_ISPS and len(columns) == 27
    energy_wh = np.rint(values * PEAK_WH).astype(np.int64)
    return {header[n][:-6]: History(YEAR_FIRST_ISP, energy_wh[:, k]) for k, n in enumerate(columns)}


def groups() -> dict[str, History]:
    """Consumers of the pilot's grids, summed."""
    found = {}
    for name in ("quiet", "evening"):
        scenario = load_scenario(name, seed=1, cache_dir=ROOT / "build" / "simbench")
        consumers = [i for i, asset in enumerate(scenario.assets) if asset.kind in ("household", "business")]
        net_wh = scenario.asset_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS))[:, consumers]
        found[f"{len(consumers)} consumers of {scenario.code}"] = History(YEAR_FIRST_ISP, net_wh.sum(axis=1))
    return found


def medians(quality: dict[str, Quality]) -> dict[str, float]:
    """Medians over profiles as in the table, and those of all consumers that are homes or commerce."""
    business = [q for name, q in quality.items() if name.startswith("G")]
    homes = [q for name, q in quality.items() if name.startswith("H0-")]
    sets = {"all": list(quality.values()), "business": business, "household": homes, "both": business + homes}
    return {
        f"{what}_{name}_percent": round(statistics.median(getattr(q, f"{what}_percent") for q in members), 2)
        for name, members in sets.items()
        for what in ("cv_rmse", "bias")
    }


def main() -> None:
    single, summed = profiles(), groups()
    methods = list(BASELINE_METHODS.values())
    of_single, of_groups = (evaluate(methods, histories, EVENT) for histories in (single, summed))
    assert not of_single.refused and not of_groups.refused
    rows = {}
    print(f"{'method':28} CV all  bias   CV bus.  bias   bias homes   groups' bias")
    for identifier, method in BASELINE_METHODS.items():
        quality = {name: by_method[identifier] for name, by_method in of_single.quality.items()}
        row = medians(quality)
        bias = {name: round(by_method[identifier].bias_percent, 2) for name, by_method in of_groups.quality.items()}
        before = MEASURED_BEFORE.get(identifier)
        rows[identifier] = {
            "hash": method_hash(method),
            "same_day": method.same_day,
            **row,
            "group_bias_percent": bias,
            "group_cv_rmse_percent": {
                name: round(by_method[identifier].cv_rmse_percent, 2) for name, by_method in of_groups.quality.items()
            },
            "table_cv_rmse_all_business_percent": None if before is None else [before[0], before[2]],
        }
        print(
            f"{identifier:28} {row['cv_rmse_all_percent']:6.1f} {row['bias_all_percent']:+6.1f} "
            f"{row['cv_rmse_business_percent']:7.1f} {row['bias_business_percent']:+6.1f} "
            f"{row['bias_household_percent']:+10.1f}    " + ", ".join(f"{value:+.2f}" for value in bias.values())
        )
    many = {
        (name, copy): History(history.first_isp, np.roll(history.net_wh, 672 * copy))
        for copy in range(38)
        for name, history in single.items()
    }
    many = dict(list(many.items())[:1_000])
    speed = {}
    for identifier in ("mid_4_of_6@1", "weighted_10@1", "least_squares@1"):
        wall, _ = measure(lambda: baselines_of(baseline_method(identifier), many, DAY), n=3)  # noqa: B023
        speed[identifier] = round(statistics.median(wall), 3)
        print(f"{identifier}: baselines of 1,000 meters in {speed[identifier]:.2f} s")
    best = [q["least_squares_same_day@1"].cv_rmse_percent for q in of_single.quality.values()]
    record(
        "baselines",
        question="CV(RMSE) of least_squares_same_day@1 in placebo events from 17 to 19 h on working days",
        data="SimBench 2016, 27 consumer types; events of all working days with ten eligible ones before "
        f"({next(iter(of_single.quality.values()))['weighted_10@1'].events})",
        seed=None,
        values=best,
        unit="%",
        target=MEASURED_BEFORE["least_squares_same_day@1"][0],
        packages=("numpy", "simbench"),
        more={"methods": rows, "seconds_for_1000_meters": speed},
    )


if __name__ == "__main__":
    main()
