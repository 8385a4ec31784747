"""Cleaning of imported readings. Nothing is changed in silence: every change is counted, per series."""

from dataclasses import dataclass, field

import numpy as np

from offchain.domain.errors import DomainError

SPIKE_FACTOR = 20.0
ISPS_PER_DAY = 96
STUCK_ISPS = 3 * ISPS_PER_DAY


@dataclass
class CleaningReport:
    """What was changed, per series: how many values of which kind.

    ``changes`` maps a series to {reason: number of values}; ``missing`` maps it to the number of ISPs without a
    value after cleaning, ``remarks`` to what looks odd and was left as it is.
    """

    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def count(self, series: str, reason: str, number: int) -> None:
        if number:
            reasons = self.changes.setdefault(series, {})
            reasons[reason] = reasons.get(reason, 0) + int(number)

    def remark(self, series: str, text: str) -> None:
        self.remarks.setdefault(series, []).append(text)

    def to_dict(self) -> dict:
        return {"changes": self.changes, "missing": self.missing, "remarks": self.remarks}

    def lines(self) -> list[str]:
        """For a person, one line per series and reason."""
        found = [
            f"{name}: {number} values {reason}"
            for name, reasons in self.changes.items()
            for reason, number in reasons.items()
        ]
        found += [f"{name}: {number} ISPs missing" for name, number in self.missing.items() if number]
        return found + [f"{name}: {text}" for name, texts in self.remarks.items() for text in texts]


def clean(
    ids: tuple[str, ...], values: np.ndarray, report: CleaningReport | None = None, *, negative: bool = True
) -> tuple[np.ndarray, CleaningReport]:
    """Take out what cannot be a reading, and name what looks odd.

    Infinite values, values more than 20 times the peak that nine of ten days stay below (a meter that counts wrong,
    not a cold day), and negative ones where there cannot be any become missing. Constant runs of three days and more
    are named, not changed.

    Parameters
    ----------
    values : ndarray of float, shape (n_isps, n_series)
        Energy per ISP [Wh], NaN where missing.
    negative : bool
        Whether negative values are possible.

    Returns
    -------
    tuple of ndarray and CleaningReport
        A copy, and what was changed.
    """
    if values.ndim != 2 or values.shape[1] != len(ids):
        raise DomainError(f"{len(ids)} series have values of shape {values.shape}")
    report = report or CleaningReport()
    cleaned = values.astype(float, copy=True)
    for column, name in enumerate(ids):
        series = cleaned[:, column]
        infinite = np.isinf(series)
        series[infinite] = np.nan
        report.count(name, "infinite, now missing", infinite.sum())
        if not negative:
            below = series < 0
            series[below] = np.nan
            report.count(name, "negative, now missing", below.sum())
        usual = _usual_peak(np.abs(series))
        if usual > 0:
            spikes = np.abs(series) > SPIKE_FACTOR * usual
            series[spikes] = np.nan
            report.count(name, "far beyond all others, now missing", spikes.sum())
        longest = _longest_constant_run(series)
        if longest >= STUCK_ISPS and np.nanmax(np.abs(series), initial=0) > 0:
            report.remark(name, f"{longest} ISPs in a row have the same value other than zero")
        report.missing[name] = int(np.isnan(series).sum())
    return cleaned, report


def _usual_peak(size: np.ndarray) -> float:
    """Highest value of a day, the one that nine of ten days with any consumption stay below; 0 without two days."""
    days = size[: len(size) // ISPS_PER_DAY * ISPS_PER_DAY].reshape(-1, ISPS_PER_DAY)
    peaks = np.nan_to_num(days).max(axis=1, initial=0.0)
    peaks = peaks[peaks > 0]
    return float(np.quantile(peaks, 0.9, method="lower")) if peaks.size > 1 else 0.0


def _longest_constant_run(series: np.ndarray) -> int:
    same = (np.diff(series) == 0) & (series[1:] != 0)
    if not same.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max()) + 1
