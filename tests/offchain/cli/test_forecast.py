"""gridpact forecast: files in, files out; a run can be made again, and every error is one line."""

import json
from dataclasses import asdict
from datetime import date

import pandas as pd
import pytest
from eth_hash.auto import keccak
from typer.testing import CliRunner

from offchain.cli.main import app
from offchain.domain.errors import AuditMismatchError, DomainError
from offchain.forecasting import backtest, experts, model_store, verification
from tests.offchain.forecasting.panels import QUICK, homes

ISSUED = "2016-02-17T11:00:00+01:00"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small models: these tests are about the command."""
    assert backtest and model_store and verification, "loaded before their settings are replaced"
    original = experts.Settings
    monkeypatch.setattr(experts, "Settings", lambda **given: original(**(asdict(QUICK) | given)))


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    panel = homes(3, last=date(2016, 2, 20))
    times = pd.to_datetime((panel.first_isp + pd.RangeIndex(len(panel.values_wh))) * 900, unit="s", utc=True)
    table = pd.DataFrame(panel.values_wh.round(1), columns=[f"{name}_wh" for name in panel.ids])
    path = tmp_path_factory.mktemp("data") / "readings.parquet"
    table.assign(event_start=times).to_parquet(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["forecast", *map(str, arguments)], catch_exceptions=False)


def test_train_and_predict_write_files_when_asked(tmp_path, readings):
    trained = run("train", readings, "--models", tmp_path, "--until", "2016-02-15T00:00:00+01:00", "--json", "-q")
    answer = json.loads(trained.stdout)
    assert answer["series"] == 3 and answer["file"].endswith("v0001.npz") and answer["importance"]
    out, plot = tmp_path / "f.csv", tmp_path / "f.png"
    issue = ("--issued-at", ISSUED, "--name", "all", "--models", tmp_path)
    predicted = run("predict", readings, *issue, "--out", out, "--plot", plot, "--json", "-q")
    (forecast,) = json.loads(predicted.stdout)["forecasts"]
    assert forecast["event_start"][0] == "2016-02-17T23:00:00+00:00" and len(forecast["event_start"]) == 24
    table = pd.read_csv(out)
    assert len(table) == 72 and (table.p10_wh <= table.p50_wh).all()
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_predict_can_be_verified_when_it_left_a_record(tmp_path, readings):
    record = tmp_path / "run.json"
    out = tmp_path / "f.json"
    predicted = run("predict", readings, "--issued-at", ISSUED, "--record", record, "--out", out, "--json", "-q")
    digest = json.loads(predicted.stdout)["run_sha256"]
    assert json.loads(out.read_text())[0]["series"][0]["basis"] == "own history"
    assert json.loads(run("verify", readings, "--record", record, "--committed", digest, "--json", "-q").stdout)["ok"]
    method_hash = keccak(verification.Run.from_json(record.read_text()).method_id.encode()).hex()
    assert run("verify", readings, "--record", record, "--committed", "0x" + method_hash, "-q").exit_code == 0
    with pytest.raises(AuditMismatchError, match="committed was 00"):
        run("verify", readings, "--record", record, "--committed", "00", "-q")
    table = pd.read_parquet(readings)
    table.loc[100, "home-0_wh"] += 1
    changed = tmp_path / "changed.parquet"
    table.to_parquet(changed)
    with pytest.raises(AuditMismatchError, match="inputs: the readings at hand have digest"):
        run("verify", changed, "--record", record, "-q")


def test_backtest_prints_a_table_and_plots_when_asked(tmp_path, readings):
    groups = tmp_path / "groups.json"
    groups.write_text('{"homes": ["home-0", "home-1", "home-2"]}')
    done = run(
        "backtest", readings, "--test-from", "2016-02-15T00:00:00+01:00", "--horizon", "day_ahead", "--groups", groups,
        "--out", tmp_path / "scores.csv", "--plot", tmp_path, "-q",
    )  # fmt: skip
    assert done.exit_code == 0 and "homes" in done.stdout
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores.relative_mae[0] < scores.relative_mae_weekly_naive[0]
    assert (tmp_path / "homes_day_ahead.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--issued-at", "2016-02-17T11:00:00"), "has no time zone"),
        (("--issued-at", "noon"), "is not a time"),
        (("--issued-at", ISSUED, "--site", "Berlin"), "is not latitude,longitude"),
        (("--issued-at", ISSUED, "--horizon", "year"), "unknown horizon"),
        (("--issued-at", ISSUED, "--out", "forecast.xls"), "no such format"),
    ],
)
def test_predict_says_what_is_wrong_when_options_are(readings, arguments, message):
    with pytest.raises(DomainError, match=message):
        run("predict", readings, *arguments, "-q")
