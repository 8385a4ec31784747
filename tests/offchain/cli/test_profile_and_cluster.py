"""gridpact profile and cluster on small files: results on stdout, files and pictures, who was left out, exit codes"""

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from offchain.cli.main import app
from offchain.domain.errors import DomainError, PermanentError
from offchain.domain.isp import MarketDay, isp_start

DAYS = 28
FIRST = MarketDay.of(date(2016, 3, 14))
STARTS = pd.date_range(isp_start(FIRST.first_isp), periods=DAYS * 96 - 4, freq="15min")  # clocks change on 27 March
HOUR = np.arange(len(STARTS)) % 96 / 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("readings")
    rng = np.random.default_rng(1)
    frames = []
    for i in range(12):
        peak = 8 if i % 2 else 19
        curve = 60 + 400 * np.exp(-(((HOUR - peak) / 2) ** 2)) * rng.lognormal(0, 0.2, HOUR.size)
        frames.append(pd.DataFrame({"prosumer": f"p{i}", "start": STARTS, "net_wh": curve.round()}))
    charger = np.where((HOUR >= 20) & (HOUR < 23), 2_750, 0)
    frames[0].assign(net_wh=frames[0].net_wh + charger).to_parquet(path / "charger.parquet")
    frames.append(pd.DataFrame({"prosumer": "short", "start": STARTS[:50], "net_wh": 1.0}))
    pd.concat(frames).to_parquet(path / "r.parquet")
    return path


def run(*words, fails: type[Exception] | None = None):
    done = CliRunner().invoke(app, [str(w) for w in words])
    if fails:
        assert isinstance(done.exception, fails), done.output
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done


