"""Photovoltaic plants that lose a known share a year, with soiling, outages and faults on top."""

import hashlib
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd

from offchain.degradation.performance import Performance
from offchain.degradation.plant import PvPlant, Weather, expected_wh
from offchain.domain.isp import MarketDay, isp_start

PLANT = PvPlant(48.1, 11.6, 10_000, altitude_m=500, inverter_w=9_000)
FIRST_DAY = date(2016, 1, 1)


class Case(NamedTuple):
    """A plant of :func:`daily_index`: change per year as a share, years of data, seed of what happens to it."""

    rate: float
    years: int
    seed: int


CASES = [Case(rate, years, seed) for rate, years in ((-0.007, 3), (-0.007, 6), (-0.02, 5), (0.0, 8)) for seed in (1, 2)]
"""Compared with RdTools, see ``references/``."""


def case_index(case: Case) -> Performance:
    """Daily performance of a case."""
    return daily_index(case.rate, case.years, np.random.default_rng(case.seed))


def complete_index(rate: float, years: int = 5, seed: int = 1) -> Performance:
    """A plant without outages, faults and soiling: every day counts."""
    days = int(365.25 * years)
    age = np.arange(days) / 365.25
    noise = np.random.default_rng(seed).normal(0, 0.01, days)
    index = (1 + rate * age) * (1 + 0.03 * np.cos(2 * np.pi * age)) * (1 + noise)
    return Performance(tuple(FIRST_DAY + timedelta(days=i) for i in range(days)), index, {})


def fingerprint(values: np.ndarray) -> str:
    """SHA-256 of values to six digits: were both libraries given the same?"""
    return hashlib.sha256(np.round(values, 6).astype("<f8").tobytes()).hexdigest()


def soiling(days: int, rng: np.random.Generator, *, per_day: float = 0.0015, cleaned: float = 0.05) -> np.ndarray:
    """Share of light that gets through: falls by 0.15% a day to 85% at the least, until rain at random."""
    at = np.arange(days)
    last_rain = np.maximum.accumulate(np.where(rng.random(days) < cleaned, at, 0))
    return np.maximum(1 - per_day * (at - last_rain), 0.85)


def daily_index(rate: float, years: int, rng: np.random.Generator) -> Performance:
    """Daily performance of a plant: a season of 3%, noise that lasts, soiling, outages, and six weeks with a
    quarter of it down.
    """
    days = int(365.25 * years)
    age = np.arange(days) / 365.25
    shock = rng.normal(0, 0.026, days + 30)
    lasting = np.convolve(shock, 0.5 ** np.arange(30))[29 : 29 + days]
    index = (1 + rate * age) * (1 + 0.03 * np.cos(2 * np.pi * age)) * (1 + lasting) * soiling(days, rng)
    down = rng.integers(0, days - 60)
    index[down : down + 42] *= 0.75
    kept = rng.random(days) > 0.15
    for start in rng.integers(0, days - 20, 2 * years):
        kept[start : start + rng.integers(1, 20)] = False
    chosen = np.flatnonzero(kept)
    return Performance(tuple(FIRST_DAY + timedelta(days=int(i)) for i in chosen), index[kept], {})


def metered_plant(rate: float, years: int, seed: int) -> tuple[np.ndarray, int, Weather]:
    """Quarter-hour generation [Wh] of :data:`PLANT`, its first ISP, and the weather it had.

    Clouds by day and quarter hour over the clear sky of pvlib; soiling; three outages; readings missing for four
    days; a third of the plant down for six weeks.
    """
    from pvlib.location import Location

    rng = np.random.default_rng(seed)
    first = MarketDay.of(FIRST_DAY).first_isp
    isps = MarketDay.of(date(FIRST_DAY.year + years, 1, 1)).first_isp - first
    days = isps // 96 + 1
    day = np.arange(isps) // 96
    times = pd.date_range(isp_start(first), periods=isps, freq="15min") + pd.Timedelta(seconds=450)
    clear = Location(PLANT.latitude, PLANT.longitude, altitude=PLANT.altitude_m).get_clearsky(times)["ghi"].to_numpy()
    cover = rng.choice([1.0, 0.75, 0.5, 0.3], days, p=[0.3, 0.25, 0.25, 0.2])[day]
    cover = np.where(cover < 1, np.clip(cover * (1 + 0.3 * rng.standard_normal(isps)), 0.05, 1.05), 1.0)
    warmth = 10 + 10 * np.sin(2 * np.pi * (np.arange(isps) / 96 / 365.25 - 0.28))
    weather = Weather(clear * cover, warmth)
    light = (soiling(days, rng) * (1 + 0.02 * rng.standard_normal(days)))[day]
    generation = expected_wh(PLANT, first, isps, weather) * light * (1 + rate * np.arange(isps) / 96 / 365.25)
    for start, length in ((200, 12), (600, 30), (1_000, 5)):
        generation[start * 96 : (start + length) * 96] = 0
    generation[800 * 96 : 842 * 96] *= 2 / 3
    generation[950 * 96 : 954 * 96] = np.nan
    return generation, first, weather
