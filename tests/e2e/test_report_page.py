"""Report page in a real browser, from a file: what a reader can move, and that nothing is asked of a network."""

import pytest

from offchain.pilot.report import write_report
from tests.e2e.browser import Browser
from tests.utils.pilot_day import WINDOW, pilot_day

PHONE, DESKTOP = 390, 1_280
ARROW_LEFT, ARROW_RIGHT = 37, 39
LINES = "[...document.querySelectorAll('[data-line]')].map(line => line.getAttribute('class'))"
READOUT = "document.getElementById('map-readout').textContent"
ROWS = "[...document.querySelectorAll('[data-contract]')].filter(row => !row.hidden).map(row => row.dataset.contract)"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return write_report(pilot_day(), tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture(scope="module")
def desktop():
    with Browser(width=DESKTOP) as browser:
        yield browser


@pytest.fixture
def page(desktop, url):
    """A fresh page; whatever a test does on it, no error and no request but for the page itself."""
    desktop.errors.clear()
    desktop.requests.clear()
    desktop.open(url)
    yield desktop
    assert desktop.errors == []
    assert desktop.requests == [url]


def test_slider_begins_at_the_peak_and_recolours_the_map_when_moved(page):
    assert page.evaluate("document.getElementById('time').value") == str(WINDOW[0])
    assert page.evaluate(LINES) == ["line c0", "line c3"]
    page.evaluate("document.getElementById('time').focus()")
    page.press("ArrowLeft", ARROW_LEFT)
    assert page.evaluate(LINES) == ["line c0", "line c1"]
    assert page.evaluate(READOUT) == (
        "18:45–19:00 CET · without flexibility · transformer 50.0% · most loaded line Line 2 30%"
    )
    assert page.evaluate("document.getElementById('time').getAttribute('aria-valuetext')") == "18:45–19:00 CET"


def test_switch_shows_the_metered_state_when_chosen(page):
    assert page.evaluate("document.querySelector('[data-trafo]').getAttribute('class')") == "trafo c5"
    page.evaluate("document.querySelector('[name=state][value=after]').click()")
    assert page.evaluate("document.querySelector('[data-trafo]').getAttribute('class')") == "trafo c4"
    assert "as metered · transformer 97.5%" in page.evaluate(READOUT)


def test_charts_read_out_all_series_when_pointed_at(page):
    page.point("#loading .inner", (WINDOW[0] + 0.5) / 96)
    readouts = page.evaluate("[...document.querySelectorAll('.chart + .readout')].map(o => o.textContent)")
    assert readouts == [
        "19:00–19:15 CET · without flexibility 112.5% · as metered 97.5% · forecast 115.0%",
        "19:00–19:15 CET · requested 4.000 kWh · ordered 4.000 kWh · delivered 3.000 kWh",
        "19:00–19:15 CET · metered 14.0 kW · without flexibility 24.0 kW · forecast 20.0 kW (12.0 kW to 32.0 kW) · "
        "baseline 22.0 kW",
        "19:00–19:15 CET · day ahead green nothing matched, brown nothing matched · "
        "intraday green nothing matched, brown nothing matched",
        "19:00–19:15 CET · green 0.000 kWh, brown 0.000 kWh in this hour",
        "19:00–19:15 CET · green 0.000 kWh, brown 0.000 kWh in this half hour",
    ]
    page.point("#prices .inner", 50.5 / 96)
    readouts = page.evaluate("[...document.querySelectorAll('.chart + .readout')].map(o => o.textContent)")
    assert readouts[3:] == [
        "12:30–12:45 CET · day ahead green 0.1500 token/kWh, brown nothing matched · "
        "intraday green 0.2500 token/kWh, brown nothing matched",
        "12:30–12:45 CET · green 2.000 kWh, brown 0.000 kWh in this hour",
        "12:30–12:45 CET · green 0.400 kWh, brown 0.000 kWh in this half hour",
    ]


def test_axis_of_a_chart_is_as_high_as_the_chart(page):
    heights = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(chart => "
        "['.axis', 'svg'].map(part => chart.querySelector(part).getBoundingClientRect().height))"
    )
    assert len(heights) == 6
    assert all(axis == drawing for axis, drawing in heights)


def test_charts_move_the_readout_and_the_map_when_keys_are_pressed(page):
    page.evaluate("document.getElementById('energy').focus()")
    page.press("ArrowRight", ARROW_RIGHT)
    assert page.evaluate("document.getElementById('time').value") == str(WINDOW[0] + 1)
    assert page.evaluate(READOUT).startswith("19:15–19:30 CET")


def test_zoom_widens_the_request_when_ticked(page):
    width = "document.querySelector('#loading .window').getBoundingClientRect().width"
    narrow = page.evaluate(width)
    page.evaluate("document.querySelector('.zoom').click()")
    assert page.evaluate(width) == pytest.approx(narrow * 96 / 15, rel=0.01)
    page.evaluate("document.querySelector('.zoom').click()")
    assert page.evaluate(width) == pytest.approx(narrow)


def test_timeline_shows_one_contract_when_filtered(page):
    assert page.evaluate(ROWS) == ["FlexMarket", "FlexSettlement"]
    page.evaluate(
        "(select => { select.value = 'FlexSettlement'; select.dispatchEvent(new Event('change')); })"
        "(document.getElementById('contract'))"
    )
    assert page.evaluate(ROWS) == ["FlexSettlement"]


def test_play_moves_the_time_until_it_is_paused(page):
    page.evaluate("document.getElementById('play').click()")
    page.evaluate("new Promise(done => setTimeout(done, 500))", wait=True)
    page.evaluate("document.getElementById('play').click()")
    reached = int(page.evaluate("document.getElementById('time').value"))
    assert reached > WINDOW[0]
    page.evaluate("new Promise(done => setTimeout(done, 400))", wait=True)
    assert page.evaluate("document.getElementById('time').value") == str(reached)


@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_a_phone(url, dark):
    with Browser(width=PHONE, dark=dark) as phone:
        phone.open(url)
        assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert phone.errors == []
        page, ink = phone.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
    assert (_brightness(page) < _brightness(ink)) is dark


def _brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_browser_reports_errors_and_requests_when_a_page_makes_them(desktop, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<img src='missing.png'><script>nothing.there()</script>")
    desktop.errors.clear()
    desktop.requests.clear()
    desktop.open(broken.as_uri())
    assert any("nothing is not defined" in error for error in desktop.errors)
    assert (tmp_path / "missing.png").as_uri() in desktop.requests
