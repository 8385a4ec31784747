"""Baselines, error figures and thermal models of OpenDSM on its sample meters, written to ``opendsm_meters.json``.

OpenDSM is no dependency: run this in an environment of its own, from the root of the repository.

    python -m venv opendsm && opendsm/bin/pip install opendsm "multimethod<2.1"
    PYTHONPATH=. opendsm/bin/python tests/validation/references/opendsm_meters.py

The samples (Apache License 2.0) are a home in the United Kingdom by the hour, and a simulated building in Illinois with
heating and cooling. What is compared of them is kept beside the numbers, so that the test needs nothing of OpenDSM.
"""

import json
from datetime import date
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from opendsm import eemeter
from opendsm.common.metrics import BaselineMetrics

from offchain.baseline.evaluation import placebo_days
from offchain.baseline.history import History
from offchain.baseline.method import baseline_method
from offchain.domain.isp import MarketDay

HOME, HOME_ZONE = "uk-electricity-hdd-only-hourly-sample-0", "Europe/London"
HOME_YEAR, HOME_AFTER = slice("2020-04-02", "2021-04-01"), slice("2021-04-02", "2022-04-01")
KEPT_FROM = "2021-03-01"
BUILDING, BUILDING_ZONE = "il-electricity-cdd-hdd-hourly", "America/Chicago"
BUILDING_YEAR, BUILDING_AFTER = slice("2015-11-23", "2016-11-21"), slice("2017-01-05", "2018-01-04")
EVENT = range(68, 76)
"""Placebo events from 17 to 19 h local time."""
METHODS = ("weighted_10@1", "average_10_of_10@1", "mid_4_of_6@1")


def sample(meter: str, temperature: str, column: str, zone: str) -> pd.DataFrame:
    """Energy [kWh] and outdoor temperature [°C] by the hour."""
    folder = files("opendsm.eemeter.samples")
    energy = pd.read_csv(str(folder / f"{meter}.csv.gz"), index_col=0)["value"]
    energy.index = pd.to_datetime(energy.index, utc=True)
    outdoors = pd.read_csv(str(folder / f"{temperature}.csv.gz"))
    warmth = pd.Series(outdoors[column].to_numpy(), pd.to_datetime(outdoors["dt"], utc=True))
    if column == "tempF":
        warmth = (warmth - 32) / 1.8
    return pd.DataFrame({"observed": energy, "temperature": warmth}).loc[energy.index[0] :].tz_convert(zone)


def history_of(hourly_wh: pd.Series) -> History:
    """Hours spread over their quarter hours in whole Wh, so that every hour keeps its sum."""
    part = np.arange(1, 5)
    wh = hourly_wh.to_numpy(dtype=np.int64)[:, None]
    quarters = wh * part // 4 - wh * (part - 1) // 4
    return History(int(hourly_wh.index[0].timestamp()) // 900, quarters.ravel(), zone=HOME_ZONE)


def home() -> dict:
    """The hourly model of the year before, against methods of the last ten days, in the same placebo events."""
    hourly = sample(HOME, "uk-tempC-sample-0", "tempC", HOME_ZONE)
    data = eemeter.HourlyBaselineData(hourly.loc[HOME_YEAR], is_electricity_data=True)
    model = eemeter.HourlyModel().fit(data, ignore_disqualification=True)
    after = eemeter.HourlyReportingData(hourly.loc[HOME_AFTER], is_electricity_data=True)
    predicted = model.predict(after, ignore_disqualification=True)["predicted"]
    kept = (hourly["observed"].loc[KEPT_FROM : HOME_AFTER.stop].tz_convert("UTC") * 1_000).round()
    assert not kept.isna().any()
    history = history_of(kept)
    methods = [baseline_method(name) for name in METHODS]
    eligible, events = placebo_days(methods, history, first=date.fromisoformat(HOME_AFTER.start))
    days = eligible.days[:events]
    moments = [pd.Timestamp(f"{day} {hour}:00", tz=HOME_ZONE) for day in days for hour in (17, 18)]
    model_wh = 1_000 * predicted.loc[moments].to_numpy().repeat(4) / 4
    event = slice(EVENT.start, EVENT.stop)
    metered = eligible.values_wh[:events, event].ravel()
    ours = {
        name: np.concatenate([method.baseline(history, MarketDay.of(day, HOME_ZONE))[event] for day in days])
        for name, method in zip(METHODS, methods, strict=True)
    }
    return {
        "meter": HOME,
        "zone": HOME_ZONE,
        "first_hour": kept.index[0].isoformat(),
        "hourly_wh": kept.astype(int).tolist(),
        "first_event": HOME_AFTER.start,
        "events": events,
        "hourly_model": figures(metered, model_wh),
        "our_methods": {name: figures(metered, curve) for name, curve in ours.items()},
    }


def figures(metered: np.ndarray, predicted: np.ndarray) -> dict:
    """Bias (predicted less metered) and CV(RMSE) as OpenDSM computes them [%]."""
    found = BaselineMetrics(df=pd.DataFrame({"observed": metered, "predicted": predicted}), num_model_params=1)
    return {"bias_percent": -100 * float(found.nmbe), "cv_rmse_percent": 100 * float(found.cvrmse)}


def building() -> dict:
    """The daily model of a year: what it expects of the next one, and how much of that is heating and cooling."""
    hourly = sample(BUILDING, "il-tempF", "tempF", BUILDING_ZONE)
    days = hourly.resample("D").agg({"observed": lambda hours: hours.sum(min_count=23), "temperature": "mean"})
    model = eemeter.DailyModel().fit(
        eemeter.DailyBaselineData(days.loc[BUILDING_YEAR], is_electricity_data=True), ignore_disqualification=True
    )
    after = eemeter.DailyReportingData(days.loc[BUILDING_AFTER], is_electricity_data=True)
    expected = model.predict(after, ignore_disqualification=True)
    parts = {"year": days.loc[BUILDING_YEAR].dropna(), "after": days.loc[BUILDING_AFTER].dropna()}
    return {
        "meter": BUILDING,
        **{
            name: {
                "daily_wh": (1_000 * part["observed"]).round().astype(int).tolist(),
                "temperature_c": part["temperature"].round(2).tolist(),
            }
            for name, part in parts.items()
        },
        "expected_kwh": float(expected["predicted"].sum()),
        "heating_kwh": float(expected["heating_load"].sum()),
        "cooling_kwh": float(expected["cooling_load"].sum()),
    }


if __name__ == "__main__":
    packages = ("opendsm", "numpy", "pandas", "scikit-learn")
    found = {
        "source": "OpenDSM, HourlyModel, DailyModel and BaselineMetrics on its sample meters, Apache License 2.0",
        "script": "tests/validation/references/opendsm_meters.py",
        "versions": {name: version(name) for name in packages},
        "home": home(),
        "building": building(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
