"""Weather and sun: what was forecast at issue time, clear-sky irradiance, and the yield of a PV system (pvlib)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP


@dataclass(frozen=True)
class WeatherRun:
    """One run of a weather service, or measurements that became known together.

    Attributes
    ----------
    belief_time : int
        When it became known [UTC s].
    first_isp : int
    values : mapping of str to ndarray, shape (n_isps,)
        For example ``temperature_c``, ``ghi_w_m2``, ``wind_m_s``; NaN where missing.
    """

    belief_time: int
    first_isp: int
    values: Mapping[str, np.ndarray]


class Weather:
    """Runs of a weather service; every issue sees the latest run that it knew for each step."""

    def __init__(self, runs: Sequence[WeatherRun]):
        if not runs:
            raise DomainError("weather without a run", hint="leave the weather out instead")
        self.runs = sorted(runs, key=lambda run: run.belief_time)
        self.names = tuple(self.runs[0].values)
        for run in self.runs:
            if tuple(run.values) != self.names:
                raise DomainError(f"weather of {run.belief_time} has {tuple(run.values)}, expected {self.names}")
            shapes = {name: np.shape(values) for name, values in run.values.items()}
            if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
                raise DomainError(f"weather of {run.belief_time} has shapes {shapes}", hint="one row of ISPs each")

    def digest(self, issued_at: int) -> str:
        """SHA-256 in hex over all runs that were known at a moment [UTC s]."""
        content = hashlib.sha256()
        for run in self.runs:
            if run.belief_time > issued_at:
                break
            for name in self.names:
                values = np.asarray(run.values[name], dtype="<f8")
                content.update(repr((run.belief_time, run.first_isp, name, values.size)).encode())
                content.update(np.where(np.isnan(values), np.nan, values).tobytes())
        return content.hexdigest()

    def known(self, name: str, isps: np.ndarray, issued_at: np.ndarray) -> np.ndarray:
        """Values at ``isps`` as known at each issue.

        Parameters
        ----------
        isps : ndarray of int, shape (n_issues, n_leads)
        issued_at : ndarray of int, shape (n_issues,)
            [UTC s]; only runs that were known by then are used.

        Returns
        -------
        ndarray, shape (n_issues, n_leads)
            NaN where no known run covers the step.
        """
        found = np.full(isps.shape, np.nan)
        for run in self.runs:  # later runs overwrite earlier ones
            values = np.asarray(run.values[name], dtype=float)
            position = isps - run.first_isp
            covered = (position >= 0) & (position < values.size) & (run.belief_time <= issued_at)[:, None]
            value = values[np.clip(position, 0, values.size - 1)]
            found = np.where(covered & ~np.isnan(value), value, found)
        return found


def clear_sky_w_m2(isps: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """Global horizontal irradiance under a clear sky at the given ISPs (their middle) [W/m2], after Haurwitz.

    References
    ----------
    .. [1] B. Haurwitz, "Insolation in relation to cloudiness and cloud density", Journal of Meteorology 2, 1945.
    """
    from pvlib.clearsky import haurwitz

    return haurwitz(_solar_position(isps, latitude, longitude)["apparent_zenith"])["ghi"].to_numpy()


@dataclass(frozen=True)
class PvSystem:
    """A PV system: DC power at standard conditions [W], tilt and azimuth (180 = south) [degrees]."""

    peak_w: float
    tilt_deg: float
    azimuth_deg: float
    latitude: float
    longitude: float
    inverter_w: float | None = None
    losses_percent: float = 14.0


def pv_energy_wh(
    system: PvSystem, isps: np.ndarray, ghi_w_m2: np.ndarray, temperature_c: np.ndarray, wind_m_s: np.ndarray
) -> np.ndarray:
    """Energy per ISP that a PV system yields under given weather [Wh], non-negative; NaN where weather is missing.

    Global irradiance is split after Erbs, laid on the module plane after Hay and Davies; cell temperature after
    SAPM, power after PVWatts.

    Raises
    ------
    DomainError
        Arrays of different length, or negative irradiance.
    """
    from pvlib import inverter, irradiance, pvsystem, temperature

    if not len(isps) == len(ghi_w_m2) == len(temperature_c) == len(wind_m_s):
        raise DomainError("ISPs, irradiance, temperature and wind differ in length")
    if (np.asarray(ghi_w_m2) < 0).any():
        raise DomainError("irradiance is negative", hint="global horizontal irradiance in W/m2 is expected")
    sun = _solar_position(np.asarray(isps), system.latitude, system.longitude)
    ghi = pd.Series(np.asarray(ghi_w_m2, dtype=float), index=sun.index)
    split = irradiance.erbs(ghi, sun["zenith"], sun.index)
    plane = irradiance.get_total_irradiance(
        system.tilt_deg,
        system.azimuth_deg,
        sun["apparent_zenith"],
        sun["azimuth"],
        split["dni"],
        ghi,
        split["dhi"],
        dni_extra=irradiance.get_extra_radiation(sun.index),
        model="haydavies",
    )["poa_global"].fillna(0)
    mounting = temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_polymer"]
    cell_c = temperature.sapm_cell(plane, np.asarray(temperature_c), np.asarray(wind_m_s), **mounting)
    dc_w = pvsystem.pvwatts_dc(plane, cell_c, system.peak_w, gamma_pdc=-0.004)
    dc_w = dc_w * (1 - system.losses_percent / 100)
    rated_w = system.inverter_w or system.peak_w
    ac_w = inverter.pvwatts(dc_w, rated_w / 0.96).to_numpy()
    missing = np.isnan(ghi_w_m2) | np.isnan(temperature_c) | np.isnan(wind_m_s)
    return np.where(missing, np.nan, np.nan_to_num(np.maximum(ac_w, 0)) * SECONDS_PER_ISP / 3_600)


def _solar_position(isps: np.ndarray, latitude: float, longitude: float) -> pd.DataFrame:
    from pvlib.solarposition import get_solarposition

    seconds = np.asarray(isps, dtype=np.int64) * SECONDS_PER_ISP + SECONDS_PER_ISP // 2
    return get_solarposition(pd.to_datetime(seconds, unit="s", utc=True), latitude, longitude)
