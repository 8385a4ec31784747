"""Prosumer orders of a site's meters, as far as events tell."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from offchain.chain.events import Event
from offchain.domain.curves import unpack_quantities
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import Direction

EVENTS = ("ProsumerOrdered", "ProsumerOrderCancelled", "Reassigned", "DirectControlUsed")
LISTS = ("StandbyListed",)
"""Standby is listed with its baselines once, however long before the day."""


@dataclass(slots=True)
class OrderState:
    """A prosumer order as far as events tell.

    Attributes
    ----------
    terms : mapping
        ``IFlexDispatch.OrderTerms``.
    quantities_wh, taken_wh : list of int
        Ordered, and taken over by standby, by position of the market day.
    proven_in : list of str
        Hashes of the transactions that brought its baseline: the one that issued it, or those that listed the standby.
    """

    terms: Mapping
    quantities_wh: list[int]
    taken_wh: list[int]
    proven_in: list[str]

    @property
    def meter_id(self) -> bytes:
        return self.terms["meterId"]

    @property
    def first_isp(self) -> int:
        """First ISP of the market day."""
        return self.terms["dayFirstIsp"]

    @property
    def end_isp(self) -> int:
        return self.first_isp + self.terms["ispCount"]

    @property
    def direction(self) -> Direction:
        return Direction(self.terms["direction"])

    def due_wh(self, position: int) -> int:
        return max(self.quantities_wh[position] - self.taken_wh[position], 0)

    def is_over(self, now: int, *, since_s: int = 0) -> bool:
        """Whether its day ended ``since_s`` before ``now`` [UTC s] or earlier."""
        return self.end_isp * SECONDS_PER_ISP + since_s <= now


def orders_of(events: Iterable[Event], meter_ids: frozenset[bytes]) -> dict[int, OrderState]:
    """Orders of some meters that are not cancelled, by id, from the events in their order."""
    orders: dict[int, OrderState] = {}
    lists: defaultdict[int, list[str]] = defaultdict(list)
    for event in events:
        args = event.args
        if event.name == "StandbyListed":
            lists[args["flexOrderId"]].append(event.tx_hash)
        elif event.name == "ProsumerOrdered" and (terms := args["terms"])["meterId"] in meter_ids:
            quantities_wh = unpack_quantities(args["quantitiesWh"])
            proven_in = lists[terms["groupId"]] if terms["replaces"] else [event.tx_hash]
            order = OrderState(terms, quantities_wh, [0] * len(quantities_wh), proven_in)
            orders[args["prosumerOrderId"]] = order
        elif event.name == "ProsumerOrderCancelled":
            orders.pop(args["prosumerOrderId"], None)
        elif event.name == "Reassigned" and (order := orders.get(args["failedOrderId"])) is not None:
            order.taken_wh = unpack_quantities(args["totalTakenWh"])
    return orders
