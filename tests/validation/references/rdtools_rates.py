"""Degradation rates of RdTools on the plants of ``aging_plants.py``, written to ``rdtools_rates.json``.

RdTools is no dependency: run this in an environment of its own, from the root of the repository.

    python -m venv rdtools && rdtools/bin/pip install rdtools
    PYTHONPATH=. rdtools/bin/python tests/validation/references/rdtools_rates.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import rdtools

from offchain.degradation.plant import expected_wh
from offchain.domain.isp import isp_start
from tests.validation.aging_plants import CASES, PLANT, case_index, complete_index, fingerprint, metered_plant

CONFIDENCE = 95.0


def rate_of(index: pd.Series) -> dict:
    """Rate and interval [1/year] by the defaults of RdTools: recentred, year on year, resampled day by day."""
    np.random.seed(0)
    rate, interval, _ = rdtools.degradation_year_on_year(index, confidence_level=CONFIDENCE)
    return {"rate_per_year": rate / 100, "low": interval[0] / 100, "high": interval[1] / 100}


def daily(case) -> dict:
    """Both start from the same daily performance."""
    performance = case_index(case)
    index = pd.Series(performance.index, pd.DatetimeIndex(performance.days))
    return {"case": case._asdict(), "inputs_sha256": fingerprint(performance.index), **rate_of(index)}


def complete(rate: float) -> dict:
    """The same pairs of days in both, so that only formulas can differ."""
    performance = complete_index(rate)
    index = pd.Series(performance.index, pd.DatetimeIndex(performance.days))
    return {"rate": rate, "inputs_sha256": fingerprint(performance.index), **rate_of(index)}


def whole_chain() -> dict:
    """From quarter-hour energy: normalised, filtered and summed up to days by RdTools, with the same expectation."""
    generation, first, weather = metered_plant(-0.01, 4, seed=3)
    expected = expected_wh(PLANT, first, generation.size, weather)
    times = pd.date_range(isp_start(first), periods=generation.size, freq="15min").tz_convert("Europe/Berlin")
    energy, modelled = pd.Series(generation, times), pd.Series(expected, times)
    irradiance = pd.Series(weather.ghi_w_per_m2, times)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = energy / modelled
    kept = rdtools.normalized_filter(normalised, energy_normalized_high=2.0)
    kept &= rdtools.poa_filter(irradiance) & (energy < 0.98 * PLANT.inverter_w / 4)
    index = rdtools.aggregation_insol(normalised[kept], modelled[kept], frequency="D")
    return {"inputs_sha256": fingerprint(np.nan_to_num(generation)), **rate_of(index.dropna())}


if __name__ == "__main__":
    packages = ("rdtools", "numpy", "pandas", "pvlib")
    found = {
        "source": "RdTools, degradation_year_on_year",
        "script": "tests/validation/references/rdtools_rates.py",
        "versions": {name: version(name) for name in packages},
        "confidence": CONFIDENCE / 100,
        "complete": [complete(rate) for rate in (-0.03, -0.01, 0.0)],
        "daily": [daily(case) for case in CASES],
        "whole_chain": whole_chain(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
