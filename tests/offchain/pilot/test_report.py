"""Page of a pilot day, from small days made by hand."""

import json
import re
from datetime import date
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.pilot import report
from offchain.pilot.report import (
    MINUS,
    THIN,
    colour_class,
    grouped,
    headline,
    kwh,
    long_date,
    plural,
    render,
    token,
    write_report,
)
from tests.utils.pilot_day import MISMATCH, congestion, pilot_day, quiet_day

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements of a page with their attributes, the text of each id, and whether all that opens closes."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str | None]] = []
        self.text_of: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        opened, _ = self.open.pop()
        assert opened == tag

    def handle_data(self, data):
        for _, key in self.open:
            if key:
                self.text_of[key] = self.text_of.get(key, "") + data

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def page_of(result) -> Page:
    return Page(render(result.report, result.details))


def not_removed():
    result = pilot_day()
    result.report["congestion"]["after"] = congestion(104.0, 1)
    return result


def directly_controlled():
    result = pilot_day()
    result.details["direct_wh"] = 4_000
    for party in result.details["parties"]:
        party["ordered_by"] = ["DSO"] if party["prosumer"] else []
    return result


def nothing_delivered():
    result = not_removed()
    result.report["energy_wh"] |= {"delivered": 0, "shortfall": 12_000}
    result.details["delivered_wh"] = [0] * 96
    return result


def unforeseen():
    result = quiet_day()
    result.report["congestion"] |= {"before": congestion(104.0, 1), "after": congestion(104.0, 1)}
    return result


def false_alarm():
    result = pilot_day()
    result.report["congestion"]["before"] = congestion(99.0, 0)
    return result


def voltage_only():
    result = pilot_day()
    result.report["congestion"]["before"] = congestion(80.0, 2) | {"min_voltage_pu": 0.885}
    return result


def audit_failed():
    result = pilot_day()
    result.report["audit"] |= {"ok": False, "mismatches": [dict(MISMATCH)]}
    return result


# ------------------------------------------------------------------ headline


@pytest.mark.parametrize(
    ("day", "sentences"),
    [
        (
            pilot_day,
            [
                "On 16 March 2016 the transformer would have been loaded to 112.5%; 2 prosumers of 2 aggregators "
                "delivered 9.0 kWh and it stayed at 97.5%."
            ],
        ),
        (
            quiet_day,
            [
                "On 16 March 2016 the transformer stayed within its limits: it was loaded to at most 54.0%. No "
                "congestion was forecast and no flexibility was requested."
            ],
        ),
        (
            not_removed,
            [
                "On 16 March 2016 the transformer would have been loaded to 112.5%; 2 prosumers of 2 aggregators "
                "delivered 9.0 kWh, which was not enough: it still reached 104.0%, and 1 quarter hour stayed "
                "outside the limits."
            ],
        ),
        (
            directly_controlled,
            [
                "On 16 March 2016 the transformer would have been loaded to 112.5%; 2 prosumers delivered 9.0 kWh "
                "and it stayed at 97.5%.",
                "The market left part of it open: the DSO ordered 4.0 kWh directly, in regime orange, at the "
                "regulated rate.",
            ],
        ),
        (
            nothing_delivered,
            [
                "On 16 March 2016 the transformer would have been loaded to 112.5%; 12.0 kWh were requested and "
                "nothing was delivered, which was not enough: it still reached 104.0%, and 1 quarter hour stayed "
                "outside the limits."
            ],
        ),
        (
            unforeseen,
            [
                "On 16 March 2016 the transformer was loaded to 104.0%; nobody had forecast it, so no flexibility "
                "was requested."
            ],
        ),
        (
            false_alarm,
            [
                "On 16 March 2016 more was forecast, but the transformer would have been loaded to no more than "
                "99.0%; 2 prosumers of 2 aggregators delivered 9.0 kWh and it stayed at 97.5%."
            ],
        ),
        (
            voltage_only,
            [
                "On 16 March 2016 the voltage would have left its band, from 0.885 to 1.020 p.u.; 2 prosumers of 2 "
                "aggregators delivered 9.0 kWh and it stayed between 0.960 and 1.020 p.u."
            ],
        ),
    ],
)
def test_headline_tells_the_day_when_it_went_like_this(day, sentences):
    result = day()
    assert headline(result.report, result.details) == sentences


