"""How well loads are taken apart: errors on mixes of SimBench profiles with known parts. Run by ``make bench``."""

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _harness import record

from offchain.grid.simbench_data import YEAR_FIRST_ISP
from offchain.profiling.batch import for_each
from offchain.profiling.days import history_of
from offchain.profiling.disaggregation import Components, disaggregate
from tests.validation.simbench_mixes import CHARGERS, HEAT_PUMPS, PLANTS, Mix, errors, grid_data, mix

HOUSEHOLDS = ("H0-B", "H0-C", "H0-L")
LIKE_POWER = 3_700.0


def mixes() -> dict[str, Mix]:
    """Every household with every charger and heat pump, each alone and together; and with every plant."""
    data = grid_data()
    made = [
        mix(data, household, charger, pump)
        for household in HOUSEHOLDS
        for charger in (None, *CHARGERS)
        for pump in (None, *HEAT_PUMPS)
    ]
    made += [mix(data, household, None, None, plant) for household in HOUSEHOLDS for plant in PLANTS]
    made += [mix(data, household, "HLS_A_11.0", "Air_Parallel_1", "PV3") for household in HOUSEHOLDS]
    return {m.name: m for m in made}


def taken_apart(parts: Mix) -> Components:
    return disaggregate(history_of(YEAR_FIRST_ISP, parts.net_wh), reference_wh_per_w=parts.reference_wh_per_w)


def case(parts: Mix) -> str:
    """Which row of the table a mix belongs to."""
    charger, pump, plant = (a.any() for a in (parts.charger_wh, parts.heat_pump_wh, parts.generation_wh))
    if charger and pump and not plant:
        return "charger and heat pump, " + ("charger 3.7 kW" if parts.charger_wh.max() * 4 <= LIKE_POWER else "11 kW")
    names = [n for n, there in (("charger", charger), ("heat pump", pump), ("plant", plant)) if there]
    return " and ".join(names) or "household alone"


def table(all_mixes: dict[str, Mix], found: dict[str, Components]) -> dict[str, dict]:
    """Errors of each part by case: median, and worst absolute error."""
    rows: dict[str, dict] = {}
    for name, parts in all_mixes.items():
        components = found[name]
        truth = {
            "charger": (components.electric_vehicle_wh, parts.charger_wh),
            "heat_pump": (components.heating_cooling_wh, parts.heat_pump_wh),
            "generation": (components.generation_wh, parts.generation_wh),
            "curtailable": (components.curtailable_wh, parts.charger_wh + parts.heat_pump_wh),
        }
        row = rows.setdefault(case(parts), {})
        for part, (estimated, true) in truth.items():
            if true.any():
                row.setdefault(part, []).append(errors(estimated, true))
            else:
                row.setdefault(f"{part}_found_where_none_is_kwh", []).append(float(np.nansum(estimated)) / 1000)
    return {name: {part: _summary(values) for part, values in row.items()} for name, row in rows.items()}


def _summary(values: list) -> dict[str, float]:
    if isinstance(values[0], float):
        return {"mixes": len(values), "median": round(statistics.median(values), 1), "worst": round(max(values), 1)}
    energy, error = zip(*values, strict=True)
    return {
        "mixes": len(values),
        "energy_share_median": round(statistics.median(energy), 3),
        "absolute_error_median": round(statistics.median(error), 3),
        "absolute_error_worst": round(max(error), 3),
    }


def main() -> None:
    all_mixes = mixes()
    start = time.perf_counter()
    batch = for_each(all_mixes, taken_apart, workers=2)
    seconds = time.perf_counter() - start
    rows = table(all_mixes, batch.results)
    error = [
        errors(batch.results[n].curtailable_wh, m.charger_wh + m.heat_pump_wh)[1]
        for n, m in all_mixes.items()
        if m.charger_wh.any() or m.heat_pump_wh.any()
    ]
    result = record(
        "disaggregation",
        question="sum of absolute errors per quarter hour over true energy of what can be curtailed (charger and heat "
        "pump), found without knowing of any appliance; cases tell the parts apart",
        data=f"{len(all_mixes)} mixes of SimBench profiles of 2016: households of 3 kW, chargers of 3.7 and 11 kW, "
        "heat pumps of 4 to 4.9 kW, plants of 6 kW with two other plants as reference",
        seed=None,
        values=error,
        unit="share",
        packages=("numpy", "scipy", "simbench"),
        more={"cases": rows, "seconds_per_meter_year": round(2 * seconds / len(all_mixes), 2), "workers": 2},
    )
    print(f"disaggregation: median error {result['median']:.2f}, {result['seconds_per_meter_year']} s a meter and year")
    for name, row in rows.items():
        print(f"  {name}: " + "; ".join(f"{part} {values}" for part, values in row.items()))


if __name__ == "__main__":
    main()
