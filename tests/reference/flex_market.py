"""Flexibility market in plain Python: what ``FlexMarket`` should do, from ``IFlexMarket``, without its code.

Every method takes the time and the caller, and either changes the state or gives back the revert that the contract
should answer with.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from offchain.domain.units import cost_down, cost_up
from tests.reference.revert import Revert

MAX_SELECTIONS = 16
SECONDS_PER_ISP = 900

Curve = dict[int, int]
"""Wh by position, only where there is any."""


class RequestStatus(IntEnum):
    NONE = 0
    OPEN = 1
    SELECTED = 2
    CANCELLED = 3
    EXPIRED = 4


class OfferStatus(IntEnum):
    NONE = 0
    OPEN = 1
    ORDERED = 2
    WITHDRAWN = 3
    RELEASED = 4


class OrderStatus(IntEnum):
    NONE = 0
    OPEN = 1
    CANCELLED = 2
    FINALISED = 3


@dataclass
class Request:
    dso: str
    curve: Curve
    price_cap: int
    bond_rate: int
    gate_closure: int
    select_by: int
    dispatch_by: int
    status: RequestStatus = RequestStatus.OPEN
    ordered_wh: int = 0


@dataclass
class Offer:
    request_id: int
    aggregator: str
    price: int
    curve: Curve
    status: OfferStatus = OfferStatus.OPEN


@dataclass
class Order:
    request_id: int
    dso: str
    aggregator: str
    curve: Curve
    status: OrderStatus = OrderStatus.OPEN
    dispatched: bool = False


@dataclass
class FlexMarketReference:
    """The market of one congestion point on one market day.

    Parameters
    ----------
    dso : str
        DSO of the point.
    aggregators : dict of str to int
        Aggregators active at the point, with the baseline commitment of each.
    free : dict of str to int
        Free balances in the clearing house [uToken].
    day_first_isp : int
        First ISP of the market day.
    """

    dso: str
    aggregators: dict[str, int]
    free: dict[str, int]
    day_first_isp: int
    locks: dict[tuple[str, int], int] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    DSO, AGGREGATOR = 1, 3
    """Roles in ``MissingRole``."""
    UNKNOWN, ACTIVE, SUSPENDED = 0, 1, 2
    """Standings in ``MissingRole``."""

    # ------------------------------------------------------------------ requests

    def publish(
        self,
        now: int,
        caller: str,
        curve: Curve,
        price_cap: int,
        bond_rate: int,
        gate_closure: int,
        select_by: int,
        dispatch_by: int,
    ) -> Revert | None:
        if missing := self._missing_role(caller, self.DSO):
            return missing
        if not curve:
            return Revert("EmptyCurve")
        first_start = (self.day_first_isp + min(curve)) * SECONDS_PER_ISP
        if not now <= gate_closure < select_by <= dispatch_by < first_start:
            return Revert("InvalidDeadlines", gate_closure, select_by, dispatch_by, first_start)
        budget = cost_up(sum(curve.values()), price_cap)
        if self.free[caller] < budget:
            return Revert("InsufficientBalance", caller, self.free[caller], budget)
        self.requests.append(Request(caller, curve, price_cap, bond_rate, gate_closure, select_by, dispatch_by))
        self._move(caller, ("budget", len(self.requests)), budget)
        return None

    def cancel_request(self, now: int, caller: str, request_id: int) -> Revert | None:
        if fault := self._not_open("Request", request_id, self.requests, RequestStatus.OPEN):
            return fault
        request = self.requests[request_id - 1]
        if caller != request.dso:
            return Revert("NotCaller", caller, request.dso)
        if now > request.gate_closure:
            return Revert("GateClosed", request.gate_closure, now)
        self._close_request(request_id, RequestStatus.CANCELLED)
        return None

    def expire_request(self, now: int, request_id: int) -> Revert | None:
        if fault := self._not_open("Request", request_id, self.requests, RequestStatus.OPEN):
            return fault
        request = self.requests[request_id - 1]
        if now <= request.select_by:
            return Revert("SelectionStillOpen", request.select_by, now)
        self._close_request(request_id, RequestStatus.EXPIRED)
        return None

    # ------------------------------------------------------------------ offers

    def place(
        self, now: int, caller: str, request_id: int, price: int, commitment_id: int, curve: Curve
    ) -> Revert | None:
        if missing := self._missing_role(caller, self.AGGREGATOR):
            return missing
        if fault := self._not_open("Request", request_id, self.requests, RequestStatus.OPEN):
            return fault
        request = self.requests[request_id - 1]
        if now > request.gate_closure:
            return Revert("GateClosed", request.gate_closure, now)
        if price > request.price_cap:
            return Revert("PriceAboveCap", price, request.price_cap)
        if commitment_id != self.aggregators[caller]:
            return Revert("BaselineNotUsable", commitment_id)
        if not curve:
            return Revert("EmptyCurve")
        bond = cost_up(sum(curve.values()), request.bond_rate)
        if self.free[caller] < bond:
            return Revert("InsufficientBalance", caller, self.free[caller], bond)
        self.offers.append(Offer(request_id, caller, price, curve))
        self._move(caller, ("offer", len(self.offers)), bond)
        return None

    def withdraw(self, now: int, caller: str, offer_id: int) -> Revert | None:
        if fault := self._not_open("Offer", offer_id, self.offers, OfferStatus.OPEN):
            return fault
        offer = self.offers[offer_id - 1]
        if caller != offer.aggregator:
            return Revert("NotCaller", caller, offer.aggregator)
        gate = self.requests[offer.request_id - 1].gate_closure
        if now > gate:
            return Revert("GateClosed", gate, now)
        self._close_offer(offer_id, OfferStatus.WITHDRAWN)
        return None

    def release(self, now: int, offer_id: int) -> Revert | None:
        if fault := self._not_open("Offer", offer_id, self.offers, OfferStatus.OPEN):
            return fault
        request = self.requests[self.offers[offer_id - 1].request_id - 1]
        if request.status is RequestStatus.OPEN and now <= request.select_by:
            return Revert("SelectionStillOpen", request.select_by, now)
        self._close_offer(offer_id, OfferStatus.RELEASED)
        return None

    # ------------------------------------------------------------------ orders

    def select(self, now: int, caller: str, request_id: int, selections: list[tuple[int, Curve]]) -> Revert | None:
        """Selections as (offer, ordered curve); nothing changes unless all of them stand."""
        if missing := self._missing_role(caller, self.DSO):
            return missing
        if fault := self._not_open("Request", request_id, self.requests, RequestStatus.OPEN):
            return fault
        request = self.requests[request_id - 1]
        if caller != request.dso:
            return Revert("NotCaller", caller, request.dso)
        if now <= request.gate_closure:
            return Revert("GateStillOpen", request.gate_closure, now)
        if now > request.select_by:
            return Revert("SelectionClosed", request.select_by, now)
        if len(selections) > MAX_SELECTIONS:
            return Revert("TooManySelections", len(selections), MAX_SELECTIONS)
        sums: Curve = {}
        seen: set[int] = set()
        for offer_id, ordered in selections:
            if fault := self._not_selectable(request_id, offer_id, seen):
                return fault
            if not ordered:
                return Revert("EmptyCurve")
            offer = self.offers[offer_id - 1]
            for position in sorted(ordered):
                limit = offer.curve.get(position, 0)
                if ordered[position] > limit:
                    return Revert("QuantityExceeded", position, ordered[position], limit)
                sums[position] = sums.get(position, 0) + ordered[position]
                limit = request.curve.get(position, 0)
                if sums[position] > limit:
                    return Revert("QuantityExceeded", position, sums[position], limit)
            seen.add(offer_id)
        for offer_id, ordered in selections:
            self._order(request_id, offer_id, ordered)
        self._close_request(request_id, RequestStatus.SELECTED)
        return None

    def dispatch(self, order_id: int) -> None:
        self.orders[order_id - 1].dispatched = True

    def cancel_order(self, caller: str, order_id: int) -> Revert | None:
        if fault := self._not_open("Order", order_id, self.orders, OrderStatus.OPEN):
            return fault
        order = self.orders[order_id - 1]
        if caller != order.dso:
            return Revert("NotCaller", caller, order.dso)
        if order.dispatched:
            return Revert("OrderAlreadyDispatched", order_id)
        order.status = OrderStatus.CANCELLED
        self._return(("escrow", order_id), order.dso)
        self._return(("bond", order_id), order.aggregator)
        return None

    def settle(self, order_id: int) -> Revert | None:
        """Settlement as the machine plays it: escrow and bond go to the aggregator."""
        if fault := self._not_open("Order", order_id, self.orders, OrderStatus.OPEN):
            return fault
        order = self.orders[order_id - 1]
        order.status = OrderStatus.FINALISED
        self._return(("escrow", order_id), order.aggregator)
        self._return(("bond", order_id), order.aggregator)
        return None

    # ------------------------------------------------------------------ inside

    def _not_selectable(self, request_id: int, offer_id: int, seen: set[int]) -> Revert | None:
        if offer_id in seen:
            return Revert("OfferNotOpen", offer_id, OfferStatus.ORDERED)
        if fault := self._not_open("Offer", offer_id, self.offers, OfferStatus.OPEN):
            return fault
        offer = self.offers[offer_id - 1]
        if offer.request_id != request_id:
            return Revert("OfferOfOtherRequest", offer_id, request_id)
        return self._missing_role(offer.aggregator, self.AGGREGATOR)

    def _order(self, request_id: int, offer_id: int, ordered: Curve) -> None:
        request, offer = self.requests[request_id - 1], self.offers[offer_id - 1]
        self.orders.append(Order(request_id, request.dso, offer.aggregator, ordered))
        order_id, energy_wh = len(self.orders), sum(ordered.values())
        self._relock(("budget", request_id), ("escrow", order_id), cost_down(energy_wh, offer.price))
        self._relock(("offer", offer_id), ("bond", order_id), cost_up(energy_wh, request.bond_rate))
        self._close_offer(offer_id, OfferStatus.ORDERED)
        request.ordered_wh += energy_wh

    def _close_request(self, request_id: int, status: RequestStatus) -> None:
        request = self.requests[request_id - 1]
        request.status = status
        self._return(("budget", request_id), request.dso)

    def _close_offer(self, offer_id: int, status: OfferStatus) -> None:
        offer = self.offers[offer_id - 1]
        offer.status = status
        self._return(("offer", offer_id), offer.aggregator)

    def _missing_role(self, account: str, role: int) -> Revert | None:
        known = account == self.dso or account in self.aggregators
        holds = account == self.dso if role == self.DSO else account in self.aggregators
        if holds and account not in self.suspended:
            return None
        standing = self.SUSPENDED if account in self.suspended else self.ACTIVE if known else self.UNKNOWN
        return Revert("MissingRole", account, role, standing)

    @staticmethod
    def _not_open(kind: str, number: int, items: list, open_status: IntEnum) -> Revert | None:
        if not 0 < number <= len(items):
            return Revert("FlexOrderUnknown" if kind == "Order" else f"{kind}Unknown", number)
        status = items[number - 1].status
        return None if status is open_status else Revert(f"{kind}NotOpen", number, status)

    def _move(self, account: str, lock: tuple[str, int], amount: int) -> None:
        self.free[account] -= amount
        self.locks[lock] = self.locks.get(lock, 0) + amount

    def _relock(self, source: tuple[str, int], target: tuple[str, int], amount: int) -> None:
        if self.locks[source] < amount:
            raise AssertionError(f"{source} holds {self.locks[source]}, {amount} needed")
        self.locks[source] -= amount
        self.locks[target] = self.locks.get(target, 0) + amount

    def _return(self, lock: tuple[str, int], account: str) -> None:
        self.free[account] += self.locks[lock]
        self.locks[lock] = 0
