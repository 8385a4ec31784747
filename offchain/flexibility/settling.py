"""Settlement of a day from the store: anyone can run it, the contract decides (LL-UC04, LL-UC10)."""

from collections.abc import Callable, Iterable, Mapping

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.flexibility.metered_days import ProvenDay
from offchain.flexibility.orders import ProsumerOrder


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
            day, proof = metered[order.meter_id]
            evidence = {
                "quantitiesWh": order.quantities,
                "takenWh": order.taken,
                "baselineWh": baselines(order),
                "day": {
                    "meterId": day.meter_id,
                    "firstIsp": day.first_isp,
                    "ispCount": day.isp_count,
                    "values": day.values,
                    "signature": day.signature,
                },
                "proof": proof,
            }
            calls.append(
                (sender, suite.prepare("FlexSettlement", "settle", (order.id, order.terms, evidence)))
            )
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
