"""What a connection traded in overlapping sessions, held against its meter once.

Twin of ``Netting.sol`` over integers; the rules stand in ``interfaces/IMarketSettlement.sol``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from offchain.market.terms import EnergyType, Span


@dataclass(frozen=True, slots=True)
class Fills:
    """Final fills of a bundle by product [Wh], and the clearing prices [uToken/kWh]."""

    bought_wh: list[int]
    sold_wh: list[int]
    prices: list[int]


class Position(NamedTuple):
    """Final fills of a connection in a session."""

    session_id: int
    span: Span
    fills: Fills


@dataclass(frozen=True, slots=True)
class MeteredWindow:
    """Metered ISPs from ``first_isp`` on [Wh each]; energies are zero where a reading is missing."""

    first_isp: int
    import_wh: list[int]
    export_wh: list[int]
    missing: list[bool]

    @classmethod
    def of(cls, first_isp: int, readings: Sequence[tuple[int, int] | None]) -> "MeteredWindow":
        """From (import, export) by ISP, ``None`` where missing."""
        known = [reading or (0, 0) for reading in readings]
        missing = [reading is None for reading in readings]
        return cls(first_isp, [i for i, _ in known], [x for _, x in known], missing)

    @property
    def end_isp(self) -> int:
        return self.first_isp + len(self.missing)


@dataclass(frozen=True, slots=True)
class Netted:
    """What became of the fills of a session, by product [Wh], and which of its periods lack a reading."""

    injected_wh: list[int]
    covered_wh: list[int]
    taken_wh: list[int]
    incomplete: list[bool]


class Netting(NamedTuple):
    """Result by session, and what of the metered energy none of them used, by ISP [Wh]."""

    sessions: dict[int, Netted]
    import_left_wh: list[int]
    export_left_wh: list[int]


class _Trade(NamedTuple):
    """One product that a position traded in, with the ISPs of its period counted from the window's first."""

    position: Position
    product: int
    kind: EnergyType
    isps: range

    @property
    def bought_wh(self) -> int:
        return self.position.fills.bought_wh[self.product]

    @property
    def sold_wh(self) -> int:
        return self.position.fills.sold_wh[self.product]


def spread_evenly(energy_wh: int, isps: int) -> list[int]:
    """Equal parts of an energy [Wh], the remainder in the first."""
    part, rest = divmod(energy_wh, isps)
    return [part + rest, *[part] * (isps - 1)]


def widened(first_isp: int, end_isp: int, spans: Iterable[Span]) -> tuple[int, int]:
    """Window [first ISP, end ISP) that cuts no delivery period of the sessions.

    Whoever widened it looks whether it touches more sessions now, and widens it by them too.
    """
    for span in spans:
        if span.first_isp < first_isp < span.end_isp:
            first_isp -= (first_isp - span.first_isp) % span.isps_per_period
        if span.first_isp < end_isp < span.end_isp:
            end_isp += -(end_isp - span.first_isp) % span.isps_per_period
    return first_isp, end_isp