def test_profile_load_writes_curves_and_picture(folder, tmp_path):
    done = run(
        "profile", "load", folder / "r.parquet", "--period", "weekly",
        "--out", tmp_path / "p.csv", "--plot", tmp_path / "p.png", "--json", "-q",
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert len(told["figures"]) == 12 and told["figures"][0]["days"] == DAYS
    assert list(told["unusable"]) == ["short"] and "left out short" in done.stderr
    table = pd.read_csv(tmp_path / "p.csv")
    assert table.columns[0] == "prosumer" and len(table) == 12 * 2 * 7 * 96
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_profile_load_takes_a_forecast(folder, tmp_path):
    later = STARTS[-96:] + pd.Timedelta(days=1)
    pd.DataFrame({"prosumer": "p1", "start": later, "net_wh": 5}).to_parquet(tmp_path / "f.parquet")
    words = ("profile", "load", folder / "r.parquet", "--forecast", tmp_path / "f.parquet", "--json", "-q")
    days = {f["prosumer"]: f["days"] for f in json.loads(run(*words).stdout)["figures"]}
    assert days["p1"] == DAYS + 1 and days["p2"] == DAYS


def test_profile_disaggregate_finds_a_charger(folder, tmp_path):
    done = run(
        "profile", "disaggregate", folder / "charger.parquet", "--prosumer", "p0",
        "--out", tmp_path / "d.json", "--plot", tmp_path / "d.svg", "--json", "-q",
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["found"]["p0"]["appliances"][0]["power_w"] == pytest.approx(11_000, rel=0.1)
    rows = json.loads((tmp_path / "d.json").read_text())
    assert len(rows) == len(STARTS) and rows[0]["start"].startswith("2016-03-13T23:00:00")
    assert (tmp_path / "d.svg").exists()


def test_profile_disaggregate_uses_devices(folder, tmp_path):
    (tmp_path / "devices.csv").write_text("prosumer,kind,power_w\np0,electric_vehicle,11000\n")
    words = ("profile", "disaggregate", folder / "charger.parquet", "--prosumer", "p0", "--json", "-q", "--devices")
    told = json.loads(run(*words, tmp_path / "devices.csv").stdout)
    assert told["energy_kwh"][0]["electric_vehicle"] == pytest.approx(DAYS * 33, rel=0.05)
    (tmp_path / "devices.csv").write_text("prosumer,kind,power_w\np0,toaster,11000\n")
    assert "unknown kind 'toaster'" in run(*words, tmp_path / "devices.csv", fails=DomainError)


def test_profile_response_reports_portfolio_and_prosumers(tmp_path):
    starts = [s.isoformat() for s in STARTS[:4]]
    rows = [
        {"prosumer": p, "order": o, "start": s, "direction": "UP", "ordered_wh": w, "baseline_net_wh": 500,
         "metered_net_wh": 500 - share * w, "tolerance_bps": 500}
        for p, o, share in (("a", 1, 1), ("b", 1, 0), ("b", 2, 1))
        for s, w in zip(starts, (100, 100, 0, 0), strict=True)
    ]  # fmt: skip
    rows.append({**rows[0], "order": 9, "direction": "LEFT"})
    pd.DataFrame(rows).to_csv(tmp_path / "o.csv", index=False)
    words = ("profile", "response", tmp_path / "o.csv", "--out", tmp_path / "k.csv", "--history", tmp_path / "h.csv")
    told = json.loads(run(*words, "--json").stdout)
    assert told["portfolio"]["delivered_share"] == pytest.approx(2 / 3)
    assert {k["prosumer"]: k["reliability"] for k in told["prosumers"]} == {"a": 1.0, "b": 0.5}
    assert "direction LEFT" in told["unusable"]["a, order 9"]
    assert len(pd.read_csv(tmp_path / "h.csv")) == 3 and len(pd.read_csv(tmp_path / "k.csv")) == 2
    assert "delivered_share" in run(*words).stdout


def test_profile_degradation_finds_the_rate(tmp_path):
    from offchain.degradation.plant import PvPlant, Weather, expected_wh

    first = MarketDay.of(date(2013, 1, 1)).first_isp
    isps = 3 * 365 * 96
    times = pd.date_range(isp_start(first), periods=isps, freq="15min")
    hour = np.arange(isps) % 96 / 4
    cloud = np.repeat(np.random.default_rng(2).uniform(0.3, 1, isps // 96), 96)
    ghi = 900 * np.maximum(np.sin((hour - 6) / 12 * np.pi), 0) * cloud
    new = expected_wh(PvPlant(48.0, 11.0, 5_000), first, isps, Weather(ghi, np.full(isps, 12.0)))
    aged = new * (1 - 0.01 * np.arange(isps) / 96 / 365.25)
    frame = pd.DataFrame({"start": times, "generation_wh": aged, "ghi_w_per_m2": ghi, "temperature_c": 12.0})
    frame.to_parquet(tmp_path / "g.parquet")
    words = ("profile", "degradation", tmp_path / "g.parquet", "--latitude", 48, "--longitude", 11, "--rated-w", 5000)
    told = json.loads(run(*words, "--json", "--plot", tmp_path / "g.png", "--outlook", tmp_path / "y.csv").stdout)
    assert told["rate_per_year"] == pytest.approx(-0.01, abs=2e-4)
    assert told["low"] <= told["rate_per_year"] <= told["high"]
    assert len(pd.read_csv(tmp_path / "y.csv")) == 10 and (tmp_path / "g.png").exists()
    assert "degradation -1.00% a year" in run(*words).stdout


def test_cluster_fit_update_assign_train_and_segment(folder, tmp_path):
    readings, model, network = folder / "r.parquet", tmp_path / "m.npz", tmp_path / "s.npz"
    fit = ("cluster", "fit", readings, "--model", model, "--most", "4", "--json", "-q", "--plot", tmp_path / "c.png")
    told = json.loads(run(*fit, "--out", tmp_path / "a.csv").stdout)
    assert told["sizes"] == [6, 6] and list(told["unusable"]) == ["short"]
    labels = pd.read_csv(tmp_path / "a.csv").set_index("prosumer").cluster
    assert labels["p1"] == labels["p3"] != labels["p2"] and (tmp_path / "c.png").exists()
    assert json.loads(run(*fit).stdout)["model"] == told["model"]

    learned = json.loads(run("cluster", "update", readings, readings, "--model", model, "--json", "-q").stdout)
    assert learned["curves"] == 24 and learned["before"] == told["model"] != learned["model"]

    assigned = json.loads(run("cluster", "assign", readings, "--model", model, "--json").stdout)
    assert {a["prosumer"]: a["cluster"] for a in assigned["assigned"]} == labels.to_dict()

    trained = json.loads(run("cluster", "train", readings, "--model", model, "--segmenter", network, "--json").stdout)
    assert trained["accuracy"] == 1.0 and trained["model"] == learned["model"]
    segments = json.loads(run("cluster", "segment", readings, "--segmenter", network, "--json").stdout)["segments"]
    assert {s["prosumer"]: s["cluster"] for s in segments} == labels.to_dict()


def test_cluster_fit_takes_every_day(folder, tmp_path):
    words = ("cluster", "fit", folder / "r.parquet", "--scale", "day", "--most", "3", "--algorithm", "kmeans", "-q")
    assert "2 clusters of" in run(*words, "--model", tmp_path / "m.npz").stdout


def test_commands_say_what_is_wrong(folder, tmp_path):
    readings = folder / "r.parquet"
    assert "unknown scale 'year'" in run("cluster", "fit", readings, "--scale", "year", fails=DomainError)
    assert "unknown period 'yearly'" in run("profile", "load", readings, "--period", "yearly", fails=DomainError)
    assert "no time zone 'Mars'" in run("profile", "load", readings, "--zone", "Mars", fails=DomainError)
    assert "no prosumer 'x'" in run("profile", "load", readings, "--prosumer", "x", fails=DomainError)
    assert "absent.npz does not exist" in run(
        "cluster", "assign", readings, "--model", tmp_path / "absent.npz", fails=PermanentError
    )


def shown(store, kind, *options):
    return json.loads(run("store", "show", "--kind", kind, "--store", store, *options, "--json").stdout)


def test_profiles_clusters_and_segments_are_read_back_when_kept(folder, tmp_path):
    store, clusters, network = tmp_path / "gridpact.db", tmp_path / "c.npz", tmp_path / "s.npz"
    run("profile", "load", folder / "r.parquet", "--store", store, "--json", "-q")
    kept = shown(store, "load_profile_daily", "--prosumer", "p3")["p3"]
    assert kept["content"]["figures"]["days"] == DAYS and len(kept["content"]["curves"]) % 96 == 0
    assert kept["source"].endswith("r.parquet") and kept["belief_time"].endswith("+00:00")
    run("cluster", "fit", folder / "r.parquet", "--scale", "daily", "--model", clusters, "--json", "-q")
    assigned = run("cluster", "assign", folder / "r.parquet", "--model", clusters, "--store", store, "--json")
    by_prosumer = {row["prosumer"]: row["cluster"] for row in json.loads(assigned.stdout)["assigned"]}
    assert {n: a["content"]["cluster"] for n, a in shown(store, "cluster").items()} == by_prosumer
    run("cluster", "train", folder / "r.parquet", "--model", clusters, "--segmenter", network, "--json")
    run("cluster", "segment", folder / "r.parquet", "--segmenter", network, "--store", store, "--json")
    segments = shown(store, "segment")
    assert len(segments) == 12 and 0 < segments["p0"]["content"]["probability"] <= 1
    assert shown(store, "segment", "--known-at", "2016-01-01T00:00:00+00:00") == {}
