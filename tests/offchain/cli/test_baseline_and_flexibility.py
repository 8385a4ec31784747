"""gridpact baseline: methods, compute, evaluate, check; gridpact flexibility: files in; tables, pictures and JSON out.

One connection that cannot be used → named on stderr, the others go on; nothing usable, wrong times, methods, files →
one line and a hint, exit 2 or 3
"""

import json
import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest

from offchain.baseline.history import History
from offchain.baseline.method import BASELINE_METHODS, baseline_method
from offchain.cli import main
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from offchain.store.series import latest_baseline, unpack

FIRST = MarketDay.of(date(2016, 1, 4)).first_isp
DAY = MarketDay.of(date(2016, 3, 16))
ISPS = DAY.end_isp - FIRST


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(7)
    shape = 300 + 200 * np.sin(np.arange(ISPS) / 96 * 2 * np.pi)
    return {"home": (shape * rng.uniform(0.8, 1.2, ISPS)).round().astype(int), "shop": rng.integers(500, 900, ISPS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("readings")
    starts = [isp_start(FIRST + n).isoformat() for n in range(ISPS)]
    parts = [pd.DataFrame({"prosumer": name, "start": starts, "net_wh": wh}) for name, wh in values.items()]
    parts.append(parts[0].tail(100).assign(prosumer="new"))
    pd.concat(parts).to_csv(folder / "readings.csv", index=False)
    (folder / "excluded.csv").write_text("prosumer,day,reason\nhome,2016-03-15,event\n,2016-03-14,outage\n")
    series = pd.DataFrame({"start": [isp_start(isp).isoformat() for isp in DAY.isps], "sun": np.arange(96) % 50 * 10})
    series.to_csv(folder / "series.csv", index=False)
    portfolio = {
        "day": "2016-03-16",
        "prosumers": [
            {
                "id": "home",
                "import_limit_w": 15_000,
                "export_limit_w": 10_000,
                "assets": {
                    "roof": {"kind": "pv", "expected_wh": "sun"},
                    "car": {
                        "kind": "ev", "capacity_wh": 50_000, "stored_wh": 20_000, "required_wh": 30_000,
                        "charge_w": 11_000, "arrival": "17:30", "departure": "24:00",
                    },
                    "battery": {
                        "kind": "battery", "capacity_wh": 10_000, "stored_wh": 5_000, "charge_w": 4_000,
                        "discharge_w": 4_000, "charging": 1, "discharging": 1,
                    },
                    "heat": {
                        "kind": "heat_pump", "capacity_wh_per_k": 9_000, "loss_w_per_k": 150, "power_w": 3_000,
                        "first_c": 21, "lowest_c": 20, "highest_c": 23, "outside_c": 5, "plan_wh": 200,
                    },
                    "tank": {
                        "kind": "water_heater", "litres": 150, "loss_w_per_k": 1.5, "power_w": 2_000, "first_c": 55,
                        "lowest_c": 50, "highest_c": 65, "outside_c": 18, "plan_wh": 14,
                    },
                    "dishes": {
                        "kind": "appliance", "run_wh": [300, 500], "planned_start": "19:00",
                        "earliest_start": "18:00", "latest_end": "24:00",
                    },
                    "genset": {"kind": "generator", "least_w": 2_000, "highest_w": 5_000},
                },
            },
            {"id": "broken", "baseline_wh": [1, 2], "assets": {}},
        ],
    }  # fmt: skip
    (folder / "portfolio.json").write_text(json.dumps(portfolio))
    return folder


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gridpact", *map(str, arguments)])
    monkeypatch.setattr(main._Mode, "debug", False)
    code = 0
    try:
        main.app_main()
    except SystemExit as end:
        code = end.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def test_methods_lists_every_method_with_its_hash(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "baseline", "methods", "--json")
    assert code == 0 and set(json.loads(out)) == set(BASELINE_METHODS)
    assert "weighted_10@1" in run(monkeypatch, capsys, "baseline", "methods")[1]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_compute_equals_the_library_and_names_who_has_none(monkeypatch, capsys, folder, values, kind):
    target = folder / f"baselines.{kind}"
    code, out, err = run(
        monkeypatch, capsys, "baseline", "compute", folder / "readings.csv", "--day", "2016-03-16",
        "--method", "least_squares_same_day@1", "--event", "17:00-19:00", "--json", "--out", target,
        "--plot", folder / "event.png",
    )  # fmt: skip
    data = json.loads(out)
    assert code == 0 and "new:" in err and list(data["refused"]) == ["new"]
    event = range(DAY.first_isp + 68, DAY.first_isp + 76)
    for name, wh in values.items():
        expected = baseline_method("least_squares_same_day@1").baseline(History(FIRST, wh), DAY, event)
        assert data["baseline_wh"][name] == expected.tolist()
    readers = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}
    frame = readers[kind](target)
    assert frame.groupby("prosumer").size().to_dict() == {"home": 96, "shop": 96}
    assert (folder / "event.png").stat().st_size > 10_000


def test_baselines_and_margins_are_read_back_when_kept(monkeypatch, capsys, folder, tmp_path):
    store = tmp_path / "gridpact.db"
    command = ("baseline", "compute", folder / "readings.csv", "--day", "2016-03-16", "--store", store, "--json")
    curves = json.loads(run(monkeypatch, capsys, *command)[1])["baseline_wh"]
    with open_store(store) as opened, opened.read() as connection:
        kept = latest_baseline(connection, "home", "weighted_10@1", DAY.first_isp)
        assert (
            latest_baseline(connection, "home", "weighted_10@1", DAY.first_isp, known_at=kept.belief_time - 1) is None
        )
    assert unpack(kept.values).tolist() == curves["home"] and len(kept.inputs) == 32
    assert kept.source.startswith("weighted_10@1:")

    names = ("--series", folder / "series.csv", "--readings", folder / "readings.csv", "--by-asset")
    command = ("flexibility", folder / "portfolio.json", *names, "--store", store, "--json", "-q")
    rows = json.loads(run(monkeypatch, capsys, *command)[1])["rows"]
    for series, asset in (("home", ""), ("home/battery", "battery")):
        for quantity, column in (
            ("flexibility_up_wh", "margin_wh"),
            ("up_longest_isps", "longest_isps"),
            ("up_cost_utoken_per_kwh", "cost_utoken_per_kwh"),
        ):
            answer = run(monkeypatch, capsys, "store", "series", quantity, "--store", store, "--json")[1]
            wanted = [r[column] for r in rows if (r["prosumer"], r["asset"], r["direction"]) == ("home", asset, "up")]
            assert json.loads(answer)["series"][series] == wanted


def test_compute_leaves_days_out_when_they_are_excluded(monkeypatch, capsys, folder, values):
    code, out, _ = run(
        monkeypatch, capsys, "baseline", "compute", folder / "readings.csv", "--day", "2016-03-16",
        "--excluded", folder / "excluded.csv", "--json",
    )  # fmt: skip
    assert code == 0
    used = [date(2016, 3, 11 - n) for n in (0, 1, 2, 3, 4)] + [date(2016, 3, n) for n in (4, 3, 2, 1)]
    days = [values["home"][MarketDay.of(d).first_isp - FIRST :][:96] for d in [*used, date(2016, 2, 29)]]
    weighted = sum((10 - n) * wh for n, wh in enumerate(days))
    assert json.loads(out)["baseline_wh"]["home"] == ((2 * weighted + 55) // 110).tolist()


def test_compute_leaves_outages_out_when_asked(monkeypatch, capsys, folder, values):
    cut = values["home"].copy()
    cut[-96 - 50 : -96 - 40] = 0
    starts = [isp_start(FIRST + n).isoformat() for n in range(ISPS)]
    pd.DataFrame({"start": starts, "net_wh": cut}).to_csv(folder / "cut.csv", index=False)
    arguments = ("baseline", "compute", folder / "cut.csv", "--day", "2016-03-16", "--json")
    _, with_outage, _ = run(monkeypatch, capsys, *arguments)
    code, without, err = run(monkeypatch, capsys, *arguments, "--find-outages")
    assert code == 0 and "no supply on 2016-03-15" in err
    position = 96 - 45
    curves = [next(iter(json.loads(out)["baseline_wh"].values())) for out in (with_outage, without)]
    assert curves[0][position] < curves[1][position]


def test_compute_sums_a_group_of_those_that_can_be_used(monkeypatch, capsys, folder):
    code, out, err = run(
        monkeypatch, capsys, "baseline", "compute", folder / "readings.csv", "--day", "2016-03-16", "--group",
        "--country", "IT", "--json",
    )  # fmt: skip
    assert code == 0 and list(json.loads(out)["baseline_wh"]) == ["group of 2"]
    assert "new: not in the group" in err


def test_evaluate_compares_and_recommends(monkeypatch, capsys, folder):
    table = folder / "quality.csv"
    code, out, err = run(
        monkeypatch, capsys, "baseline", "evaluate", folder / "readings.csv", "--latest", "12", "--quiet", "--json",
        "--out", table, "--plot", folder / "quality.svg",
    )  # fmt: skip
    data = json.loads(out)
    assert code == 0 and set(data["connections"]) == {"home", "shop"} and "new:" in err
    assert data["connections"]["home"]["recommended"] in BASELINE_METHODS
    assert not BASELINE_METHODS[data["connections"]["home"]["recommended"]].same_day
    assert len(pd.read_csv(table)) == 2 * len(BASELINE_METHODS) and pd.read_csv(table)["recommended"].sum() == 2
    assert (folder / "quality.svg").stat().st_size > 5_000


def test_evaluate_prints_a_table_for_people(monkeypatch, capsys, folder):
    code, out, _ = run(
        monkeypatch, capsys, "baseline", "evaluate", folder / "readings.csv", "--group", "--quiet",
        "--method", "mid_4_of_6@1", "--method", "weighted_10@1", "--event", "12:00-14:00",
    )  # fmt: skip
    assert code == 0 and "mid_4_of_6@1" in out and "high_5_of_10" not in out


def test_check_flags_load_that_was_raised(monkeypatch, capsys, folder, values):
    raised = values["home"].copy()
    raised[-96 + 60 : -96 + 68] *= 3
    starts = [isp_start(FIRST + n).isoformat() for n in range(ISPS)]
    pd.DataFrame({"start": starts, "net_wh": raised}).to_csv(folder / "raised.csv", index=False)
    arguments = ("--day", "2016-03-16", "--event", "17:00-19:00")
    code, out, _ = run(monkeypatch, capsys, "baseline", "check", folder / "raised.csv", *arguments)
    assert code == 0 and "1 of 1 connections moved as gaming would" in out
    code, out, _ = run(
        monkeypatch, capsys, "baseline", "check", folder / "raised.csv", *arguments, "--direction", "down", "--json"
    )
    assert [m["suspicious"] for m in json.loads(out)["movements"].values()] == [False]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_flexibility_estimates_a_portfolio(monkeypatch, capsys, folder, kind):
    target = folder / f"margins.{kind}"
    code, out, err = run(
        monkeypatch, capsys, "flexibility", folder / "portfolio.json", "--series", folder / "series.csv",
        "--readings", folder / "readings.csv", "--by-asset", "--out", target, "--plot", folder / "potential.png",
        "--json", "--quiet",
    )  # fmt: skip
    data = json.loads(out)
    assert code == 0 and list(data["refused"]) == ["broken"] and "broken:" in err
    home = data["prosumers"]["home"]
    assert set(home["up"]["assets"]) == {"car", "battery", "heat", "tank", "dishes", "genset"}
    assert set(home["down"]["assets"]) == {"roof", "car", "battery", "heat", "tank", "dishes"}
    frame = {"csv": pd.read_csv, "parquet": pd.read_parquet}[kind](target).fillna("")
    assert len(frame) == 96 * (2 + 6 + 6)
    battery = frame[(frame.asset == "battery") & (frame.direction == "up")]
    assert (battery.margin_wh == 1_000).all() and battery.longest_isps.max() == 5
    roof = frame[(frame.asset == "roof") & (frame.direction == "down")]
    assert roof.margin_wh.tolist() == (np.arange(96) % 50 * 10).tolist()
    assert (folder / "potential.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("compute", "READINGS", "--day", "2016-03-16", "--method", "nothing@1"), 2, "unknown baseline method"),
        (("compute", "READINGS", "--day", "2012-03-16"), 2, "no baseline of 2012-03-16"),
        (("compute", "READINGS", "--day", "2016-03-16", "--event", "17:05-19:00"), 2, "no beginning of a quarter"),
        (("compute", "READINGS", "--day", "2016-03-16", "--event", "19:00-17:00"), 2, "ends before it begins"),
        (("compute", "READINGS", "--day", "2016-03-16", "--event", "19:00"), 2, "is no interval"),
        (("compute", "READINGS", "--day", "2016-03-16", "--prosumer", "nobody"), 2, "no usable readings of 'nobody'"),
        (("compute", "READINGS", "--day", "2016-03-16", "--country", "XX"), 2, "no public holidays known"),
        (("compute", "READINGS", "--day", "2016-03-16", "--out", "x.pdf"), 3, "unknown kind of file"),
        (("compute", "MISSING.csv", "--day", "2016-03-16"), 3, "does not exist"),
        (("evaluate", "READINGS", "--days", "holy"), 2, "no such days"),
        (("check", "READINGS", "--day", "2016-03-16", "--event", "17:00-19:00", "--direction", "x"), 2, "direction"),
    ],
)
def test_baseline_fails_with_one_line_and_a_code(monkeypatch, capsys, folder, arguments, code, message):
    paths = [str(folder / "readings.csv") if a == "READINGS" else a for a in arguments]
    found, out, err = run(monkeypatch, capsys, "baseline", *paths)
    assert (found, out) == (code, "")
    assert message in next(line for line in err.splitlines() if line.startswith("error:"))


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('{"day": "2016-03-16"', 2, "the file"),
        ('{"day": "2016-03-16", "prosumers": [{"id": "a", "assets": {"x": {"kind": "moon"}}}]}', 2, "moon"),
        ('{"day": "2016-03-16", "prosumers": [{"id": "a", "assets": {}}, {"id": "a", "assets": {}}]}', 2, "twice"),
        ('{"day": "2016-03-16", "prosumers": []}', 2, "no prosumer"),
        (None, 3, "cannot be read"),
    ],
)
def test_flexibility_fails_with_one_line_and_a_code(monkeypatch, capsys, tmp_path, text, code, message):
    if text is not None:
        (tmp_path / "portfolio.json").write_text(text)
    found, out, err = run(monkeypatch, capsys, "flexibility", tmp_path / "portfolio.json", "--quiet")
    assert (found, out) == (code, "")
    assert message in next(line for line in err.splitlines() if line.startswith("error:"))
