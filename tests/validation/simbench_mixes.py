"""Households of SimBench with and without charger, heat pump and PV: the only data here whose parts are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offchain.grid.simbench_data import GridData, load_grid_data

CODE = "1-LV-rural3--2-sw"
CACHE = Path(__file__).parents[2] / "build" / "simbench"
HOUSEHOLDS = ("H0-A", "H0-B", "H0-C", "H0-G", "H0-L")
CHARGERS = {"HLS_A_3.7": 3_700.0, "HLS_B_3.7": 3_700.0, "HLS_A_11.0": 10_900.0, "HLS_B_11.0": 10_900.0}
HEAT_PUMPS = {"Air_Parallel_1": 4_000.0, "Soil_Alternative_1": 4_900.0, "Air_Alternative_2": 4_000.0}
PLANTS = {"PV1": ("PV3", "PV4"), "PV3": ("PV1", "PV7"), "PV4": ("PV1", "PV3"), "PV7": ("PV3", "PV4")}
"""Each plant with the two that serve as reference for it."""
HOUSEHOLD_W, PLANT_W = 3_000.0, 6_000.0


@dataclass(frozen=True)
class Mix:
    """One connection and its parts per ISP [Wh]."""

    name: str
    household_wh: np.ndarray
    charger_wh: np.ndarray
    heat_pump_wh: np.ndarray
    generation_wh: np.ndarray
    reference_wh_per_w: np.ndarray | None

    @property
    def net_wh(self) -> np.ndarray:
        return self.household_wh + self.charger_wh + self.heat_pump_wh - self.generation_wh


def grid_data() -> GridData:
    """The grid with all profiles that mixes are made of."""
    return load_grid_data(CODE, cache_dir=CACHE)


def mix(
    data: GridData, household: str, charger: str | None = None, heat_pump: str | None = None, plant: str | None = None
) -> Mix:
    """A household with what is beside it."""

    def wh(name: str | None, power_w: float) -> np.ndarray:
        column = data.profile_p[:, data.profile_index(name)] if name else np.zeros(len(data.profile_p))
        return column * power_w / 4

    return Mix(
        "+".join(filter(None, (household, charger, heat_pump, plant))),
        wh(household, HOUSEHOLD_W),
        wh(charger, CHARGERS.get(charger, 0.0)),
        wh(heat_pump, HEAT_PUMPS.get(heat_pump, 0.0)),
        wh(plant, PLANT_W),
        None if plant is None else np.stack([wh(r, 1.0) for r in PLANTS[plant]], axis=1),
    )


def errors(estimated_wh: np.ndarray, true_wh: np.ndarray) -> tuple[float, float]:
    """Energy found over true energy, and sum of absolute errors over true energy."""
    total = true_wh.sum()
    return float(estimated_wh.sum() / total), float(np.abs(estimated_wh - true_wh).sum() / total)
