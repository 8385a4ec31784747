"""Section about forecast and baseline: one axis for all lines, below zero too."""

import pytest

from offchain.pilot.forecast_page import _range, forecast_section


def series(**lines):
    quiet = [0, 0, 0, 0]
    return dict.fromkeys(("p10", "p50", "p90", "baseline", "undisturbed", "metered"), quiet) | lines


def test_forecast_section_puts_all_lines_on_one_axis_when_some_are_below_zero():
    section = forecast_section(series(p10=[-500, -500, 0, 0], p90=[250, 250, 1_000, 1_000]), [(1, 2)])
    ticks = {tick["label"]: tick["at"] for tick in section["axis"]}
    assert ticks == {"-2": 100.0, "-1": 83.33, "0": 66.67, "1": 50.0, "2": 33.33, "3": 16.67, "4": 0.0}
    assert section["zero"] == 66.67
    assert section["paths"]["metered"] == "M0 66.67H1V66.67H2V66.67H3V66.67H4"
    assert section["ribbon"].startswith("M0 50.0H1V50.0H2V0.0H3V0.0H4")
    assert section["ribbon"].endswith("V66.67H3V66.67H2V100.0H1V100.0H0Z")
    assert section["windows"] == [(1, 2)]


def test_forecast_section_has_no_zero_line_when_nobody_feeds_in():
    assert forecast_section(series(metered=[100, 200, 300, 400]), [])["zero"] is None


@pytest.mark.parametrize("lowest", [-360.0, -7.2, 0.0, 12.0])
@pytest.mark.parametrize("highest", [0.4, 3.0, 99.0, 441.0])
def test_range_holds_zero_and_all_values_on_few_round_steps(lowest, highest):
    bottom, top, step = _range(lowest, highest)
    assert bottom <= min(lowest, 0) and top >= max(highest, 0)
    assert 2 <= round((top - bottom) / step) <= 8


def test_range_is_not_empty_when_everything_is_zero():
    bottom, top, _ = _range(0.0, 0.0)
    assert bottom == 0 < top
