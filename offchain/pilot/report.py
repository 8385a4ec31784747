"""Page of a pilot day: ``report.html`` for people, ``report.json`` for programs.

The page needs nothing but itself: style, script and data are in it, and its content policy forbids every request. What
is shown is worked out here and laid out in ``templates/``; the script only moves the read-outs.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from math import ceil, cos, floor, log10, radians, sqrt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from offchain.domain.isp import isp_start
from offchain.domain.units import WH_PER_KWH
from offchain.pilot.forecast_page import forecast_section
from offchain.pilot.results import PilotResult
from offchain.pilot.trading_page import by_isp, trading_section

THIN = "\u202f"
MINUS = "\u2212"
LOADING_STEPS = (20, 40, 60, 80, 100)
"""Upper ends of the colours of the grid map [%]; the last colour is for more."""
MAP_WIDTH, MAP_MAX_HEIGHT, MAP_MARGIN = 1_000, 620, 40
Point = tuple[float, float]
ZOOM_MARGIN_ISPS = 6
DIRECTIONS = {
    "UP": "UP: prosumers take less from the grid than their baseline, or feed in more",
    "DOWN": "DOWN: prosumers take more from the grid than their baseline, or feed in less",
}
BUSINESS_EVENTS = {
    "Committed": ("Commitment posted", ""),
    "SessionOpened": ("Trading session opened", ""),
    "BundleSubmitted": ("Orders placed", "escrowed"),
    "ProductCleared": ("Period cleared", ""),
    "MatchRejected": ("Match rejected", "fee"),
    "SessionFinalised": ("Trading session finalised", ""),
    "BundleClaimed": ("Escrow that the match does not need", "returned to traders"),
    "CertificatesIssued": ("Energy certificates issued", ""),
    "TraderSettled": ("Trades verified and settled", "paid to traders"),
    "SessionClosed": ("Trading session closed", "left to the operator"),
    "TraderCorrected": ("Trades corrected by newer readings", ""),
    "RegimeChanged": ("Grid regime changed", ""),
    "RequestPublished": ("FlexRequest published", "escrowed"),
    "RequestClosed": ("FlexRequest closed", "returned to the DSO"),
    "OfferPlaced": ("FlexOffer placed", "bond"),
    "OfferClosed": ("FlexOffer closed", "bond returned"),
    "FlexOrdered": ("FlexOrder placed", "escrowed"),
    "FlexOrderClosed": ("FlexOrder closed", ""),
    "FlexOrderFinalised": ("FlexOrder finalised", "paid by the DSO"),
    "FlexOrderCorrected": ("FlexOrder corrected", ""),
    "ProsumerOrdered": ("Prosumer order issued", "rewards locked"),
    "ProsumerOrderCancelled": ("Prosumer order cancelled", ""),
    "StandbyListed": ("Standby list filed", ""),
    "Reassigned": ("Shortfall reassigned to standby", ""),
    "DirectGroupOpened": ("Direct control opened", ""),
    "DirectControlUsed": ("Direct control used", ""),
    "GroupFinalised": ("Prosumer orders finalised", "returned to the payer"),
    "DayAnchored": ("Metered day anchored", ""),
    "IntradayAnchored": ("Intraday readings anchored", ""),
    "BatchRejected": ("Metering batch rejected", "to the challenger"),
    "ProsumerSettled": ("Prosumer order verified and settled", "net to prosumers"),
    "ProsumerCorrected": ("Prosumer settlement corrected", ""),
    "Owed": ("Debt recorded", ""),
    "OwedCollected": ("Debt collected", ""),
    "OwedSetOff": ("Debt set off", ""),
}
"""Events of the day as people call them, and what their money is."""
ENROLMENT_EVENTS = {
    "ParticipantRegistered": ("participant registered", "participants registered"),
    "CongestionPointDeclared": ("congestion point declared", "congestion points declared"),
    "AggregatorActivated": ("aggregator activated", "aggregators activated"),
    "ConnectionRegistered": ("connection registered", "connections registered"),
    "MeterRegistered": ("meter registered", "meters registered"),
    "AgreementRegistered": ("agreement registered", "agreements registered"),
    "TokensBought": ("purchase of tokens", "purchases of tokens"),
    "Deposited": ("deposit", "deposits"),
    "BondPosted": ("operator bond posted", "operator bonds posted"),
}
"""What happens before the day, one and many."""


def write_report(result: PilotResult, folder: Path) -> Path:
    """Write ``report.html`` and ``report.json`` into a folder.

    Parameters
    ----------
    result : PilotResult
    folder : Path
        Made when it does not exist.

    Returns
    -------
    Path
        Of ``report.html``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(result.report, indent=2, ensure_ascii=False)
    (folder / "report.json").write_text(figures + "\n", encoding="utf-8")
    page = folder / "report.html"
    page.write_text(render(result.report, result.details), encoding="utf-8")
    return page


