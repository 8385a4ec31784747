"""Settlement of a day from the store: anyone can run it, the contract decides (LL-UC04, LL-UC10)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.flexibility.orders import ProsumerOrder
from offchain.store import Store
from offchain.store.batches import BatchKind, MeterDayRow, latest_batch, meter_days_of


@dataclass(frozen=True)
class AnchoredDay:
    """The latest day batch of an operator: meter-days and their proofs."""

    days: Mapping[bytes, MeterDayRow]
    proofs: Mapping[bytes, list[bytes]]


def load_anchored_day(store: Store, operator: str, first_isp: int) -> AnchoredDay:
    """Meter-days of an operator's latest batch, with proofs rebuilt from the store."""
    with store.read() as connection:
        batch = latest_batch(connection, BatchKind.DAY, operator, first_isp)
        if batch is None:
            raise DomainError(
                f"no day batch of {operator} from ISP {first_isp} in the store", hint="close the day first"
            )
        days = meter_days_of(connection, batch.id)
    tree = MerkleTree(
        [meter_day_leaf(d.meter_id, d.first_isp, d.isp_count, values_hash(d.values)) for d in days]
    )
    proofs = tree.proofs()
    return AnchoredDay(
        {day.meter_id: day for day in days},
        {day.meter_id: proof for day, proof in zip(days, proofs, strict=True)},
    )


def settle_orders(
    suite: Suite,
    sender: LocalAccount,
    orders: Iterable[ProsumerOrder],
    anchored: AnchoredDay,
    baselines: Callable[[ProsumerOrder], bytes],
) -> tuple[list[Receipt], list[ProsumerOrder]]:
    """Settle every order whose meter has a day in the batch, failing orders before those that replace them.

    Returns
    -------
    receipts, missing : list, list
        Missing are the orders without a metered day: they wait for the readings to be overdue.
    """
    waiting = sorted(orders, key=lambda order: order.id)
    missing = [order for order in waiting if order.meter_id not in anchored.days]
    waiting = [order for order in waiting if order.meter_id in anchored.days]
    held_back = {order.id for order in missing}
    receipts: list[Receipt] = []
    while waiting:
        pending = {order.id for order in waiting} | held_back
        ready = [order for order in waiting if order.terms["replaces"] not in pending]
        if not ready:
            break
        calls = []
        for order in ready:
            day = anchored.days[order.meter_id]
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
                "proof": anchored.proofs[order.meter_id],
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
