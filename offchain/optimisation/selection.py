"""Which offers a DSO orders, and how much of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.optimisation.transport import cover


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer on the market, divisible per ISP.

    ``min_total_wh`` is the least that may be ordered of it over the day, if anything; zero when any part may.
    """

    id: str
    quantity_wh: np.ndarray
    price_utoken_per_kwh: int
    min_total_wh: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """What is ordered.

    Attributes
    ----------
    ordered_wh : dict of str to ndarray of int64, shape (n_isps,)
        Ordered part per offer, offers without any left out [Wh].
    uncovered_wh : ndarray of int64, shape (n_isps,)
        Part of the request that no combination of the offers covers [Wh].
    """

    ordered_wh: dict[str, np.ndarray]
    uncovered_wh: np.ndarray


def select_offers(
    request_wh: np.ndarray, offers: Sequence[Offer], *, price_cap_utoken_per_kwh: int | None = None
) -> Selection:
    """Cover the request as far as the offers go, at least cost; at equal price the lower id comes first.

    Parameters
    ----------
    request_wh : ndarray of int, shape (n_isps,)
        Requested per ISP [Wh].
    offers : sequence of Offer
    price_cap_utoken_per_kwh : int, optional
        Offers above it are not considered.
    """
    request_wh = np.asarray(request_wh, dtype=np.int64)
    cap = price_cap_utoken_per_kwh
    considered = [o for o in offers if cap is None or o.price_utoken_per_kwh <= cap]
    ranked = sorted(considered, key=lambda o: (o.price_utoken_per_kwh, o.id))
    for offer in ranked:
        if offer.quantity_wh.shape != request_wh.shape:
            raise DomainError(f"offer {offer.id}: {offer.quantity_wh.size} values for {request_wh.size} ISPs")
    offered_wh = np.array([o.quantity_wh for o in ranked], dtype=np.int64).reshape(len(ranked), request_wh.size)
    plan = cover(
        request_wh,
        offered_wh,
        np.array([o.price_utoken_per_kwh for o in ranked], dtype=np.int64),
        least_wh=np.array([o.min_total_wh for o in ranked], dtype=np.int64),
    )
    ordered = zip(ranked, plan.supplied_wh, strict=True)
    return Selection({offer.id: curve for offer, curve in ordered if curve.any()}, plan.uncovered_wh)
