"""How prosumers and a portfolio answered to demand response orders.

Everything is computed from orders, baselines and metered values as settled; it judges, it settles nothing.
Energy is counted as in settlement: delivered in the ordered direction, quarter hour by quarter hour.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError
from offchain.domain.isp import isp_start
from offchain.domain.units import BPS, Direction

RESPONDED_SHARE = 0.9
"""Share of the ordered power at which a response counts as there."""
Z95 = 1.959964
RECENT_ORDERS = 10


@dataclass(frozen=True)
class Response:
    """One order to one prosumer and what was metered.

    Attributes
    ----------
    prosumer : str
    direction : Direction
    first_isp : int
        ISP of the first value.
    ordered_wh : ndarray of int, shape (n_isps,)
        Ordered energy per ISP [Wh], non-negative.
    baseline_net_wh, metered_net_wh : ndarray of int, shape (n_isps,) or longer
        Import minus export [Wh]. Values after the order show the rebound.
    tolerance_bps : int
        Share of the ordered energy of an ISP that may be missing.
    """

    prosumer: str
    direction: Direction
    first_isp: int
    ordered_wh: np.ndarray
    baseline_net_wh: np.ndarray
    metered_net_wh: np.ndarray
    tolerance_bps: int = 0

    def __post_init__(self) -> None:
        what = f"order to {self.prosumer} at ISP {self.first_isp}"
        arrays = [np.asarray(a) for a in (self.ordered_wh, self.baseline_net_wh, self.metered_net_wh)]
        ordered, baseline, metered = arrays
        if any(a.ndim != 1 or not np.issubdtype(a.dtype, np.integer) for a in arrays):
            raise DomainError(f"{what}: ordered, baseline and metered must be rows of integers [Wh]")
        if not baseline.size == metered.size >= ordered.size > 0:
            raise DomainError(
                f"{what}: {ordered.size} ordered, {baseline.size} baseline and {metered.size} metered values",
                hint="baseline and metered cover the order, and may go on after it by the same length",
            )
        if ordered.min() < 0 or not ordered.any():
            raise DomainError(f"{what}: ordered energy must be non-negative and not all zero [Wh]")
        if not 0 <= self.tolerance_bps <= BPS:
            raise DomainError(f"{what}: tolerance of {self.tolerance_bps} bps is outside 0..{BPS}")

    @property
    def delivered_wh(self) -> np.ndarray:
        """Energy in the ordered direction per ISP of the order [Wh]; negative where it went the other way."""
        return self._moved_wh[: self.ordered_wh.size]

    @property
    def _moved_wh(self) -> np.ndarray:
        difference = self.baseline_net_wh.astype(np.int64) - self.metered_net_wh
        return difference if self.direction is Direction.UP else -difference

    @property
    def credited_wh(self) -> np.ndarray:
        """Delivered energy, at least 0 and at most what was ordered [Wh]."""
        return np.clip(self.delivered_wh, 0, self.ordered_wh)

    @property
    def rebound_wh(self) -> int:
        """Energy that came back after the order [Wh]; negative where the response went on."""
        return int(-self._moved_wh[self.ordered_wh.size :].sum())

    @property
    def kept(self) -> np.ndarray:
        """Per ISP with an ordered quantity: whether at most the tolerance was missing."""
        active = self.ordered_wh > 0
        missing = (self.ordered_wh - self.delivered_wh)[active].astype(object)
        return np.array(missing * BPS <= self.tolerance_bps * self.ordered_wh[active].astype(object), dtype=bool)

    @property
    def delivered_share(self) -> float:
        """Credited over ordered energy, 0 to 1."""
        return float(self.credited_wh.sum() / self.ordered_wh.sum())

    @property
    def delay_isps(self) -> int | None:
        """ISPs from the first ordered one until 90% of the ordered energy of an ISP came; None if never."""
        active = np.flatnonzero(self.ordered_wh > 0)
        there = self.delivered_wh[active] >= RESPONDED_SHARE * self.ordered_wh[active]
        return int(active[there.argmax()] - active[0]) if there.any() else None

    @property
    def adaptability(self) -> float:
        """How well the power curve was brought into the ordered one: 1 less the absolute difference of delivered
        and ordered over ordered energy, at least 0. Too much counts as much as too little.
        """
        off = np.abs(self.delivered_wh - self.ordered_wh).sum()
        return max(0.0, 1.0 - float(off / self.ordered_wh.sum()))

    @property
    def shape_correlation(self) -> float | None:
        """Correlation of ordered and delivered over the ISPs; None where one of them is flat."""
        ordered, delivered = self.ordered_wh.astype(float), self.delivered_wh.astype(float)
        if ordered.std() == 0 or delivered.std() == 0:
            return None
        return float(np.corrcoef(ordered, delivered)[0, 1])


@dataclass(frozen=True)
class ProsumerKpis:
    """What the orders to one prosumer say about it.

    Attributes
    ----------
    orders, isps : int
        Orders, and ISPs with an ordered quantity.
    ordered_wh, delivered_wh, credited_wh, rebound_wh : int
        Sums [Wh]; ``delivered_wh`` is negative where it moved the other way, ``rebound_wh`` positive where
        energy came back after orders.
    delivered_share : float
        Credited over ordered energy.
    reliability : float
        Share of ISPs kept within tolerance.
    reliability_low, reliability_high : float
        Its 95% interval (Wilson), by orders: quarter hours of one order fail together.
    responded_share : float
        Orders in which 90% of an ISP's order was reached at least once.
    mean_delay_isps : float or None
        Over those orders.
    adaptability : float
        Mean over orders weighted by ordered energy, 0 to 1.
    shape_correlation : float or None
        Median over orders that are not flat.
    peak_up_w, peak_down_w : int
        Largest mean power over an ISP that was delivered in each direction [W].
    longest_isps : int
        Longest run of ISPs kept.
    recent_share : float
        Delivered share of the last ten orders.
    trend_per_order : float
        Least-squares slope of the delivered share over the sequence of orders; negative = it tires.
    """

    prosumer: str
    orders: int
    isps: int
    ordered_wh: int
    delivered_wh: int
    credited_wh: int
    rebound_wh: int
    delivered_share: float
    reliability: float
    reliability_low: float
    reliability_high: float
    responded_share: float
    mean_delay_isps: float | None
    adaptability: float
    shape_correlation: float | None
    peak_up_w: int
    peak_down_w: int
    longest_isps: int
    recent_share: float
    trend_per_order: float

    def attributes(self) -> np.ndarray:
        """Figures for clustering and segmentation, shape (5,): delivered share, reliability, responded share,
        adaptability, recent share.
        """
        return np.array(
            [self.delivered_share, self.reliability, self.responded_share, self.adaptability, self.recent_share]
        )


@dataclass(frozen=True)
class PortfolioKpis:
    """What the orders to all prosumers say about a portfolio.

    Attributes
    ----------
    prosumers, orders : int
    ordered_wh, delivered_wh, credited_wh : int
        Sums over prosumers [Wh].
    delivered_share : float
        Sum of credited over sum of ordered energy: over-delivery of one does not help another.
    pooled_share : float
        As seen at the congestion point: per direction and ISP the deliveries of all are summed before they are
        limited by the summed order.
    reliable_prosumers : int
        Prosumers with at least 90% delivered.
    concentration : float
        Herfindahl index of delivered energy, 1 / number of equal prosumers; 1 = all from one, 0 = none came.
    """

    prosumers: int
    orders: int
    ordered_wh: int
    delivered_wh: int
    credited_wh: int
    delivered_share: float
    pooled_share: float
    reliable_prosumers: int
    concentration: float


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """95% interval of a share.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc.
       22(158), 1927, DOI 10.1080/01621459.1927.10502953.
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def prosumer_kpis(responses: Sequence[Response]) -> ProsumerKpis:
    """KPIs of one prosumer.

    Raises
    ------
    DomainError
        No orders, or orders to several prosumers.
    """
    names = {r.prosumer for r in responses}
    if len(names) != 1:
        raise DomainError(f"orders to {len(names)} prosumers, expected those to one")
    history = sorted(responses, key=lambda r: r.first_isp)
    shares = np.array([r.delivered_share for r in history])
    kept = np.concatenate([r.kept for r in history])
    ordered = np.array([int(r.ordered_wh.sum()) for r in history])
    delays = [d for r in history if (d := r.delay_isps) is not None]
    correlations = [c for r in history if (c := r.shape_correlation) is not None]
    reliability = float(kept.mean())
    low, high = wilson_interval(reliability * len(history), len(history))
    return ProsumerKpis(
        prosumer=names.pop(),
        orders=len(history),
        isps=int(kept.size),
        ordered_wh=int(ordered.sum()),
        delivered_wh=int(sum(r.delivered_wh.sum() for r in history)),
        credited_wh=int(sum(r.credited_wh.sum() for r in history)),
        rebound_wh=sum(r.rebound_wh for r in history),
        delivered_share=float((shares * ordered).sum() / ordered.sum()),
        reliability=reliability,
        reliability_low=low,
        reliability_high=high,
        responded_share=len(delays) / len(history),
        mean_delay_isps=float(np.mean(delays)) if delays else None,
        adaptability=float(np.average([r.adaptability for r in history], weights=ordered)),
        shape_correlation=float(np.median(correlations)) if correlations else None,
        peak_up_w=_peak_w(history, Direction.UP),
        peak_down_w=_peak_w(history, Direction.DOWN),
        longest_isps=max(_longest(r.kept) for r in history),
        recent_share=float(shares[-RECENT_ORDERS:].mean()),
        trend_per_order=float(np.polyfit(np.arange(shares.size), shares, 1)[0]) if shares.size > 1 else 0.0,
    )