def net(positions: Sequence[Position], metered: MeteredWindow) -> Netting:
    """Split sales into injected, covered and short, purchases into taken and surplus.

    Parameters
    ----------
    positions : sequence
        All positions of the connection that deliver in the window, in any order.
    metered : MeteredWindow
        Cuts no delivery period of the positions.
    """
    import_left, export_left = list(metered.import_wh), list(metered.export_wh)
    trades = list(_trades(positions, metered))
    injected, covered, covering, taken = ({} for _ in range(4))
    for trade in trades:
        injected[_key(trade)] = _use(export_left, trade.isps, trade.sold_wh)

    bought: dict[EnergyType, list[int]] = {kind: [0] * len(import_left) for kind in EnergyType}
    for trade in trades:
        for isp, part in zip(trade.isps, spread_evenly(trade.bought_wh, len(trade.isps)), strict=True):
            bought[trade.kind][isp] += part
    unused = {kind: list(parts) for kind, parts in bought.items()}
    for kind, sources in (
        (EnergyType.GREEN, (EnergyType.GREEN,)),
        (EnergyType.BROWN, (EnergyType.BROWN, EnergyType.GREEN)),
    ):
        for trade in trades:
            if trade.kind is kind:
                short = trade.sold_wh - injected[_key(trade)]
                for source in sources:
                    part = _use(unused[source], trade.isps, short)
                    covered[_key(trade)] = covered.get(_key(trade), 0) + part
                    short -= part

    used = {kind: [b - u for b, u in zip(bought[kind], unused[kind], strict=True)] for kind in EnergyType}
    for trade in trades:
        covering[_key(trade)] = 0
        for isp, part in zip(trade.isps, spread_evenly(trade.bought_wh, len(trade.isps)), strict=True):
            own = min(part, used[trade.kind][isp])
            used[trade.kind][isp] -= own
            covering[_key(trade)] += own
    for trade in trades:
        wanted = trade.bought_wh - covering[_key(trade)]
        consumed = _use(import_left, trade.isps, wanted)
        without_reading = any(metered.missing[isp] for isp in trade.isps)
        taken[_key(trade)] = trade.bought_wh if without_reading else covering[_key(trade)] + consumed

    return Netting(
        {p.session_id: _netted(p, metered, injected, covered, taken) for p in positions}, import_left, export_left
    )


def residual_wh(positions: Iterable[Position], metered: MeteredWindow) -> list[int]:
    """Export - import - sold + bought by ISP [Wh], positions spread evenly over the ISPs of their periods."""
    bought, sold = traded_wh(metered.first_isp, len(metered.missing), positions)
    rows = zip(metered.export_wh, metered.import_wh, bought.tolist(), sold.tolist(), strict=True)
    return [x - i + b - s for x, i, b, s in rows]


def traded_wh(first_isp: int, isp_count: int, positions: Iterable[Position]) -> tuple[np.ndarray, np.ndarray]:
    """Bought and sold energy by ISP [Wh], spread evenly over the ISPs of each period."""
    bought, sold = (np.zeros(isp_count, dtype=np.int64) for _ in range(2))
    for _, span, fills in positions:
        for product in range(len(fills.bought_wh)):
            first = span.first_isp + product % span.period_count * span.isps_per_period - first_isp
            for total, wh in ((bought, fills.bought_wh[product]), (sold, fills.sold_wh[product])):
                for isp, part in enumerate(spread_evenly(wh, span.isps_per_period), start=first):
                    if 0 <= isp < isp_count:
                        total[isp] += part
    return bought, sold


def _trades(positions: Iterable[Position], metered: MeteredWindow) -> Iterator[_Trade]:
    """In the order in which they take: finer periods, older sessions, time, green before brown."""
    for position in sorted(positions, key=lambda p: (p.span.isps_per_period, p.session_id)):
        first_isp, length, count = position.span
        for period in range(count):
            first = first_isp + period * length
            if metered.first_isp <= first and first + length <= metered.end_isp:
                isps = range(first - metered.first_isp, first + length - metered.first_isp)
                for kind in (EnergyType.GREEN, EnergyType.BROWN):
                    yield _Trade(position, kind * count + period, kind, isps)


def _key(trade: _Trade) -> tuple[int, int]:
    return trade.position.session_id, trade.product


def _use(values_wh: list[int], isps: range, wanted_wh: int) -> int:
    used = 0
    for isp in isps:
        part = min(values_wh[isp], wanted_wh - used)
        values_wh[isp] -= part
        used += part
    return used


def _netted(position: Position, metered: MeteredWindow, injected: dict, covered: dict, taken: dict) -> Netted:
    products = range(len(position.fills.bought_wh))
    injected_wh, covered_wh, taken_wh = (
        [by_product.get((position.session_id, product), 0) for product in products]
        for by_product in (injected, covered, taken)
    )
    first_isp, length, count = position.span
    incomplete = []
    for period in range(count):
        first = first_isp + period * length - metered.first_isp
        incomplete.append(first >= 0 and any(metered.missing[first : first + length]))
    return Netted(injected_wh, covered_wh, taken_wh, incomplete)