def test_headline_warns_last_when_the_audit_failed():
    result = audit_failed()
    warning = "The audit found 1 difference: do not rely on these figures before that is explained."
    assert headline(result.report, result.details)[-1] == warning


# ------------------------------------------------------------------ page


@pytest.mark.parametrize(
    "day",
    [
        pilot_day,
        quiet_day,
        not_removed,
        directly_controlled,
        nothing_delivered,
        unforeseen,
        false_alarm,
        voltage_only,
        audit_failed,
    ],
)
def test_render_makes_a_well_formed_page_without_references_whatever_the_day(day):
    page = page_of(day())
    references = [a[key] for _, a in page.elements for key in ("src", "href", "action", "data") if key in a]
    assert references == ["data:,"]


@pytest.mark.parametrize("day", [pilot_day, quiet_day])
def test_render_names_no_address_when_read_as_text(day):
    result = day()
    text = render(result.report, result.details)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)


@pytest.mark.parametrize(("direction", "words"), [("UP", "take less"), ("DOWN", "take more")])
def test_render_says_the_direction_in_words(direction, words):
    result = pilot_day(direction=direction)
    assert f"Direction {direction}: prosumers {words} from the grid" in render(result.report, result.details)


@pytest.mark.parametrize(
    ("day", "count", "first", "last"),
    [
        (date(2016, 3, 16), 96, "00:00–00:15 CET", "23:45–00:00 CET"),
        (date(2016, 3, 27), 92, "00:00–00:15 CET", "23:45–00:00 CEST"),
        (date(2016, 10, 30), 100, "00:00–00:15 CEST", "23:45–00:00 CET"),
    ],
)
def test_render_keeps_local_time_when_clocks_change(day, count, first, last):
    page = page_of(pilot_day(day=day))
    data = json.loads(page.text_of["data"])
    assert len(data["times"]) == len(set(data["times"])) == count
    assert (data["times"][0], data["times"][-1]) == (first, last)
    slider = next(a for tag, a in page.elements if tag == "input" and a.get("id") == "time")
    assert (slider["min"], slider["max"]) == ("0", str(count - 1))
    # one label an hour, of which the coarse ones are spread by local time
    assert len(page.with_class("tick")) == 6 * (count // 4 + 1)
    assert len(page.with_class("every6")) == 6 * 5


def test_render_shows_totals_of_the_report_that_add_up_to_zero():
    result = pilot_day()
    page = page_of(result)
    money = result.report["money_utoken"]
    assert _utoken(page, "total-organisations") == money["aggregators_net"] - money["dso_paid"]
    assert _utoken(page, "total-prosumers") == money["prosumers_net"]
    assert _utoken(page, "total-residual") == -money["residual"]
    assert _utoken(page, "total-sum") == 0
    shown = [_utoken(page, f"total-{name}") for name in ("organisations", "prosumers", "residual")]
    assert sum(shown) == 0


def test_render_shows_a_sum_that_is_not_zero_when_the_parties_do_not_add_up():
    result = pilot_day()
    result.details["parties"][0]["net_utoken"] += 1
    assert _utoken(page_of(result), "total-sum") == 1


def _utoken(page: Page, key: str) -> int:
    """Money that a row of the page shows, read as a person reads it."""
    found = re.search(rf"([+{MINUS}]?)([\d{THIN}]+)\.([\d{THIN}]+)", page.text_of[key])
    sign, whole, decimals = (part.replace(THIN, "") for part in found.groups())
    assert len(decimals) == 6
    return (-1 if sign == MINUS else 1) * int(whole + decimals)


def test_render_escapes_names_wherever_they_appear():
    evil = "</script><img src=x onerror=alert(1)>&\"'"
    result = audit_failed()
    details = result.details
    for holder in (
        *details["map"]["lines"],
        *details["map"]["trafos"],
        *details["map"]["connections"],
        *details["parties"],
    ):
        holder["name"] = evil
    details["faults"] = {evil: evil}
    details["reassignments"][0] |= {"from": evil, "to": evil}
    details["timeline"][2] |= {"who": evil, "note": evil, "contract": evil}
    details["timeline"][1]["event"] = evil
    result.report["audit"]["mismatches"][0] |= {"what": evil, "found": evil}
    result.report["congestion"]["element"] = evil
    result.report["grid"]["code"] = evil
    page = page_of(result)
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert json.loads(page.text_of["data"])["lines"][0]["name"] == evil


def test_render_names_every_difference_when_the_audit_failed():
    result = audit_failed()
    text = render(result.report, result.details)
    assert "✗ failed" in text
    assert "✓" not in text
    for value in MISMATCH.values():
        assert value in text


def test_render_lists_what_went_wrong():
    result = pilot_day()
    text = re.sub(r"<[^>]+>", "", render(result.report, result.details))
    assert "Home 3 – falls short. Credited 0.000 kWh, penalised for 1.000 kWh with 0.250" in text
    assert "19:00: Home 3 missed 0.250 kWh; Home 2 took 0.500 kWh" in text
    assert "2 readings missing, 286 anchored." in text


def test_render_says_that_nothing_went_wrong_when_nothing_did():
    result = quiet_day()
    assert "Nothing: no device failed" in render(result.report, result.details)


def test_render_folds_enrolment_and_bookkeeping_when_it_lists_events():
    result = pilot_day()
    page = page_of(result)
    assert [a["data-contract"] for _, a in page.elements if "data-contract" in a] == ["FlexMarket", "FlexSettlement"]
    text = render(result.report, result.details)
    assert "5 participants registered" in text
    assert "9 EnergyToken Transfer" in text
    assert "18 events in all" in text


def test_render_draws_each_line_and_connection_once():
    page = page_of(pilot_day())
    assert [a["class"] for _, a in page.elements if "data-line" in a] == ["line c0", "line c3"]
    assert len(page.with_class("dot")) == 3
    assert len(page.with_class("fault")) == 1


def test_render_labels_every_control_table_and_picture():
    page = page_of(pilot_day())
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    assert all(a.get("scope") for tag, a in page.elements if tag == "th")
    assert all(a.get("aria-label") or a.get("aria-hidden") for tag, a in page.elements if tag == "svg")
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))


