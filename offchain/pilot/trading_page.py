"""Section of the page about the trading day: prices and volumes by hour, the book of one hour, who paid whom."""

from collections.abc import Callable, Sequence
from typing import Any

from offchain.domain.units import UTOKEN, WH_PER_KWH
from offchain.market.terms import EnergyType

TYPES = tuple(kind.name.lower() for kind in EnergyType)
MONEY = ("cost", "fees", "receipts", "charges", "reward", "rejection_fee", "net")
ENERGY = ("bought_wh", "sold_wh", "injected_wh", "shortage_wh", "surplus_wh")
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
    prices = [price for kind in TYPES for price in series[kind]["price"] if price is not None]
    top, values = scale(max([*prices, UTOKEN // 100]) / UTOKEN)
    bottom = min([0, *prices]) / UTOKEN
    volumes = [sum(period[kind]["volume_wh"] for kind in TYPES) for period in trading["periods"]]
    volume_top, volume_values = scale(max([*volumes, WH_PER_KWH]) / WH_PER_KWH)
    rows = trading["parties"]
    return {
        "prices": {
            "axis": [{"at": _y(value, top, bottom), "label": f"{value:g}"} for value in values],
            "paths": {
                kind: _gapped([None if p is None else p / UTOKEN for p in series[kind]["price"]], top, bottom)
                for kind in TYPES
            },
            "windows": [],
        },
        "volumes": {
            "axis": [{"at": _y(value, volume_top), "label": f"{value:g}"} for value in volume_values],
            "bars": _stacked(trading["periods"], first_isp, isp_count, volume_top * WH_PER_KWH),
            "windows": [],
        },
        "book": trading["book"] and _book(trading["book"], scale),
        "rows": rows,
        "totals": {key: sum(row[key] for row in rows) for key in (*ENERGY, *MONEY)},
        "operator": trading["operator"],
    }


def by_isp(trading: dict[str, Any], first_isp: int, isp_count: int) -> dict[str, dict[str, list]]:
    """Price [uToken/kWh] and volume of the delivery period [Wh] of every ISP, by type; nothing is ``None`` and 0."""
    series: dict[str, dict[str, list]] = {
        kind: {"price": [None] * isp_count, "volume_wh": [0] * isp_count} for kind in TYPES
    }
    for period, (start, end) in zip(trading["periods"], _spans(trading["periods"], first_isp, isp_count), strict=True):
        for kind in TYPES:
            for position in range(start, end):
                series[kind]["price"][position] = period[kind]["price"]
                series[kind]["volume_wh"][position] = period[kind]["volume_wh"]
    return series


def _spans(periods: Sequence[dict[str, Any]], first_isp: int, isp_count: int) -> list[tuple[int, int]]:
    """First and end position of each period on an axis of ``isp_count``; the last one runs to its end."""
    starts = [period["first_isp"] - first_isp for period in periods]
    return list(zip(starts, [*starts[1:], isp_count], strict=True))


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


def _stacked(periods: Sequence[dict[str, Any]], first_isp: int, isp_count: int, top_wh: float) -> list[dict[str, Any]]:
    """Bars of the types on each other, one a period."""
    bars = []
    for period, (start, end) in zip(periods, _spans(periods, first_isp, isp_count), strict=True):
        below = 0
        for kind in TYPES:
            value = period[kind]["volume_wh"]
            if value:
                place = {"x": start, "width": end - start, "y": _y(below + value, top_wh)}
                bars.append(place | {"height": round(100 * value / top_wh, 2), "kind": kind})
            below += value
    return bars


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
