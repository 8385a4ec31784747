"""Heating and cooling that follow the weather without switching one steady power."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from offchain.domain.errors import DomainError
from offchain.profiling.days import ProfileDay

LEAST_DAYS = 60
"""Fewer days hardly span enough weather."""
HEATING_LIMITS_C = np.arange(8.0, 20.5, 0.5)
COOLING_LIMITS_C = np.arange(18.0, 28.5, 0.5)
LEAST_EXPLAINED = 0.25
"""Share of the variance of daily energy that the weather must explain."""


@dataclass(frozen=True)
class ThermalModel:
    """Daily energy of a connection against outdoor temperature: a base, rising on either side of two limits.

    Attributes
    ----------
    base_wh_per_day : float
        Energy of a day without heating and cooling [Wh].
    heating_wh_per_k, cooling_wh_per_k : float
        Energy of a day per kelvin beyond the limit [Wh/K], non-negative; 0 where the weather explains too little.
    heating_limit_c, cooling_limit_c : float
        Daily mean outdoor temperature below which heating and above which cooling runs [°C].
    explained : float
        Share of the variance of daily energy explained, 0 to 1.
    """

    base_wh_per_day: float
    heating_wh_per_k: float
    cooling_wh_per_k: float
    heating_limit_c: float
    cooling_limit_c: float
    explained: float

    def thermal_wh_per_day(self, temperature_c: np.ndarray) -> np.ndarray:
        """Energy of heating and cooling on days of the given mean temperature [Wh]."""
        heating = self.heating_wh_per_k * np.maximum(self.heating_limit_c - temperature_c, 0.0)
        return heating + self.cooling_wh_per_k * np.maximum(temperature_c - self.cooling_limit_c, 0.0)


def fit_thermal(daily_wh: np.ndarray, temperature_c: np.ndarray) -> ThermalModel:
    """Five-parameter change-point regression, the limits found by trying them all.

    Parameters
    ----------
    daily_wh : ndarray of float, shape (n_days,)
        Load of whole days without generation [Wh].
    temperature_c : ndarray of float, shape (n_days,)
        Daily mean outdoor temperature [°C].

    Returns
    -------
    ThermalModel
        Without heating and cooling where fewer than 60 days are given or they explain less than a quarter of the
        variance.

    Raises
    ------
    DomainError
        Shapes differ, or values are missing.

    References
    ----------
    .. [1] J. K. Kissock, J. S. Haberl, D. E. Claridge, "Inverse modeling toolkit: numerical algorithms", ASHRAE
       Transactions 109(2), 2003.
    """
    if daily_wh.shape != temperature_c.shape or daily_wh.ndim != 1 or not daily_wh.size:
        raise DomainError(f"daily energy {daily_wh.shape} and temperature {temperature_c.shape} must be rows alike")
    if not (np.isfinite(daily_wh).all() and np.isfinite(temperature_c).all()):
        raise DomainError("daily energy or temperature has gaps", hint="leave out days without readings")
    mean = float(daily_wh.mean())
    none = ThermalModel(mean, 0.0, 0.0, float(HEATING_LIMITS_C[0]), float(COOLING_LIMITS_C[-1]), 0.0)
    total = float(((daily_wh - mean) ** 2).sum())
    if daily_wh.size < LEAST_DAYS or total == 0:
        return none
    best, rest = none, total
    ones = np.ones(daily_wh.size)
    for low in HEATING_LIMITS_C:
        cold = np.maximum(low - temperature_c, 0.0)
        for high in COOLING_LIMITS_C[np.searchsorted(COOLING_LIMITS_C, low, side="right") :]:
            warm = np.maximum(temperature_c - high, 0.0)
            (base, heating, cooling), norm = nnls(np.stack([ones, cold, warm], axis=1), daily_wh)
            if norm**2 < rest:
                rest = norm**2
                best = ThermalModel(base, heating, cooling, float(low), float(high), 1 - rest / total)
    return best if best.explained >= LEAST_EXPLAINED else none


def within_days(load_wh: np.ndarray, thermal_wh_per_day: np.ndarray, day_types: list[ProfileDay]) -> np.ndarray:
    """Daily energy of heating and cooling laid where the load stands out over days that need little of it.

    Parameters
    ----------
    load_wh : ndarray of float, shape (n_days, 96)
    thermal_wh_per_day : ndarray of float, shape (n_days,)
        [Wh]

    Returns
    -------
    ndarray of float, shape (n_days, 96)
        Between 0 and the load [Wh]; its sum is at most the given energy.
    """
    types = np.array(day_types)
    excess = np.zeros_like(load_wh)
    for kind in np.unique(types):
        rows = np.flatnonzero(types == kind)
        mild = rows[np.argsort(thermal_wh_per_day[rows], kind="stable")[: max(5, len(rows) // 5)]]
        excess[rows] = np.maximum(load_wh[rows] - load_wh[mild].mean(axis=0), 0.0)
    total = excess.sum(axis=1)
    share = np.divide(thermal_wh_per_day, total, out=np.zeros_like(total), where=total > 0)
    return excess * np.minimum(share, 1.0)[:, None]
