"""Trading section of the page, from a small day made by hand."""

import pytest

from offchain.domain.isp import MarketDay
from offchain.pilot.report import render
from offchain.pilot.trading_page import by_isp, trading_section
from tests.utils.pilot_day import DAY, pilot_day, quiet_day, trading_details

FIRST = MarketDay.of(DAY).first_isp


def scale(highest: float) -> tuple[float, list[float]]:
    return 2 * highest, [0, highest, 2 * highest]


def test_by_isp_gives_every_quarter_hour_the_values_of_its_period():
    series = by_isp(trading_details(FIRST, 96), FIRST, 96)
    found = {
        kind: [i for i, price in enumerate(series[kind]["green"]["price"]) if price is not None] for kind in series
    }
    assert found == {"day_ahead": [48, 49, 50, 51], "intraday": [50, 51]}
    assert set(series["day_ahead"]["green"]["volume_wh"]) == {0, 2_000}
    assert set(series["intraday"]["green"]["volume_wh"]) == {0, 400}
    assert not any(series[kind]["brown"]["volume_wh"][i] for kind in series for i in range(96))


@pytest.mark.parametrize("isp_count", [92, 96, 100])
def test_by_isp_covers_the_day_whatever_its_length(isp_count):
    series = by_isp(trading_details(FIRST, isp_count), FIRST, isp_count)
    assert len(series["day_ahead"]["green"]["price"]) == isp_count
    assert len(series["intraday"]["green"]["price"]) == isp_count


def test_trading_section_draws_prices_only_where_something_was_matched():
    section = trading_section(trading_details(FIRST, 96), FIRST, 96, scale)
    assert section["prices"]["paths"] == {
        "day_ahead": {"brown": "", "green": "M48 70.0H49V70.0H50V70.0H51V70.0H52"},
        "intraday": {"brown": "", "green": "M50 50.0H51V50.0H52"},
    }
    assert section["volumes"]["day_ahead"]["bars"] == [
        {"x": 48, "width": 4, "y": 50.0, "height": 50.0, "kind": "green"}
    ]
    # The axis of a small session still reaches a kWh.
    assert section["volumes"]["intraday"]["bars"] == [{"x": 50, "width": 2, "y": 80.0, "height": 20.0, "kind": "green"}]


def test_trading_section_tells_from_when_to_when_a_session_delivers():
    assert trading_section(trading_details(FIRST, 96), FIRST, 96, scale)["spans"] == [
        (FIRST, FIRST + 96),
        (FIRST + 48, FIRST + 64),
    ]


def test_trading_section_crosses_the_curves_at_volume_and_price():
    book = trading_section(trading_details(FIRST, 96), FIRST, 96, scale)["book"]
    assert book["width_wh"] == 3_000
    assert book["cross"][0] == pytest.approx(100 * 2 / 3, abs=0.01)
    assert book["curves"]["supply"].startswith("M0 ")


def test_render_tells_who_traded_with_a_sum_of_zero():
    result = pilot_day()
    page = render(result.report, result.details)
    assert "2.4 kWh changed hands" in page
    assert "settled without readings" in page
    assert 'id="trading-sum"' in page
    net = sum(p["net"] for p in result.details["trading"]["parties"])
    assert net + result.details["trading"]["operator"] == 0


def test_render_tells_what_intraday_trading_covered():
    result = pilot_day()
    page = render(result.report, result.details)
    assert "would have left 0.5 kWh undelivered and 0.6 kWh not taken" in page
    assert "Purchases of the day covered 0.4 kWh of its sales; 0.4 kWh bought in it were resold" in page
    assert '<th scope="row" class="time">12:00–16:00<span class="note">intraday</span></th><td>30 min</td>' in page


def test_render_shows_no_book_when_only_intraday_sessions_matched():
    result = pilot_day()
    result.details["trading"]["book"] = None
    page = render(result.report, result.details)
    assert "The book of" not in page
    assert 'id="trading-sum"' in page


def test_render_says_that_nothing_was_matched_when_nothing_was():
    result = quiet_day()
    assert "Nothing could be matched" in render(result.report, result.details)
