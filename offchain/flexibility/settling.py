"""Settlement of a day from the store: anyone can run it, the contract decides (LL-UC04, LL-UC10)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Call, Receipt
from offchain.chain.contracts import Suite
from offchain.flexibility.metered_days import ProvenDay
from offchain.flexibility.orders import ProsumerOrder, send_in_order

CORRECTABLE = (1, 3)
"""``IFlexDispatch.OrderStatus``: issued and never settled, settled."""


def settle_orders(
    suite: Suite,
    sender: LocalAccount,
    orders: Iterable[ProsumerOrder],
    metered: Mapping[bytes, ProvenDay],
    baselines: Callable[[ProsumerOrder], bytes],
) -> tuple[list[Receipt], list[ProsumerOrder]]:
    """Settle every order whose meter has a day in the batch, failing orders before those that replace them.

    Parameters
    ----------
    metered : mapping
        Metered days of the latest batch with their proofs, by meter id.
    baselines : callable
        Packed baseline of an order, as it was committed.

    Returns
    -------
    receipts, left : list, list
        Left are the orders without a metered day, which wait for the readings to be overdue, and those that
        replace them.
    """

    def call(order: ProsumerOrder) -> Call | None:
        proven = metered.get(order.meter_id)
        return None if proven is None else _call(suite, "settle", order, _evidence(order, proven, baselines(order)))

    return _settle_in_rounds(suite, sender, orders, call)


def settle_missing(
    suite: Suite,
    sender: LocalAccount,
    orders: Iterable[ProsumerOrder],
    metered: Mapping[bytes, ProvenDay],
    baselines: Callable[[ProsumerOrder], bytes],
) -> list[Receipt]:
    """Settle what :func:`settle_orders` left, once readings are overdue.

    Orders without a metered day are settled as missing; those that replace them by their own readings.
    """

    def call(order: ProsumerOrder) -> Call:
        if proven := metered.get(order.meter_id):
            return _call(suite, "settle", order, _evidence(order, proven, baselines(order)))
        return _call(suite, "settleMissing", order, order.quantities, order.taken)

    receipts, _ = _settle_in_rounds(suite, sender, orders, call)
    return receipts


def missing_from(suite: Suite, orders: Iterable[ProsumerOrder], metered: Mapping[bytes, ProvenDay]) -> int:
    """When everything that :func:`settle_orders` left may be settled [UTC s]."""
    queries = [
        ("FlexSettlement", "missingFrom", tuple(order.terms[key] for key in ("meterId", "dayFirstIsp", "ispCount")))
        for order in orders
        if order.meter_id not in metered
    ]
    return max(suite.call_all(queries))


def _settle_in_rounds(
    suite: Suite,
    sender: LocalAccount,
    orders: Iterable[ProsumerOrder],
    call: Callable[[ProsumerOrder], Call | None],
) -> tuple[list[Receipt], list[ProsumerOrder]]:
    """Send a round of calls after the other, none before that of the order it replaces; what is left without one."""
    waiting = sorted(orders, key=lambda order: order.id)
    receipts: list[Receipt] = []
    while True:
        pending = {order.id for order in waiting}
        calls = {order.id: call(order) for order in waiting if order.terms["replaces"] not in pending}
        ready = {order_id: prepared for order_id, prepared in calls.items() if prepared is not None}
        if not ready:
            return receipts, waiting
        receipts += suite.chain.send_all([(sender, prepared) for prepared in ready.values()])
        waiting = [order for order in waiting if order.id not in ready]


def correct_orders(
    suite: Suite,
    sender: LocalAccount,
    orders: Iterable[ProsumerOrder],
    metered: Mapping[bytes, ProvenDay],
    baselines: Callable[[ProsumerOrder], bytes],
) -> list[Receipt]:
    """Settle the difference that a newer batch makes to orders of finalised groups.

    Orders that this version or a later one settled already, and cancelled ones, are left as they are.

    Parameters
    ----------
    metered, baselines
        As in :func:`settle_orders`.

    Returns
    -------
    list of Receipt
        One ``ProsumerCorrected`` in each.
    """
    known = sorted((order for order in orders if order.meter_id in metered), key=lambda order: order.id)
    states = suite.call_all([("FlexDispatch", "prosumerOrder", (order.id,)) for order in known])
    calls = []
    for order, state in zip(known, states, strict=True):
        proven = metered[order.meter_id]
        if state["status"] in CORRECTABLE and state["version"] < proven.day.version:
            calls.append(_call(suite, "correct", order, _evidence(order, proven, baselines(order))))
    # What a party can pay, and so the gas, depends on the corrections before.
    return send_in_order(suite, sender, calls)


def _call(suite: Suite, function: str, order: ProsumerOrder, *evidence: Any) -> Call:
    return suite.prepare("FlexSettlement", function, (order.id, order.terms, *evidence))


def _evidence(order: ProsumerOrder, proven: ProvenDay, baseline: bytes) -> dict[str, Any]:
    """``IFlexSettlement.Evidence`` of an order."""
    return {
        "quantitiesWh": order.quantities,
        "takenWh": order.taken,
        "baselineWh": baseline,
        **proven.as_evidence(),
    }
