from dataclasses import fields
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay, isp_start
from offchain.domain.units import Direction
from offchain.grid.assets import AssetKind
from offchain.grid.coordinates import grid_map
from offchain.grid.scenario import load_scenario
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS, GridData, load_grid_data, simbench_net


def test_load_scenario_has_at_least_100_prosumers_when_evening(evening):
    assert len(evening.connections) == 118
    assert len(evening.prosumers) >= 100
    assert sum(c.kind is AssetKind.HOUSEHOLD for c in evening.connections) == 113


def test_load_scenario_is_the_same_when_loaded_twice_with_one_seed(evening, cache_dir):
    again = load_scenario("evening", cache_dir=cache_dir)
    assert again.assets == evening.assets
    assert again.connections == evening.connections


def test_load_scenario_draws_other_devices_when_seed_differs(evening, cache_dir):
    other = load_scenario("evening", seed=2, cache_dir=cache_dir)
    assert other.assets != evening.assets
    assert [c.id for c in other.connections] == [c.id for c in evening.connections]


def test_load_scenario_keeps_devices_when_day_differs(evening, cache_dir):
    other = load_scenario("evening", day=date(2016, 7, 5), cache_dir=cache_dir)
    assert other.assets == evening.assets
    assert other.day == MarketDay.of(date(2016, 7, 5))


def test_load_scenario_raises_with_names_when_unknown():
    with pytest.raises(DomainError, match="noon, evening, quiet"):
        load_scenario("morning")


def test_net_wh_is_the_exact_sum_of_assets_when_read_for_a_day(evening):
    net, parts = evening.net_wh(evening.day), evening.asset_wh(evening.day)
    assert net.dtype == np.int64
    assert (net.sum(axis=1) == parts.sum(axis=1)).all()
    for position, connection in enumerate(evening.connections):
        assert (net[:, position] == parts[:, connection.assets].sum(axis=1)).all()


def test_net_wh_equals_simbench_when_nothing_was_added(quiet):
    import simbench

    values = simbench.get_absolute_values(simbench_net(quiet.code), True)
    mw = values["load", "p_mw"].sum(axis=1) - values["sgen", "p_mw"].sum(axis=1) + values["storage", "p_mw"].sum(axis=1)
    rows = np.arange(quiet.day.first_isp, quiet.day.end_isp) - YEAR_FIRST_ISP
    total_wh = quiet.net_wh(quiet.day).sum(axis=1)
    assert np.abs(total_wh - mw.to_numpy()[rows] * 1e6 / 4).max() <= 0.5 * len(quiet.assets)


@pytest.mark.parametrize(("day", "isps"), [(date(2016, 3, 27), 92), (date(2016, 10, 30), 100)])
def test_net_wh_has_every_isp_when_clocks_change(quiet, day, isps):
    assert quiet.net_wh(MarketDay.of(day)).shape == (isps, len(quiet.connections))


def test_profile_rows_are_isps_when_compared_with_the_time_column(quiet):
    """The data set's local time stamps, clock changes included, are those of our ISP calendar."""
    from zoneinfo import ZoneInfo

    stamps = simbench_net(quiet.code).profiles["load"]["time"]
    zone = ZoneInfo("Europe/Berlin")
    calendar = [isp_start(YEAR_FIRST_ISP + r).astimezone(zone).strftime("%d.%m.%Y %H:%M") for r in range(YEAR_ISPS)]
    assert calendar == stamps.tolist()


def test_net_wh_raises_when_outside_the_year(quiet):
    with pytest.raises(DomainError, match="choose days of 2016"):
        quiet.net_wh(MarketDay.of(date(2017, 1, 2)))


def test_flexible_wh_stays_within_power_limits_when_applied(noon, evening):
    for scenario, direction in ((noon, Direction.DOWN), (evening, Direction.UP)):
        expected = scenario.asset_wh(scenario.day)
        flexible = scenario.flexible_wh(scenario.day, direction)
        assert (flexible >= 0).all() and flexible.sum() > 0
        moved = expected - flexible if direction is Direction.UP else expected + flexible
        for i, asset in enumerate(scenario.assets):
            if not asset.flexible:
                assert not flexible[:, i].any()
            else:
                touched = flexible[:, i] > 0
                assert (moved[touched, i] * 4 <= asset.max_import_w).all()
                assert (moved[touched, i] * 4 >= -asset.max_export_w).all()


def test_flexible_wh_is_zero_when_ev_is_not_plugged_in(evening):
    flexible = evening.flexible_wh(evening.day, Direction.DOWN)
    evs = [i for i, a in enumerate(evening.assets) if a.kind is AssetKind.EV]
    assert not flexible[4 * 12, evs].any()
    assert flexible[4 * 18, evs].any()


def test_noon_batteries_are_idle_when_not_ordered(noon):
    added = [i for i, a in enumerate(noon.assets) if a.kind is AssetKind.BATTERY]
    assert len(added) == 8
    assert not noon.asset_wh(noon.day)[:, added].any()


def test_days_have_enough_similar_days_before_when_scenario_default(noon, evening):
    for scenario in (noon, evening):
        start = datetime.combine(scenario.day.day, datetime.min.time(), UTC)
        assert scenario.day.day.weekday() < 5
        assert start - datetime(2016, 1, 1, tzinfo=UTC) > timedelta(days=21)


def test_load_grid_data_is_the_same_when_cached(tmp_path):
    fresh = load_grid_data("1-LV-rural1--2-sw", cache_dir=tmp_path)
    cached = load_grid_data("1-LV-rural1--2-sw", cache_dir=tmp_path)
    for field in fields(GridData):
        assert np.array_equal(getattr(fresh, field.name), getattr(cached, field.name))


@pytest.mark.parametrize("content", [b"", b"not a cache", b"PK\x03\x04 cut off"])
def test_load_grid_data_reads_again_when_cache_is_broken(tmp_path, content):
    load_grid_data("1-LV-rural1--2-sw", cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(content)
    assert load_grid_data("1-LV-rural1--2-sw", cache_dir=tmp_path).buses == 15


@pytest.mark.parametrize("code", ["1-MV-rural--0-sw", "nonsense", "1-LV-rural9--2-sw"])
def test_load_grid_data_raises_when_code_is_wrong(code):
    with pytest.raises(DomainError, match="1-LV-rural3--2-sw"):
        load_grid_data(code)


def test_grid_map_places_every_connection_when_drawn(evening):
    drawn = grid_map(evening)
    assert {p.connection_id for p in drawn.points} - {None} == {c.id for c in evening.connections}
    assert len(drawn.lines) == 127 and len(drawn.transformers) == 1
    assert all(11 < p.lon < 12 and 53 < p.lat < 54 for p in drawn.points)
