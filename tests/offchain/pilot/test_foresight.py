"""Forecasts of the day: groups, what is kept in the store, scores against the references."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from eth_hash.auto import keccak

from offchain.domain.isp import MarketDay, isp_of
from offchain.forecasting import experts
from offchain.grid.scenario import ZONE
from offchain.pilot import foresight
from offchain.pilot.config import PilotConfig
from offchain.pilot.foresight import CONGESTION_POINT, INPUTS_DOCUMENT, forecast_day, forecast_quality, groups_of
from offchain.store import open_store
from offchain.store.documents import documents_of
from offchain.store.series import forecasts_of_run, read_measurements, unpack

DAY = MarketDay.of(date(2016, 2, 10), ZONE)
NAMES = ("home-1", "home-2", "shop-3")


def net_wh(isps):
    """Three connections with a daily shape, a weekly one, and noise that is the same whenever it is asked for."""
    t = np.asarray(list(isps))
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(60_000, 3))[t - DAY.first_isp + 30_000]
    shape = 2 + np.sin(2 * np.pi * (t % 96) / 96)[:, None] * [1, -1, 0.5] + 0.5 * ((t // 96) % 7 < 5)[:, None]
    return np.rint(300 * shape + 60 * noise).astype(np.int64)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    aggregators = [SimpleNamespace(address="0xA"), SimpleNamespace(address="0xB")]
    with open_store(tmp_path_factory.mktemp("foresight") / "store.db") as store:
        config = PilotConfig()
        yield SimpleNamespace(
            config=config,
            day=DAY,
            store=store,
            scenario=SimpleNamespace(connections=[SimpleNamespace(id=name) for name in NAMES], net_wh=net_wh),
            cast=SimpleNamespace(aggregators=aggregators, names={"0xA": "aggregator A", "0xB": "aggregator B"}),
            member_of={1: (2, 0), 2: (0, 0)},
            time_of=lambda offset_s: DAY.first_isp * 900 + offset_s,
            progress=lambda *_: None,
        )


@pytest.fixture(scope="module")
def forecast(world):
    patch = pytest.MonkeyPatch()
    patch.setattr(foresight, "MODEL", {"boosted_rows": 4_000, "spread_rows": 2_000, "trees": 20, "spread_trees": 20})
    patch.setattr(foresight, "MODEL_OF_ONE", foresight.MODEL)
    yield forecast_day(world)
    patch.undo()


def test_groups_of_names_all_connections_and_the_members_of_aggregators_with_any(world):
    assert groups_of(world) == {CONGESTION_POINT: NAMES, "aggregator A": ("home-1", "shop-3")}


def test_forecast_day_uses_readings_until_its_issue_only(world, forecast):
    issued = datetime(2016, 2, 9, 10, tzinfo=UTC)  # 11:00 in Berlin
    for part in (forecast.connections, forecast.groups):
        assert part.forecast.issued_at == issued.timestamp()
        assert part.forecast.known_until_isp == part.panel.end_isp == isp_of(issued)
        assert (part.forecast.first_isp, len(part.forecast.p50)) == (DAY.first_isp, DAY.isp_count)
    assert forecast.groups.forecast.ids == (CONGESTION_POINT, "aggregator A")
    assert (forecast.groups.panel.values_wh[:, 0] == forecast.connections.panel.values_wh.sum(axis=1)).all()


def test_forecast_day_keeps_what_is_needed_to_make_it_again(world, forecast):
    with world.store.read() as connection:
        inputs = documents_of(connection, INPUTS_DOCUMENT)
        rows = forecasts_of_run(connection, forecast.connections.run.digest())
        panel = forecast.connections.panel
        stored = read_measurements(connection, NAMES, "net_wh", panel.first_isp, len(panel.values_wh))
    assert {document.key for document in inputs} == {keccak(document.content) for document in inputs}
    assert len(inputs) == 2
    assert (stored.values == panel.values_wh).all()
    assert [row.series for row in rows] == sorted(NAMES)
    column = forecast.connections.forecast.ids.index(rows[0].series)
    assert (unpack(rows[0].p90) == forecast.connections.forecast.p90[:, column]).all()


def test_of_point_wh_is_the_interval_of_the_sum(forecast):
    low, middle, high = forecast.of_point_wh()
    assert (low <= middle).all() and (middle <= high).all()
    sums = forecast.connections.forecast
    assert (high - low).mean() < (sums.p90 - sums.p10).sum(axis=1).mean()  # errors of connections cancel


def test_forecast_quality_scores_every_group_and_horizon_against_the_references(world, forecast):
    measured = net_wh(DAY.isps)
    rows = forecast_quality(world, forecast, measured)
    assert [(row["group"], row["horizon"], row["series"]) for row in rows] == [
        ("connections", "day_ahead_isp", 3),
        (CONGESTION_POINT, "day_ahead_isp", 1),
        ("aggregator A", "day_ahead_isp", 1),
        (CONGESTION_POINT, "intraday", 1),
        (CONGESTION_POINT, "hour_ahead", 1),
    ]
    span = np.quantile(forecast.groups.panel.values_wh[:, 0], [0.01, 0.99])
    week_before = net_wh(range(DAY.first_isp - 672, DAY.end_isp - 672)).sum(axis=1)
    naive = np.abs(week_before - measured.sum(axis=1)).mean() / (span[1] - span[0])
    assert rows[1]["relative_mae_weekly_naive"] == round(naive, 4)
    assert all(row["relative_mae"] < row["relative_mae_weekly_naive"] for row in rows)
    assert all(0.4 < row["coverage"] <= 1 for row in rows)


def test_forecast_quality_is_worse_when_the_day_was_another(world, forecast):
    as_it_was = forecast_quality(world, forecast, net_wh(DAY.isps))[1]
    other = forecast_quality(world, forecast, 2 * net_wh(DAY.isps))[1]
    assert other["relative_mae"] > 2 * as_it_was["relative_mae"]
    assert other["coverage"] < as_it_was["coverage"]


def test_settings_of_the_pilot_are_settings_of_the_ensemble():
    for model in (foresight.MODEL, foresight.MODEL_OF_ONE):
        assert experts.Settings(**model)
