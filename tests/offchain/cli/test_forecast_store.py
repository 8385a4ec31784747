"""gridpact store and forecast --store: readings in, runs kept, committed and made again with what was known then."""

import json
from dataclasses import asdict
from datetime import date

import numpy as np
import pandas as pd
import pytest
from eth_hash.auto import keccak
from typer.testing import CliRunner

from offchain.cli import forecast
from offchain.cli.main import app
from offchain.cli.stored import stored_run
from offchain.domain.curves import unpack_baseline
from offchain.domain.errors import AuditMismatchError, DomainError
from offchain.forecasting import backtest, experts, model_store, verification
from offchain.store import open_store
from offchain.store.curves import curves_of_commitment
from tests.offchain.flexibility.conftest import RecordingSuite, event
from tests.offchain.forecasting.panels import QUICK, homes

ISSUED = "2016-02-17T11:00:00+01:00"
KNOWN = ("--known-since", "2016-02-17T10:30:00+01:00")
COMMITTER = type("Committer", (), {"address": "0x" + "22" * 20})()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small models: these tests are about the command."""
    assert backtest and model_store and verification, "loaded before their settings are replaced"
    original = experts.Settings
    monkeypatch.setattr(experts, "Settings", lambda **given: original(**(asdict(QUICK) | given)))


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done


def table_of(panel):
    times = pd.to_datetime((panel.first_isp + pd.RangeIndex(len(panel.values_wh))) * 900, unit="s", utc=True)
    return pd.DataFrame(panel.values_wh.round(1), columns=[f"{name}_wh" for name in panel.ids]).assign(
        event_start=times
    )


@pytest.fixture
def readings(tmp_path):
    path = tmp_path / "readings.parquet"
    table_of(homes(3, last=date(2016, 2, 20))).to_parquet(path)
    return path


@pytest.fixture
def store(tmp_path, readings):
    path = tmp_path / "gridpact.db"
    run("store", "import", readings, "--store", path, *KNOWN)
    return path


@pytest.fixture
def weather(tmp_path):
    """Two runs: the later one is not known at the issue."""
    hours = pd.date_range("2016-01-04", "2016-02-20", freq="h", tz="UTC")
    warmth = 5 + 5 * np.sin(np.arange(hours.size) / 24)
    runs = [
        pd.DataFrame({"time": hours, "known_since": known, "temperature_c": (warmth + shift).round(2)})
        for known, shift in (("2016-02-17T09:00:00+00:00", 0), ("2016-02-17T12:00:00+00:00", 3))
    ]
    table = pd.concat(runs).assign(irradiance_w_m2="", price_eur_per_mwh="")
    table["time"] = table["time"].map(lambda t: t.isoformat())
    path = tmp_path / "weather.csv"
    table.to_csv(path, index=False)
    return path


def predict(store, *options):
    done = run("forecast", "predict", "--issued-at", ISSUED, "--store", store, *options, "--json", "-q")
    return json.loads(done.stdout)


def test_import_changes_nothing_when_repeated(store, readings, tmp_path):
    again = json.loads(run("store", "import", readings, "--store", store, *KNOWN, "--json").stdout)
    assert (again["new"], again["corrected"]) == (0, 0)
    table = pd.read_parquet(readings)
    table.loc[100, "home-0_wh"] += 1
    table.loc[101, "home-0_wh"] = np.inf
    changed = tmp_path / "changed.parquet"
    table.to_parquet(changed)
    third = json.loads(run("store", "import", changed, "--store", store, "--json").stdout)
    assert (third["new"], third["corrected"]) == (0, 1)
    assert third["cleaning"]["changes"]["home-0"] == {"infinite, now missing": 1}
    shown = json.loads(run("store", "show", "--store", store, "--json").stdout)
    assert shown["net_wh"]["series"] == 3


def test_forecast_is_that_of_the_file_when_readings_come_from_the_store(store, readings):
    from_store = predict(store)["forecasts"]
    done = run("forecast", "predict", readings, "--issued-at", ISSUED, "--json", "-q")
    assert from_store == json.loads(done.stdout)["forecasts"]


def test_run_is_made_again_when_readings_were_corrected_after_it(store, readings, tmp_path):
    digest = predict(store)["run_sha256"]
    with open_store(store) as opened:
        record, rows = stored_run(opened, digest)
    assert [row.series for row in rows] == ["home-0", "home-1", "home-2"] and rows[0].run == record.digest()
    table = table_of(homes(4, last=date(2016, 2, 20), seed=2))
    table.to_parquet(tmp_path / "later.parquet")
    run("store", "import", tmp_path / "later.parquet", "--store", store)
    verify = ("forecast", "verify", "--run", digest, "--store", store, "--json", "-q")
    assert json.loads(run(*verify).stdout)["ok"]
    with pytest.raises(AuditMismatchError, match="inputs: the readings at hand"):
        run("forecast", "verify", tmp_path / "later.parquet", "--run", digest, "--store", store, "-q")


def test_forecast_uses_the_weather_that_was_known_when_given(store, weather):
    plain = predict(store)
    answer = predict(store, "--weather", weather)
    assert answer["run_sha256"] != plain["run_sha256"]
    run("store", "import-weather", weather, "--station", "roof", "--store", store)
    assert predict(store, "--station", "roof")["run_sha256"] == answer["run_sha256"]
    verify = ("forecast", "verify", "--run", answer["run_sha256"], "--store", store, "--json", "-q")
    assert json.loads(run(*verify, "--station", "roof").stdout)["ok"]
    table = pd.read_csv(weather)
    table.loc[table.known_since.str.contains("12:00"), "temperature_c"] += 10
    table.to_csv(weather, index=False)
    assert json.loads(run(*verify, "--weather", weather).stdout)["ok"], "what came after the issue plays no part"
    table["temperature_c"] += 1
    table.to_csv(weather, index=False)
    with pytest.raises(AuditMismatchError, match="weather: the one at hand has digest"):
        run(*verify, "--weather", weather)
    with pytest.raises(AuditMismatchError, match="weather: the one at hand has digest none"):
        run(*verify)


def test_commit_puts_the_run_on_chain_when_it_was_kept(store, monkeypatch):
    digest = predict(store)["run_sha256"]
    suite = RecordingSuite(lambda *call: [event("Committed", commitmentId=7)])
    suite.chain = None
    monkeypatch.setattr(forecast, "_suite", lambda *options: suite)
    monkeypatch.setattr(forecast, "choose_signer", lambda *options: COMMITTER)
    done = json.loads(run("forecast", "commit", digest, "--scope", "feeder 7", "--store", store, "--json").stdout)
    ((contract, function, arguments),) = suite.sent
    assert (contract, function) == ("CommitmentRegistry", "commit")
    assert arguments[1] == keccak(b"feeder 7") and arguments[2].hex() == done["method_hash"]
    assert done == {"commitment": 7, "day": "2016-02-18", "curves": 3, "method_hash": done["method_hash"]}
    with open_store(store) as opened:
        _, rows = stored_run(opened, digest)
        with opened.read() as connection:
            committed = {c.subject_id: unpack_baseline(c.values) for c in curves_of_commitment(connection, 7)}
    for row in rows:
        hourly = np.floor(np.frombuffer(row.p50) + 0.5)
        assert np.array_equal(np.reshape(committed[keccak(row.series.encode())], (24, 4)).sum(axis=1), hourly)
    verify = ("forecast", "verify", "--run", digest, "--store", store, "--committed", done["method_hash"])
    assert run(*verify, "-q").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("forecast", "predict", "--issued-at", ISSUED), "no readings"),
        (("forecast", "predict", "--issued-at", "2015-02-17T11:00:00+01:00", "--store", "S"), "no net_wh was known"),
        (("forecast", "verify", "--run", "ab", "--store", "S"), "no run ab"),
        (("forecast", "verify", "--run", "xy", "--store", "S"), "is not a digest"),
        (("forecast", "verify", "--store", "S"), "which run"),
        (("forecast", "predict", "--issued-at", ISSUED, "--store", "S", "--station", "moon"), "no weather of station"),
        (("store", "import", "F", "--store", "S", "--quantity", "power_w"), "unknown quantity"),
    ],
)
def test_commands_say_what_is_wrong_when_options_are(store, readings, arguments, message):
    given = [{"S": store, "F": readings}.get(a, a) for a in arguments]
    with pytest.raises(DomainError, match=message):
        run(*given)