def portfolio_kpis(responses: Iterable[Response]) -> tuple[PortfolioKpis, dict[str, ProsumerKpis]]:
    """KPIs of a portfolio and of each of its prosumers.

    Raises
    ------
    DomainError
        No orders.
    """
    by_prosumer: dict[str, list[Response]] = {}
    for response in responses:
        by_prosumer.setdefault(response.prosumer, []).append(response)
    if not by_prosumer:
        raise DomainError("no orders to evaluate")
    each = {name: prosumer_kpis(group) for name, group in by_prosumer.items()}
    ordered, credited = sum(k.ordered_wh for k in each.values()), sum(k.credited_wh for k in each.values())
    useful = np.array([k.credited_wh for k in each.values()], dtype=float)
    portfolio = PortfolioKpis(
        prosumers=len(each),
        orders=sum(k.orders for k in each.values()),
        ordered_wh=ordered,
        delivered_wh=sum(k.delivered_wh for k in each.values()),
        credited_wh=credited,
        delivered_share=credited / ordered,
        pooled_share=_pooled(r for group in by_prosumer.values() for r in group) / ordered,
        reliable_prosumers=sum(k.delivered_share >= RESPONDED_SHARE for k in each.values()),
        concentration=float(((useful / credited) ** 2).sum()) if credited else 0.0,
    )
    return portfolio, each