# ------------------------------------------------------------------ files and numbers


def test_write_report_writes_page_and_figures_in_their_order(tmp_path):
    result = pilot_day()
    path = write_report(result, tmp_path / "new" / "folder")
    assert path.name == "report.html"
    text = (path.parent / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == result.report
    assert list(json.loads(text)) == list(result.report)
    assert text.startswith('{\n  "schema": 1,\n')


def test_write_report_writes_the_same_bytes_when_called_again(tmp_path):
    first = write_report(pilot_day(), tmp_path / "a").read_bytes()
    assert write_report(pilot_day(), tmp_path / "b").read_bytes() == first


@pytest.mark.parametrize(
    ("utoken", "digits", "signed", "text"),
    [
        (0, 6, True, f"0.000{THIN}000"),
        (1, 6, True, f"+0.000{THIN}001"),
        (-1_234_567_890, 6, False, f"{MINUS}1{THIN}234.567{THIN}890"),
        (1_999_999, 2, False, "2.00"),
        (-4_999, 2, True, "0.00"),
    ],
)
def test_token_shows_money(utoken, digits, signed, text):
    assert token(utoken, digits, signed) == text


@pytest.mark.parametrize(
    ("wh", "digits", "text"), [(53_350, 1, "53.4"), (1_234_567, 3, f"1{THIN}234.567"), (-400, 1, f"{MINUS}0.4")]
)
def test_kwh_shows_energy(wh, digits, text):
    assert kwh(wh, digits) == text


def test_small_helpers_read_well():
    assert grouped(-1_234) == f"{MINUS}1{THIN}234"
    assert (plural(1, "bus", "buses"), plural(2, "bus", "buses"), plural(0, "order")) == (
        "1 bus",
        "2 buses",
        "0 orders",
    )
    assert long_date("2016-01-02") == "2 January 2016"
    assert [colour_class(p) for p in (0, 20, 20.1, 100, 100.1)] == [0, 0, 1, 4, 5]


@given(st.floats(0.001, 1e9))
def test_axis_has_few_round_values_and_holds_the_highest(highest):
    top, values = report._scale(highest)
    assert highest < top == values[-1] and len(values) <= 7
    assert f"{values[1]:.0e}"[0] in "125"
    assert values[1] == pytest.approx(float(f"{values[1]:.0e}"))
