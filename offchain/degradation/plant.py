"""What a photovoltaic plant should yield: by weather where it is metered, by the clear sky where not."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP, isp_start

HOURS_PER_ISP = 0.25
CELL_REFERENCE_C = 25.0
CALM_M_PER_S = 1.0


@dataclass(frozen=True, slots=True)
class PvPlant:
    """A photovoltaic plant as its data sheet and its roof describe it.

    Attributes
    ----------
    latitude, longitude : float
        North and east positive [°].
    rated_w : float
        Direct-current power at 1,000 W/m² and 25 °C [W].
    tilt_deg : float
        Of the modules against the horizontal [°].
    azimuth_deg : float
        Direction the modules face, clockwise from north: 180 = south [°].
    altitude_m : float
        [m]
    per_k : float
        Change of power per kelvin of cell temperature, negative [1/K].
    inverter_w : float or None
        Alternating-current limit [W]; None where it never cuts off.
    """

    latitude: float
    longitude: float
    rated_w: float
    tilt_deg: float = 30.0
    azimuth_deg: float = 180.0
    altitude_m: float = 0.0
    per_k: float = -0.004
    inverter_w: float | None = None

    def __post_init__(self) -> None:
        if not (abs(self.latitude) <= 90 and abs(self.longitude) <= 180):
            raise DomainError(f"plant at latitude {self.latitude}, longitude {self.longitude} is not on Earth")
        if not self.rated_w > 0 or (self.inverter_w is not None and not self.inverter_w > 0):
            raise DomainError("rated power of a plant and its inverter must be positive [W]")
        if not -0.02 < self.per_k <= 0:
            raise DomainError(f"temperature coefficient {self.per_k} per K", hint="a fraction, about -0.004")


@dataclass(frozen=True)
class Weather:
    """Weather per ISP, arrays of shape (n_isps,), no gaps.

    Attributes
    ----------
    ghi_w_per_m2 : ndarray
        Global horizontal irradiance [W/m²].
    temperature_c : ndarray
        Of the air [°C].
    wind_m_per_s : ndarray or None
        1 m/s where not known.
    """

    ghi_w_per_m2: np.ndarray
    temperature_c: np.ndarray
    wind_m_per_s: np.ndarray | None = None


def expected_wh(plant: PvPlant, first_isp: int, isps: int, weather: Weather | None = None) -> np.ndarray:
    """Energy that a new and clean plant yields per ISP [Wh], shape (isps,), non-negative.

    With weather: beam and diffuse by the Erbs model, plane of array by Hay and Davies, cell temperature by
    Faiman, power by PVWatts. Without: the clear sky of Ineichen at 20 °C, an upper limit that only clear days
    reach.

    Raises
    ------
    DomainError
        Weather of another length or with gaps.
    PermanentError
        pvlib is not installed.
    """
    try:
        from pvlib import irradiance, location, pvsystem, temperature
    except ImportError as exc:
        raise PermanentError("the package pvlib is not installed", hint="install the extra 'forecasting'") from exc
    if isps < 0:
        raise DomainError(f"yield over {isps} ISPs", hint="give the number of quarter hours")
    middle = pd.Timedelta(seconds=SECONDS_PER_ISP // 2)
    times = pd.date_range(isp_start(first_isp), periods=isps, freq="15min") + middle
    site = location.Location(plant.latitude, plant.longitude, altitude=plant.altitude_m)
    sun = site.get_solarposition(times)
    extra = irradiance.get_extra_radiation(times)
    if weather is None:
        sky = site.get_clearsky(times, solar_position=sun)
        ghi, dni, dhi = sky["ghi"], sky["dni"], sky["dhi"]
        air, wind = 20.0, CALM_M_PER_S
    else:
        ghi = pd.Series(_column(weather.ghi_w_per_m2, isps, "irradiance [W/m²]"), times).clip(lower=0.0)
        split = irradiance.erbs(ghi, sun["zenith"], times)
        dni, dhi = split["dni"], split["dhi"]
        air = _column(weather.temperature_c, isps, "temperature [°C]")
        wind = CALM_M_PER_S if weather.wind_m_per_s is None else _column(weather.wind_m_per_s, isps, "wind [m/s]")
    plane = irradiance.get_total_irradiance(
        plant.tilt_deg,
        plant.azimuth_deg,
        sun["apparent_zenith"],
        sun["azimuth"],
        dni,
        ghi,
        dhi,
        dni_extra=extra,
        model="haydavies",
    )["poa_global"].fillna(0.0)
    cell = temperature.faiman(plane, air, wind)
    power = pvsystem.pvwatts_dc(plane, cell, plant.rated_w, plant.per_k, CELL_REFERENCE_C).clip(lower=0.0)
    if plant.inverter_w is not None:
        power = power.clip(upper=plant.inverter_w)
    return power.to_numpy() * HOURS_PER_ISP


def _column(values: np.ndarray, isps: int, what: str) -> np.ndarray:
    column = np.asarray(values, dtype=float)
    if column.shape != (isps,) or not np.isfinite(column).all():
        raise DomainError(f"{what} must be {isps} values without gaps, got shape {column.shape}")
    return column
