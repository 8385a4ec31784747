"""Section of the page about the trading day: sessions, prices and volumes, the book of one hour, who paid whom."""

from collections.abc import Callable, Sequence
from typing import Any

from offchain.domain.units import UTOKEN, WH_PER_KWH
from offchain.market.terms import EnergyType
from offchain.pilot.trading_results import ENERGY, MONEY

TYPES = tuple(kind.name.lower() for kind in EnergyType)
KINDS = ("day_ahead", "intraday")
Scale = Callable[[float], tuple[float, list[float]]]


def trading_section(trading: dict[str, Any], first_isp: int, isp_count: int, scale: Scale) -> dict[str, Any]:
    """What the template shows.

    Parameters
    ----------
    trading : dict
        Details of ``offchain.pilot.trading_results.collect_trading``.
    first_isp, isp_count : int
        The day on the axis.
    scale : callable
        Top and round values of an axis that holds a value.
    """
    series = by_isp(trading, first_isp, isp_count)
    prices = [price for kind in KINDS for of in TYPES for price in series[kind][of]["price"] if price is not None]
    top, values = scale(max([*prices, UTOKEN // 100]) / UTOKEN)
    bottom = min([0, *prices]) / UTOKEN
    rows = trading["parties"]
    return {
        "prices": {
            "axis": [{"at": _y(value, top, bottom), "label": f"{value:g}"} for value in values],
            "paths": {
                kind: {
                    of: _gapped([None if p is None else p / UTOKEN for p in series[kind][of]["price"]], top, bottom)
                    for of in TYPES
                }
                for kind in KINDS
            },
            "windows": [],
        },
        "volumes": {kind: _volumes(_of_kind(trading, kind), first_isp, scale) for kind in KINDS},
        "book": trading["book"] and _book(trading["book"], scale),
        "spans": [_span(session) for session in trading["sessions"]],
        "rows": rows,
        "totals": {key: sum(row[key] for row in rows) for key in (*ENERGY, *MONEY, "net")},
        "operator": trading["operator"],
    }


def by_isp(trading: dict[str, Any], first_isp: int, isp_count: int) -> dict[str, dict[str, dict[str, list]]]:
    """Price [uToken/kWh] and volume of the delivery period [Wh] of every ISP; nothing is ``None`` and 0.

    By kind of session and type of energy; sessions of a kind deliver one after the other.
    """
    series: dict[str, dict[str, dict[str, list]]] = {
        kind: {of: {"price": [None] * isp_count, "volume_wh": [0] * isp_count} for of in TYPES} for kind in KINDS
    }
    for kind in KINDS:
        for period, start, length in _of_kind(trading, kind):
            for of in TYPES:
                for position in range(start - first_isp, start - first_isp + length):
                    series[kind][of]["price"][position] = period[of]["price"]
                    series[kind][of]["volume_wh"][position] = period[of]["volume_wh"]
    return series


def _of_kind(trading: dict[str, Any], kind: str) -> list[tuple[dict[str, Any], int, int]]:
    """Periods of the sessions of a kind with their first ISP and length; the first session is the day-ahead one."""
    sessions = trading["sessions"][:1] if kind == "day_ahead" else trading["sessions"][1:]
    return [(period, period["first_isp"], s["isps_per_period"]) for s in sessions for period in s["periods"]]


def _span(session: dict[str, Any]) -> tuple[int, int]:
    """First ISP of a session and the one after its last."""
    periods = session["periods"]
    return periods[0]["first_isp"], periods[-1]["first_isp"] + session["isps_per_period"]


def _volumes(periods: Sequence[tuple[dict[str, Any], int, int]], first_isp: int, scale: Scale) -> dict[str, Any]:
    """Bars of the types on each other, one a period."""
    volumes = [sum(period[of]["volume_wh"] for of in TYPES) for period, _, _ in periods]
    top, values = scale(max([*volumes, WH_PER_KWH]) / WH_PER_KWH)
    bars = []
    for period, start, length in periods:
        below = 0
        for of in TYPES:
            value = period[of]["volume_wh"]
            if value:
                place = {"x": start - first_isp, "width": length, "y": _y(below + value, top * WH_PER_KWH)}
                bars.append(place | {"height": round(100 * value / (top * WH_PER_KWH), 2), "kind": of})
            below += value
    axis = [{"at": _y(value, top), "label": f"{value:g}"} for value in values]
    return {"axis": axis, "bars": bars, "windows": [], "sum_wh": sum(volumes)}


def _y(value: float, top: float, bottom: float = 0.0) -> float:
    return round(100 - 100 * (value - bottom) / (top - bottom), 2)


def _gapped(values: Sequence[float | None], top: float, bottom: float) -> str:
    """SVG path that keeps each value for its ISP and leaves out what has none."""
    parts, drawing = [], False
    for position, value in enumerate(values):
        if value is not None:
            y = _y(value, top, bottom)
            parts.append(f"V{y}H{position + 1}" if drawing else f"M{position} {y}H{position + 1}")
        drawing = value is not None
    return "".join(parts)


def _book(book: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """Both curves of a book over cumulative energy, in a box of 100 by 100."""
    width_wh = max(sum(wh for wh, _ in book[side]) for side in ("supply", "demand"))
    prices = [price / UTOKEN for side in ("supply", "demand") for _, price in book[side]]
    top, values = scale(max(prices))
    bottom = min(0, *prices)

    def curve(levels: Sequence[Sequence[int]]) -> str:
        at, path = 0, ""
        for wh, price in levels:
            y = _y(price / UTOKEN, top, bottom)
            path += f"V{y}" if path else f"M0 {y}"
            at += wh
            path += f"H{round(100 * at / width_wh, 2)}"
        return path

    return {
        **book,
        "axis": [{"at": _y(value, top, bottom), "label": f"{value:g}"} for value in values],
        "curves": {side: curve(book[side]) for side in ("supply", "demand")},
        "cross": (round(100 * book["volume_wh"] / width_wh, 2), _y(book["price"] / UTOKEN, top, bottom)),
        "width_wh": width_wh,
    }
