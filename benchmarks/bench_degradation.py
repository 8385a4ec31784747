"""Degradation rates of simulated plants against the truth, and the short-term correction. Run by ``make bench``."""

import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _harness import measure, record

from offchain.degradation.generation import LEADS, RECENT, TrendCorrection
from offchain.degradation.performance import daily_performance
from offchain.degradation.plant import expected_wh
from offchain.degradation.year_on_year import degradation_rate
from tests.validation.aging_plants import PLANT, daily_index, metered_plant
from tests.validation.simbench_mixes import grid_data

RATE = -0.007
PLANTS = 50
LAST_TRAINING_DAY = 300


def rates() -> dict[str, dict[str, float]]:
    """Error and coverage by length of the series."""
    made = {}
    for years in (3, 5, 10):
        found = [degradation_rate(daily_index(RATE, years, np.random.default_rng(s))) for s in range(PLANTS)]
        errors = np.array([f.rate_per_year - RATE for f in found]) * 100
        made[f"{years} years"] = {
            "bias_percent_a_year": round(float(errors.mean()), 3),
            "rmse_percent_a_year": round(float(np.sqrt((errors**2).mean())), 3),
            "held_by_95_percent_interval": float(np.mean([f.low <= RATE <= f.high for f in found])),
            "median_width_percent_a_year": round(statistics.median((f.high - f.low) * 100 for f in found), 2),
        }
    return made


def corrections() -> dict[str, dict[str, float]]:
    """Mean absolute error over four hours of a forecast from the last seven days, before and after correction."""
    grid = grid_data()
    made = {}
    for name in (n for n in grid.profile_name if n.startswith("PV")):
        days = grid.profile_p[:, grid.profile_index(name)].reshape(-1, 96)
        forecast = np.stack([days[i - 7 : i].mean(axis=0) for i in range(7, len(days))]).ravel()
        metered = days[7:].ravel()
        cut = (LAST_TRAINING_DAY - 7) * 96
        trend = TrendCorrection.fit(metered[:cut], forecast[:cut])
        before, after = [], []
        for now in range(cut, metered.size - LEADS, RECENT):
            ahead, past = slice(now, now + LEADS), slice(now - RECENT, now)
            corrected = trend.correct(metered[past], forecast[past], forecast[ahead]).generation_wh
            before.append(np.abs(forecast[ahead] - metered[ahead]))
            after.append(np.abs(corrected - metered[ahead]))
        gain = 1 - np.mean(after, axis=0) / np.mean(before, axis=0)
        made[str(name)] = {f"less_error_{h}_h_ahead": round(float(gain[4 * h - 1]), 3) for h in (1, 2, 4)}
    return made


def main() -> None:
    generation, first, weather = metered_plant(RATE, 4, seed=1)

    def whole():
        expected = expected_wh(PLANT, first, generation.size, weather)
        return degradation_rate(daily_performance(generation, expected, first, inverter_w=PLANT.inverter_w))

    wall, cpu = measure(whole, n=3)
    found = whole()
    result = record(
        "degradation",
        question="time from four years of quarter-hour generation and irradiance to rate and interval",
        data=f"simulated plant losing {-RATE:.1%} a year, with soiling, outages, a fault of six weeks; {PLANTS} daily "
        "series per length for errors; short-term correction on the PV profiles of SimBench, trained until 26 October",
        seed=1,
        values=wall,
        unit="s",
        packages=("numpy", "pvlib", "pandas"),
        more={
            "cpu_median": statistics.median(cpu),
            "found_percent_a_year": [round(v * 100, 3) for v in (found.rate_per_year, found.low, found.high)],
            "rates": rates(),
            "short_term": corrections(),
        },
    )
    print(f"degradation: {result['median']:.1f} s a plant, {result['found_percent_a_year']} % a year, true {RATE:.1%}")
    for years, row in result["rates"].items():
        print(f"  {years}: {row}")
    for name, row in result["short_term"].items():
        print(f"  {name}: {row}")


if __name__ == "__main__":
    main()
