"""What a quarter-hour net consumption is made of.

    net = base + heating and cooling + electric vehicle + water heater + other - generation

holds in every quarter hour. What can be told from 15-minute values, and what not:

- An appliance shows when it switches a steady power above about 1.2 kW for half an hour or longer, many times.
  Modulating heat pumps and ranges of small appliances do not; with outdoor temperature given, heating that
  follows the weather is found by regression instead.
- Two appliances of nearly the same power (within 8%) are one to this method: a 3.7 kW charger beside a heat
  pump of 3.5 to 4 kW is confused with it, and only their sum is good.
- A charger that is done within half an hour (22 kW) shows no plateau; give it by ``appliances``.
- Electric vehicle, heating and water heater are told apart by season, number of runs and regularity. Data that span
  no winter and summer, without temperature, make that a guess.
- Generation needs a reference in the same weather. Without one only the export is seen.
- A battery behind the meter hides in all of them.

``benchmarks/results/disaggregation.json`` has the errors measured on mixes with known truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import pandas as pd

from offchain.baseline.history import History
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import isp_start
from offchain.profiling.appliances import appliance_power, base_load, running, runs, steady_powers
from offchain.profiling.days import local_days, profile_day
from offchain.profiling.solar import exported_only, solar_behind_meter
from offchain.profiling.thermal import ThermalModel, fit_thermal, within_days

LEAST_DAYS = 14
ISPS_PER_HOUR = 4
SEASONAL = 4.0
"""Winter over summer energy, or the inverse, beyond which an appliance heats or cools."""
COLD_CORRELATION = 0.4
MANY_RUNS_A_DAY = 3.0
LEAST_CHARGER_W = 2_000.0
MOST_HEATER_W = 4_600.0
DAILY_SHARE = 0.75
DAILY_VARIATION = 0.6


class Kind(StrEnum):
    """Appliances that are told apart."""

    ELECTRIC_VEHICLE = "electric_vehicle"
    HEATING_COOLING = "heating_cooling"
    WATER_HEATER = "water_heater"


@dataclass(frozen=True, slots=True)
class Appliance:
    """An appliance of a steady power, from the device register or found in the load.

    Attributes
    ----------
    kind : Kind
    power_w : float
        Electric power while it runs [W].
    """

    kind: Kind
    power_w: float


@dataclass(frozen=True)
class Components:
    """What a net consumption is made of; arrays of shape (n_isps,) [Wh per ISP], non-negative, NaN at gaps.

    Attributes
    ----------
    first_isp : int
    base_wh : ndarray
        What runs all day and night.
    heating_cooling_wh, electric_vehicle_wh, water_heater_wh : ndarray
    other_wh : ndarray
        The rest of the load.
    generation_wh : ndarray
        Behind the meter.
    appliances : tuple of Appliance
        Steady powers that were found or given.
    rated_w : float
        Size of the plant behind the meter as the reference sees it [W]; 0 where none was found.
    thermal : ThermalModel or None
        Regression on temperature, where it was used.
    """

    first_isp: int
    base_wh: np.ndarray
    heating_cooling_wh: np.ndarray
    electric_vehicle_wh: np.ndarray
    water_heater_wh: np.ndarray
    other_wh: np.ndarray
    generation_wh: np.ndarray
    appliances: tuple[Appliance, ...]
    rated_w: float
    thermal: ThermalModel | None

    @property
    def curtailable_wh(self) -> np.ndarray:
        """Load that may be put off within its comfort: vehicle, heating and cooling, water heater [Wh]."""
        return self.electric_vehicle_wh + self.heating_cooling_wh + self.water_heater_wh

    @property
    def uninterruptible_wh(self) -> np.ndarray:
        """Load that may not be touched [Wh]; generation can be curtailed beside it."""
        return self.base_wh + self.other_wh

    @property
    def net_wh(self) -> np.ndarray:
        """Import minus export, as metered [Wh]."""
        return self.curtailable_wh + self.uninterruptible_wh - self.generation_wh

    def energy_kwh(self) -> dict[str, float]:
        """Energy of each component over the whole time [kWh]."""
        names = [f.name for f in fields(self) if f.name.endswith("_wh")]
        names += ["curtailable_wh", "uninterruptible_wh"]
        return {n.removesuffix("_wh"): round(float(np.nansum(getattr(self, n))) / 1000, 3) for n in names}

    def frame(self) -> pd.DataFrame:
        """One row per ISP: ``start`` (UTC) and every component [Wh]."""
        start = pd.date_range(isp_start(self.first_isp), periods=self.base_wh.size, freq="15min")
        names = [f.name for f in fields(self) if f.name.endswith("_wh")]
        return pd.DataFrame({"start": start, **{n: getattr(self, n) for n in names}})


def disaggregate(
    history: History,
    *,
    appliances: Sequence[Appliance] | None = None,
    reference_wh_per_w: np.ndarray | None = None,
    temperature_c: np.ndarray | None = None,
) -> Components:
    """Split a net consumption into its components.

    Parameters
    ----------
    history : History
        Two weeks or more; a year tells most.
    appliances : sequence of Appliance, optional
        From the device register; nothing else is looked for then. Found in the load when absent.
    reference_wh_per_w : ndarray of float, shape (n_isps, n_references), optional
        Generation of one watt rated [Wh/W], see :func:`offchain.profiling.solar.solar_behind_meter`.
    temperature_c : ndarray of float, shape (n_isps,), optional
        Outdoor temperature [°C], no gaps.

    Raises
    ------
    InsufficientHistoryError
        Fewer than 14 whole days.
    DomainError
        Temperature or reference of another length, or with gaps.
    """
    isps = history.net_wh.size
    if temperature_c is not None and (temperature_c.shape != (isps,) or np.isnan(temperature_c).any()):
        raise DomainError(f"temperature must be {isps} values without gaps [°C], got shape {temperature_c.shape}")
    days, index = local_days(history.first_isp, isps, history.zone)
    whole = ((index >= 0) & (index < isps)).all(axis=1)
    if whole.sum() < LEAST_DAYS:
        raise InsufficientHistoryError(available=int(whole.sum()), required=LEAST_DAYS, what="whole days")
    known = np.ones(isps, dtype=bool) if history.known is None else history.known
    if 2 * known.sum() < isps:
        raise DomainError(f"{isps - int(known.sum())} of {isps} readings are missing", hint="half of them are needed")
    net = np.where(known, history.net_wh, np.nan)
    solar = (
        exported_only(net)
        if reference_wh_per_w is None
        else solar_behind_meter(net, history.first_isp, reference_wh_per_w, history.zone)
    )
    load_w = _filled(net + solar.generation_wh, known) * ISPS_PER_HOUR
    base_w = base_load(load_w)
    calendar = _Calendar(days, index, whole, temperature_c)
    found, used_w = _appliances(load_w, base_w, calendar, appliances)
    split = {
        kind: sum((used_w[:, i] for i, a in enumerate(found) if a.kind is kind), np.zeros(isps)) / ISPS_PER_HOUR
        for kind in Kind
    }
    rest_wh = np.maximum(load_w / ISPS_PER_HOUR - sum(split.values()), 0.0)
    thermal = None
    if temperature_c is not None and not any(a.kind is Kind.HEATING_COOLING for a in found):
        thermal, split[Kind.HEATING_COOLING] = calendar.thermal(rest_wh)
        rest_wh = rest_wh - split[Kind.HEATING_COOLING]
    base_wh = base_load(rest_wh * ISPS_PER_HOUR) / ISPS_PER_HOUR
    gap = np.where(known, 0.0, np.nan)
    return Components(
        first_isp=history.first_isp,
        base_wh=base_wh + gap,
        heating_cooling_wh=split[Kind.HEATING_COOLING] + gap,
        electric_vehicle_wh=split[Kind.ELECTRIC_VEHICLE] + gap,
        water_heater_wh=split[Kind.WATER_HEATER] + gap,
        other_wh=rest_wh - base_wh + gap,
        generation_wh=solar.generation_wh + gap,
        appliances=found,
        rated_w=solar.rated_w,
        thermal=thermal,
    )


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Gaps bridged by straight lines, so that no edge arises at them."""
    at = np.arange(values.size)
    return np.interp(at, at[known], values[known])