def responsiveness_history(responses: Iterable[Response]) -> pd.DataFrame:
    """One row per order, by prosumer and time: ``prosumer``, ``start`` (UTC), ``direction``, ``ordered_wh``,
    ``delivered_wh``, ``credited_wh``, ``delivered_share``, ``kept_share``, ``delay_isps``, ``adaptability``,
    ``rebound_wh``.
    """
    rows = [
        {
            "prosumer": r.prosumer,
            "start": isp_start(r.first_isp),
            "direction": r.direction.name,
            "ordered_wh": int(r.ordered_wh.sum()),
            "delivered_wh": int(r.delivered_wh.sum()),
            "credited_wh": int(r.credited_wh.sum()),
            "delivered_share": r.delivered_share,
            "kept_share": float(r.kept.mean()),
            "delay_isps": r.delay_isps,
            "adaptability": r.adaptability,
            "rebound_wh": r.rebound_wh,
        }
        for r in sorted(responses, key=lambda r: (r.prosumer, r.first_isp))
    ]
    return pd.DataFrame(rows).astype({"delay_isps": "Int64"}) if rows else pd.DataFrame()


def kpi_frame(kpis: Iterable[ProsumerKpis]) -> pd.DataFrame:
    """One row per prosumer."""
    return pd.DataFrame([asdict(k) for k in kpis])


def _peak_w(responses: Sequence[Response], direction: Direction) -> int:
    """Largest power over an ISP [W]."""
    peaks = [int(r.delivered_wh.max()) for r in responses if r.direction is direction]
    return max([0, *peaks]) * 4


def _longest(kept: np.ndarray) -> int:
    longest = run = 0
    for ok in kept:
        run = run + 1 if ok else 0
        longest = max(longest, run)
    return longest


def _pooled(responses: Iterable[Response]) -> int:
    """Credited energy when deliveries are summed over prosumers first [Wh]."""
    ordered: dict[tuple[Direction, int], int] = {}
    delivered: dict[tuple[Direction, int], int] = {}
    for r in responses:
        for i in np.flatnonzero(r.ordered_wh):
            key = (r.direction, r.first_isp + int(i))
            ordered[key] = ordered.get(key, 0) + int(r.ordered_wh[i])
            delivered[key] = delivered.get(key, 0) + int(r.delivered_wh[i])
    return sum(min(max(delivered[k], 0), ordered[k]) for k in ordered)
