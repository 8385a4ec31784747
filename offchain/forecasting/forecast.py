"""A forecast: three quantiles per step and series, with where they come from."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP

REFERENCES = ("weekly_naive", "persistence")
OWN_HISTORY = "own history"
GROUP_SCALED = "group profile, scaled to own history"
GROUP_PROFILE = "group profile"


@dataclass(frozen=True)
class Forecast:
    """Forecast of many series, issued at one moment.

    Attributes
    ----------
    horizon, target, model_id : str
    issued_at : int
        [UTC s]
    known_until_isp : int
        First ISP whose reading was not used.
    first_isp, step_isps : int
        Start and length of the steps.
    ids : tuple of str
        Series that have a forecast.
    p10, p50, p90 : ndarray, shape (n_steps, n_series)
        Energy per step [Wh], never crossing; the sign is that of the target.
    basis : tuple of str
        Per series what the forecast stands on: own history, or the profile of the group.
    weights : dict of str to ndarray, shape (n_series,)
        Mean weight of each expert; NaN for series on the profile of the group.
    problems : dict of str to str
        Series without a forecast, with the reason.
    references : dict of str to ndarray, shape (n_steps, n_series)
        What weekly naive and persistence say, to compare with [Wh]; NaN for series without own history.
    """

    horizon: str
    target: str
    model_id: str
    issued_at: int
    known_until_isp: int
    first_isp: int
    step_isps: int
    ids: tuple[str, ...]
    p10: np.ndarray
    p50: np.ndarray
    p90: np.ndarray
    basis: tuple[str, ...]
    weights: dict[str, np.ndarray]
    problems: dict[str, str] = field(default_factory=dict)
    references: dict[str, np.ndarray] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row per series and step, times in UTC."""
        steps, series = self.p50.shape
        seconds = (self.first_isp + np.arange(steps) * self.step_isps) * SECONDS_PER_ISP
        start = pd.to_datetime(seconds, unit="s", utc=True)
        return pd.DataFrame(
            {
                "series": np.repeat(self.ids, steps),
                "event_start": np.tile(start, series),
                "resolution": f"PT{self.step_isps * 15}M",
                "belief_time": pd.Timestamp(self.issued_at, unit="s", tz="UTC"),
                "source": self.model_id,
                "target": self.target,
                "horizon": self.horizon,
                "p10_wh": self.p10.T.ravel(),
                "p50_wh": self.p50.T.ravel(),
                "p90_wh": self.p90.T.ravel(),
                "basis": np.repeat(self.basis, steps),
            }
        )

    def to_dict(self) -> dict:
        """For JSON, times in UTC as ISO 8601."""
        iso = [
            datetime.fromtimestamp((self.first_isp + i * self.step_isps) * SECONDS_PER_ISP, UTC).isoformat()
            for i in range(len(self.p50))
        ]
        return {
            "horizon": self.horizon,
            "target": self.target,
            "model": self.model_id,
            "issued_at": datetime.fromtimestamp(self.issued_at, UTC).isoformat(),
            "known_until_isp": self.known_until_isp,
            "first_isp": self.first_isp,
            "step_isps": self.step_isps,
            "event_start": iso,
            "series": [
                {
                    "id": name,
                    "basis": self.basis[column],
                    "p10_wh": np.round(self.p10[:, column], 3).tolist(),
                    "p50_wh": np.round(self.p50[:, column], 3).tolist(),
                    "p90_wh": np.round(self.p90[:, column], 3).tolist(),
                    "weights": {
                        expert: round(float(share[column]), 4)
                        for expert, share in self.weights.items()
                        if np.isfinite(share[column])
                    },
                }
                for column, name in enumerate(self.ids)
            ],
            "problems": self.problems,
            "output_sha256": self.digest().hex(),
        }

    def whole_wh(self) -> np.ndarray:
        """Quantiles as whole Wh, shape (3, n_steps, n_series), int64; halves toward plus infinity."""
        return np.floor(np.stack([self.p10, self.p50, self.p90]) + 0.5).astype(np.int64)

    def digest(self) -> bytes:
        """SHA-256 over what was forecast for whom, in whole Wh, so that the last bits of floats do not matter."""
        header = json.dumps([self.horizon, self.target, self.issued_at, self.first_isp, self.step_isps, self.ids])
        return hashlib.sha256(header.encode() + self.whole_wh().astype("<i8").tobytes()).digest()


def per_isp_wh(step_wh: np.ndarray, step_isps: int) -> np.ndarray:
    """Whole Wh of steps laid on their ISPs as evenly as whole numbers can be; every step keeps its sum.

    Parameters
    ----------
    step_wh : ndarray of int, shape (n_steps,)
        [Wh]

    Returns
    -------
    ndarray of int64, shape (n_steps * step_isps,)
    """
    step_wh = np.asarray(step_wh)
    if not np.issubdtype(step_wh.dtype, np.integer):
        raise DomainError(f"energy of steps is {step_wh.dtype}, whole Wh are expected", hint="round it first")
    part = np.arange(1, step_isps + 1)
    total = step_wh.astype(np.int64)[:, None]
    return (total * part // step_isps - total * (part - 1) // step_isps).ravel()