@dataclass(frozen=True)
class _Calendar:
    """Which values belong to which day, and how cold it was."""

    days: tuple
    index: np.ndarray
    whole: np.ndarray
    temperature_c: np.ndarray | None

    @property
    def rows(self) -> np.ndarray:
        return self.index[self.whole]

    def per_day(self, values: np.ndarray) -> np.ndarray:
        """Sum over each whole day."""
        return values[self.rows].sum(axis=1)

    def thermal(self, load_wh: np.ndarray) -> tuple[ThermalModel, np.ndarray]:
        """Regression on temperature, and heating and cooling per ISP [Wh]."""
        temperature = self.temperature_c[self.rows].mean(axis=1)
        model = fit_thermal(self.per_day(load_wh), temperature)
        energy = np.zeros(load_wh.size)
        types = [profile_day(d) for d, w in zip(self.days, self.whole, strict=True) if w]
        energy[self.rows] = within_days(load_wh[self.rows], model.thermal_wh_per_day(temperature), types)
        return model, energy

    def months(self) -> np.ndarray:
        return np.array([d.month for d, w in zip(self.days, self.whole, strict=True) if w])


def _appliances(
    load_w: np.ndarray, base_w: np.ndarray, calendar: _Calendar, given: Sequence[Appliance] | None
) -> tuple[tuple[Appliance, ...], np.ndarray]:
    """Appliances and the mean power of each per ISP [W], shape (n_isps, n_appliances)."""
    powers = steady_powers(load_w) if given is None else [a.power_w for a in given]
    if not powers:
        return (), np.zeros((load_w.size, 0))
    if any(not p > 0 for p in powers):
        raise DomainError("power of an appliance must be positive [W]")
    on = running(load_w, base_w, powers)
    if given is None:
        rough = appliance_power(load_w, base_w, powers, on, [False] * len(powers))
        found = tuple(Appliance(_kind(p, on[:, i], rough[:, i], calendar), round(p, 1)) for i, p in enumerate(powers))
    else:
        found = tuple(given)
    tops_up = [a.kind is Kind.ELECTRIC_VEHICLE for a in found]
    return found, appliance_power(load_w, base_w, powers, on, tops_up)


