"""Prosumer orders as the chain issued them: pinned terms, curves, what standby took over."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Call, Receipt
from offchain.chain.contracts import Suite
from offchain.domain.curves import unpack_quantities
from offchain.flexibility.commitments import CommittedCurves
from offchain.store import Store
from offchain.store.documents import Document, put_document

ORDERS_PER_TRANSACTION = 25
"""About 0.3 million gas an order: a full call stays far below the block limit of public chains."""
ORDER_DOCUMENT = "prosumer_order_quantities"


@dataclass(frozen=True)
class ProsumerOrder:
    """One prosumer order.

    Attributes
    ----------
    id : int
    terms : dict
        ``IFlexDispatch.OrderTerms`` as it was emitted.
    quantities : bytes
        Packed ordered quantities.
    taken : bytes
        Packed quantities that standby took over; empty when none.
    """

    id: int
    terms: dict[str, Any]
    quantities: bytes
    taken: bytes = b""

    @property
    def meter_id(self) -> bytes:
        return self.terms["meterId"]

    @property
    def group_id(self) -> int:
        return self.terms["groupId"]

    def quantities_wh(self) -> list[int]:
        return unpack_quantities(self.quantities)

    def taken_wh(self) -> list[int]:
        """Zero everywhere when nothing was taken over."""
        return unpack_quantities(self.taken) if self.taken else [0] * self.terms["ispCount"]


class OrderBook:
    """All prosumer orders of a day by id, and by meter."""

    def __init__(self, store: Store):
        self._store = store
        self.orders: dict[int, ProsumerOrder] = {}

    def add(self, suite: Suite, receipts: Iterable[Receipt], *, at: int) -> list[ProsumerOrder]:
        """Take up what receipts issued, cancelled and reassigned; ordered curves go to the store."""
        added = []
        for event in (event for receipt in receipts for event in suite.events(receipt)):
            if event.name == "ProsumerOrdered":
                args = event.args
                order = ProsumerOrder(args["prosumerOrderId"], args["terms"], args["quantitiesWh"])
                self.orders[order.id] = order
                added.append(order)
            elif event.name == "Reassigned":
                failed = self.orders[event.args["failedOrderId"]]
                self.orders[failed.id] = replace(failed, taken=event.args["totalTakenWh"])
        with self._store.write() as connection:
            for order in added:
                key = order.terms["quantitiesHash"]
                put_document(connection, Document(ORDER_DOCUMENT, key, order.quantities, at))
        return added

    def of_group(self, group_id: int) -> list[ProsumerOrder]:
        return [order for order in self.orders.values() if order.group_id == group_id]


def dispatch_calls(
    suite: Suite,
    flex_order_id: int,
    ordered: bytes,
    parts: Sequence[tuple[int, bytes, bytes]],
    baselines: CommittedCurves,
) -> list[Call]:
    """Calls that issue the parts of a flex order.

    Parameters
    ----------
    ordered : bytes
        Packed curve of the flex order.
    parts : sequence of (agreement id, meter id, packed quantities)
    """
    structs = [
        {
            "agreementId": agreement_id,
            "quantitiesWh": quantities,
            "baselineWh": baselines.packed[meter_id],
            "baselineProof": baselines.proofs[meter_id],
        }
        for agreement_id, meter_id, quantities in parts
    ]
    return [
        suite.prepare("FlexDispatch", "dispatch", (flex_order_id, ordered, structs[i : i + ORDERS_PER_TRANSACTION]))
        for i in range(0, len(structs), ORDERS_PER_TRANSACTION)
    ]


def send_in_order(suite: Suite, sender: LocalAccount, calls: Sequence[Call]) -> list[Receipt]:
    """Calls that build on one another, one after the other."""
    return [suite.chain.send(sender, call) for call in calls]
