"""Generation to expect: over years by the degradation rate, over the next hours by what the plant does now."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from offchain.degradation.year_on_year import DAYS_PER_YEAR, Degradation
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import SECONDS_PER_ISP

SECONDS_PER_DAY = 86_400
LEADS = 16
"""ISPs ahead that a correction reaches: four hours."""
RECENT = 4
LEAST_ISPS = 2_000
LEAST_LIGHT = 0.02
"""Below this share of its largest value a forecast says nothing about the weather."""
MOST_DEPARTURE = 2.0
UNUSUAL = 3.0


def long_term_wh(expected_wh: np.ndarray, first_isp: int, degradation: Degradation) -> np.ndarray:
    """Generation per ISP of an aged plant [Wh], shape as given.

    Parameters
    ----------
    expected_wh : ndarray of float, shape (n_isps,)
        Of the plant as new and clean [Wh], for example over a typical year.
    """
    start = np.datetime64(degradation.first_day, "s").astype(np.int64)
    seconds = (first_isp + np.arange(expected_wh.size)) * SECONDS_PER_ISP - start
    return expected_wh * degradation.index_at(seconds / (SECONDS_PER_DAY * DAYS_PER_YEAR))


def yearly_outlook(expected_wh_per_year: float, degradation: Degradation, first_year: int, years: int) -> pd.DataFrame:
    """Generation of coming calendar years.

    Parameters
    ----------
    expected_wh_per_year : float
        Of the plant as new and clean in a typical year [Wh].

    Returns
    -------
    pandas.DataFrame
        ``year``, ``generation_wh``, and ``low_wh``, ``high_wh`` at the bounds of the rate's interval. Weather makes
        single years differ by several percent more.
    """
    if years < 1:
        raise DomainError(f"{years} years to look ahead, at least 1")
    numbers = np.arange(first_year, first_year + years)
    ages = np.array([(date(y, 7, 2) - degradation.first_day).days for y in numbers]) / DAYS_PER_YEAR
    at = {
        name: expected_wh_per_year * degradation.index_at(ages, rate=rate)
        for name, rate in (("generation_wh", None), ("low_wh", degradation.low), ("high_wh", degradation.high))
    }
    return pd.DataFrame({"year": numbers, **at})


@dataclass(frozen=True)
class Corrected:
    """A forecast brought in line with what the plant does now.

    Attributes
    ----------
    generation_wh : ndarray of float, shape (n_isps,)
        [Wh]
    departure : float
        Metered over forecast energy of the last hour, less 1; 0 at night.
    unusual : bool
        Beyond three standard deviations of departures seen before: a change that the forecast does not know,
        or a fault.
    """

    generation_wh: np.ndarray
    departure: float
    unusual: bool


@dataclass(frozen=True)
class TrendCorrection:
    """How much of a departure from the forecast is still there some quarter hours later.

    Attributes
    ----------
    persistence : ndarray of float, shape (16,)
        Share of the departure per lead, 0 to 1, lead 1 first.
    spread : float
        Standard deviation of departures.
    floor_wh : float
        Forecast energy of an hour below which there is no departure [Wh].
    """

    persistence: np.ndarray
    spread: float
    floor_wh: float

    @classmethod
    def fit(cls, metered_wh: np.ndarray, forecast_wh: np.ndarray) -> "TrendCorrection":
        """Learn from the past, by least squares per lead.

        Parameters
        ----------
        metered_wh, forecast_wh : ndarray of float, shape (n_isps,)
            Generation and what had been forecast of it before [Wh]; NaN where missing.

        Raises
        ------
        InsufficientHistoryError
            Fewer than 2,000 ISPs, about three weeks.
        """
        metered, forecast = _pair(metered_wh, forecast_wh)
        if metered.size < LEAST_ISPS:
            raise InsufficientHistoryError(available=metered.size // 96, required=LEAST_ISPS // 96 + 1)
        top = np.nanmax(forecast, initial=0.0)
        floor = LEAST_LIGHT * top * RECENT
        ones = np.ones(RECENT)
        recent_metered = np.convolve(metered, ones)[RECENT - 1 : metered.size]
        recent_forecast = np.convolve(forecast, ones)[RECENT - 1 : forecast.size]
        departure = _departure(recent_metered, recent_forecast, floor)
        persistence = np.zeros(LEADS)
        for lead in range(1, LEADS + 1):
            then = departure[:-lead] if lead < departure.size else departure[:0]
            ahead = slice(RECENT - 1 + lead, None)
            error, scaled = metered[ahead] - forecast[ahead], forecast[ahead] * then
            usable = ~np.isnan(error) & ~np.isnan(scaled) & (scaled != 0)
            strength = (scaled[usable] ** 2).sum()
            if strength > 0:
                persistence[lead - 1] = np.clip((error[usable] * scaled[usable]).sum() / strength, 0.0, 1.0)
        seen = departure[~np.isnan(departure) & (departure != 0)]
        return cls(persistence, float(seen.std()) if seen.size else 0.0, float(floor))

    def correct(
        self, recent_metered_wh: np.ndarray, recent_forecast_wh: np.ndarray, forecast_wh: np.ndarray
    ) -> Corrected:
        """Correct the forecast of the coming ISPs.

        Parameters
        ----------
        recent_metered_wh, recent_forecast_wh : ndarray of float, shape (4,)
            The last hour [Wh]; without departure where a reading is missing.
        forecast_wh : ndarray of float, shape (n_isps,)
            From the next ISP on [Wh]; beyond four hours it stays as it is.
        """
        metered, forecast = _pair(recent_metered_wh, recent_forecast_wh)
        if metered.size != RECENT:
            raise DomainError(f"{metered.size} recent values, expected the last {RECENT} quarter hours")
        departure = float(_departure(metered.sum(keepdims=True), forecast.sum(keepdims=True), self.floor_wh)[0])
        departure = 0.0 if np.isnan(departure) else departure
        share = np.zeros(np.size(forecast_wh))
        share[:LEADS] = self.persistence[: share.size]
        corrected = np.maximum(np.asarray(forecast_wh, dtype=float) * (1 + share * departure), 0.0)
        return Corrected(corrected, departure, bool(abs(departure) > UNUSUAL * self.spread > 0))


def _pair(metered_wh: np.ndarray, forecast_wh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    metered, forecast = np.asarray(metered_wh, dtype=float), np.asarray(forecast_wh, dtype=float)
    if metered.shape != forecast.shape or metered.ndim != 1:
        raise DomainError(f"metered {metered.shape} and forecast {forecast.shape} differ in shape")
    return metered, forecast


def _departure(metered: np.ndarray, forecast: np.ndarray, floor: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.clip(metered / forecast - 1, -1.0, MOST_DEPARTURE)
    return np.where(np.isnan(metered) | np.isnan(forecast), np.nan, np.where(forecast > floor, ratio, 0.0))