def render(report: dict[str, Any], details: dict[str, Any]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("offchain.pilot"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"kwh": kwh, "token": token, "grouped": grouped, "plural": plural}
    clock = _Clock(details)
    return environment.get_template("report.html").render(
        report=report,
        details=details,
        date=long_date(report["day"]),
        headline=headline(report, details),
        direction=DIRECTIONS.get(details["direction"]),
        ticks=list(clock.ticks()),
        zoom=_zoom(details),
        loading=_loading_chart(details),
        energy=_energy_chart(details),
        expected=forecast_section(details["expected_wh"], _runs(details["requested_wh"])),
        window=_window_rows(details, clock),
        map=_map(details),
        peak=_peak(details),
        clock=clock,
        payouts=_payouts(report, details),
        trouble=_trouble(details, clock),
        timeline=_timeline(details, clock),
        trading=trading_section(details["trading"], details["first_isp"], clock.count, _scale),
        data=_data(details, clock),
    )


# ------------------------------------------------------------------ numbers for people


def grouped(value: int) -> str:
    """Whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", THIN).replace("-", MINUS)


def kwh(energy_wh: int, digits: int = 1) -> str:
    """Energy in kWh; three digits are exact."""
    return f"{energy_wh / WH_PER_KWH:,.{digits}f}".replace(",", THIN).replace("-", MINUS)


def token(utoken: int, digits: int = 6, signed: bool = False) -> str:
    """Money in token with thin spaces; six digits are exact."""
    scale = 10 ** (6 - digits)
    amount = (abs(utoken) + scale // 2) // scale
    whole, rest = divmod(amount, 10**digits)
    decimals = f"{rest:0{digits}d}"
    text = f"{grouped(whole)}.{THIN.join(decimals[i : i + 3] for i in range(0, digits, 3))}"
    if not amount:
        return text
    return (MINUS if utoken < 0 else "+" if signed else "") + text


def plural(count: int, one: str, many: str = "") -> str:
    """``1 order``, ``2 orders``."""
    return f"{grouped(count)} {one if count == 1 else many or one + 's'}"


def long_date(day: str) -> str:
    """``16 March 2016``."""
    moment = date.fromisoformat(day)
    return f"{moment.day} {moment:%B %Y}"


class _Clock:
    """Local time of the positions of a day."""

    def __init__(self, details: dict[str, Any]):
        self.name = details["zone"]
        self._zone = ZoneInfo(self.name)
        self._first = details["first_isp"]
        self.count = len(details["loading"]["before"])

    def at(self, position: int) -> str:
        """Start of an ISP, ``19:15``."""
        return f"{isp_start(self._first + position).astimezone(self._zone):%H:%M}"

    def span(self, position: int) -> str:
        """An ISP from start to end, ``19:15-19:30 CET``; the zone tells repeated hours apart."""
        start = isp_start(self._first + position).astimezone(self._zone)
        return f"{start:%H:%M}–{self.at(position + 1)} {start:%Z}"

    def of_isp(self, isp: int) -> str:
        return self.at(isp - self._first)

    def stamp(self, unix_s: int) -> tuple[str, str]:
        """Date and time, for people and for machines."""
        moment = datetime.fromtimestamp(unix_s, self._zone)
        return f"{moment:%d %b %H:%M:%S}", moment.isoformat()

    def ticks(self) -> Iterator[dict[str, Any]]:
        """Whole hours; ``every`` is the coarsest raster that keeps it [h]."""
        for position in range(self.count + 1):
            start = isp_start(self._first + position).astimezone(self._zone)
            if start.minute == 0:
                every = next(step for step in (6, 3, 1) if start.hour % step == 0)
                yield {"at": 100 * position / self.count, "label": f"{start:%H:%M}", "every": every}


# ------------------------------------------------------------------ headline


def headline(report: dict[str, Any], details: dict[str, Any]) -> list[str]:
    """The day in one to three sentences."""
    congestion, energy = report["congestion"], report["energy_wh"]
    before, after = congestion["before"], congestion["after"]
    on = f"On {long_date(report['day'])}"
    limit = details["limit_percent"]
    requested = details["direction"] is not None
    peak = f"{before['max_loading_percent']:.1f}%"
    if not requested and not before["violated_isps"]:
        start = f"{on} the transformer stayed within its limits: it was loaded to at most {peak}"
        end = ". No congestion was forecast and no flexibility was requested."
    elif not requested:
        start = f"{on} the transformer was loaded to {peak}"
        end = "; nobody had forecast it, so no flexibility was requested."
    elif not before["violated_isps"]:
        start = f"{on} more was forecast, but the transformer would have been loaded to no more than {peak}"
        end = _outcome(before, after, energy, details)
    elif before["max_loading_percent"] > limit:
        start = f"{on} the transformer would have been loaded to {peak}"
        end = _outcome(before, after, energy, details)
    else:
        start = f"{on} the voltage would have left its band, {_voltages(before, 'from {} to {} p.u.')}"
        end = _outcome(before, after, energy, details)
    sentences = [start + end]
    if details["direct_wh"]:
        sentences.append(
            f"The market left part of it open: the DSO ordered {kwh(details['direct_wh'])} kWh directly, in "
            "regime orange, at the regulated rate."
        )
    if not report["audit"]["ok"]:
        found = plural(len(report["audit"]["mismatches"]), "difference")
        sentences.append(f"The audit found {found}: do not rely on these figures before that is explained.")
    return sentences


def _outcome(before: dict, after: dict, energy: dict, details: dict) -> str:
    if energy["delivered"]:
        deed = f"; {_who(details)} delivered {kwh(energy['delivered'])} kWh"
    else:
        deed = f"; {kwh(energy['requested'])} kWh were requested and nothing was delivered"
    reached = f"{after['max_loading_percent']:.1f}%"
    if after["violated_isps"]:
        remained = plural(after["violated_isps"], "quarter hour")
        return f"{deed}, which was not enough: it still reached {reached}, and {remained} stayed outside the limits."
    if before["violated_isps"] and before["max_loading_percent"] <= details["limit_percent"]:
        return f"{deed} and it stayed {_voltages(after, 'between {} and {} p.u.')}"
    return f"{deed} and it stayed at {reached}."


def _voltages(state: dict, words: str) -> str:
    return words.format(f"{state['min_voltage_pu']:.3f}", f"{state['max_voltage_pu']:.3f}")


def _who(details: dict[str, Any]) -> str:
    delivering = [p for p in details["parties"] if p["prosumer"] and p.get("creditedWh")]
    aggregators = {name for p in delivering for name in p["ordered_by"] if name != "DSO"}
    of = f" of {plural(len(aggregators), 'aggregator')}" if aggregators else ""
    return plural(len(delivering), "prosumer") + of


# ------------------------------------------------------------------ charts
#
# A chart is drawn in a box of isp_count by 100 that is stretched to the page; labels are text of the page at a share of
# its width, so that they keep their size on a phone.


def _steps(values: Sequence[float], top: float) -> str:
    """SVG path that keeps each value for its ISP."""
    ys = [_y(value, top) for value in values]
    return f"M0 {ys[0]}H1" + "".join(f"V{y}H{i}" for i, y in enumerate(ys[1:], 2))


def _band(upper: Sequence[float], lower: Sequence[float], top: float) -> str:
    """SVG path of the area between two series."""
    back = "".join(f"V{_y(lower[i], top)}H{i}" for i in range(len(lower) - 1, -1, -1))
    return f"{_steps(upper, top)}{back}Z"


def _y(value: float, top: float) -> float:
    return round(100 - 100 * value / top, 2)


def _scale(highest: float) -> tuple[float, list[float]]:
    """Top of an axis that holds ``highest``, and up to seven values on it, 1, 2 or 5 of some power of ten apart."""
    power = floor(log10(highest)) - 1
    step = next(digit * 10.0**power for digit in (1, 2, 5, 10, 20, 50) if highest * 1.02 <= 6 * digit * 10.0**power)
    count = ceil(highest * 1.02 / step)
    return step * count, [step * i for i in range(count + 1)]


def _axis(top: float, values: Sequence[float]) -> list[dict[str, Any]]:
    return [{"at": _y(value, top), "label": f"{value:g}"} for value in values]


def _runs(values: Sequence[float]) -> list[tuple[int, int]]:
    """Start and length of the runs of positive values."""
    runs: list[tuple[int, int]] = []
    for position, value in enumerate(values):
        if value <= 0:
            continue
        if runs and sum(runs[-1]) == position:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((position, 1))
    return runs


def _loading_chart(details: dict[str, Any]) -> dict[str, Any]:
    series, limit = details["loading"], details["limit_percent"]
    top, values = _scale(max(limit, *(max(values) for values in series.values())))
    return {
        "axis": _axis(top, values),
        "paths": {name: _steps(values, top) for name, values in series.items()},
        "relief": _band(series["before"], series["after"], top),
        "limit": _y(limit, top),
        "windows": _runs(details["requested_wh"]),
    }


def _energy_chart(details: dict[str, Any]) -> dict[str, Any]:
    series = {name: details[f"{name}_wh"] for name in ("requested", "ordered", "delivered")}
    highest = max(max(values) for values in series.values()) / WH_PER_KWH
    top, values = _scale(highest or 1)
    top_wh = top * WH_PER_KWH
    return {
        "axis": _axis(top, values),
        "requested": _steps(series["requested"], top_wh),
        "bars": {
            name: [(i, _y(v, top_wh), round(100 * v / top_wh, 2)) for i, v in enumerate(series[name]) if v]
            for name in ("ordered", "delivered")
        },
        "windows": _runs(details["requested_wh"]),
        "empty": not highest,
    }


def _zoom(details: dict[str, Any]) -> dict[str, float] | None:
    """Part of the day around what was requested: its beginning as a share of the day, and its magnification."""
    runs = _runs([max(pair) for pair in zip(details["requested_wh"], details["ordered_wh"], strict=True)])
    if not runs:
        return None
    count = len(details["requested_wh"])
    first = max(0, runs[0][0] - ZOOM_MARGIN_ISPS)
    last = min(count, sum(runs[-1]) + ZOOM_MARGIN_ISPS)
    return {"from": first / count, "times": count / (last - first)}


def _window_rows(details: dict[str, Any], clock: _Clock) -> list[dict[str, Any]]:
    return [
        {
            "time": clock.span(i),
            **{name: values[i] for name, values in details["loading"].items()},
            **{name: details[f"{name}_wh"][i] for name in ("requested", "ordered", "delivered")},
        }
        for i in range(clock.count)
        if details["requested_wh"][i] or details["ordered_wh"][i]
    ]


# ------------------------------------------------------------------ map


def _peak(details: dict[str, Any]) -> int:
    """Position of the highest loading without flexibility."""
    before = details["loading"]["before"]
    return before.index(max(before))


def colour_class(loading_percent: float) -> int:
    """Number of the colour of a loading, 0 for idle."""
    return sum(loading_percent > step for step in LOADING_STEPS)


def _map(details: dict[str, Any]) -> dict[str, Any]:
    """Lines, transformers and connections in a box whose sides are as long as on the ground."""
    grid, peak = details["map"], _peak(details)
    lons, lats = zip(*grid["buses"], strict=True)
    shrink = cos(radians((min(lats) + max(lats)) / 2))
    width = max((max(lons) - min(lons)) * shrink, 1e-6)
    height = max(max(lats) - min(lats), 1e-6)
    scale = min(MAP_WIDTH / width, MAP_MAX_HEIGHT / height)

    def place(bus: int) -> Point:
        lon, lat = grid["buses"][bus]
        x = (lon - min(lons)) * shrink * scale + MAP_MARGIN
        return round(x, 1), round((max(lats) - lat) * scale + MAP_MARGIN, 1)

    return {
        "width": round(width * scale + 2 * MAP_MARGIN),
        "height": round(height * scale + 2 * MAP_MARGIN),
        "lines": [
            {
                "name": line["name"],
                "ends": (*place(line["from"]), *place(line["to"])),
                "colour": colour_class(line["before_percent"][peak]),
            }
            for line in grid["lines"]
        ],
        "trafos": [
            {
                "name": trafo["name"],
                "at": place(trafo["bus"]),
                "colour": colour_class(trafo["before_percent"][peak]),
            }
            for trafo in grid["trafos"]
        ],
        "connections": _connections(grid["connections"], place),
        "steps": LOADING_STEPS,
    }


def _connections(connections: list[dict[str, Any]], place: Callable[[int], Point]) -> list[dict[str, Any]]:
    """Connections as dots whose area grows with what was ordered, the largest below."""
    most = max((c["ordered_wh"] for c in connections), default=0) or 1
    dots = [{**c, "at": place(c["bus"]), "size": round(5 + 19 * sqrt(c["ordered_wh"] / most), 1)} for c in connections]
    return sorted(dots, key=lambda dot: -dot["size"])


def _data(details: dict[str, Any], clock: _Clock) -> Markup:
    """What the script reads, as JSON that cannot end its element."""
    data = {
        "times": [clock.span(i) for i in range(clock.count)],
        "loading": details["loading"],
        "energy": {name: details[f"{name}_wh"] for name in ("requested", "ordered", "delivered")},
        "expected": details["expected_wh"],
        "trading": by_isp(details["trading"], details["first_isp"], clock.count),
        "steps": LOADING_STEPS,
        "lines": [
            {"name": line["name"], "before": line["before_percent"], "after": line["after_percent"]}
            for line in details["map"]["lines"]
        ],
        "trafos": [
            {"name": trafo["name"], "before": trafo["before_percent"], "after": trafo["after_percent"]}
            for trafo in details["map"]["trafos"]
        ],
    }
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


# ------------------------------------------------------------------ money and trouble


def _payouts(report: dict[str, Any], details: dict[str, Any]) -> dict[str, Any]:
    """Rows of organisations and prosumers with their sums; with what rounding left they add up to zero."""
    groups = []
    for title, prosumer in (("Organisations", False), ("Prosumers", True)):
        rows = [p for p in details["parties"] if p["prosumer"] is prosumer]
        longest = max((abs(p["net_utoken"]) for p in rows), default=0) or 1
        groups.append(
            {
                "title": title,
                "rows": [
                    {
                        **dict.fromkeys(("creditedWh", "penalisedWh", "missingWh", "reward", "penalty", "bonus"), 0),
                        **p,
                        "bar": round(50 * abs(p["net_utoken"]) / longest, 2),
                        "fault": details["faults"].get(p["name"], ""),
                    }
                    for p in rows
                ],
                "prosumers": prosumer,
                "net_utoken": sum(p["net_utoken"] for p in rows),
                **{
                    key: sum(p.get(key, 0) for p in rows)
                    for key in ("creditedWh", "penalisedWh", "missingWh", "reward", "penalty", "bonus")
                },
            }
        )
    residual = report["money_utoken"]["residual"]
    return {"groups": groups, "residual": -residual, "sum": sum(g["net_utoken"] for g in groups) - residual}


def _trouble(details: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    """Devices with a fault and how they were settled, reassignments, prosumers who fell short without a fault."""
    by_name = {p["name"]: p for p in details["parties"]}
    nothing = {"creditedWh": 0, "penalisedWh": 0, "missingWh": 0, "penalty": 0}
    faults = [
        {"fault": fault, **nothing, **by_name.get(name, {"name": name})} for name, fault in details["faults"].items()
    ]
    others = [
        p for p in details["parties"] if p["prosumer"] and p.get("penalisedWh") and p["name"] not in details["faults"]
    ]
    return {
        "faults": sorted(faults, key=lambda f: (f["fault"], f["name"])),
        "others": len(others),
        "others_wh": sum(p["penalisedWh"] for p in others),
        "others_penalty": sum(p["penalty"] for p in others),
        "missing_wh": sum(p.get("missingWh", 0) for p in details["parties"]),
        "reassignments": [{**r, "time": clock.of_isp(r["isp"])} for r in details["reassignments"]],
        "shortfalls": len({(r["isp"], r["from"]) for r in details["reassignments"]}),
        "standby": len({r["to"] for r in details["reassignments"]}),
        "taken_wh": sum(r["taken_wh"] for r in details["reassignments"]),
        "any": bool(
            faults or others or details["reassignments"] or details["missing_readings"] or details["direct_wh"]
        ),
    }


def _timeline(details: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    """Business events in order; enrolment and bookkeeping as counts."""
    rows, enrolment, bookkeeping = [], {}, {}
    for row in details["timeline"]:
        name, count = row["event"], row["count"]
        if name in ENROLMENT_EVENTS:
            title = ENROLMENT_EVENTS[name]
            enrolment[title] = enrolment.get(title, 0) + count
        elif name in BUSINESS_EVENTS:
            title, money_is = BUSINESS_EVENTS[name]
            local, machine = clock.stamp(row["time"])
            rows.append(row | {"title": title, "money_is": money_is, "local": local, "machine": machine})
        else:
            title = f"{row['contract']} {name}"
            bookkeeping[title] = bookkeeping.get(title, 0) + count
    return {
        "rows": rows,
        "contracts": sorted({row["contract"] for row in rows}),
        "enrolment": enrolment,
        "bookkeeping": bookkeeping,
        "total": sum(row["count"] for row in details["timeline"]),
    }