def _kind(power_w: float, on: np.ndarray, used_w: np.ndarray, calendar: _Calendar) -> Kind:
    """What an appliance is, from when and how often it runs."""
    daily = calendar.per_day(used_w)
    months = calendar.months()
    winter, summer = daily[np.isin(months, (12, 1, 2))], daily[np.isin(months, (6, 7, 8))]
    starts = np.zeros(on.size)
    starts[runs(on)[0]] = 1
    used_days = daily > 0
    weather = _follows_weather(daily, winter, summer, calendar)
    if weather or (weather is None and calendar.per_day(starts)[used_days].mean() > MANY_RUNS_A_DAY):
        return Kind.HEATING_COOLING
    regular = used_days.mean() >= DAILY_SHARE and daily[used_days].std() <= DAILY_VARIATION * daily[used_days].mean()
    if regular and power_w <= MOST_HEATER_W:
        return Kind.WATER_HEATER
    return Kind.ELECTRIC_VEHICLE if power_w >= LEAST_CHARGER_W else Kind.HEATING_COOLING


def _follows_weather(daily: np.ndarray, winter: np.ndarray, summer: np.ndarray, calendar: _Calendar) -> bool | None:
    """None where the data do not tell."""
    if winter.size >= LEAST_DAYS and summer.size >= LEAST_DAYS:
        high, low = max(winter.mean(), summer.mean()), min(winter.mean(), summer.mean())
        return high > SEASONAL * low
    if calendar.temperature_c is not None and daily.std() > 0:
        temperature = calendar.temperature_c[calendar.rows].mean(axis=1)
        return temperature.std() > 0 and abs(np.corrcoef(daily, temperature)[0, 1]) > COLD_CORRELATION
    return None
