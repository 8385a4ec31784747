"""Settlement of a day from the store: anyone can run it, the contract decides (LL-UC04, LL-UC10)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.flexibility.metered_days import ProvenDay
from offchain.flexibility.orders import ProsumerOrder

CORRECTABLE = (1, 2)
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
    receipts, missing : list, list
        Missing are the orders without a metered day: they wait for the readings to be overdue.
    """
    waiting = sorted(orders, key=lambda order: order.id)
    missing = [order for order in waiting if order.meter_id not in metered]
    waiting = [order for order in waiting if order.meter_id in metered]
    held_back = {order.id for order in missing}
    receipts: list[Receipt] = []
    while waiting:
        pending = {order.id for order in waiting} | held_back
        ready = [order for order in waiting if order.terms["replaces"] not in pending]
        if not ready:
            break
        calls = []
        for order in ready:
            evidence = _evidence(order, metered[order.meter_id], baselines(order))
            calls.append((sender, suite.prepare("FlexSettlement", "settle", (order.id, order.terms, evidence))))
        receipts += suite.chain.send_all(calls)
        settled = {order.id for order in ready}
        waiting = [order for order in waiting if order.id not in settled]
    return receipts, missing + waiting


def settle_missing(suite: Suite, sender: LocalAccount, orders: Iterable[ProsumerOrder]) -> list[Receipt]:
    """Settle orders whose readings never came, once they are overdue."""
    return suite.chain.send_all(
        [
            (
                sender,
                suite.prepare(
                    "FlexSettlement",
                    "settleMissing",
                    (order.id, order.terms, order.quantities, order.taken),
                ),
            )
            for order in orders
        ]
    )


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
            evidence = _evidence(order, proven, baselines(order))
            calls.append((sender, suite.prepare("FlexSettlement", "correct", (order.id, order.terms, evidence))))
    # One after the other: what a party can pay, and so the gas, depends on the corrections before.
    return [suite.chain.send(sender, call) for sender, call in calls]


def _evidence(order: ProsumerOrder, proven: ProvenDay, baseline: bytes) -> dict[str, Any]:
    """``IFlexSettlement.Evidence`` of an order."""
    day, proof = proven
    return {
        "quantitiesWh": order.quantities,
        "takenWh": order.taken,
        "baselineWh": baseline,
        "day": {
            "meterId": day.meter_id,
            "firstIsp": day.first_isp,
            "ispCount": day.isp_count,
            "values": day.values,
            "signature": day.signature,
        },
        "proof": proof,
    }
